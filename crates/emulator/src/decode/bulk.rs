//! `cp.async.bulk`: copies by address and by tensor map.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::asynchronous::{Asynchronous, BulkLoad, BulkStore, Place};
use crate::instruction::{Address, Op};
use crate::ptx::{Operand, Space, Type, malformed};

/// Decodes a bulk copy, after `cp.async.bulk`.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    decoded(decoder, m, operands).map(|what| Op::Asynchronous(Box::new(what)))
}

fn decoded(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Asynchronous, LoadError> {
    if m.take("commit_group") {
        return Ok(Asynchronous::BulkCommit);
    }
    if m.take("wait_group") {
        // What was written is seen at once, so both forms wait for the same.
        m.take("read");
        let [keep] = decoder.exactly(operands)?;
        return Ok(Asynchronous::BulkWait { keep: decoder.immediate(keep)? as u32 });
    }
    let rank = if m.take("tensor") {
        let ranks = ["1d", "2d", "3d", "4d", "5d"];
        let name = m.take_any(&ranks).ok_or_else(|| m.unknown())?;
        m.take("tile");
        ranks.iter().position(|one| *one == name).map(|index| index + 1)
    } else {
        None
    };
    // A policy of the second-level cache is a last operand and changes no result.
    let operands = match (m.take("L2::cache_hint"), operands) {
        (true, [rest @ .., _policy]) => rest,
        (_, all) => all,
    };
    let (multicast, operands) = match (m.take("multicast::cluster"), operands) {
        (true, [rest @ .., ranks]) => (Some(decoder.short(ranks, Type::U16)?), rest),
        (_, all) => (None, all),
    };
    let load = m.take("mbarrier::complete_tx::bytes");
    if load == m.take("bulk_group") || !m.take("global") || m.take_as(Space::named) != Some(Space::Shared) {
        return Err(m.unknown());
    }
    if multicast.is_some() && !load {
        return Err(m.unknown());
    }
    match (load, rank, operands) {
        (true, None, [to, from, bytes, barrier]) => {
            let from = linear(decoder, from, bytes)?;
            let (to, barrier) = (shared(decoder, to)?, shared(decoder, barrier)?);
            Ok(Asynchronous::BulkLoad(BulkLoad { to, from, barrier, multicast }))
        }
        (true, Some(rank), [to, from, barrier]) => {
            let from = tensor(decoder, from, rank)?;
            let (to, barrier) = (shared(decoder, to)?, shared(decoder, barrier)?);
            Ok(Asynchronous::BulkLoad(BulkLoad { to, from, barrier, multicast }))
        }
        (false, None, [to, from, bytes]) => {
            let to = linear(decoder, to, bytes)?;
            Ok(Asynchronous::BulkStore(BulkStore { to, from: shared(decoder, from)? }))
        }
        (false, Some(rank), [to, from]) => {
            let to = tensor(decoder, to, rank)?;
            Ok(Asynchronous::BulkStore(BulkStore { to, from: shared(decoder, from)? }))
        }
        _ => Err(malformed(decoder.line, format!("{} operands of `{}`", operands.len(), m.opcode()))),
    }
}

fn shared(decoder: &mut Decoder<'_>, operand: &Operand) -> Result<Address, LoadError> {
    decoder.address(operand, Space::Shared)
}

fn linear(decoder: &mut Decoder<'_>, address: &Operand, bytes: &Operand) -> Result<Place, LoadError> {
    let address = decoder.address(address, Space::Global)?;
    Ok(Place::Linear { address, bytes: decoder.short(bytes, Type::U32)? })
}

fn tensor(decoder: &mut Decoder<'_>, operand: &Operand, rank: usize) -> Result<Place, LoadError> {
    let Operand::Tensor(map, parts) = operand else {
        return Err(malformed(decoder.line, "a tensor map and coordinates in brackets expected"));
    };
    if parts.len() != rank {
        return Err(malformed(decoder.line, format!("{rank} coordinates expected, {} found", parts.len())));
    }
    let map = decoder.address(map, Space::Generic)?;
    let zero = decoder.short(&Operand::Integer(0), Type::U32)?;
    let mut coordinates = [zero; 5];
    for (row, part) in coordinates.iter_mut().zip(parts) {
        *row = decoder.short(part, Type::S32)?;
    }
    Ok(Place::Tensor { map, coordinates, rank: rank as u8 })
}
