//! Decoded instructions: registers are rows, types are resolved, targets are indices.

use crate::asynchronous::Asynchronous;
use crate::lanes::{Map1, Map2, Map3, Test1, Test2};
use crate::ptx::Space;

/// A row of a register file.
pub(crate) type Row = u16;

/// One instruction of a decoded kernel.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: Op,
    /// The predicate row that says which lanes take part, and whether it is negated.
    pub(crate) guard: Option<(Row, bool)>,
    pub(crate) class: Class,
}

/// What an instruction is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Integer,
    Float,
    Convert,
    Move,
    Memory,
    Control,
    Exchange,
    Matrix,
}

/// Where a 64-bit or 32-bit address stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Short(Row),
    Long(Row),
}

/// An address: space, register and offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) space: Space,
    pub(crate) base: Base,
    pub(crate) offset: i64,
}

/// A value's row and file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    /// In the 32-bit file; the bits that the register has.
    Short(Row, u32),
    Long(Row),
    /// Not wanted.
    Sink,
}

/// One to four values of a memory access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    pub(crate) values: [Value; 4],
    pub(crate) count: u8,
    /// Bytes of each value in memory.
    pub(crate) bytes: u8,
    pub(crate) signed: bool,
}

/// What an atomic operation does with the word it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicKind {
    Add,
    AddF32,
    AddF64,
    Min,
    Max,
    MinSigned,
    MaxSigned,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
    Increment,
    Decrement,
}

/// How a shuffle finds its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShuffleKind {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteKind {
    All,
    Any,
    Uniform,
    Ballot,
}

/// How two predicates are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// Operand formats of `mma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    Bf16,
    F16,
    Tf32,
}

/// Shape, formats and registers of an `mma.sync.m16n8k…` with `f32` accumulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mma {
    pub(crate) operands: Operands,
    pub(crate) depth: u8,
    pub(crate) d: [Row; 4],
    pub(crate) a: [Row; 4],
    pub(crate) b: [Row; 2],
    pub(crate) c: [Row; 4],
}

/// Which form of `bar` or `barrier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
}

