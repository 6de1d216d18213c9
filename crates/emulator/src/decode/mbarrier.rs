//! `mbarrier`: arrivals, transactions and waits.

use super::{Decoder, Modifiers};
use crate::LoadError;
use crate::asynchronous::{Asynchronous, Mbarrier, Phase};
use crate::instruction::{Op, Row, Value};
use crate::ptx::{Operand, Space, Type, malformed};

/// Decodes what is done with a transaction barrier.
pub(super) fn decode(decoder: &mut Decoder<'_>, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<Op, LoadError> {
    let space = m.take_as(Space::named).unwrap_or(Space::Generic);
    let names = ["init", "inval", "arrive", "expect_tx", "complete_tx", "test_wait", "try_wait"];
    let name = m.take_any(&names).ok_or_else(|| m.unknown())?;
    // Only a relaxed operation orders nothing.
    let relaxed = m.take("relaxed");
    while m.take_any(&["release", "acquire", "cta", "cluster"]).is_some() {}
    if !matches!(space, Space::Generic | Space::Shared) || !(m.take("b64") || name == "complete_tx") {
        return Err(m.unknown());
    }
    let (address, what) = match (name, operands) {
        ("init", [address, count]) => (address, Mbarrier::Init { count: word(decoder, count)? }),
        ("inval", [address]) => (address, Mbarrier::Invalidate),
        ("arrive", [state, address, rest @ ..]) => {
            let expects = m.take("expect_tx");
            let (count, bytes) = match rest {
                [] if !expects => (None, None),
                [count] if !expects => (Some(word(decoder, count)?), None),
                [bytes] => (None, Some(word(decoder, bytes)?)),
                _ => return Err(m.unknown()),
            };
            let state = match state {
                Operand::Sink => Value::Sink,
                state => Value::Long(decoder.written_long(state)?),
            };
            (address, Mbarrier::Arrive { count, bytes, state, release: !relaxed })
        }
        ("expect_tx", [address, bytes]) => (address, Mbarrier::Expect { bytes: word(decoder, bytes)? }),
        ("complete_tx", [address, bytes]) => (address, Mbarrier::Complete { bytes: word(decoder, bytes)? }),
        ("test_wait" | "try_wait", [done, address, phase, hint @ ..]) => {
            let blocking = name == "try_wait";
            // How long the thread may sleep at most is up to the hardware.
            if hint.len() > usize::from(blocking) {
                return Err(malformed(decoder.line, "too many operands"));
            }
            let phase = if m.take("parity") {
                Phase::Parity(word(decoder, phase)?)
            } else {
                Phase::State(decoder.long(phase)?)
            };
            let done = decoder.written_predicate(done)?;
            (address, Mbarrier::Wait { done, phase, blocking, acquire: !relaxed })
        }
        _ => return Err(malformed(decoder.line, format!("operands of `{}`", m.opcode()))),
    };
    let address = decoder.address(address, space)?;
    Ok(Op::Asynchronous(Box::new(Asynchronous::Mbarrier { address, what })))
}

fn word(decoder: &mut Decoder<'_>, operand: &Operand) -> Result<Row, LoadError> {
    decoder.short(operand, Type::U32)
}
