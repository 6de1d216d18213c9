//! Operators with shapes: every backend computes each of them and is compared with the f64 reference.

mod margin_softmax;

pub use margin_softmax::{
    HEAD_FORMS, HEADS, margin_softmax_backward_of, margin_softmax_forward, margin_softmax_forward_of,
};
pub(crate) use margin_softmax::{bias, modifiers};

use crate::compare::Tolerance;
use sphereface_tensor::op::{
    Add, Advance, Augmentation, Cast, Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, GatherBatch, Gemm,
    GradientNorm, Group, Layout, LinearBackwardData, LinearBackwardWeight, LinearForward, Logits, METRICS, Metrics, Op,
    Optimizer, PreluBackward, PreluForward, RowModifier, RowModifiers, Rule, UnitRows,
};
use sphereface_tensor::{DType, Dim, Shape, Type};

/// How an operand is filled.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Standard normal, rounded to what TF32 holds: 10 bits of mantissa.
    Tf32,
    /// Uniform in `[0.5, 1.5)`.
    Positive,
    /// Whole numbers in `0..limit`.
    Below(u32),
    /// One value.
    Constant(f64),
    /// These values.
    Values(Vec<f64>),
}

/// One operator with the operands it is tested on.
#[derive(Clone, Debug)]
pub struct Case {
    /// Operator and shapes.
    pub name: String,
    /// Operator.
    pub op: Op,
    /// Operands that are read.
    pub reads: Vec<(Type, Fill)>,
    /// Operands that are updated.
    pub updates: Vec<(Type, Fill)>,
    /// How far f32 results may be from the reference.
    pub tolerance: Tolerance,
}

/// Error of an fp32 sum of products, in multiples of the sum of their magnitudes.
const FP32_SUM: f64 = 1e-6;

/// Per-element bound for fp32 sums of products.
pub const FP32: Tolerance = Tolerance::Products(FP32_SUM);

/// The same for convolutions by Winograd's algorithm. Its largest error at these sizes is 1.2e-6 of the products that an
/// element is made of, that of a sum term by term 2.6e-7: a tile's transforms mix in inputs of its other elements, and
/// those at a corner of the image have but four of nine taps to be measured by.
pub const WINOGRAD_FP32: Tolerance = Tolerance::Products(2e-6);

/// Per-element bound for sums of products on tensor cores, whose operands were rounded before.
pub const TENSOR: Tolerance = Tolerance::Products(5e-5);

impl Case {
    /// The same case with operands that TF32 holds exactly, within the bound of tensor cores.
    pub fn in_tf32(&self) -> Case {
        let mut case = Case { name: format!("{} tf32", self.name), ..self.clone() }.on_tensor_cores();
        for (_, fill) in case.reads.iter_mut().filter(|(_, fill)| *fill == Fill::Normal) {
            *fill = Fill::Tf32;
        }
        case
    }

    /// The same case within the bound of tensor cores. Where it is one of the largest element, that is for a slope,
    /// which multiplies a sum: it stays one.
    pub fn on_tensor_cores(mut self) -> Case {
        self.tolerance = match self.tolerance {
            Tolerance::Largest(factor) => Tolerance::Largest(factor.max(5e-5)),
            _ => TENSOR,
        };
        self
    }

    /// The same case of a head on tensor cores: gradients of the products are rounded to TF32, of 11 bits, or where
    /// directions are to bf16, to its 8 bits; and the logits themselves are wrong by a little. In bf16 it shows that those
    /// of the other classes are together as large as the target's, so that they are wrong by as much again.
    pub fn with_rounded_gradients(self) -> Case {
        let bf16 = matches!(&self.op, Op::MarginSoftmaxBackward(op) if op.0.rounded);
        let rounding = if bf16 { 2.0 / 256.0 } else { 1.0 / 2048.0 };
        let tolerance = match self.tolerance {
            Tolerance::Largest(factor) => Tolerance::Largest(factor + rounding + 5e-5),
            other => other,
        };
        Case { tolerance, ..self }
    }

    /// The forward pass of the same head with products of directions that are rounded to bf16.
    pub fn with_rounded_directions(mut self) -> Case {
        if let Op::MarginSoftmaxForward(op) = &mut self.op {
            op.0.rounded = true;
            self.name += " rounded";
        }
        self
    }

