//! What the tests of the emulator share: random numbers, bytes, and one-instruction kernels.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its part")]

use sphereface_emulator::{Argument, Device, Fault, Module};
use std::fs::OpenOptions;
use std::io::Write;

/// Numbers in [-1, 1) from a seed.
pub fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The bytes of `f32` numbers.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The bytes of 32-bit words.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// bf16 bits, cut.
pub fn bf16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|value| (value.to_bits() >> 16) as u16).collect()
}

/// The value of bf16 bits.
pub fn bf16_value(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// Numbers from the device.
pub fn download(device: &Device, pointer: u64, count: usize) -> Vec<f32> {
    download_words(device, pointer, count).into_iter().map(f32::from_bits).collect()
}

/// 32-bit words from the device.
pub fn download_words(device: &Device, pointer: u64, count: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * count];
    device.download(pointer, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A kernel `test(out, in)` with the lines as its body; `%out` and `%in` are the thread's own addresses, 16 bytes apart.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry test(.param .u64 out, .param .u64 in)\n{{\n\
         .reg .pred %p<16>;\n.reg .b16 %h<32>;\n.reg .b32 %r<64>;\n.reg .b64 %d<32>;\n.reg .b64 %out, %in, %at;\n\
         .reg .b32 %thread;\n\
         ld.param.u64 %out, [out];\nld.param.u64 %in, [in];\nmov.u32 %thread, %tid.x;\nmul.wide.u32 %at, %thread, 16;\n\
         add.s64 %out, %out, %at;\nadd.s64 %in, %in, %at;\n{body}\nret;\n}}\n"
    )
}

/// Names a file to which every program that ran without a fault is appended, one JSON object a line, so that it can run
/// on a GPU as well: `crates/cuda/examples/instructions.rs` compares.
const PROGRAMS: &str = "SPHEREFACE_PROGRAMS";

/// Runs a kernel of [`kernel`] on these words of input, and returns four words of output a thread.
///
/// # Errors
/// What the launch returns.
pub fn run_words(body: &str, inputs: &[u32], threads: u32, blocks: u32) -> Result<Vec<u32>, Fault> {
    let text = kernel(body);
    let module = Module::load(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut device = Device::new();
    let input = device.allocate_with(&words(inputs));
    let output = device.allocate_with(&vec![0; 16 * threads as usize]);
    let arguments = [Argument::Pointer(output), Argument::Pointer(input)];
    device.launch(&module, "test", [blocks, 1, 1], [threads, 1, 1], 0, &arguments)?;
    let outputs = download_words(&device, output, 4 * threads as usize);
    // What a clock shows is not repeated.
    if let (Some(file), false) = (std::env::var_os(PROGRAMS), body.contains("%clock")) {
        let line = serde_json::json!({
            "ptx": text, "blocks": blocks, "threads": threads, "inputs": inputs, "outputs": outputs,
        });
        let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the file of programs opens");
        // In one call: other tests append at the same time.
        file.write_all(format!("{line}\n").as_bytes()).expect("the file of programs can be written");
    }
    Ok(outputs)
}

/// Runs a kernel of [`kernel`] with four words of input a thread, and returns four words of output a thread.
///
/// # Errors
/// What the launch returns.
pub fn try_run(body: &str, inputs: &[[u32; 4]], threads: u32, blocks: u32) -> Result<Vec<[u32; 4]>, Fault> {
    let all = run_words(body, inputs.as_flattened(), threads, blocks)?;
    Ok(all.chunks_exact(4).map(|four| four.try_into().unwrap()).collect())
}

/// One thread: `a`, `b` and `c` are in %r1, %r2, %r3; the result is what is left in %r0.
pub fn short(instruction: &str, [a, b, c]: [u32; 3]) -> u32 {
    let body = format!("ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%in];\n{instruction}\nst.global.u32 [%out], %r0;");
    try_run(&body, &[[a, b, c, 0]], 1, 1).unwrap()[0][0]
}

/// One thread: 64-bit `a` and `b` are in %d1 and %d2; the result is what is left in %d0.
pub fn long(instruction: &str, [a, b]: [u64; 2]) -> u64 {
    let body = format!("ld.global.v2.u64 {{%d1, %d2}}, [%in];\n{instruction}\nst.global.u64 [%out], %d0;");
    let input = [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32];
    let out = try_run(&body, &[input], 1, 1).unwrap()[0];
    u64::from(out[1]) << 32 | u64::from(out[0])
}

/// One thread: %r1, %r2, %r3 and %d1 (from %r1 and %r2) are set; the result is whether %p0 is true.
pub fn predicate(instruction: &str, [a, b, c]: [u32; 3]) -> bool {
    short(&format!("mov.b64 %d1, {{%r1, %r2}};\n{instruction}\nselp.u32 %r0, 1, 0, %p0;"), [a, b, c]) == 1
}

/// The message of a body that must fault, with as many threads.
pub fn fault(body: &str, threads: u32) -> Fault {
    let inputs = vec![[1, 2, 3, 4]; threads as usize];
    try_run(body, &inputs, threads, 1).expect_err("a fault was planted")
}
