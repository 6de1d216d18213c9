//! Branches, barriers, and exchanges between the lanes of a warp.

use super::{Decoder, Modifiers, product};
use crate::LoadError;
use crate::asynchronous::Asynchronous;
use crate::instruction::{AtomicKind, BarrierKind, Op, ShuffleKind, VoteKind};
use crate::ptx::{Label, Operand, Type, malformed};

/// Branches, barriers, fences, exits.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    match m.head() {
        "ret" | "exit" => {
            m.take("uni");
            Ok(Op::Exit)
        }
        "trap" => Ok(Op::Trap),
        "nanosleep" => {
            m.take("u32");
            Ok(Op::Yield)
        }
        "mapa" => {
            if !m.take("shared::cluster") || m.kind()? != Type::U32 {
                return Err(m.unknown());
            }
            let [d, a, rank] = decoder.exactly(operands)?;
            let (a, rank) = (decoder.short(a, Type::U32)?, decoder.short(rank, Type::U32)?);
            let d = decoder.written_short(d)?;
            Ok(Op::Asynchronous(Box::new(Asynchronous::MapAddress { d, a, rank })))
        }
        "setmaxnreg" => product::register_count(decoder, m, operands),
        // Launches here never overlap; `Program::overlaps` says that on a GPU they may.
        "griddepcontrol" => match m.take_any(&["launch_dependents", "wait"]) {
            Some("wait") => Ok(Op::AwaitPrevious),
            Some(_) => Ok(Op::Nothing),
            None => Err(m.unknown()),
        },
        "fence" if m.take("mbarrier_init") => {
            while m.take_any(&["release", "cluster"]).is_some() {}
            Ok(Op::Asynchronous(Box::new(Asynchronous::BarrierFence)))
        }
        "fence" if m.take("proxy") => {
            if !m.take("async") {
                return Err(m.unknown());
            }
            // Of global memory, of shared memory or of both: the fence is taken for both.
            while m.take_any(&["global", "shared::cta", "shared::cluster"]).is_some() {}
            Ok(Op::Asynchronous(Box::new(Asynchronous::ProxyFence)))
        }
        "membar" | "fence" => {
            // Stores are seen at once and in order, so there is nothing to wait for.
            let known = &["cta", "cluster", "gpu", "gl", "sys", "sc", "acq_rel", "acquire", "release"];
            while m.take_any(known).is_some() {}
            Ok(Op::Nothing)
        }
        "bra" => {
            m.take("uni");
            match decoder.exactly(operands)? {
                [Operand::Symbol(name, 0)] => Ok(Op::Branch { target: decoder.target(name)? }),
                _ => Err(malformed(decoder.line, "a label expected")),
            }
        }
        "brx" => {
            m.take("uni");
            let [index, table] = decoder.exactly(operands)?;
            let Operand::Symbol(name, 0) = table else {
                return Err(malformed(decoder.line, "a list of labels expected"));
            };
            let Some(Label::Targets(labels)) = decoder.kernel.label(name, decoder.scope) else {
                return Err(malformed(decoder.line, format!("list of labels `{name}` is missing")));
            };
            let targets: Result<Vec<u32>, LoadError> = labels.iter().map(|label| decoder.target(label)).collect();
            if !m.take("idx") {
                return Err(m.unknown());
            }
            decoder.tables.push(targets?);
            let targets = (decoder.tables.len() - 1) as u16;
            Ok(Op::BranchIndexed { index: decoder.short(index, Type::U32)?, targets })
        }
        _ => barrier(decoder, m, operands),
    }
}

/// `bar.sync`, `bar.arrive`, `bar.warp.sync`, and the same under the name `barrier`.
fn barrier(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    if m.take("warp") {
        let [members] = decoder.exactly(operands)?;
        if !m.take("sync") {
            return Err(m.unknown());
        }
        return Ok(Op::WarpBarrier { members: decoder.short(members, Type::B32)? });
    }
    if m.take("cluster") {
        m.take("aligned");
        let relaxed = m.take("relaxed");
        m.take_any(&["release", "acquire"]);
        return match m.take_any(&["arrive", "wait"]) {
            Some("arrive") => Ok(Op::Asynchronous(Box::new(Asynchronous::ClusterArrive { release: !relaxed }))),
            Some(_) => Ok(Op::Asynchronous(Box::new(Asynchronous::ClusterWait { acquire: !relaxed }))),
            None => Err(m.unknown()),
        };
    }
    m.take("cta");
    let aligned = m.take("aligned");
    // `barrier` without `.aligned` may be executed lane by lane; here it must converge like the other.
    let _ = aligned;
    if m.take("red") {
        return reduction(decoder, m, operands);
    }
    let kind = match m.take_any(&["sync", "arrive"]) {
        Some("sync") => BarrierKind::Sync,
        Some(_) => BarrierKind::Arrive,
        None => return Err(m.unknown()),
    };
    let (id, count) = match operands {
        [id] if kind == BarrierKind::Sync => (id, None),
        [id, count] => (id, Some(decoder.short(count, Type::U32)?)),
        _ => return Err(malformed(decoder.line, "a barrier's number and count expected")),
    };
    Ok(Op::Barrier { kind, id: decoder.short(id, Type::U32)?, count })
}

