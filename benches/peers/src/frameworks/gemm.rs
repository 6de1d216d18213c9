//! The crate `gemm`: the matrix product under most of Rust's libraries.
#![allow(unsafe_code)] // Its one function is unsafe.

use crate::arrays::{Array, Inputs};
use crate::case::Case;
use crate::protocol::{Framework, Prepared};
use anyhow::{Result, bail, ensure};
use gemm::Parallelism;
use std::cell::RefCell;
use std::rc::Rc;

/// A matrix product in 32 bits.
pub(crate) struct Gemm;

impl Framework for Gemm {
    fn names(&self) -> (&'static str, &'static str) {
        ("gemm", "gemm")
    }

    fn detail(&self) -> String {
        format!("{} threads, AVX-512 where there is one", rayon::current_num_threads())
    }

    fn supports(&self, case: &Case) -> bool {
        case.is_f32() && matches!(case, Case::Gemm(_))
    }

    fn prepare(&self, case: &Case, inputs: &Inputs, _: &str) -> Result<Prepared> {
        let Case::Gemm(case) = case else { bail!("expected a matrix product") };
        let (m, n, k) = (case.m, case.n, case.k);
        let (a, b) = (inputs.floats("a")?.values, inputs.floats("b")?.values);
        let lengths = [a.len(), b.len()];
        ensure!(lengths == [m * k, k * n], "operands: expected {:?} elements, found {lengths:?}", [m * k, k * n]);
        // Strides of columns and rows.
        let strides = |transposed: bool, rows: usize, columns: usize| {
            if transposed { (rows as isize, 1) } else { (1, columns as isize) }
        };
        let ((a_column, a_row), (b_column, b_row)) =
            (strides(case.transposed[0], m, k), strides(case.transposed[1], k, n));
        let c = Rc::new(RefCell::new(vec![0.0_f32; m * n]));
        let written = Rc::clone(&c);
        let run = move || {
            let mut c = written.borrow_mut();
            let (c, c_row) = (c.as_mut_ptr(), n as isize);
            let (read_c, alpha, beta) = (false, 0.0, 1.0);
            let all_threads = Parallelism::Rayon(0);
            let (a, b) = (a.as_ptr(), b.as_ptr());
            // SAFETY: `c` has m·n elements, `a` m·k and `b` k·n as checked above; with these strides the largest offsets
            // are one less; `c` is borrowed mutably and is neither `a` nor `b`.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    c,
                    1,
                    c_row,
                    read_c,
                    a,
                    a_column,
                    a_row,
                    b,
                    b_column,
                    b_row,
                    alpha,
                    beta,
                    false,
                    false,
                    false,
                    all_threads,
                );
            }
            Ok(())
        };
        run()?;
        let outputs = vec![("c", Array { shape: vec![m, n], values: c.borrow().clone() })];
        Ok(Prepared::by_clock(outputs, run))
    }
}
