//! One module a peer.

pub(crate) mod burn;
pub(crate) mod candle;
pub(crate) mod gemm;
