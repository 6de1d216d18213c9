//! One module a peer, and the GPU below two of them.

pub(crate) mod burn;
pub(crate) mod candle;
pub(crate) mod cublaslt;
pub(crate) mod cudnn;
mod cudnn_layout;
pub(crate) mod gemm;
mod gpu;
