//! Trained models and measurements in the formats of other tools: ONNX, PyTorch's safetensors, NumPy, CSV, TensorBoard.
//!
//! Everything here turns plain data into the bytes of one file; who calls decides where they go. Nothing knows of the
//! program that trains, or of a backend.

pub mod curves;
pub mod embeddings;
mod error;
pub mod onnx;
mod protobuf;
pub mod pytorch;
pub mod tensorboard;
mod trained;

pub use curves::Curves;
pub use error::Error;
pub use trained::{Tensor, Trained};
