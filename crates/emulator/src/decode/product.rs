//! `wgmma`: products of a warpgroup, and the rows that they occupy.

use super::visit::visit;
use super::{Decoder, Modifiers, registers::File};
use crate::LoadError;
use crate::asynchronous::{Asynchronous, Left, Product};
use crate::instruction::{Instruction, Op, Operands, Row};
use crate::ptx::{self, Operand, Type, malformed, unknown};

/// Decodes products, their groups and fence.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    decoded(decoder, m, operands).map(|what| Op::Asynchronous(Box::new(what)))
}

fn decoded(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Asynchronous, LoadError> {
    if !m.take("sync") || !m.take("aligned") {
        return Err(m.unknown());
    }
    if m.take("fence") {
        return Ok(Asynchronous::ProductFence);
    }
    if m.take("commit_group") {
        return Ok(Asynchronous::ProductCommit);
    }
    if m.take("wait_group") {
        let [keep] = decoder.exactly(operands)?;
        return Ok(Asynchronous::ProductWait { keep: decoder.immediate(keep)? as u32 });
    }
    if !m.take("mma_async") {
        return Err(m.unknown());
    }
    let (width, depth) = m.take_as(shape).ok_or_else(|| m.unknown())?;
    let formats = match ([m.kind()?, m.kind()?, m.kind()?], depth) {
        ([Type::F32, Type::Bf16, Type::Bf16], 16) => Operands::Bf16,
        ([Type::F32, Type::F16, Type::F16], 16) => Operands::F16,
        ([Type::F32, Type::Tf32, Type::Tf32], 8) => Operands::Tf32,
        _ => return Err(m.unknown()),
    };
    let [d, a, b, accumulate, scale_a, scale_b, transposes @ ..] = operands else {
        return Err(malformed(decoder.line, "operands of a product are missing"));
    };
    let a = match a {
        Operand::Vector(parts) => {
            let parts: &[Operand; 4] = decoder.exactly(parts)?;
            let mut rows = [0; 4];
            for (row, part) in rows.iter_mut().zip(parts) {
                *row = decoder.short(part, Type::B32)?;
            }
            Left::Registers(rows)
        }
        descriptor => Left::Shared(decoder.long(descriptor)?),
    };
    let mut flags = Vec::new();
    for flag in transposes {
        flags.push(decoder.immediate(flag)? != 0);
    }
    let (transpose_a, transpose_b) = match (&a, formats, flags.as_slice()) {
        (_, Operands::Tf32, []) => (false, false),
        (_, Operands::Tf32, _) => return Err(malformed(decoder.line, "TF32 operands cannot be transposed")),
        (Left::Shared(_), _, [a, b]) => (*a, *b),
        (Left::Registers(_), _, [b]) => (false, *b),
        _ => return Err(malformed(decoder.line, "whether operands are transposed is missing")),
    };
    let mut negate = false;
    for scale in [scale_a, scale_b] {
        negate ^= match decoder.immediate(scale)? as i64 {
            1 => false,
            -1 => true,
            other => return Err(malformed(decoder.line, format!("a scale of {other}; 1 or -1 is possible"))),
        };
    }
    let Operand::Vector(parts) = d else {
        return Err(malformed(decoder.line, "registers in braces expected"));
    };
    if parts.len() != width / 2 {
        return Err(malformed(decoder.line, format!("{} registers expected, {} found", width / 2, parts.len())));
    }
    let b = decoder.long(b)?;
    let accumulate = decoder.predicate(accumulate)?;
    let mut rows = Vec::with_capacity(parts.len());
    for part in parts {
        rows.push(decoder.written_short(part)?);
    }
    Ok(Asynchronous::Product(Product {
        operands: formats,
        width,
        depth,
        d: rows,
        a,
        b,
        accumulate,
        negate,
        transpose_a,
        transpose_b,
    }))
}

/// `m64n128k16`: N and K.
fn shape(name: &str) -> Option<(usize, usize)> {
    let (n, k) = name.strip_prefix("m64n")?.split_once('k')?;
    let (n, k) = (n.parse().ok()?, k.parse().ok()?);
    (n % 8 == 0 && (8..=256).contains(&n)).then_some((n, k))
}

/// `setmaxnreg.inc.sync.aligned.u32 240`.
pub(super) fn register_count(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    let increase = m.take("inc");
    if increase == m.take("dec") || !m.take("sync") || !m.take("aligned") || m.kind()? != Type::U32 {
        return Err(m.unknown());
    }
    let [count] = decoder.exactly(operands)?;
    let count = decoder.immediate(count)?;
    if count % 8 != 0 || !(24..=256).contains(&count) {
        return Err(malformed(decoder.line, format!("{count} registers; a multiple of 8 from 24 to 256 is possible")));
    }
    if decoder.kernel_registers().is_none() {
        let what = "`setmaxnreg` in a kernel without `.minnctapersm` and `.maxntid`, or `.maxnreg`,";
        return Err(unknown(decoder.line, what));
    }
    Ok(Op::Asynchronous(Box::new(Asynchronous::Registers { count: count as u32, increase })))
}

/// Registers of a thread when a kernel begins, where its directives fix them: `.maxnreg`, or its share by `.maxntid` and
/// `.minnctapersm`, in whole warpgroups. No more than the most that a `setmaxnreg` asks for. So does ptxas 13.0, which
/// ignores `setmaxnreg` otherwise (C7508).
pub(super) fn registers(kernel: &ptx::Kernel) -> Option<u32> {
    let threads = kernel.max_threads.or(kernel.required.map(|shape| shape.iter().product()));
    let share = |threads: u64, blocks: u64| {
        (65_536 / threads.next_multiple_of(128).saturating_mul(blocks).max(1) / 8 * 8).min(255) as u32
    };
    let share = threads.zip(kernel.min_blocks).map(|(threads, blocks)| share(threads, blocks));
    let most = kernel.max_registers.map(|most| most.min(255) as u32);
    let asked = kernel.body.iter().filter(|statement| statement.opcode.starts_with("setmaxnreg"));
    let asked = asked.filter_map(|statement| match statement.operands.first() {
        Some(Operand::Integer(count)) => Some(*count as u32),
        _ => None,
    });
    let largest = asked.max().unwrap_or(u32::MAX);
    most.into_iter().chain(share).min().map(|registers| registers.min(largest))
}

/// Of each instruction, the rows it touches that are operands of products anywhere; nothing without products.
pub(super) fn watched(code: &mut [Instruction]) -> Vec<Box<[Row]>> {
    let mut operand = Vec::new();
    for instruction in code.iter_mut().filter(|instruction| is_product(&instruction.op)) {
        visit(instruction, &mut |file, _, row| {
            if file == File::Short {
                let row = usize::from(*row);
                operand.resize(operand.len().max(row + 1), false);
                operand[row] = true;
            }
        });
    }
    if operand.is_empty() {
        return Vec::new();
    }
    let touched = |instruction: &mut Instruction| {
        let mut rows = Vec::new();
        visit(instruction, &mut |file, _, row| {
            if file == File::Short && operand.get(usize::from(*row)) == Some(&true) && !rows.contains(row) {
                rows.push(*row);
            }
        });
        rows.into_boxed_slice()
    };
    let of =
        |instruction: &mut Instruction| if is_product(&instruction.op) { Box::default() } else { touched(instruction) };
    code.iter_mut().map(of).collect()
}

/// Whether an instruction is an asynchronous product.
pub(super) fn is_product(op: &Op) -> bool {
    matches!(op, Op::Asynchronous(what) if matches!(**what, Asynchronous::Product(_)))
}
