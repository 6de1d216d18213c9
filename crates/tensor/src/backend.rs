//! What runs plans.

use crate::error::Error;
use crate::plan::Plan;
use std::time::Duration;

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

/// What one step of a program took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Layer it belongs to: the label of the plan's step.
    pub label: String,
    /// Its operator, such as `conv2d_forward`.
    pub op: &'static str,
    /// From the end of the step before to its own end.
    pub time: Duration,
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

    /// Runs a program once, one step after the other, and returns what each took. The results are those of
    /// [`run`](Backend::run). A device that replays graphs launches every step by itself here: none takes less
    /// time than a launch.
    ///
    /// # Errors
    /// [`Error::Backend`], when the device fails.
    fn run_timed(&mut self, program: Program) -> Result<Vec<StepTime>, Error>;

    /// A table of what each kernel did so far, where the backend counts it.
    fn profile(&self) -> Option<String> {
        None
    }
}
