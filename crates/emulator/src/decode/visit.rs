//! Every row that an instruction reads or writes.

use super::registers::File;
use crate::asynchronous::{Asynchronous, Left, Mbarrier, Phase, Place};
use crate::instruction::{Address, Base, Instruction, Op, Row, Value, Values};

/// What an instruction does with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

use Access::{Read, Write};
use File::{Long, Predicate, Short};

type Visitor<'a> = dyn FnMut(File, Access, &mut Row) + 'a;

/// Calls the visitor for every row, sources first.
pub(super) fn visit(instruction: &mut Instruction, to: &mut Visitor<'_>) {
    if let Some((row, _)) = &mut instruction.guard {
        to(Predicate, Read, row);
    }
    match &mut instruction.op {
        Op::Map1 { d, a, .. } | Op::Move { d, a } => rows(to, Short, &mut [a], Short, &mut [d]),
        Op::Map2 { d, a, b, .. } => rows(to, Short, &mut [a, b], Short, &mut [d]),
        Op::Map3 { d, a, b, c, .. } | Op::Logic3 { d, a, b, c, .. } => {
            rows(to, Short, &mut [a, b, c], Short, &mut [d]);
        }
        Op::Long1 { d, a, .. } | Op::MoveLong { d, a } => rows(to, Long, &mut [a], Long, &mut [d]),
        Op::Long2 { d, a, b, .. } => rows(to, Long, &mut [a, b], Long, &mut [d]),
        Op::Long3 { d, a, b, c, .. } => rows(to, Long, &mut [a, b, c], Long, &mut [d]),
        Op::Widen { d, a, .. } => rows(to, Short, &mut [a], Long, &mut [d]),
        Op::Narrow { d, a, .. } => rows(to, Long, &mut [a], Short, &mut [d]),
        Op::MulWide { d, a, b, .. } => rows(to, Short, &mut [a, b], Long, &mut [d]),
        Op::MadWide { d, a, b, c, .. } => {
            to(Long, Read, c);
            rows(to, Short, &mut [a, b], Long, &mut [d]);
        }
        Op::ShiftLong { d, a, b, .. } => {
            to(Short, Read, b);
            rows(to, Long, &mut [a], Long, &mut [d]);
        }
        Op::ExtractLong { d, a, b, c, .. } => {
            to(Long, Read, a);
            rows(to, Short, &mut [b, c], Long, &mut [d]);
        }
        Op::InsertBits { d, a, b, position, length } => {
            rows(to, Short, &mut [a, b, position, length], Short, &mut [d]);
        }
        Op::InsertLong { d, a, b, position, length } => {
            rows(to, Short, &mut [position, length], Short, &mut []);
            rows(to, Long, &mut [a, b], Long, &mut [d]);
        }
        Op::MulCarry { d, a, b, c, .. } => rows(to, Short, &mut [a, b, c], Short, &mut [d]),
        Op::Carry { d, a, b, .. } => rows(to, Short, &mut [a, b], Short, &mut [d]),
        Op::Compare { d, inverse, a, b, combine, .. } => {
            rows(to, Short, &mut [a, b], Predicate, &mut []);
            compared(to, d, inverse, combine.as_mut().map(|(_, row, _)| row));
        }
        Op::CompareLong { d, inverse, a, b, combine, .. } => {
            rows(to, Long, &mut [a, b], Predicate, &mut []);
            compared(to, d, inverse, combine.as_mut().map(|(_, row, _)| row));
        }
        Op::Property { d, a, .. } => rows(to, Short, &mut [a], Predicate, &mut [d]),
        Op::PropertyLong { d, a, .. } | Op::IsSpace { d, a, .. } => rows(to, Long, &mut [a], Predicate, &mut [d]),
        Op::Select { d, a, b, p, .. } => {
            to(Predicate, Read, p);
            rows(to, Short, &mut [a, b], Short, &mut [d]);
        }
        Op::SelectLong { d, a, b, p, .. } => {
            to(Predicate, Read, p);
            rows(to, Long, &mut [a, b], Long, &mut [d]);
        }
        Op::PredicateLogic { d, a, b, .. } => rows(to, Predicate, &mut [&mut a.0, &mut b.0], Predicate, &mut [d]),
        Op::Pack { d, low, high } => rows(to, Short, &mut [low, high], Long, &mut [d]),
        Op::Unpack { low, high, a } => rows(to, Long, &mut [a], Short, &mut [low, high]),
        Op::PackHalves { d, low, high } => rows(to, Short, &mut [low, high], Short, &mut [d]),
        Op::UnpackHalves { low, high, a } => rows(to, Short, &mut [a], Short, &mut [low, high]),
        Op::Clock { d } | Op::ActiveMask { d } => to(Short, Write, d),
        Op::ClockLong { d } => to(Long, Write, d),
        Op::Load { values, address } => {
            base(to, address);
            each(to, values, Write);
        }
        Op::Store { values, address } => stored(to, values, address),
        Op::Atomic { address, d, a, b, .. } => {
            base(to, address);
            value(to, a, Read);
            value(to, b, Read);
            value(to, d, Write);
        }
        Op::Shuffle { d, found, a, b, c, members, .. } => {
            rows(to, Short, &mut [a, b, c, members], Short, &mut [d]);
            found.iter_mut().for_each(|row| to(Predicate, Write, row));
        }
        Op::Vote { kind, d, p, members, .. } => {
            to(Predicate, Read, p);
            to(Short, Read, members);
            let file = if *kind == crate::instruction::VoteKind::Ballot { Short } else { Predicate };
            to(file, Write, d);
        }
        Op::BarrierReduce { kind, d, id, count, p, .. } => {
            to(Predicate, Read, p);
            to(Short, Read, id);
            count.iter_mut().for_each(|row| to(Short, Read, row));
            let file = if *kind == crate::instruction::VoteKind::Ballot { Short } else { Predicate };
            to(file, Write, d);
        }
        Op::Reduce { d, a, members, .. } | Op::MatchAny { d, a, members } => {
            rows(to, Short, &mut [a, members], Short, &mut [d])
        }
        Op::Barrier { id, count, .. } => {
            to(Short, Read, id);
            count.iter_mut().for_each(|row| to(Short, Read, row));
        }
        Op::WarpBarrier { members } => to(Short, Read, members),
        Op::BranchIndexed { index, .. } => to(Short, Read, index),
        Op::AsyncCopy { to: target, from, size, .. } => {
            base(to, target);
            base(to, from);
            size.iter_mut().for_each(|row| to(Short, Read, row));
        }
        Op::LoadMatrix { d, count, address, .. } => {
            base(to, address);
            d[..usize::from(*count)].iter_mut().for_each(|row| to(Short, Write, row));
        }
        Op::Mma(mma) => {
            let (a, b) = mma.registers();
            mma.a[..a].iter_mut().for_each(|row| to(Short, Read, row));
            mma.b[..b].iter_mut().for_each(|row| to(Short, Read, row));
            mma.c.iter_mut().for_each(|row| to(Short, Read, row));
            mma.d.iter_mut().for_each(|row| to(Short, Write, row));
        }
        Op::Elect { d, chosen, members } => {
            rows(to, Short, &mut [members], Short, &mut [d]);
            to(Predicate, Write, chosen);
        }
        Op::Asynchronous(what) => asynchronous(to, what),
        Op::Branch { .. }
        | Op::Exit
        | Op::Trap
        | Op::Nothing
        | Op::AwaitPrevious
        | Op::Yield
        | Op::AsyncCommit
        | Op::AsyncWait { .. }
        | Op::AsyncWaitAll => {}
    }
}

