//! Loads a PTX file, launches one of its kernels, and says what it did and how long it took.
//!
//! ```text
//! run FILE.ptx                                    lists the kernels and their parameters
//! run FILE.ptx KERNEL GRID BLOCK SHARED ARG…      GRID and BLOCK as 4 or 4,2,1; SHARED in bytes
//! ```
//! An ARG is `i32:5`, `u32:5`, `i64:5`, `u64:5`, `f32:0.5`, `f64:0.5`, `random:N` (a buffer of N random `f32`),
//! `zeros:BYTES` or `empty:BYTES` (uninitialised). Example, a product of 512 × 512 × 256:
//!
//! ```text
//! cargo run --release -p sphereface-emulator --example run -- crates/emulator/tests/ptx/sgemm.ptx sgemm 4,4 256 0 \
//!     random:131072 random:131072 empty:1048576 i32:512 i32:512 i32:256
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use sphereface_emulator::{Argument, Device, Module};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [path, rest @ ..] = arguments else {
        return Err("usage: run FILE.ptx [KERNEL GRID BLOCK SHARED ARG…]".into());
    };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let module = Module::load(&text).map_err(|error| format!("{path}: {error}"))?;
    let [kernel, grid, block, shared, values @ ..] = rest else {
        for kernel in module.kernels() {
            println!("{kernel}: parameters of {:?} bytes", module.parameters(kernel).unwrap_or_default());
        }
        return Ok(());
    };
    let mut device = Device::new();
    let arguments: Result<Vec<Argument>, Box<dyn Error>> =
        values.iter().map(|value| argument(&mut device, value)).collect();
    let (arguments, grid, block) = (arguments?, shape(grid)?, shape(block)?);
    device.allow_more_shared(&module, kernel);
    let start = Instant::now();
    let counters = device.launch(&module, kernel, grid, block, shared.parse()?, &arguments)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{counters:#?}");
    let instructions = counters.instructions();
    println!("{:.1} ms, {:.1} M warp instructions/s", 1e3 * seconds, instructions as f64 / seconds / 1e6);
    let products = counters.mma_flops / 2 + 32 * counters.float;
    println!("at most {:.0} M multiply-adds/s", products as f64 / seconds / 1e6);
    Ok(())
}

fn shape(text: &str) -> Result<[u32; 3], Box<dyn Error>> {
    let mut shape = [1; 3];
    for (extent, part) in shape.iter_mut().zip(text.split(',')) {
        *extent = part.parse().map_err(|_| format!("`{text}` is no shape"))?;
    }
    Ok(shape)
}

fn argument(device: &mut Device, text: &str) -> Result<Argument, Box<dyn Error>> {
    let (kind, value) = text.split_once(':').ok_or_else(|| format!("`{text}` has no kind"))?;
    Ok(match kind {
        "i32" => Argument::I32(value.parse()?),
        "u32" => Argument::U32(value.parse()?),
        "i64" => Argument::I64(value.parse()?),
        "u64" => Argument::U64(value.parse()?),
        "f32" => Argument::F32(value.parse()?),
        "f64" => Argument::F64(value.parse()?),
        "empty" => Argument::Pointer(device.allocate(value.parse()?)),
        "zeros" => Argument::Pointer(device.allocate_with(&vec![0; value.parse()?])),
        "random" => {
            let mut state = 0x2545_f491_u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            let numbers: Vec<u8> = (0..value.parse()?).flat_map(|_: usize| next().to_le_bytes()).collect();
            Argument::Pointer(device.allocate_with(&numbers))
        }
        _ => return Err(format!("`{kind}` is no kind of argument").into()),
    })
}
