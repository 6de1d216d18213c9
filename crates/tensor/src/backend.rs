//! What runs plans.

use crate::error::Error;
use crate::plan::Plan;

/// A plan that a backend has made ready to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program(pub(crate) usize);

impl Program {
    /// A handle for the backend that counts its programs itself.
    pub fn new(index: usize) -> Self {
        Program(index)
    }

    /// The number the backend gave.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Executes plans. Persistent buffers are shared by name between all plans of one backend.
pub trait Backend {
    /// What and how much of it, in a few words.
    fn name(&self) -> String;

    /// Chooses algorithms, workspaces and places in memory for every step, once.
    ///
    /// # Errors
    /// [`Error`], when the backend cannot run a step, or a persistent buffer is known with another type.
    fn lower(&mut self, plan: &Plan) -> Result<Program, Error>;

    /// Copies bytes into a persistent buffer or view.
    ///
    /// # Errors
    /// [`Error::Buffer`], when the name is unknown or the length is not the buffer's.
    fn upload(&mut self, buffer: &str, bytes: &[u8]) -> Result<(), Error>;

    /// Copies a persistent buffer or view into `bytes`; waits for what is still running.
    ///
    /// # Errors
    /// [`Error::Buffer`], when the name is unknown or the length is not the buffer's.
    fn download(&mut self, buffer: &str, bytes: &mut [u8]) -> Result<(), Error>;

    /// Runs a program some times over; may return before it has finished.
    ///
    /// # Errors
    /// [`Error::Backend`], when the device fails.
    fn run(&mut self, program: Program, times: usize) -> Result<(), Error>;

    /// Waits until all that was started has finished.
    ///
    /// # Errors
    /// [`Error::Backend`], when the device fails.
    fn sync(&mut self) -> Result<(), Error>;

    /// A table of what each kernel did so far, where the backend counts it.
    fn profile(&self) -> Option<String> {
        None
    }
}