fn asynchronous(to: &mut Visitor<'_>, what: &mut Asynchronous) {
    match what {
        Asynchronous::Mbarrier { address, what } => {
            base(to, address);
            match what {
                Mbarrier::Init { count: row } | Mbarrier::Expect { bytes: row } | Mbarrier::Complete { bytes: row } => {
                    to(Short, Read, row);
                }
                Mbarrier::Arrive { count, bytes, state, .. } => {
                    count.iter_mut().chain(bytes).for_each(|row| to(Short, Read, row));
                    value(to, state, Write);
                }
                Mbarrier::Wait { done, phase, .. } => {
                    match phase {
                        Phase::Parity(row) => to(Short, Read, row),
                        Phase::State(row) => to(Long, Read, row),
                    }
                    to(Predicate, Write, done);
                }
                Mbarrier::Invalidate => {}
            }
        }
        Asynchronous::BulkLoad(load) => {
            base(to, &mut load.to);
            base(to, &mut load.barrier);
            load.multicast.iter_mut().for_each(|row| to(Short, Read, row));
            place(to, &mut load.from);
        }
        Asynchronous::BulkStore(store) => {
            base(to, &mut store.from);
            place(to, &mut store.to);
        }
        Asynchronous::Product(product) => {
            match &mut product.a {
                Left::Registers(a) => a.iter_mut().for_each(|row| to(Short, Read, row)),
                Left::Shared(row) => to(Long, Read, row),
            }
            to(Long, Read, &mut product.b);
            to(Predicate, Read, &mut product.accumulate.0);
            product.d.iter_mut().for_each(|row| {
                // Twice the same place: it is renamed once.
                let mut read = *row;
                to(Short, Read, &mut read);
                to(Short, Write, row);
            });
        }
        Asynchronous::StoreMatrix { from, count, address, .. } => {
            base(to, address);
            from[..usize::from(*count)].iter_mut().for_each(|row| to(Short, Read, row));
        }
        Asynchronous::StoreToBlock { values, address } => stored(to, values, address),
        Asynchronous::MapAddress { d, a, rank } => rows(to, Short, &mut [a, rank], Short, &mut [d]),
        Asynchronous::ProxyFence
        | Asynchronous::ClusterArrive { .. }
        | Asynchronous::ClusterWait { .. }
        | Asynchronous::BarrierFence
        | Asynchronous::BulkCommit
        | Asynchronous::BulkWait { .. }
        | Asynchronous::ProductFence
        | Asynchronous::ProductCommit
        | Asynchronous::ProductWait { .. }
        | Asynchronous::Registers { .. } => {}
    }
}

