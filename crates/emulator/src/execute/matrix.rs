//! `ldmatrix`, `stmatrix` and `mma`: which lane holds which element, and the product.

use crate::block::Block;
use crate::instruction::{Address, Mma, Operands, Row};
use crate::lanes::product;
use crate::number::{bf16_to_f32, f16_to_f32, result, tf32_operand};
use crate::warp::Warp;

use super::LaneFault;
use super::access::addresses;

impl Block {
    /// Loads 8×8 matrices of 16-bit elements. Lane 8i + r has the address of row r of matrix i.
    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        d: &[Row],
        transpose: bool,
        address: &Address,
    ) -> Result<(), LaneFault> {
        let mut at = addresses(warp, address);
        let lanes = u32::MAX >> (32 - 8 * d.len() as u32);
        self.own(&mut at, lanes)?;
        self.count_shared(&at, 16, lanes);
        for (matrix, row) in d.iter().enumerate() {
            let mut rows = [[0_u32; 4]; 8];
            for index in 0..8 {
                let lane = 8 * matrix + index;
                let by = self.toucher(warp, lane);
                rows[index] = self.shared.load(at[lane], 16, by).map_err(|kind| (lane, kind))?;
            }
            let element = |row: usize, column: usize| rows[row][column / 2] >> (16 * (column % 2)) & 0xffff;
            let out = std::array::from_fn(|lane| {
                let (row, column) = (lane / 4, lane % 4 * 2);
                if transpose { element(column, row) | element(column + 1, row) << 16 } else { rows[row][lane % 4] }
            });
            warp.put(*row, &out, u32::MAX);
        }
        Ok(())
    }

    /// Stores 8×8 matrices of 16-bit elements, the reverse of [`load_matrix`](Self::load_matrix).
    pub(super) fn store_matrix(
        &mut self,
        warp: &mut Warp,
        from: &[Row],
        transpose: bool,
        address: &Address,
    ) -> Result<(), LaneFault> {
        let mut at = addresses(warp, address);
        let lanes = u32::MAX >> (32 - 8 * from.len() as u32);
        self.own(&mut at, lanes)?;
        self.count_shared(&at, 16, lanes);
        for (matrix, row) in from.iter().enumerate() {
            let values = warp.shorts[usize::from(*row)];
            let mut rows = [[0_u32; 4]; 8];
            for lane in 0..32 {
                let (first, second) = (lane / 4, lane % 4 * 2);
                for (half, along) in [(0, second), (1, second + 1)] {
                    let (row, column) = if transpose { (along, first) } else { (first, along) };
                    rows[row][column / 2] |= (values[lane] >> (16 * half) & 0xffff) << (16 * (column % 2));
                }
            }
            for index in 0..8 {
                let lane = 8 * matrix + index;
                let by = self.toucher(warp, lane);
                self.shared.store(at[lane], 16, &rows[index], by).map_err(|kind| (lane, kind))?;
            }
        }
        Ok(())
    }

    /// D = A·B + C. Operands are exact in `f64`, the sum is rounded once to `f32`.
    pub(super) fn multiply(&mut self, warp: &mut Warp, mma: &Mma) {
        let depth = usize::from(mma.depth);
        let mut a = [[0.0_f64; 16]; 16]; // [M, K]
        let mut b = [[0.0_f64; 8]; 16]; // [K, N]
        let mut d = [[0.0_f64; 8]; 16]; // [M, N]
        let (of_a, of_b) = mma.registers();
        let row = |row: Row| &warp.shorts[usize::from(row)];
        if mma.operands == Operands::Tf32 {
            // Registers go down the rows first, then to the right.
            for index in 0..of_a {
                let from = row(mma.a[index]);
                for lane in 0..32 {
                    a[lane / 4 + index % 2 * 8][lane % 4 + index / 2 * 4] = f64::from(tf32_operand(from[lane]));
                }
            }
            for index in 0..of_b {
                let from = row(mma.b[index]);
                for lane in 0..32 {
                    b[lane % 4 + index * 4][lane / 4] = f64::from(tf32_operand(from[lane]));
                }
            }
        } else {
            let number = |bits: u32| {
                f64::from(if mma.operands == Operands::Bf16 { bf16_to_f32(bits) } else { f16_to_f32(bits) })
            };
            for index in 0..of_a {
                let from = row(mma.a[index]);
                for lane in 0..32 {
                    let (m, k) = (lane / 4 + index % 2 * 8, lane % 4 * 2 + index / 2 * 8);
                    a[m][k] = number(from[lane] & 0xffff);
                    a[m][k + 1] = number(from[lane] >> 16);
                }
            }
            for index in 0..of_b {
                let from = row(mma.b[index]);
                for lane in 0..32 {
                    let (k, n) = (lane % 4 * 2 + index * 8, lane / 4);
                    b[k][n] = number(from[lane] & 0xffff);
                    b[k + 1][n] = number(from[lane] >> 16);
                }
            }
        }
        for index in 0..4 {
            let from = row(mma.c[index]);
            for lane in 0..32 {
                d[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2] = f64::from(f32::from_bits(from[lane]));
            }
        }
        product(&mut d, &a, &b, depth);
        for index in 0..4 {
            let out = std::array::from_fn(|lane| result(d[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2] as f32));
            warp.put(mma.d[index], &out, u32::MAX);
        }
        self.counters.mma_flops += 2 * 16 * 8 * u64::from(mma.depth);
    }
}
