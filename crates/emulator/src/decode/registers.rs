//! Rows of the register files: first one for each register used, then shared by registers that never live together.
//!
//! PTX has a fresh register for almost every value, thousands in an unrolled kernel. A warp's file would not fit a
//! cache; after this it holds little more than a GPU's would.

use std::collections::HashMap;

use super::Constant;
use super::product::is_product;
use super::visit::{Access, visit};
use crate::LoadError;
use crate::instruction::{Instruction, Op, Row};
use crate::ptx::{Type, malformed};

/// A register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum File {
    Short,
    Long,
    Predicate,
}

const FILES: [File; 3] = [File::Short, File::Long, File::Predicate];

/// Rows given out while decoding.
pub(super) struct Rows {
    /// Type and row of each register of the kernel.
    registers: Vec<(Type, Option<Row>)>,
    constants: HashMap<(File, Constant), Row>,
    scratch: HashMap<File, Row>,
    /// Of each file: for each row, whether it keeps its place.
    pinned: [Vec<bool>; 3],
}

/// The files after the assignment.
#[derive(Default)]
pub(super) struct Files {
    pub(super) shorts: usize,
    pub(super) longs: usize,
    pub(super) predicates: usize,
    pub(super) constants: Vec<(Row, Constant)>,
    pub(super) long_constants: Vec<(Row, Constant)>,
    pub(super) predicate_constants: Vec<(Row, bool)>,
}

impl Rows {
    pub(super) fn new(types: &[Type]) -> Self {
        Rows {
            registers: types.iter().map(|kind| (*kind, None)).collect(),
            constants: HashMap::new(),
            scratch: HashMap::new(),
            pinned: Default::default(),
        }
    }

    /// The row of a register, which must belong to the file.
    pub(super) fn register(&mut self, file: File, index: usize, line: u32) -> Result<Row, LoadError> {
        let (kind, row) = self.registers[index];
        let actual = match kind {
            Type::Pred => File::Predicate,
            kind if kind.bits() == 64 => File::Long,
            _ => File::Short,
        };
        if actual != file {
            let expected = match file {
                File::Short => "at most 32 bits",
                File::Long => "64 bits",
                File::Predicate => "one bit (a predicate)",
            };
            return Err(malformed(line, format!("a register of {expected} expected, one of type {kind:?} found")));
        }
        if let Some(row) = row {
            return Ok(row);
        }
        let row = self.add(file, false, line)?;
        self.registers[index].1 = Some(row);
        Ok(row)
    }

    /// A row that holds the constant from the start.
    pub(super) fn constant(&mut self, file: File, constant: Constant, line: u32) -> Result<Row, LoadError> {
        if let Some(row) = self.constants.get(&(file, constant)) {
            return Ok(*row);
        }
        let row = self.add(file, true, line)?;
        self.constants.insert((file, constant), row);
        Ok(row)
    }

    /// A row for results that nobody wants.
    pub(super) fn scratch(&mut self, file: File, line: u32) -> Result<Row, LoadError> {
        if let Some(row) = self.scratch.get(&file) {
            return Ok(*row);
        }
        let row = self.add(file, true, line)?;
        self.scratch.insert(file, row);
        Ok(row)
    }

    fn add(&mut self, file: File, pinned: bool, line: u32) -> Result<Row, LoadError> {
        let rows = &mut self.pinned[file as usize];
        let row = Row::try_from(rows.len()).map_err(|_| malformed(line, "more than 65,536 registers in use"))?;
        rows.push(pinned);
        Ok(row)
    }

    /// Gives registers that never live together the same row and rewrites the code.
    pub(super) fn assign(self, code: &mut [Instruction], tables: &[Vec<u32>]) -> Result<Files, LoadError> {
        let starts = [0, self.pinned[0].len(), self.pinned[0].len() + self.pinned[1].len()];
        let total = starts[2] + self.pinned[2].len();
        let mut intervals = intervals(code, tables, starts, total);
        // The tensor cores use the operands of a product until somebody waits for it, longer than the text shows.
        for instruction in code.iter_mut().filter(|instruction| is_product(&instruction.op)) {
            visit(instruction, &mut |file, _, row| {
                if file == File::Short {
                    intervals[starts[file as usize] + usize::from(*row)] = (0, usize::MAX);
                }
            });
        }
        let mut renamed: Vec<Row> = vec![0; total];
        let mut sizes = [0_usize; 3];
        for file in FILES {
            let start = starts[file as usize];
            let pinned = &self.pinned[file as usize];
            let mut order: Vec<usize> = (0..pinned.len()).filter(|row| !pinned[*row]).collect();
            order.sort_by_key(|row| intervals[start + row].0);
            // The last instruction that uses each row given out so far.
            let mut ends: Vec<usize> = Vec::new();
            for row in order {
                let (first, last) = intervals[start + row];
                let place = ends.iter().position(|end| *end < first).unwrap_or(ends.len());
                if place == ends.len() {
                    ends.push(last);
                } else {
                    ends[place] = last;
                }
                renamed[start + row] = place as Row;
            }
            let mut size = ends.len();
            for row in (0..pinned.len()).filter(|row| pinned[*row]) {
                renamed[start + row] = size as Row;
                size += 1;
            }
            sizes[file as usize] = size;
        }
        for instruction in code.iter_mut() {
            visit(instruction, &mut |file, _, row| *row = renamed[starts[file as usize] + usize::from(*row)]);
        }
        let mut files = Files { shorts: sizes[0], longs: sizes[1], predicates: sizes[2], ..Files::default() };
        for ((file, constant), row) in self.constants {
            let row = renamed[starts[file as usize] + usize::from(row)];
            match file {
                File::Short => files.constants.push((row, constant)),
                File::Long => files.long_constants.push((row, constant)),
                File::Predicate => files.predicate_constants.push((row, constant == Constant::Bits(1))),
            }
        }
        Ok(files)
    }
}

