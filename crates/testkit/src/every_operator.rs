//! Small cases by which a device is judged when it is first used.

use crate::cases::{self, Case, Fill};
use crate::compare::Tolerance;
use crate::head::{softmax_error, statistics};
use crate::run::run_case;
use sphereface_models::{LOSSES, Loss};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{Layout, Logits, Op, Rule};

/// Every operator, with shapes that take whole tiles and shapes that leave tails, and every loss: a second or two on an
/// emulator, milliseconds on a GPU.
pub fn every_operator() -> Vec<Case> {
    let mut cases = Vec::new();
    let hopper = [[3, 2, 9, 64, 64, 3, 1, 1], [2, 3, 8, 64, 128, 3, 1, 1], [2, 3, 8, 128, 64, 3, 1, 1]];
    for shape in [[6, 5, 16, 16, 24, 3, 1, 1], [8, 6, 8, 3, 64, 3, 2, 1]].into_iter().chain(hopper) {
        cases.extend(cases::conv2d_passes(shape));
    }
    // Gradients of filters that clusters of 2, 4 and 8 blocks make.
    let clusters = [3, 4, 8].into_iter().flat_map(|height| cases::conv2d_passes([height, 17, 9, 64, 64, 3, 1, 1]));
    cases.extend(clusters.filter(|case| case.op.name() == "conv2d_backward_weight"));
    cases.extend(cases::linear_passes([2, 2, 33, 24, 40]));
    cases.extend(cases::LAYOUTS.into_iter().flat_map(|layout| cases::gemm_of(layout, [33, 40, 24])));
    // A large tile.
    cases.extend(cases::LAYOUTS.into_iter().flat_map(|layout| cases::gemm_of(layout, [40, 136, 24])));
    // A sum that every tier makes in parts.
    cases.extend(cases::gemm_of(Layout::NN, [8, 16, 8200]));
    cases.extend(cases::prelu().into_iter().take(4));
    cases.extend(cases::elementwise().into_iter().filter(|case| elements(case) < 5000));
    for rule in [
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true },
    ] {
        cases.push(cases::optimizer_of(rule, Some(5.0), 5000));
    }
    cases.extend(cases::gather_batch());
    cases.extend(cases::metrics());
    // A head whose classes are the lanes of a warp, and the forms of one of tiles of classes with a tail.
    cases.extend(LOSSES.into_iter().flat_map(|loss| head(loss, [10, 2, 33, 20], |case| case)));
    for form in cases::HEAD_FORMS {
        cases.extend(LOSSES.into_iter().flat_map(|loss| head(loss, [70, 20, 130, 129], form)));
    }
    cases
}

/// Both passes of a form of a loss; sizes as in [`HEADS`](cases::HEADS), on numbers that TF32 holds exactly.
fn head(loss: &Loss, sizes @ [classes, dimension, ..]: [usize; 4], form: fn(Case) -> Case) -> Vec<Case> {
    let mut forward = form(cases::margin_softmax_forward_of(&loss.head(classes), 5.0, sizes));
    if matches!(&forward.op, Op::MarginSoftmaxForward(op) if op.0.logits == Logits::Kept && !op.0.is_plain()) {
        return Vec::new();
    }
    forward.reads[..2].iter_mut().for_each(|(_, fill)| *fill = Fill::Tf32);
    // The backward pass reads what the forward pass found out: the reference's figures, on any backend.
    let results = CpuBackend::new(1).and_then(|mut backend| run_case(&forward, &mut backend));
    let tolerance = Tolerance::Largest(softmax_error(classes, dimension));
    let backward =
        results.ok().map(|results| cases::margin_softmax_backward_of(&forward, statistics(&results), tolerance));
    [Some(forward), backward].into_iter().flatten().collect()
}

fn elements(case: &Case) -> usize {
    case.reads.iter().map(|(kind, _)| kind.shape.elements()).sum()
}
