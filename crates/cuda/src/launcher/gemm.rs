//! Product of two matrices, and what is fused into it.

use super::Context;
use super::conv2d::check_sizes;
use super::epilogue::{PreluEpilogue, sum_splits};
use super::matrix_product::Products;
use crate::launch::{Kernel, Operands, suffix};
use sphereface_tensor::Error;
use sphereface_tensor::op::{Gemm, Layout};

pub(super) fn gemm(op: Gemm, operands: &Operands<'_>, context: &Context) -> Result<Kernel, Error> {
    check_sizes(&op, &[&operands.reads[..], &operands.writes].concat())?;
    let dtype = operands.reads[0].dtype;
    let geometry = op.geometry(&operands.reads[0].shape, &operands.reads[1].shape)?;
    let name = match op.layout {
        Layout::NN => "nn",
        Layout::NT => "nt",
        Layout::TN => "tn",
    };
    let (rows, columns) = (geometry.rows, geometry.columns);
    let products =
        Products { layout: op.layout, rows, columns, length: geometry.length, segments: 1, batch: 1, own: [false; 2] };
    let scheme = products.scheme(context, dtype);
    Ok(Kernel::new(products.partial_bytes(&scheme), move |io| {
        let mut rest = io.reads[2..].iter().copied();
        let epilogue = PreluEpilogue {
            bias: if op.bias { rest.next() } else { None },
            slope: if op.slope { rest.next() } else { None },
            addend: if op.residual { rest.next() } else { None },
            kept: None,
            out: io.writes[0],
        };
        // The kernels keep no value before the rectifier.
        let finish = |epilogue: PreluEpilogue, launch| epilogue.reads(launch).write(epilogue.out);
        let whole = scheme.splits == 1;
        let launch = products.launch(&scheme, "gemm", &format!("gemm_{name}"), [io.reads[0], io.reads[1]]);
        let now = if whole { epilogue } else { PreluEpilogue::default() };
        let mut launches = vec![finish(now, launch).write(io.workspace).value(products.structure(&scheme))];
        if !whole {
            let sizes = [rows, columns, scheme.splits];
            let kernel = format!("gemm_sum_{}", suffix(dtype));
            launches.push(sum_splits("gemm", kernel, io.workspace, sizes, |launch| finish(epilogue, launch)));
        }
        launches
    }))
}
