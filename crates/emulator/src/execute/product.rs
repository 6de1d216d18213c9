//! Asynchronous products of warpgroups. All four warps meet, the product is computed at once, and its registers and
//! its shared memory belong to the tensor cores until the wait.

use crate::FaultKind;
use crate::asynchronous::{Asynchronous, Left, Product};
use crate::block::{Block, Failure};
use crate::descriptor::Descriptor;
use crate::instruction::{Op, Operands, Row};
use crate::lanes::wide_product;
use crate::launch::Launch;
use crate::number::{bf16_to_f32, f16_to_f32, result, tf32_operand};
use crate::order::{Agent, Order};
use crate::shared::Toucher;
use crate::warp::{Operand, Warp};

use super::bulk::layout;

/// Rows of a product, and of one warp's part.
const ROWS: usize = 64;
const WARP_ROWS: usize = 16;

/// Room for the operands of a product in `f64`, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// [64, K], [K, N] and [16, N].
    a: Vec<f64>,
    b: Vec<f64>,
    d: Vec<f64>,
}

impl Block {
    /// Whether all warps of the group wait for the product; the groups that do, as a set.
    pub(crate) fn gathered(&self) -> u32 {
        (0..8).filter(|group| self.gathering >> (4 * group) & 0xf == 0xf).fold(0, |set, group| set | 1 << group)
    }

    /// Computes the product at which the four warps of a group have met. A failure comes with the index of its warp.
    pub(crate) fn meet(&mut self, launch: &Launch<'_>, group: u32, warps: &mut [Warp]) -> Result<(), (usize, Failure)> {
        self.gathering &= !(0xf << (4 * group));
        let pc = warps[0].pcs[0];
        let fail = |warp: usize, kind: FaultKind| (warp, Failure { lane: 0, pc, kind });
        let different = warps.iter().position(|warp| warp.pcs[0] != pc);
        if let Some(other) = different {
            let line = |warp: &Warp| launch.program.places[warp.pcs[0] as usize].line;
            let (first, second) = (line(&warps[0]), line(&warps[other]));
            let what = format!("warps of warpgroup {group} are at wgmma of PTX lines {first} and {second}");
            return Err(fail(other, FaultKind::Warpgroup(what)));
        }
        let Op::Asynchronous(what) = &launch.program.code[pc as usize].op else { return Ok(()) };
        let Asynchronous::Product(product) = &**what else { return Ok(()) };
        for (index, warp) in warps.iter_mut().enumerate() {
            claim(warp, product).map_err(|kind| fail(index, kind))?;
        }
        self.multiply_group(product, group, warps).map_err(|kind| fail(0, kind))?;
        for warp in warps {
            warp.waiting = 0;
            warp.pcs.iter_mut().for_each(|pc| *pc += 1);
            warp.refresh();
        }
        Ok(())
    }

    fn multiply_group(&mut self, product: &Product, group: u32, warps: &mut [Warp]) -> Result<(), FaultKind> {
        self.time += 1;
        let agent = self.agent(Agent::Products(group))?;
        // Only what is ordered before all four warps is ordered before the product.
        let mut order = self.released_by(&warps[0]);
        warps[1..].iter().for_each(|warp| order.meet(&self.released_by(warp)));
        let thread = 32 * agent as u16;
        let (accumulate, negated) = product.accumulate;
        let accumulate = uniform(warps, "whether it accumulates", |warp, lane| {
            u64::from(warp.predicates[usize::from(accumulate)] >> lane & 1)
        })? != u64::from(negated);
        let Product { width, depth, .. } = *product;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.a.resize(ROWS * depth, 0.0);
        scratch.b.resize(depth * width, 0.0);
        scratch.d.resize(WARP_ROWS * width, 0.0);
        let by = Toucher { thread, time: self.time, sync: 0, floor: 0, known: &order.own.known };
        let view = View { operands: product.operands, depth, by, order: &order };
        let bits = uniform(warps, "the descriptor of B", |warp, lane| warp.longs[usize::from(product.b)][lane])?;
        let of_b = Descriptor::decode(bits, product.transpose_b)?;
        view.read(self, &of_b, product.transpose_b, width, |k, n, value| scratch.b[k * width + n] = value)?;
        match product.a {
            Left::Registers(rows) => {
                for (part, warp) in warps.iter().enumerate() {
                    fragments(warp, product.operands, rows, &mut scratch.a[part * WARP_ROWS * depth..], depth);
                }
            }
            Left::Shared(row) => {
                let bits = uniform(warps, "the descriptor of A", |warp, lane| warp.longs[usize::from(row)][lane])?;
                let of_a = Descriptor::decode(bits, product.transpose_a)?;
                view.read(self, &of_a, product.transpose_a, ROWS, |k, m, value| scratch.a[m * depth + k] = value)?;
            }
        }
        if product.negate {
            scratch.a.iter_mut().for_each(|value| *value = -*value);
        }
        for (part, warp) in warps.iter_mut().enumerate() {
            // Register 4j + i of a lane: row lane / 4 or 8 more, two columns of the j-th eight.
            let place = |index: usize, lane: usize| {
                let (m, n) = (lane / 4 + index % 4 / 2 * 8, index / 4 * 8 + lane % 4 * 2 + index % 2);
                m * width + n
            };
            if accumulate {
                for (index, row) in product.d.iter().enumerate() {
                    let from = &warp.shorts[usize::from(*row)];
                    for lane in 0..32 {
                        scratch.d[place(index, lane)] = f64::from(f32::from_bits(from[lane]));
                    }
                }
            } else {
                scratch.d.fill(0.0);
            }
            let a = &scratch.a[part * WARP_ROWS * depth..][..WARP_ROWS * depth];
            wide_product(&mut scratch.d, a, &scratch.b, depth, width);
            for (index, row) in product.d.iter().enumerate() {
                let to = &mut warp.shorts[usize::from(*row)];
                for lane in 0..32 {
                    to[lane] = result(scratch.d[place(index, lane)] as f32);
                }
            }
            warp.beside.products.push((warp.beside.product_groups, self.time));
        }
        self.scratch = scratch;
        self.counters.wgmma_flops += 2 * (ROWS * width * depth) as u64;
        Ok(())
    }

