//! A folder that TensorBoard shows: scalars, and the embeddings in its projector.

mod events;
mod projector;

pub use events::{EVENTS, events};
pub use projector::{METADATA, PROJECTOR_CONFIG, SPRITE, Sprite, TENSORS, metadata, projector_config, tensors};