    /// The forward pass of the same head that keeps its cosines.
    pub fn with_kept_cosines(mut self) -> Case {
        if let Op::MarginSoftmaxForward(op) = &mut self.op {
            op.0.logits = Logits::Kept;
            self.name += " kept";
        }
        self
    }

    /// The same case with bf16 in place of every operand that may be; `None` if there is none.
    pub fn in_bf16(&self) -> Option<Case> {
        let mut case = Case { name: format!("{} bf16", self.name), ..self.clone() };
        let mut any = false;
        for (index, (kind, _)) in case.reads.iter_mut().enumerate() {
            if self.op.may_be_bf16(index) {
                kind.dtype = DType::Bf16;
                any = true;
            }
        }
        any.then_some(case)
    }
}

pub(crate) fn case(name: String, op: impl Into<Op>, reads: Vec<(Type, Fill)>, tolerance: Tolerance) -> Case {
    Case { name, op: op.into(), reads, updates: vec![], tolerance }
}

pub(crate) fn normal(shape: Shape) -> (Type, Fill) {
    (Type::f32(shape), Fill::Normal)
}

pub(crate) fn counter(value: f64) -> (Type, Fill) {
    (Type::u32(Shape::vector(Dim::Length, 1)), Fill::Constant(value))
}

/// Height, width, batch, inputs, outputs, filter, stride, padding of convolutions: odd sizes, size one, sizes no tile
/// divides, batches on both sides of the limit from which a pixel is a task, split reductions, blocks of outputs.
pub const CONVOLUTIONS: [[usize; 8]; 17] = [
    [28, 28, 3, 1, 16, 3, 2, 1],
    [14, 14, 2, 16, 16, 3, 1, 1],
    [7, 7, 33, 16, 32, 3, 2, 1],
    [4, 4, 40, 5, 7, 3, 1, 1],
    [4, 4, 1, 8, 8, 3, 2, 1],
    [5, 3, 1, 3, 4, 3, 1, 1],
    [2, 2, 64, 17, 16, 3, 1, 1],
    [1, 1, 5, 4, 3, 3, 1, 1],
    [6, 5, 2, 3, 4, 5, 1, 2],
    [9, 8, 3, 2, 5, 5, 2, 0],
    [6, 6, 3, 4, 8, 1, 1, 0],
    [7, 5, 2, 4, 8, 1, 2, 0],
    [3, 3, 2, 2, 2, 3, 1, 3],
    [8, 6, 32, 3, 64, 3, 2, 1],
    [5, 4, 7, 60, 68, 3, 1, 1],
    [7, 6, 9, 36, 132, 3, 2, 1],
    [6, 5, 3, 20, 64, 3, 2, 1],
];

/// All passes of all [`CONVOLUTIONS`], with everything that can be fused.
pub fn conv2d() -> Vec<Case> {
    CONVOLUTIONS.into_iter().flat_map(conv2d_passes).collect()
}

/// The same of convolutions that Winograd's algorithm computes: every form of tile in both dimensions, several tiles in
/// one task, more images than a task has, one image.
pub const WINOGRAD: [[usize; 8]; 9] = [
    [2, 2, 70, 32, 48, 3, 1, 1],
    [4, 2, 33, 32, 32, 3, 1, 1],
    [3, 6, 15, 64, 32, 3, 1, 1],
    [5, 4, 70, 32, 32, 3, 1, 1],
    [7, 7, 6, 48, 64, 3, 1, 1],
    [2, 65, 2, 32, 48, 3, 1, 1],
    [14, 19, 1, 32, 32, 3, 1, 1],
    [13, 3, 7, 32, 32, 3, 1, 1],
    [4, 4, 16, 528, 32, 3, 1, 1],
];

/// All passes of all [`WINOGRAD`].
pub fn winograd() -> Vec<Case> {
    WINOGRAD.into_iter().flat_map(conv2d_passes).collect()
}

