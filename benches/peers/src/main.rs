//! Other libraries' kernels and training steps, as processes that `cargo xtask bench` measures beside ours.

mod arrays;
mod case;
mod frameworks;
mod protocol;

use frameworks::{burn::Burn, candle::Candle, gemm::Gemm};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let served = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["burn"] => protocol::serve(&Burn::new()),
        ["candle"] => protocol::serve(&Candle),
        ["gemm"] => protocol::serve(&Gemm),
        _ => Err(anyhow::anyhow!("expected the name of a peer: burn, candle or gemm; found {arguments:?}")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