/// `bar.red`: d, number, count if it is given, predicate.
fn reduction(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let kind = match (m.take_any(&["popc", "and", "or"]), m.kind()?) {
        (Some("popc"), Type::U32) => VoteKind::Ballot,
        (Some("and"), Type::Pred) => VoteKind::All,
        (Some("or"), Type::Pred) => VoteKind::Any,
        _ => return Err(m.unknown()),
    };
    let (d, id, count, p) = match operands {
        [d, id, p] => (d, id, None, p),
        [d, id, count, p] => (d, id, Some(decoder.short(count, Type::U32)?), p),
        _ => return Err(malformed(decoder.line, "a result, a barrier's number and a predicate expected")),
    };
    let (p, negated) = decoder.predicate(p)?;
    let id = decoder.short(id, Type::U32)?;
    let d = if kind == VoteKind::Ballot { decoder.written_short(d)? } else { decoder.written_predicate(d)? };
    Ok(Op::BarrierReduce { kind, d, id, count, p, negated })
}

/// `shfl.sync`, `vote.sync`, `match.any.sync`, `activemask`.
pub(super) fn decode_exchange(
    decoder: &mut Decoder<'_>,
    m: &mut Modifiers<'_>,
    operands: &[Operand],
) -> Result<Op, LoadError> {
    if m.head() == "activemask" {
        let [d] = decoder.exactly(operands)?;
        return if m.take("b32") { Ok(Op::ActiveMask { d: decoder.written_short(d)? }) } else { Err(m.unknown()) };
    }
    if !m.take("sync") {
        return Err(m.unknown());
    }
    match m.head() {
        "elect" => {
            let [to, members] = decoder.exactly(operands)?;
            let Operand::Pair(d, chosen) = to else {
                return Err(malformed(decoder.line, "a register and a predicate expected"));
            };
            let members = decoder.short(members, Type::B32)?;
            Ok(Op::Elect { d: decoder.written_short(d)?, chosen: decoder.written_predicate(chosen)?, members })
        }
        "shfl" => {
            let kind = match m.take_any(&["up", "down", "bfly", "idx"]) {
                Some("up") => ShuffleKind::Up,
                Some("down") => ShuffleKind::Down,
                Some("bfly") => ShuffleKind::Butterfly,
                Some(_) => ShuffleKind::Index,
                None => return Err(m.unknown()),
            };
            if !m.take("b32") {
                return Err(m.unknown());
            }
            let [to, a, b, c, members] = decoder.exactly(operands)?;
            let (a, b) = (decoder.short(a, Type::B32)?, decoder.short(b, Type::U32)?);
            let (c, members) = (decoder.short(c, Type::U32)?, decoder.short(members, Type::B32)?);
            let (d, found) = match to {
                Operand::Pair(d, found) => (decoder.written_short(d)?, Some(decoder.written_predicate(found)?)),
                d => (decoder.written_short(d)?, None),
            };
            Ok(Op::Shuffle { kind, d, found, a, b, c, members })
        }
        "redux" => {
            let name = m.take_any(&["add", "min", "max", "and", "or", "xor"]);
            let kind = match (name.ok_or_else(|| m.unknown())?, m.kind()?) {
                ("add", Type::U32 | Type::S32) => AtomicKind::Add,
                ("min", Type::U32) => AtomicKind::Min,
                ("min", Type::S32) => AtomicKind::MinSigned,
                ("max", Type::U32) => AtomicKind::Max,
                ("max", Type::S32) => AtomicKind::MaxSigned,
                ("and", Type::B32) => AtomicKind::And,
                ("or", Type::B32) => AtomicKind::Or,
                ("xor", Type::B32) => AtomicKind::Xor,
                _ => return Err(m.unknown()),
            };
            let [d, a, members] = decoder.exactly(operands)?;
            let (a, members) = (decoder.short(a, Type::B32)?, decoder.short(members, Type::B32)?);
            Ok(Op::Reduce { kind, d: decoder.written_short(d)?, a, members })
        }
        "vote" => {
            let kind = match m.take_any(&["all", "any", "uni", "ballot"]) {
                Some("all") => VoteKind::All,
                Some("any") => VoteKind::Any,
                Some("uni") => VoteKind::Uniform,
                Some(_) => VoteKind::Ballot,
                None => return Err(m.unknown()),
            };
            let expected = if kind == VoteKind::Ballot { Type::B32 } else { Type::Pred };
            if m.kind()? != expected {
                return Err(m.unknown());
            }
            let [d, p, members] = decoder.exactly(operands)?;
            let (p, negated) = decoder.predicate(p)?;
            let members = decoder.short(members, Type::B32)?;
            let d = if kind == VoteKind::Ballot { decoder.written_short(d)? } else { decoder.written_predicate(d)? };
            Ok(Op::Vote { kind, d, p, negated, members })
        }
        _ => {
            if !m.take("any") || !m.take("b32") {
                return Err(m.unknown());
            }
            let [d, a, members] = decoder.exactly(operands)?;
            let (a, members) = (decoder.short(a, Type::B32)?, decoder.short(members, Type::B32)?);
            Ok(Op::MatchAny { d: decoder.written_short(d)?, a, members })
        }
    }
}