fn stored(to: &mut Visitor<'_>, values: &mut Values, address: &mut Address) {
    base(to, address);
    each(to, values, Read);
}

fn place(to: &mut Visitor<'_>, place: &mut Place) {
    match place {
        Place::Linear { address, bytes } => {
            base(to, address);
            to(Short, Read, bytes);
        }
        Place::Tensor { map, coordinates, .. } => {
            base(to, map);
            // Those beyond the rank are a constant zero.
            coordinates.iter_mut().for_each(|row| to(Short, Read, row));
        }
    }
}

fn rows(to: &mut Visitor<'_>, from_file: File, from: &mut [&mut Row], to_file: File, written: &mut [&mut Row]) {
    from.iter_mut().for_each(|row| to(from_file, Read, row));
    written.iter_mut().for_each(|row| to(to_file, Write, row));
}

fn compared(to: &mut Visitor<'_>, d: &mut Row, inverse: &mut Option<Row>, combine: Option<&mut Row>) {
    combine.into_iter().for_each(|row| to(Predicate, Read, row));
    to(Predicate, Write, d);
    inverse.iter_mut().for_each(|row| to(Predicate, Write, row));
}

fn base(to: &mut Visitor<'_>, address: &mut Address) {
    match &mut address.base {
        Base::Short(row) => to(Short, Read, row),
        Base::Long(row) => to(Long, Read, row),
    }
}

fn each(to: &mut Visitor<'_>, values: &mut Values, access: Access) {
    values.values[..usize::from(values.count)].iter_mut().for_each(|one| value(to, one, access));
}

fn value(to: &mut Visitor<'_>, value: &mut Value, access: Access) {
    match value {
        Value::Short(row, _) => to(Short, access, row),
        Value::Long(row) => to(Long, access, row),
        Value::Sink => {}
    }
}
