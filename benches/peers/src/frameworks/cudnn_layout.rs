//! The orders of dimensions that cuDNN is tried in.

use crate::arrays::{ACTIVATION, FILTER, FILTER_BACK};
use cudarc::cudnn::sys;

/// An order of dimensions in memory.
pub(super) struct Layout {
    pub(super) variant: &'static str,
    pub(super) format: sys::cudnnTensorFormat_t,
    /// From ours `[H, W, N, C]` and back.
    pub(super) activation: [[usize; 4]; 2],
    /// From ours `[R, S, C, K]` and back.
    pub(super) filter: [[usize; 4]; 2],
}

pub(super) const LAYOUTS: [Layout; 2] = [
    Layout {
        variant: "NHWC",
        format: sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
        activation: [[2, 0, 1, 3], [1, 2, 0, 3]],
        filter: [[3, 0, 1, 2], [1, 2, 3, 0]],
    },
    Layout {
        variant: "NCHW",
        format: sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        activation: [ACTIVATION, [2, 3, 0, 1]],
        filter: [FILTER, FILTER_BACK],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::Array;

    #[test]
    fn layouts_hold_the_dimensions_that_their_names_say_and_go_back() {
        let ours = |shape: [usize; 4]| {
            let values = (0..shape.iter().product::<usize>()).map(|index| index as f32).collect();
            Array { shape: shape.to_vec(), values }
        };
        // [H, W, N, C] and [R, S, C, K].
        let (activation, filter) = (ours([2, 3, 4, 5]), ours([1, 2, 3, 4]));
        for (layout, shapes) in LAYOUTS.iter().zip([[[4, 2, 3, 5], [4, 1, 2, 3]], [[4, 5, 2, 3], [4, 3, 1, 2]]]) {
            let orders = [layout.activation, layout.filter];
            for ((array, [there, back]), shape) in [&activation, &filter].into_iter().zip(orders).zip(shapes) {
                let theirs = array.permuted(&there);
                assert_eq!(theirs.shape, shape, "{}", layout.variant);
                let again = theirs.permuted(&back);
                assert_eq!((again.shape, again.values), (array.shape.clone(), array.values.clone()));
            }
        }
    }
}