/// Of each row, the first and the last instruction between which it may hold a value that is read later.
fn intervals(code: &mut [Instruction], tables: &[Vec<u32>], starts: [usize; 3], total: usize) -> Vec<(usize, usize)> {
    let blocks = blocks(code, tables);
    let words = total.div_ceil(64);
    // Of each block: rows read before they are written, rows written for sure, rows live at its begin.
    let mut reads = vec![vec![0_u64; words]; blocks.len()];
    let mut writes = vec![vec![0_u64; words]; blocks.len()];
    let mut intervals = vec![(usize::MAX, 0); total];
    let widen = |interval: &mut (usize, usize), at: usize| *interval = (interval.0.min(at), interval.1.max(at));
    for (number, block) in blocks.iter().enumerate() {
        for at in block.first..block.end {
            let guarded = code[at].guard.is_some();
            let mut written = Vec::new();
            visit(&mut code[at], &mut |file, access, row| {
                let index = starts[file as usize] + usize::from(*row);
                widen(&mut intervals[index], at);
                match access {
                    Access::Read if writes[number][index / 64] >> (index % 64) & 1 == 0 => {
                        reads[number][index / 64] |= 1 << (index % 64);
                    }
                    Access::Write if !guarded => written.push(index),
                    _ => {}
                }
            });
            for index in written {
                writes[number][index / 64] |= 1 << (index % 64);
            }
        }
    }
    let mut live = reads.clone();
    let mut changed = true;
    while changed {
        changed = false;
        for number in (0..blocks.len()).rev() {
            for word in 0..words {
                let out = blocks[number].next.iter().fold(0, |out, next| out | live[*next][word]);
                let begin = reads[number][word] | (out & !writes[number][word]);
                changed |= begin != live[number][word];
                live[number][word] = begin;
            }
        }
    }
    for (number, block) in blocks.iter().enumerate() {
        for word in 0..words {
            let out = block.next.iter().fold(0, |out, next| out | live[*next][word]);
            for (mut bits, at) in [(live[number][word], block.first), (out, block.end - 1)] {
                while bits != 0 {
                    widen(&mut intervals[word * 64 + bits.trailing_zeros() as usize], at);
                    bits &= bits - 1;
                }
            }
        }
    }
    intervals
}

/// A straight run of instructions and the blocks that may follow.
struct Block {
    first: usize,
    end: usize,
    next: Vec<usize>,
}

fn blocks(code: &[Instruction], tables: &[Vec<u32>]) -> Vec<Block> {
    let targets = |op: &Op| -> Vec<usize> {
        match op {
            Op::Branch { target } => vec![*target as usize],
            Op::BranchIndexed { targets, .. } => {
                tables[usize::from(*targets)].iter().map(|target| *target as usize).collect()
            }
            _ => Vec::new(),
        }
    };
    let ends = |op: &Op| matches!(op, Op::Branch { .. } | Op::BranchIndexed { .. } | Op::Exit | Op::Trap);
    let mut leaders = vec![false; code.len() + 1];
    leaders[0] = true;
    for (at, instruction) in code.iter().enumerate() {
        if ends(&instruction.op) {
            leaders[at + 1] = true;
            targets(&instruction.op).into_iter().for_each(|target| leaders[target] = true);
        }
    }
    let firsts: Vec<usize> = (0..code.len()).filter(|at| leaders[*at]).collect();
    let mut number = vec![0; code.len()];
    firsts.iter().enumerate().for_each(|(index, first)| number[*first] = index);
    let mut blocks = Vec::with_capacity(firsts.len());
    for (index, first) in firsts.iter().enumerate() {
        let end = firsts.get(index + 1).copied().unwrap_or(code.len());
        let last = &code[end - 1];
        let mut next: Vec<usize> = targets(&last.op).into_iter().map(|target| number[target]).collect();
        if (!ends(&last.op) || last.guard.is_some()) && end < code.len() {
            next.push(index + 1);
        }
        blocks.push(Block { first: *first, end, next });
    }
    blocks
}
