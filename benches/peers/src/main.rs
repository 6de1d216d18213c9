//! Other libraries' kernels and training steps, as processes that `cargo xtask bench` measures beside ours.

mod arrays;
mod case;
mod frameworks;
mod protocol;

use anyhow::Context;
use frameworks::{burn::Burn, candle::Candle, cublaslt::CublasLt, cudnn::Cudnn, gemm::Gemm};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The number of the GPU, where there may be several.
    let number = |text: &str| text.parse().with_context(|| format!("number of a GPU: expected digits, found '{text}'"));
    let served = match arguments[..] {
        ["burn"] => protocol::serve(|| Ok(Box::new(Burn::new()))),
        ["candle"] => protocol::serve(|| Ok(Box::new(Candle))),
        ["gemm"] => protocol::serve(|| Ok(Box::new(Gemm))),
        ["cublaslt"] => protocol::serve(|| Ok(Box::new(CublasLt::open(0)?))),
        ["cublaslt", ordinal] => protocol::serve(|| Ok(Box::new(CublasLt::open(number(ordinal)?)?))),
        ["cudnn"] => protocol::serve(|| Ok(Box::new(Cudnn::open(0)?))),
        ["cudnn", ordinal] => protocol::serve(|| Ok(Box::new(Cudnn::open(number(ordinal)?)?))),
        _ => Err(anyhow::anyhow!(
            "expected the name of a peer (burn, candle, gemm, cublaslt [GPU] or cudnn [GPU]), found {arguments:?}"
        )),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
