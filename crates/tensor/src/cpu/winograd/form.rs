//! One dimension of a Winograd convolution with three taps: its forms, and their linear maps of vectors.
//!
//! A form computes `y = Aᵀ[(G g) ⊙ (Bᵀ d)]` (Winograd 1980; Lavin and Gray, arXiv 1509.09308) with one product for each
//! component. Components are values of polynomials at the points 0, ±P, ±Q and ∞, so forms of fewer outputs use some of
//! the same transformed filter. The usual points ±1, ±2 make sums in f32 four times less exact (largest error over
//! `Σ|d·g|`, 64 channels, two dimensions: 1.7e-6) than these (4.0e-7).

use pulp::Simd;

/// The first pair of points.
const P: f32 = 0.75;
/// The second one: `P · Q = 1`.
const Q: f32 = 1.0 / P;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// The most inputs, components or outputs of a form.
pub(super) const MOST: usize = 6;

/// How many neighbouring outputs are computed together, and from which components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Four outputs of six inputs: all points.
    Four,
    /// Three outputs of five inputs: without −Q.
    Three,
    /// Two outputs of four inputs: without ±Q.
    Two,
    /// Both outputs of an image of two inputs between paddings: three products, of a filter `[g₁, g₂ − g₁, g₀ − g₁]`.
    Pair,
}

impl Form {
    /// Values read, from one before the first output on (`Pair`: from the first output on).
    pub(super) fn inputs(self) -> usize {
        [6, 5, 4, 2][self as usize]
    }

    /// Values computed.
    pub(super) fn outputs(self) -> usize {
        [4, 3, 2, 2][self as usize]
    }

    /// Which components of the transformed filter its products take.
    pub(super) fn components(self) -> &'static [usize] {
        [&[0, 1, 2, 3, 4, 5][..], &[0, 1, 2, 3, 5], &[0, 1, 2, 5], &[0, 1, 2]][self as usize]
    }

    /// Distance of its first input from its first output.
    pub(super) fn border(self) -> usize {
        usize::from(self != Form::Pair)
    }
}

/// A linear map between a few vectors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    /// `Bᵀ`: inputs to components.
    Input(Form),
    /// `Aᵀ`: products to outputs.
    Output(Form),
    /// `A`: gradients of the outputs to those of the products.
    OutputGradient(Form),
    /// `G`: taps to components, of all forms but `Pair`.
    Filter,
    /// `Gᵀ`: gradients of the components to those of the taps.
    FilterGradient,
    /// `G` of `Pair`.
    PairFilter,
    /// `Gᵀ` of `Pair`.
    PairFilterGradient,
}

/// Factors of the filter's components at 0, ±P, ±Q: one over the derivative of `x(x² − P²)(x² − Q²)`; 1 at ∞.
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// `to = results(from)`, a vector of each at a time: `each!(from, to, [names] => [results])`.
macro_rules! each {
    ($from:ident, $to:ident, [$($name:ident),+] => $results:expr) => {{
        let [$($name,)+ ..] = $from.map(|from| S::as_simd_f32s(from).0);
        let mut to = $to.each_mut().map(|to| S::as_mut_simd_f32s(&mut to[..]).0);
        for index in 0..LENGTH / S::F32_LANES {
            $(let $name = $name[index];)+
            for (to, result) in to.iter_mut().zip($results) {
                to[index] = result;
            }
        }
    }};
}

impl Map {
    /// How many vectors it reads and writes.
    pub(super) fn sizes(self) -> [usize; 2] {
        match self {
            Map::Input(form) => [form.inputs(), form.components().len()],
            Map::Output(form) => [form.components().len(), form.outputs()],
            Map::OutputGradient(form) => [form.outputs(), form.components().len()],
            Map::Filter => [3, 6],
            Map::FilterGradient => [6, 3],
            Map::PairFilter | Map::PairFilterGradient => [3, 3],
        }
    }