/// The bound of a convolution in fp32: looser where Winograd's algorithm may compute it.
pub(crate) fn conv2d_tolerance([.., inputs, outputs, taps, stride, padding]: [usize; 8]) -> Tolerance {
    let channels = [inputs, outputs].iter().all(|&channels| channels >= 32 && channels.is_multiple_of(16));
    if channels && (taps, stride, padding) == (3, 1, 1) { WINOGRAD_FP32 } else { FP32 }
}

/// All passes of one convolution, as in [`CONVOLUTIONS`], with everything that can be fused.
///
/// # Panics
/// When the filter is larger than the padded input.
pub fn conv2d_passes(sizes: [usize; 8]) -> Vec<Case> {
    let [h, w, n, c, k, r, stride, padding] = sizes;
    let tolerance = conv2d_tolerance(sizes);
    let mut cases = Vec::new();
    let name = |pass: &str| format!("conv2d_{pass} {h}x{w} N{n} C{c} K{k} {r}x{r} stride {stride} padding {padding}");
    let (x, filter) = (normal(Shape::activation(h, w, n, c)), normal(Shape::filter(r, r, c, k)));
    let plain = Conv2dForward::plain(stride, padding, true);
    let (bias, slope) = (normal(Shape::vector(Dim::K, k)), normal(Shape::vector(Dim::C, k)));
    let reads = vec![x.clone(), filter.clone(), bias];
    let y = Conv2dForward::plain(stride, padding, false);
    let y = sphereface_tensor::op::Operator::outputs(&y, &[&x.0, &filter.0], &[]).expect("a convolution")[0].clone();
    let d_y = (y, Fill::Normal);
    cases.push(case(name("forward"), plain, reads.clone(), tolerance));
    for (keep, residual) in [(false, false), (true, false), (false, true), (true, true)] {
        let op = Conv2dForward { slope: true, keep, residual, ..plain };
        let mut reads = reads.clone();
        reads.push(slope.clone());
        reads.extend(residual.then(|| d_y.clone()));
        cases.push(case(format!("{} {op:?}", name("forward")), op, reads, tolerance));
    }
    let slope = normal(Shape::vector(Dim::C, c));
    for addend in [false, true] {
        let plain = Conv2dBackwardData::plain(stride, padding, [h, w], addend);
        let mut reads = vec![d_y.clone(), filter.clone()];
        reads.extend(addend.then(|| x.clone()));
        cases.push(case(name("backward_data"), plain, reads.clone(), tolerance));
        reads.extend([x.clone(), slope.clone()]);
        for keep in [false, true] {
            let op = Conv2dBackwardData { slope: true, keep, ..plain };
            cases.push(case(format!("{} {op:?}", name("backward_data")), op, reads.clone(), tolerance));
        }
    }
    for bias in [false, true] {
        let op = Conv2dBackwardWeight { stride, padding, bias, taps: [r, r] };
        cases.push(case(name("backward_weight"), op, vec![x.clone(), d_y.clone()], tolerance));
    }
    cases
}

/// Sums of 50,000 terms of one sign: added one by one they would be wrong by ten times the bound.
pub fn long_sums() -> Vec<Case> {
    let positive = |shape| (Type::f32(shape), Fill::Positive);
    let [h, w, n, c, k] = [28, 28, 64, 3, 16];
    let weight = Conv2dBackwardWeight { stride: 1, padding: 1, bias: true, taps: [3, 3] };
    let reads = vec![positive(Shape::activation(h, w, n, c)), positive(Shape::activation(h, w, n, k))];
    // Below zero, the rectifier's input adds every gradient to that of its slope.
    let data = Conv2dBackwardData { slope: true, ..Conv2dBackwardData::plain(1, 0, [h, w], false) };
    let negative = (Type::f32(Shape::activation(h, w, n, c)), Fill::Constant(-1.0));
    let d_y = positive(Shape::activation(h, w, n, 4));
    let fused = vec![d_y, positive(Shape::filter(1, 1, c, 4)), negative, positive(Shape::vector(Dim::C, c))];
    let linear =
        vec![positive(Shape::activation(1, 1, 50_000, c)), positive(Shape::matrix((Dim::N, 50_000), (Dim::D, k)))];
    vec![
        case("long conv2d_backward_weight".into(), weight, reads, FP32),
        case("long conv2d_backward_data".into(), data, fused, FP32),
        case("long linear_backward_weight".into(), LinearBackwardWeight, linear, FP32),
    ]
}