    /// Waits until at most `keep` of the warp's latest groups are under way.
    pub(super) fn wait_for_products(&mut self, launch: &Launch<'_>, warp: &mut Warp, keep: u32) {
        if warp.beside.products.is_empty() {
            return;
        }
        let Some(agent) = self.shared.agent(Agent::Products(warp.index / 4)) else { return };
        let done = warp.beside.product_groups.saturating_sub(keep);
        let mut order = Order::default();
        warp.beside.products.retain(|&(group, time)| {
            if group < done {
                order.own.known[agent] = order.own.known[agent].max(time + 1);
            }
            group >= done
        });
        for operand in warp.beside.operands.iter_mut().filter(|operand| operand.group < done) {
            operand.width = 0;
            operand.read = false;
        }
        let warps = launch.block_threads().div_ceil(32) as usize;
        warp.learn(&order, warps, self.shared.agents());
    }
}

/// Gives the registers of a product to the tensor cores.
fn claim(warp: &mut Warp, product: &Product) -> Result<(), FaultKind> {
    let group = warp.beside.product_groups;
    let width = product.width as u16;
    let operands = &mut warp.beside.operands;
    let check = |operand: &Operand, fine: bool| match (operand.touched, fine) {
        (true, _) => Err(FaultKind::MissingProductFence),
        (_, false) => Err(FaultKind::OperandPending),
        _ => Ok(()),
    };
    if let Left::Registers(rows) = product.a {
        for row in rows {
            let operand = &mut operands[usize::from(row)];
            check(operand, operand.width == 0)?;
            operand.read = true;
            operand.group = group;
        }
    }
    for row in &product.d {
        let operand = &mut operands[usize::from(*row)];
        // Products of one shape follow each other in the same registers.
        check(operand, !operand.read && (operand.width == 0 || operand.width == width))?;
        operand.width = width;
        operand.group = group;
    }
    Ok(())
}

/// What all lanes of all warps of a group must have the same of.
fn uniform(warps: &[Warp], what: &str, of: impl Fn(&Warp, usize) -> u64) -> Result<u64, FaultKind> {
    let first = of(&warps[0], 0);
    let all = warps.iter().all(|warp| (0..32).all(|lane| of(warp, lane) == first));
    if all { Ok(first) } else { Err(FaultKind::Warpgroup(format!("lanes of a warpgroup do not agree on {what}"))) }
}

/// How an operand in shared memory is read.
struct View<'a> {
    operands: Operands,
    depth: usize,
    by: Toucher<'a>,
    order: &'a Order,
}

impl View<'_> {
    /// Calls `put` with (k, m or n, value) for every element of `extent` rows or columns.
    fn read(
        &self,
        block: &mut Block,
        descriptor: &Descriptor,
        transposed: bool,
        extent: usize,
        mut put: impl FnMut(usize, usize, f64),
    ) -> Result<(), FaultKind> {
        // Elements of a piece of 16 bytes.
        let elements = if self.operands == Operands::Tf32 { 4 } else { 8 };
        let (outer, inner) = if transposed { (self.depth, extent / elements) } else { (extent, self.depth / elements) };
        block.counters.wgmma_shared_bytes += 16 * (outer * inner) as u64;
        for row in 0..outer {
            for piece in 0..inner {
                let (mn, k) = if transposed { (piece, row) } else { (row, piece) };
                let at = descriptor.piece(mn as u64, k as u64);
                let layout = layout(descriptor.swizzle);
                let words = block.shared.read_beside(at, self.by, &self.order.own.fenced, layout)?;
                for index in 0..elements {
                    let value = match self.operands {
                        Operands::Tf32 => tf32_operand(words[index]),
                        Operands::Bf16 => bf16_to_f32(words[index / 2] >> (16 * (index % 2)) & 0xffff),
                        Operands::F16 => f16_to_f32(words[index / 2] >> (16 * (index % 2)) & 0xffff),
                    };
                    let (k, mn) =
                        if transposed { (row, piece * elements + index) } else { (piece * elements + index, row) };
                    put(k, mn, f64::from(value));
                }
            }
        }
        Ok(())
    }
}

/// The 16 rows of A that a warp has in registers: [16, K].
fn fragments(warp: &Warp, operands: Operands, rows: [Row; 4], to: &mut [f64], depth: usize) {
    for (index, row) in rows.into_iter().enumerate() {
        let from = &warp.shorts[usize::from(row)];
        for lane in 0..32 {
            let m = lane / 4 + index % 2 * 8;
            let bits = from[lane];
            if operands == Operands::Tf32 {
                to[m * depth + lane % 4 + index / 2 * 4] = f64::from(tf32_operand(bits));
                continue;
            }
            let number = if operands == Operands::Bf16 { bf16_to_f32 } else { f16_to_f32 };
            let k = lane % 4 * 2 + index / 2 * 8;
            to[m * depth + k] = f64::from(number(bits & 0xffff));
            to[m * depth + k + 1] = f64::from(number(bits >> 16));
        }
    }
}