    /// Applies the map to vectors of `LENGTH` numbers, a multiple of all instruction sets' lanes.
    #[inline(always)]
    pub(super) fn apply<S: Simd, const LENGTH: usize>(
        self,
        simd: S,
        from: [&[f32; LENGTH]; MOST],
        to: &mut [&mut [f32; LENGTH]; MOST],
    ) {
        use Form::{Four, Pair, Three, Two};
        let v = Vectors(simd);
        match self {
            Map::Input(Four) => each!(from, to, [d0, d1, d2, d3, d4, d5] => {
                let (even_p, odd_p) = (v.plus(d4, -Q2, d2), v.plus(d3, -Q2, d1));
                let (even_q, odd_q) = (v.plus(d4, -P2, d2), v.plus(d3, -P2, d1));
                [
                    v.plus(v.add(d0, d4), -(P2 + Q2), d2),
                    v.plus(even_p, P, odd_p),
                    v.plus(even_p, -P, odd_p),
                    v.plus(even_q, Q, odd_q),
                    v.plus(even_q, -Q, odd_q),
                    v.plus(v.add(d1, d5), -(P2 + Q2), d3),
                ]
            }),
            // Those of fewer points are multiplied by the factors of the points they leave out, x + Q and x² − Q².
            Map::Input(Three) => each!(from, to, [d0, d1, d2, d3, d4] => {
                let (inner, outer) = (v.plus(d3, -Q, d2), v.plus(d2, -Q, d1));
                [
                    v.times(Q, v.plus(v.plus(inner, -P2, d1), P2 * Q, d0)),
                    v.times(P + Q, v.plus(inner, P, outer)),
                    v.times(Q - P, v.plus(inner, -P, outer)),
                    v.times(2.0 * Q, v.plus(d3, -P2, d1)),
                    v.plus(v.plus(v.plus(d4, -Q, d3), -P2, d2), P2 * Q, d1),
                ]
            }),
            Map::Input(Two) => each!(from, to, [d0, d1, d2, d3] => {
                let (d2_scaled, d1_scaled) = (v.times(P2 - Q2, d2), v.times(P * (P2 - Q2), d1));
                [v.plus(d0, -Q2, d2), v.add(d2_scaled, d1_scaled), v.sub(d2_scaled, d1_scaled), v.plus(d3, -P2, d1)]
            }),
            Map::Input(Pair) => each!(from, to, [d0, d1] => [v.add(d0, d1), d1, d0]),
            Map::Output(Four) => each!(from, to, [m0, p, p_minus, q, q_minus, infinity] => {
                let (even_p, odd_p) = (v.add(p, p_minus), v.sub(p, p_minus));
                let (even_q, odd_q) = (v.add(q, q_minus), v.sub(q, q_minus));
                [
                    v.add(m0, v.add(even_p, even_q)),
                    v.plus(v.times(P, odd_p), Q, odd_q),
                    v.plus(v.times(P2, even_p), Q2, even_q),
                    v.plus(v.plus(infinity, P2 * P, odd_p), Q2 * Q, odd_q),
                ]
            }),
            Map::Output(Three) => each!(from, to, [m0, p, p_minus, q, infinity] => {
                let (even_p, odd_p) = (v.add(p, p_minus), v.sub(p, p_minus));
                [
                    v.add(m0, v.add(even_p, q)),
                    v.plus(v.times(P, odd_p), Q, q),
                    v.plus(v.plus(infinity, P2, even_p), Q2, q),
                ]
            }),
            Map::Output(Two) => each!(from, to, [m0, p, p_minus, infinity] => {
                [v.add(m0, v.add(p, p_minus)), v.plus(infinity, P, v.sub(p, p_minus))]
            }),
            Map::Output(Pair) => each!(from, to, [middle, right, left] => [v.add(middle, right), v.add(middle, left)]),
            Map::OutputGradient(Four) => each!(from, to, [y0, y1, y2, y3] => {
                let (even_p, odd_p) = (v.plus(y0, P2, y2), v.plus(y1, P2, y3));
                let (even_q, odd_q) = (v.plus(y0, Q2, y2), v.plus(y1, Q2, y3));
                [
                    y0,
                    v.plus(even_p, P, odd_p),
                    v.plus(even_p, -P, odd_p),
                    v.plus(even_q, Q, odd_q),
                    v.plus(even_q, -Q, odd_q),
                    y3,
                ]
            }),
            Map::OutputGradient(Three) => each!(from, to, [y0, y1, y2] => {
                let even = v.plus(y0, P2, y2);
                [y0, v.plus(even, P, y1), v.plus(even, -P, y1), v.plus(v.plus(y0, Q, y1), Q2, y2), y2]
            }),
            Map::OutputGradient(Two) => {
                each!(from, to, [y0, y1] => [y0, v.plus(y0, P, y1), v.plus(y0, -P, y1), y1]);
            }
            Map::OutputGradient(Pair) => each!(from, to, [y0, y1] => [v.add(y0, y1), y0, y1]),
            Map::Filter => each!(from, to, [g0, g1, g2] => {
                let (even_p, odd_p) = (v.times(AT_P, v.plus(g0, P2, g2)), v.times(AT_P * P, g1));
                let (even_q, odd_q) = (v.times(AT_Q, v.plus(g0, Q2, g2)), v.times(AT_Q * Q, g1));
                [g0, v.add(even_p, odd_p), v.sub(even_p, odd_p), v.add(even_q, odd_q), v.sub(even_q, odd_q), g2]
            }),
            Map::FilterGradient => each!(from, to, [u0, p, p_minus, q, q_minus, infinity] => {
                let (even_p, odd_p) = (v.times(AT_P, v.add(p, p_minus)), v.sub(p, p_minus));
                let (even_q, odd_q) = (v.times(AT_Q, v.add(q, q_minus)), v.sub(q, q_minus));
                [
                    v.add(u0, v.add(even_p, even_q)),
                    v.plus(v.times(AT_P * P, odd_p), AT_Q * Q, odd_q),
                    v.plus(v.plus(infinity, P2, even_p), Q2, even_q),
                ]
            }),
            Map::PairFilter => each!(from, to, [g0, g1, g2] => [g1, v.sub(g2, g1), v.sub(g0, g1)]),
            Map::PairFilterGradient => {
                each!(from, to, [u, right, left] => [left, v.sub(u, v.add(right, left)), right]);
            }
        }
    }
}

/// Arithmetic of whole vectors; functions, not closures, since only those can be inlined by force into the code that is
/// compiled for each instruction set.
#[derive(Clone, Copy)]
struct Vectors<S>(S);

impl<S: Simd> Vectors<S> {
    #[inline(always)]
    fn add(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.add_f32s(a, b)
    }

    #[inline(always)]
    fn sub(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.sub_f32s(a, b)
    }

    #[inline(always)]
    fn times(self, factor: f32, a: S::f32s) -> S::f32s {
        self.0.mul_f32s(self.0.splat_f32s(factor), a)
    }

    /// `sum + factor · a`
    #[inline(always)]
    fn plus(self, sum: S::f32s, factor: f32, a: S::f32s) -> S::f32s {
        self.0.mul_add_e_f32s(self.0.splat_f32s(factor), a, sum)
    }
}