/// All passes of the fully connected layer.
pub fn linear() -> Vec<Case> {
    let sizes = [
        [2, 2, 128, 128, 2],
        [1, 1, 1, 1, 1],
        [3, 2, 33, 5, 7],
        [7, 6, 2, 16, 64],
        [1, 2, 72, 68, 72],
        [1, 1, 3, 8, 520],
    ];
    sizes.into_iter().flat_map(linear_passes).collect()
}

/// All passes of one fully connected layer: height, width, batch, inputs, outputs.
pub fn linear_passes([h, w, n, c, d]: [usize; 5]) -> [Case; 3] {
    let name = |pass: &str| format!("linear_{pass} {h}x{w} N{n} C{c} D{d}");
    let (x, weight) = (normal(Shape::activation(h, w, n, c)), normal(Shape::filter(h, w, c, d)));
    let (bias, d_out) = (normal(Shape::vector(Dim::K, d)), normal(Shape::matrix((Dim::N, n), (Dim::D, d))));
    [
        case(name("forward"), LinearForward, vec![x.clone(), weight.clone(), bias], FP32),
        case(name("backward_data"), LinearBackwardData, vec![d_out.clone(), weight], FP32),
        case(name("backward_weight"), LinearBackwardWeight, vec![x, d_out], FP32),
    ]
}

/// Every [`Layout`].
pub const LAYOUTS: [Layout; 3] = [Layout::NN, Layout::NT, Layout::TN];

/// Products in every layout: rows, columns and length of the reduction; size one, sizes that no tile and no vector
/// divides, and a reduction that is split.
pub fn gemm() -> Vec<Case> {
    let sizes = [[1, 1, 1], [5, 3, 2], [33, 31, 9], [132, 68, 24], [67, 129, 13], [8, 12, 5000]];
    let mut cases: Vec<Case> = sizes
        .into_iter()
        .flat_map(|sizes| LAYOUTS.into_iter().flat_map(move |layout| gemm_of(layout, sizes)))
        .collect();
    // What is fused, one by one.
    let plain = Gemm::plain(Layout::NN);
    let parts = [Gemm { bias: true, ..plain }, Gemm { slope: true, ..plain }, Gemm { residual: true, ..plain }];
    cases.extend(parts.map(|op| gemm_case(op, [33, 31, 9])));
    cases
}

/// The product of these rows, columns and length, plain, and with everything that can be fused.
pub fn gemm_of(layout: Layout, sizes: [usize; 3]) -> [Case; 2] {
    let plain = Gemm::plain(layout);
    [plain, Gemm { bias: true, slope: true, residual: true, ..plain }].map(|op| gemm_case(op, sizes))
}

/// One product of these rows, columns and length, with some of what can be fused.
pub fn gemm_case(op: Gemm, [rows, columns, length]: [usize; 3]) -> Case {
    let layout = op.layout;
    let (rows_dim, columns_dim, length_dim) = ((Dim::Rows, rows), (Dim::Columns, columns), (Dim::Length, length));
    let left =
        if layout == Layout::TN { Shape::matrix(length_dim, rows_dim) } else { Shape::matrix(rows_dim, length_dim) };
    let right = if layout == Layout::NT {
        Shape::matrix(columns_dim, length_dim)
    } else {
        Shape::matrix(length_dim, columns_dim)
    };
    let (vector, out) = (Shape::vector(Dim::Columns, columns), Shape::matrix(rows_dim, columns_dim));
    let fused = [(op.bias, vector.clone()), (op.slope, vector), (op.residual, out)];
    let fused = fused.into_iter().filter_map(|(present, shape)| present.then_some(shape));
    let reads = [left, right].into_iter().chain(fused).map(normal).collect();
    case(format!("{op:?} {rows}x{columns}x{length}"), op, reads, FP32)
}

/// Both passes of the parametric rectifier: channels that fill vectors, and that do not.
pub fn prelu() -> Vec<Case> {
    let mut cases = Vec::new();
    for [h, w, n, c] in [[1, 1, 1, 1], [3, 5, 7, 16], [2, 3, 4, 19], [14, 14, 9, 64]] {
        let (x, slope) = (normal(Shape::activation(h, w, n, c)), normal(Shape::vector(Dim::C, c)));
        let name = format!("prelu_forward {h}x{w} N{n} C{c}");
        cases.push(case(name, PreluForward, vec![x, slope], FP32));
        cases.push(prelu_backward([h, w, n, c]));
    }
    cases
}

