//! What every backend keeps of persistent buffers: their places, by name.

use crate::error::Error;
use crate::plan::{Buffer, Place, Plan};
use crate::shape::Type;
use std::collections::HashMap;

/// Places of the persistent buffers and views of all plans that a backend has lowered. A place is whatever the backend
/// finds memory by.
#[derive(Debug)]
pub struct Persistent<P>(HashMap<String, (P, Type)>);

impl<P> Default for Persistent<P> {
    fn default() -> Self {
        Persistent(HashMap::new())
    }
}

impl<P: Copy> Persistent<P> {
    /// Whether some plan has a buffer of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The place of a buffer or view of so many bytes.
    ///
    /// # Errors
    /// [`Error::Buffer`], when the name is unknown or the length is not the buffer's.
    pub fn find(&self, name: &str, bytes: usize) -> Result<P, Error> {
        let (place, kind) =
            self.0.get(name).ok_or_else(|| error(name, "expected a persistent buffer, found none".into()))?;
        if kind.bytes() != bytes {
            return Err(error(name, format!("expected {} bytes for {kind}, found {bytes}", kind.bytes())));
        }
        Ok(*place)
    }

    /// The place of every buffer of a plan but those of the arena. `place` is asked for zeros for what no plan has had
    /// before, `view` for the part of a block that begins at an element and has a type; none if it leaves the block.
    ///
    /// # Errors
    /// [`Error::Buffer`], when a buffer is known with another type, or a view is of no part of a persistent buffer; the
    /// errors of `place`.
    pub fn places(
        &mut self,
        plan: &Plan,
        mut place: impl FnMut(&Buffer) -> Result<P, Error>,
        view: impl Fn(P, usize, &Type) -> Option<P>,
    ) -> Result<Vec<Option<P>>, Error> {
        let mut places = vec![None; plan.buffers.len()];
        for (at, buffer) in places.iter_mut().zip(&plan.buffers) {
            if buffer.place == Place::Persistent {
                *at = Some(self.declare(buffer, || place(buffer))?);
            }
        }
        for (index, buffer) in plan.buffers.iter().enumerate() {
            if let Place::View { of, offset } = buffer.place {
                let error = |message: String| error(&buffer.name, message);
                let block = places[of.0]
                    .ok_or_else(|| error("expected a view of a persistent buffer, found one of the arena".into()))?;
                let part = view(block, offset, &buffer.kind).ok_or_else(|| {
                    error(format!("expected a view on whole words inside its block, found one from {offset} on"))
                })?;
                places[index] = Some(self.declare(buffer, || Ok(part))?);
            }
        }
        Ok(places)
    }

    fn declare(&mut self, buffer: &Buffer, place: impl FnOnce() -> Result<P, Error>) -> Result<P, Error> {
        let Buffer { name, kind, .. } = buffer;
        match self.0.get(name) {
            Some((place, known)) if known == kind => Ok(*place),
            Some((_, known)) => Err(error(name, format!("expected {known}, found {kind}"))),
            None => {
                let place = place()?;
                self.0.insert(name.clone(), (place, kind.clone()));
                Ok(place)
            }
        }
    }
}

fn error(name: &str, message: String) -> Error {
    Error::Buffer { name: name.into(), message }
}