/// What an instruction does. Functions over rows hold the arithmetic; the rest is spelt out.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Map1 {
        f: Map1<u32, u32>,
        d: Row,
        a: Row,
    },
    Map2 {
        f: Map2<u32, u32, u32>,
        d: Row,
        a: Row,
        b: Row,
    },
    Map3 {
        f: Map3<u32, u32, u32, u32>,
        d: Row,
        a: Row,
        b: Row,
        c: Row,
    },
    Long1 {
        f: Map1<u64, u64>,
        d: Row,
        a: Row,
    },
    Long2 {
        f: Map2<u64, u64, u64>,
        d: Row,
        a: Row,
        b: Row,
    },
    Long3 {
        f: Map3<u64, u64, u64, u64>,
        d: Row,
        a: Row,
        b: Row,
        c: Row,
    },
    Widen {
        f: Map1<u64, u32>,
        d: Row,
        a: Row,
    },
    Narrow {
        f: Map1<u32, u64>,
        d: Row,
        a: Row,
    },
    MulWide {
        f: Map2<u64, u32, u32>,
        d: Row,
        a: Row,
        b: Row,
    },
    MadWide {
        f: Map3<u64, u32, u32, u64>,
        d: Row,
        a: Row,
        b: Row,
        c: Row,
    },
    ShiftLong {
        f: Map2<u64, u64, u32>,
        d: Row,
        a: Row,
        b: Row,
    },
    ExtractLong {
        f: Map3<u64, u64, u32, u32>,
        d: Row,
        a: Row,
        b: Row,
        c: Row,
    },
    InsertBits {
        d: Row,
        a: Row,
        b: Row,
        position: Row,
        length: Row,
    },
    InsertLong {
        d: Row,
        a: Row,
        b: Row,
        position: Row,
        length: Row,
    },
    Logic3 {
        table: u8,
        d: Row,
        a: Row,
        b: Row,
        c: Row,
    },
    Carry {
        d: Row,
        a: Row,
        b: Row,
        subtract: bool,
        carry_in: bool,
        carry_out: bool,
    },
    /// `mad.cc` and `madc`: the lower or upper half of `a · b`, plus `c` and the carry.
    MulCarry {
        d: Row,
        a: Row,
        b: Row,
        c: Row,
        high: bool,
        signed: bool,
        carry_in: bool,
        carry_out: bool,
    },
    Compare {
        f: Test2<u32>,
        d: Row,
        inverse: Option<Row>,
        a: Row,
        b: Row,
        combine: Option<(Logic, Row, bool)>,
    },
    CompareLong {
        f: Test2<u64>,
        d: Row,
        inverse: Option<Row>,
        a: Row,
        b: Row,
        combine: Option<(Logic, Row, bool)>,
    },
    Property {
        f: Test1<u32>,
        d: Row,
        a: Row,
    },
    PropertyLong {
        f: Test1<u64>,
        d: Row,
        a: Row,
    },
    Select {
        d: Row,
        a: Row,
        b: Row,
        p: Row,
        negated: bool,
    },
    SelectLong {
        d: Row,
        a: Row,
        b: Row,
        p: Row,
        negated: bool,
    },
    PredicateLogic {
        logic: Logic,
        d: Row,
        a: (Row, bool),
        b: (Row, bool),
    },
    Move {
        d: Row,
        a: Row,
    },
    MoveLong {
        d: Row,
        a: Row,
    },
    Pack {
        d: Row,
        low: Row,
        high: Row,
    },
    Unpack {
        low: Row,
        high: Row,
        a: Row,
    },
    PackHalves {
        d: Row,
        low: Row,
        high: Row,
    },
    UnpackHalves {
        low: Row,
        high: Row,
        a: Row,
    },
    Clock {
        d: Row,
    },
    ClockLong {
        d: Row,
    },
    ActiveMask {
        d: Row,
    },
    /// `isspacep`.
    IsSpace {
        space: Space,
        d: Row,
        a: Row,
    },
    Load {
        values: Values,
        address: Address,
    },
    Store {
        values: Values,
        address: Address,
    },
    Atomic {
        kind: AtomicKind,
        address: Address,
        d: Value,
        a: Value,
        b: Value,
        bytes: u8,
    },
    Shuffle {
        kind: ShuffleKind,
        d: Row,
        found: Option<Row>,
        a: Row,
        b: Row,
        c: Row,
        members: Row,
    },
    Vote {
        kind: VoteKind,
        d: Row,
        p: Row,
        negated: bool,
        members: Row,
    },
    MatchAny {
        d: Row,
        a: Row,
        members: Row,
    },
    Barrier {
        kind: BarrierKind,
        id: Row,
        count: Option<Row>,
    },
    /// `bar.red`: a barrier that counts or combines a predicate.
    BarrierReduce {
        kind: VoteKind,
        d: Row,
        id: Row,
        count: Option<Row>,
        p: Row,
        negated: bool,
    },
    /// `redux.sync`.
    Reduce {
        kind: AtomicKind,
        d: Row,
        a: Row,
        members: Row,
    },
    WarpBarrier {
        members: Row,
    },
    Branch {
        target: u32,
    },
    BranchIndexed {
        index: Row,
        targets: u16,
    },
    Exit,
    Trap,
    Nothing,
    /// `griddepcontrol.wait`: the launch before has ended.
    AwaitPrevious,
    Yield,
    AsyncCopy {
        to: Address,
        from: Address,
        bytes: u8,
        size: Option<Row>,
    },
    AsyncCommit,
    AsyncWait {
        keep: u32,
    },
    AsyncWaitAll,
    LoadMatrix {
        d: [Row; 4],
        count: u8,
        transpose: bool,
        address: Address,
    },
    Mma(Box<Mma>),
    /// `elect.sync`: the lowest member is told so.
    Elect {
        d: Row,
        chosen: Row,
        members: Row,
    },
    Asynchronous(Box<Asynchronous>),
}

impl Mma {
    /// How many registers the A and the B operand have.
    pub(crate) fn registers(&self) -> (usize, usize) {
        match (self.operands, self.depth) {
            (Operands::Tf32, 4) => (2, 1),
            (Operands::Tf32, _) => (4, 2),
            (_, 8) => (2, 1),
            _ => (4, 2),
        }
    }
}
