//! Loads, stores, atomics and asynchronous copies.

use super::{Decoder, Modifiers, bulk};
use crate::LoadError;
use crate::asynchronous::Asynchronous;
use crate::instruction::{AtomicKind, Op, Value, Values};
use crate::ptx::{Operand, Space, Type, malformed, unknown};

/// Hints on caches and order. Execution here is in order, and every store is seen at once.
const HINTS: &[&str] = &[
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "weak",
    "gpu",
    "cluster",
    "cta",
    "sys",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "noftz",
];

/// Decodes instructions that touch memory.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    match m.head() {
        "ld" | "ldu" | "st" => access(decoder, m, operands),
        "atom" | "red" => atomic(decoder, m, operands),
        "cp" => copy(decoder, m, operands),
        _ => {
            while m.take_any(&["global", "local", "param", "const", "tensormap", "L1", "L2", "u64"]).is_some() {}
            Ok(Op::Nothing)
        }
    }
}

fn hints(m: &mut Modifiers<'_>) {
    while m.take_any(HINTS).is_some() {}
}

fn access(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    hints(m);
    let to_block = m.has("shared::cluster");
    if to_block && m.head() != "st" {
        // Another block's memory is reached by bulk copies, arrivals and stores only.
        return Err(m.unknown());
    }
    let space = m.take_as(Space::named).unwrap_or(Space::Generic);
    let count: usize = if m.take("v2") {
        2
    } else if m.take("v4") {
        4
    } else {
        1
    };
    let kind = m.kind()?;
    if kind.bytes() * count as u64 > 16 || kind == Type::Pred || kind == Type::B128 {
        return Err(m.unknown());
    }
    let load = m.head() != "st";
    let [first, second] = decoder.exactly(operands)?;
    let (parts, address) = if load { (first, second) } else { (second, first) };
    let parts = match parts {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() != count {
        return Err(malformed(decoder.line, format!("{count} values expected, {} found", parts.len())));
    }
    let address = decoder.address(address, space)?;
    if !load && matches!(address.space, Space::Const | Space::Param) {
        return Err(m.unknown());
    }
    let mut values = [Value::Sink; 4];
    for (value, part) in values.iter_mut().zip(parts) {
        *value = if load { decoder.written_value(part)? } else { decoder.value(part, kind)? };
        let bits = match value {
            Value::Short(_, bits) => *bits,
            Value::Long(_) => 64,
            Value::Sink => continue,
        };
        if bits < kind.bits() {
            return Err(malformed(decoder.line, "the register is shorter than the access"));
        }
    }
    let values = Values { values, count: count as u8, bytes: kind.bytes() as u8, signed: kind.is_signed() };
    Ok(match (load, to_block) {
        (true, _) => Op::Load { values, address },
        (false, false) => Op::Store { values, address },
        (false, true) => Op::Asynchronous(Box::new(Asynchronous::StoreToBlock { values, address })),
    })
}

fn atomic(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let reduction = m.head() == "red";
    hints(m);
    let space = m.take_as(Space::named).unwrap_or(Space::Generic);
    if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
        return Err(m.unknown());
    }
    let name = m.take_any(&["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"]);
    let kind = m.kind()?;
    let atomic = match (name.ok_or_else(|| m.unknown())?, kind) {
        ("add", Type::U32 | Type::S32 | Type::U64 | Type::S64) => AtomicKind::Add,
        ("add", Type::F32) => AtomicKind::AddF32,
        ("add", Type::F64) => AtomicKind::AddF64,
        ("min", Type::U32 | Type::U64) => AtomicKind::Min,
        ("min", Type::S32 | Type::S64) => AtomicKind::MinSigned,
        ("max", Type::U32 | Type::U64) => AtomicKind::Max,
        ("max", Type::S32 | Type::S64) => AtomicKind::MaxSigned,
        ("and", Type::B32 | Type::B64) => AtomicKind::And,
        ("or", Type::B32 | Type::B64) => AtomicKind::Or,
        ("xor", Type::B32 | Type::B64) => AtomicKind::Xor,
        ("exch", Type::B32 | Type::B64 | Type::U32 | Type::U64) => AtomicKind::Exchange,
        ("cas", Type::B32 | Type::B64 | Type::U32 | Type::U64) => AtomicKind::CompareExchange,
        ("inc", Type::U32) => AtomicKind::Increment,
        ("dec", Type::U32) => AtomicKind::Decrement,
        _ => return Err(m.unknown()),
    };
    let (d, rest) = match operands {
        rest if reduction => (Value::Sink, rest),
        [d, rest @ ..] => (decoder.written_value(d)?, rest),
        [] => return Err(malformed(decoder.line, "operands are missing")),
    };
    let (address, a, b) = match rest {
        [address, a] if atomic != AtomicKind::CompareExchange => (address, a, None),
        [address, a, b] if atomic == AtomicKind::CompareExchange => (address, a, Some(b)),
        _ => return Err(m.unknown()),
    };
    let address = decoder.address(address, space)?;
    let a = decoder.value(a, kind)?;
    let b = match b {
        Some(b) => decoder.value(b, kind)?,
        None => Value::Sink,
    };
    Ok(Op::Atomic { kind: atomic, address, d, a, b, bytes: kind.bytes() as u8 })
}

fn copy(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    if !m.take("async") {
        return Err(m.unknown());
    }
    if m.take("bulk") {
        return bulk::decode(decoder, m, operands);
    }
    if m.take("commit_group") {
        return Ok(Op::AsyncCommit);
    }
    if m.take("wait_all") {
        return Ok(Op::AsyncWaitAll);
    }
    if m.take("wait_group") {
        let [keep] = decoder.exactly(operands)?;
        return Ok(Op::AsyncWait { keep: decoder.immediate(keep)? as u32 });
    }
    let cached = m.take("ca");
    if !cached && !m.take("cg") || !(m.take("shared") || m.take("shared::cta")) || !m.take("global") {
        return Err(m.unknown());
    }
    hints(m);
    let [to, from, bytes] = decoder.exactly(&operands[..operands.len().min(3)])?;
    let bytes = decoder.immediate(bytes)?;
    if !(matches!(bytes, 4 | 8) && cached || bytes == 16) {
        return Err(malformed(decoder.line, format!("an asynchronous copy of {bytes} bytes")));
    }
    let size = match operands.get(3) {
        None => None,
        Some(operand) if decoder.type_of(operand) == Some(Type::Pred) => {
            return Err(unknown(decoder.line, "`cp.async` with a predicate that ignores the source"));
        }
        Some(operand) => Some(decoder.short(operand, Type::U32)?),
    };
    if operands.len() > 4 {
        return Err(unknown(decoder.line, "`cp.async` with a cache policy"));
    }
    let (to, from) = (decoder.address(to, Space::Shared)?, decoder.address(from, Space::Global)?);
    Ok(Op::AsyncCopy { to, from, bytes: bytes as u8, size })
}