/// Element-wise operators and reductions.
pub fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for [h, w, n, c] in [[1, 1, 1, 1], [2, 3, 4, 19], [14, 14, 9, 64]] {
        let x = normal(Shape::activation(h, w, n, c));
        let name = |op: &str| format!("{op} {h}x{w} N{n} C{c}");
        cases.push(case(name("add"), Add, vec![x.clone(), x.clone()], FP32));
        cases.push(case(name("cast"), Cast { to: DType::Bf16 }, vec![x.clone()], Tolerance::Exact));
        let bf16 = Type { dtype: DType::Bf16, ..x.0 };
        cases.push(case(name("cast back"), Cast { to: DType::F32 }, vec![(bf16, Fill::Normal)], Tolerance::Exact));
    }
    for length in [1, 17, 4096, 100_003] {
        let gradients = normal(Shape::vector(Dim::Length, length));
        cases.push(case(format!("gradient_norm {length}"), GradientNorm, vec![gradients], Tolerance::Largest(1e-6)));
    }
    for [classes, dimension] in [[1, 1], [10, 2], [33, 70]] {
        let name = format!("unit_rows {classes}x{dimension}");
        let updates = vec![normal(Shape::matrix((Dim::Classes, classes), (Dim::D, dimension)))];
        cases.push(Case { updates, ..case(name, UnitRows, vec![], Tolerance::Largest(1e-6)) });
    }
    for [batch, dimension, valid] in [[1, 1, 1], [70, 2, 69], [300, 513, 300]] {
        for of in [RowModifier::Drawn, RowModifier::Length { spread: 0.7 }] {
            let name = format!("row_modifiers {of:?} N{batch} D{dimension} valid {valid}");
            let embedding = normal(Shape::matrix((Dim::N, batch), (Dim::D, dimension)));
            let reads = vec![embedding, counter(valid as f64), counter(9.0)];
            cases.push(case(name, RowModifiers { of, seed: 5 }, reads, Tolerance::Largest(1e-6)));
        }
    }
    let updates = vec![counter(7.0)];
    cases.push(Case { updates, ..case("advance".into(), Advance, vec![], Tolerance::Exact) });
    cases
}

/// Gradients of a rectifier of an activation `[H, W, N, C]`.
pub fn prelu_backward([h, w, n, c]: [usize; 4]) -> Case {
    let (x, slope) = (normal(Shape::activation(h, w, n, c)), normal(Shape::vector(Dim::C, c)));
    let name = format!("prelu_backward {h}x{w} N{n} C{c}");
    case(name, PreluBackward, vec![x.clone(), x, slope], FP32)
}

/// The optimiser's rules, with and without clipping.
pub fn optimizer() -> Vec<Case> {
    let mut cases = Vec::new();
    let rules = [
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decoupled: true },
        Rule::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-6, decoupled: false },
    ];
    for (rule, clip) in rules.into_iter().flat_map(|rule| [(rule, None), (rule, Some(5.0))]) {
        cases.push(optimizer_of(rule, clip, 20_011));
    }
    let copied = [0..20_011, 4..17_000, 1025..1026, 2051..20_000].map(|copied| (rules[0], copied));
    cases.extend(
        copied.into_iter().chain([(rules[3], 16..18_001)]).map(|(rule, copied)| optimizer_with_copy(rule, copied)),
    );
    cases
}

/// The same with a copy in bf16 of some elements.
pub fn optimizer_with_copy(rule: Rule, copied: std::ops::Range<usize>) -> Case {
    let mut case = optimizer_of(rule, None, 20_011);
    let Op::Optimizer(op) = &case.op else { return case };
    case.name += &format!(" copy of {copied:?}");
    let kind = Type { dtype: DType::Bf16, shape: Shape::vector(Dim::Length, copied.len()) };
    let op = Optimizer { copied: Some(copied), ..op.clone() };
    case.op = op.into();
    case.updates.push((kind, Fill::Normal));
    // The parameter that is rounded is off by an ulp, so the copy now and then by one of bf16.
    case.tolerance = Tolerance::Largest(4e-3);
    case
}

