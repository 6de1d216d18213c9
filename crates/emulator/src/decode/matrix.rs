//! `ldmatrix`, `stmatrix` and `mma`.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::asynchronous::Asynchronous;
use crate::instruction::{Mma, Op, Operands, Row};
use crate::ptx::{Operand, Space, Type, malformed};

/// Decodes the instructions of the tensor cores.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    if !m.take("sync") || !m.take("aligned") {
        return Err(m.unknown());
    }
    if m.head() == "mma" { multiply(decoder, m, operands) } else { exchange(decoder, m, operands) }
}

/// `ldmatrix` and `stmatrix`.
fn exchange(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let count = match m.take_any(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Err(m.unknown()),
    };
    let transpose = m.take("trans");
    if !m.take("m8n8") || !(m.take("shared") || m.take("shared::cta")) || m.kind()? != Type::B16 {
        return Err(m.unknown());
    }
    let [first, second] = decoder.exactly(operands)?;
    let load = m.head() == "ldmatrix";
    let (parts, address) = if load { (first, second) } else { (second, first) };
    let address = decoder.address(address, Space::Shared)?;
    let mut rows = [0; 4];
    registers(decoder, parts, &mut rows[..count], load)?;
    let count = count as u8;
    if load {
        return Ok(Op::LoadMatrix { d: rows, count, transpose, address });
    }
    Ok(Op::Asynchronous(Box::new(Asynchronous::StoreMatrix { from: rows, count, transpose, address })))
}

fn multiply(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let depth = match m.take_any(&["m16n8k16", "m16n8k8", "m16n8k4"]) {
        Some("m16n8k16") => 16,
        Some("m16n8k8") => 8,
        Some(_) => 4,
        None => return Err(m.unknown()),
    };
    if !m.take("row") || !m.take("col") {
        return Err(m.unknown());
    }
    let kinds = [m.kind()?, m.kind()?, m.kind()?, m.kind()?];
    let formats = match kinds {
        [Type::F32, Type::Bf16, Type::Bf16, Type::F32] if depth >= 8 => Operands::Bf16,
        [Type::F32, Type::F16, Type::F16, Type::F32] if depth >= 8 => Operands::F16,
        [Type::F32, Type::Tf32, Type::Tf32, Type::F32] if depth <= 8 => Operands::Tf32,
        _ => return Err(m.unknown()),
    };
    let [d, a, b, c] = decoder.exactly(operands)?;
    let mut mma = Mma { operands: formats, depth, d: [0; 4], a: [0; 4], b: [0; 2], c: [0; 4] };
    let (of_a, of_b) = mma.registers();
    registers(decoder, a, &mut mma.a[..of_a], false)?;
    registers(decoder, b, &mut mma.b[..of_b], false)?;
    registers(decoder, c, &mut mma.c, false)?;
    registers(decoder, d, &mut mma.d, true)?;
    Ok(Op::Mma(Box::new(mma)))
}

/// The rows of `{a, b, …}`, which must be as many as there is room for.
fn registers(decoder: &mut Decoder<'_>, from: &Operand, rows: &mut [Row], written: bool) -> Result<(), LoadError> {
    let parts = match from {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() != rows.len() {
        return Err(malformed(decoder.line, format!("{} registers expected, {} found", rows.len(), parts.len())));
    }
    for (row, part) in rows.iter_mut().zip(parts) {
        *row = if written { decoder.written_short(part)? } else { decoder.short(part, Type::B32)? };
    }
    Ok(())
}
