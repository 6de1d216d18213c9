//! Product of two matrices.

use super::Context;
use super::conv2d::check_sizes;
use super::epilogue::sum_splits;
use super::matrix_product::Products;
use crate::launch::{Kernel, Operands};
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
        let (left, right, out) = (io.reads[0], io.reads[1], io.writes[0]);
        let whole = scheme.splits == 1;
        let launch = scheme
            .launch("gemm", &format!("gemm_{name}"))
            .grid(products.grid(&scheme))
            .read(left)
            .read(right)
            .write_if(whole.then_some(out))
            .write(io.workspace)
            .value(products.structure(&scheme));
        let mut launches = vec![launch];
        if !whole {
            let sizes = [rows, columns, scheme.splits];
            launches.push(sum_splits("gemm", "gemm_sum".into(), io.workspace, sizes, |launch| launch.write(out)));
        }
        launches
    }))
}