/// One update of a block of this length by a rule; most of it in one group, some of it in none.
pub fn optimizer_of(rule: Rule, clip: Option<f32>, length: usize) -> Case {
    let groups = vec![
        Group { range: 3..length - 2011, decay: 0.01, rate: 1.0 },
        Group { range: length - 2010..length - 1, decay: 0.0, rate: 2.0 },
    ];
    let flat = |fill| (Type::f32(Shape::vector(Dim::Length, length)), fill);
    let norm = (Type::f32(Shape::vector(Dim::Length, 1)), Fill::Constant(141.0));
    let rates = (Type::f32(Shape::vector(Dim::Steps, 5)), Fill::Positive);
    let mut updates = vec![flat(Fill::Normal)];
    updates.extend(rule.states().iter().map(|_| flat(Fill::Positive)));
    Case {
        name: format!("optimizer {rule:?} clip {clip:?} length {length}"),
        op: Optimizer { rule, groups, clip, copied: None }.into(),
        reads: vec![flat(Fill::Normal), norm, rates, counter(2.0)],
        updates,
        tolerance: Tolerance::Largest(2e-6),
    }
}

/// Batches in order and shuffled, augmented, running over the end of the data.
pub fn gather_batch() -> Vec<Case> {
    let plain = GatherBatch {
        image: [5, 4, 1],
        batch: 6,
        seed: 3,
        shuffle: false,
        augmentation: Augmentation::default(),
        offset: 127.5,
        factor: 1.0 / 128.0,
    };
    let shuffled = GatherBatch { shuffle: true, augmentation: Augmentation { shift: 2, mirror: true }, ..plain };
    let colour = GatherBatch { image: [3, 7, 3], batch: 1, ..shuffled };
    [(plain, 0.0), (plain, 2.0), (plain, 9.0), (shuffled, 0.0), (shuffled, 5.0), (colour, 1.0)]
        .into_iter()
        .map(|(op, step)| gather_case(op, step, 16))
        .collect()
}

/// A shuffled and shifted batch of a data set.
pub fn gather_batch_of(image: [usize; 3], batch: usize, images: usize) -> Case {
    let augmentation = Augmentation { shift: 2, mirror: false };
    let op = GatherBatch { image, batch, seed: 3, shuffle: true, augmentation, offset: 127.5, factor: 1.0 / 128.0 };
    gather_case(op, 1.0, images)
}

fn gather_case(op: GatherBatch, step: f64, images: usize) -> Case {
    let bytes = op.image.iter().product();
    let images_kind = Type::u8(Shape::matrix((Dim::Images, images), (Dim::Length, bytes)));
    let labels = Type::u8(Shape::vector(Dim::Images, images));
    let reads = vec![(images_kind, Fill::Below(256)), (labels, Fill::Below(10)), counter(step)];
    case(format!("gather_batch {op:?} step {step}"), op, reads, Tolerance::Exact)
}

/// Rows of the log, with and without a gradient norm.
pub fn metrics() -> Vec<Case> {
    let mut cases = Vec::new();
    for (count, step) in [(9.0, 0.0), (4.0, 7.0), (0.0, 2.0)] {
        for with_norm in [false, true] {
            let row = Shape::vector(Dim::N, 9);
            let mut reads = vec![
                (Type::f32(row.clone()), Fill::Positive),
                (Type::u32(row.clone()), Fill::Below(8)),
                (Type::f32(row), Fill::Positive),
                counter(count),
                counter(step),
            ];
            reads.extend(with_norm.then(|| (Type::f32(Shape::vector(Dim::Length, 1)), Fill::Positive)));
            let log = Type::f32(Shape::matrix((Dim::Steps, 3), (Dim::Columns, METRICS.len())));
            let name = format!("metrics count {count} step {step} norm {with_norm}");
            let updates = vec![(log, Fill::Normal)];
            cases.push(Case { updates, ..case(name, Metrics, reads, Tolerance::Largest(1e-6)) });
        }
    }
    cases
}
