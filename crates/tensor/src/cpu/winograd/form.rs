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
/// Rows and columns of the filters.
pub(super) const TAPS: usize = 3;

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
    pub(super) const fn inputs(self) -> usize {
        [6, 5, 4, 2][self as usize]
    }

    /// Values computed.
    pub(super) const fn outputs(self) -> usize {
        [4, 3, 2, 2][self as usize]
    }

    /// Which components of the transformed filter its products take.
    pub(super) const fn components(self) -> &'static [usize] {
        match self {
            Form::Four => &[0, 1, 2, 3, 4, 5],
            Form::Three => &[0, 1, 2, 3, 5],
            Form::Two => &[0, 1, 2, 5],
            Form::Pair => &[0, 1, 2],
        }
    }

    /// Distance of its first input from its first output.
    pub(super) fn border(self) -> usize {
        usize::from(self != Form::Pair)
    }
}

/// A linear map between a few vectors; each form has one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// `Bᵀ`: inputs to components.
    Input,
    /// `Aᵀ`: products to outputs.
    Output,
    /// `A`: gradients of the outputs to those of the products.
    OutputGradient,
    /// `G`: taps to components, for all forms but `Pair` to all that there are.
    Filter,
    /// `Gᵀ`: gradients of the components to those of the taps.
    FilterGradient,
}

/// Factors of the filter's components at 0, ±P, ±Q: one over the derivative of `x(x² − P²)(x² − Q²)`; 1 at ∞.
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

impl Map {
    /// How many vectors it reads and writes.
    pub(super) const fn sizes(self, form: Form) -> [usize; 2] {
        let components = form.components().len();
        let all = if matches!(form, Form::Pair) { components } else { MOST };
        match self {
            Map::Input => [form.inputs(), components],
            Map::Output => [components, form.outputs()],
            Map::OutputGradient => [form.outputs(), components],
            Map::Filter => [TAPS, all],
            Map::FilterGradient => [all, TAPS],
        }
    }
}

/// As many vectors as a form has values at the most; what is past the sizes of a map is not read, and zero in its result.
pub(super) type Values<S> = [<S as Simd>::f32s; MOST];

/// The maps of one form. They are known by type, not by value: a transform has them in dozens of places for every pair of
/// forms and every instruction set, and would have all maps in each of them until it is optimised.
pub(super) trait Maps {
    /// Which.
    const FORM: Form;

    fn input<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S>;

    fn output<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S>;

    fn output_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S>;

    #[inline(always)]
    fn filter<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [g0, g1, g2, ..] = from;
        let (even_p, odd_p) = (v.times(AT_P, v.plus(g0, P2, g2)), v.times(AT_P * P, g1));
        let (even_q, odd_q) = (v.times(AT_Q, v.plus(g0, Q2, g2)), v.times(AT_Q * Q, g1));
        [g0, v.add(even_p, odd_p), v.sub(even_p, odd_p), v.add(even_q, odd_q), v.sub(even_q, odd_q), g2]
    }

    #[inline(always)]
    fn filter_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [u0, p, p_minus, q, q_minus, infinity] = from;
        let (even_p, odd_p) = (v.times(AT_P, v.add(p, p_minus)), v.sub(p, p_minus));
        let (even_q, odd_q) = (v.times(AT_Q, v.add(q, q_minus)), v.sub(q, q_minus));
        v.filled([
            v.add(u0, v.add(even_p, even_q)),
            v.plus(v.times(AT_P * P, odd_p), AT_Q * Q, odd_q),
            v.plus(v.plus(infinity, P2, even_p), Q2, even_q),
        ])
    }
}

/// [`Form::Four`].
pub(super) struct Four;

impl Maps for Four {
    const FORM: Form = Form::Four;

    #[inline(always)]
    fn input<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [d0, d1, d2, d3, d4, d5] = from;
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
    }

    #[inline(always)]
    fn output<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [m0, p, p_minus, q, q_minus, infinity] = from;
        let (even_p, odd_p) = (v.add(p, p_minus), v.sub(p, p_minus));
        let (even_q, odd_q) = (v.add(q, q_minus), v.sub(q, q_minus));
        v.filled([
            v.add(m0, v.add(even_p, even_q)),
            v.plus(v.times(P, odd_p), Q, odd_q),
            v.plus(v.times(P2, even_p), Q2, even_q),
            v.plus(v.plus(infinity, P2 * P, odd_p), Q2 * Q, odd_q),
        ])
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [y0, y1, y2, y3, ..] = from;
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
    }
}

/// [`Form::Three`]. Forms of fewer points are multiplied by the factors of those they leave out, x + Q and x² − Q².
pub(super) struct Three;

impl Maps for Three {
    const FORM: Form = Form::Three;

    #[inline(always)]
    fn input<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [d0, d1, d2, d3, d4, _] = from;
        let (inner, outer) = (v.plus(d3, -Q, d2), v.plus(d2, -Q, d1));
        v.filled([
            v.times(Q, v.plus(v.plus(inner, -P2, d1), P2 * Q, d0)),
            v.times(P + Q, v.plus(inner, P, outer)),
            v.times(Q - P, v.plus(inner, -P, outer)),
            v.times(2.0 * Q, v.plus(d3, -P2, d1)),
            v.plus(v.plus(v.plus(d4, -Q, d3), -P2, d2), P2 * Q, d1),
        ])
    }

    #[inline(always)]
    fn output<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [m0, p, p_minus, q, infinity, _] = from;
        let (even_p, odd_p) = (v.add(p, p_minus), v.sub(p, p_minus));
        v.filled([
            v.add(m0, v.add(even_p, q)),
            v.plus(v.times(P, odd_p), Q, q),
            v.plus(v.plus(infinity, P2, even_p), Q2, q),
        ])
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [y0, y1, y2, ..] = from;
        let even = v.plus(y0, P2, y2);
        v.filled([y0, v.plus(even, P, y1), v.plus(even, -P, y1), v.plus(v.plus(y0, Q, y1), Q2, y2), y2])
    }
}

/// [`Form::Two`].
pub(super) struct Two;

impl Maps for Two {
    const FORM: Form = Form::Two;

    #[inline(always)]
    fn input<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [d0, d1, d2, d3, ..] = from;
        let (d2_scaled, d1_scaled) = (v.times(P2 - Q2, d2), v.times(P * (P2 - Q2), d1));
        v.filled([v.plus(d0, -Q2, d2), v.add(d2_scaled, d1_scaled), v.sub(d2_scaled, d1_scaled), v.plus(d3, -P2, d1)])
    }

    #[inline(always)]
    fn output<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [m0, p, p_minus, infinity, ..] = from;
        v.filled([v.add(m0, v.add(p, p_minus)), v.plus(infinity, P, v.sub(p, p_minus))])
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [y0, y1, ..] = from;
        v.filled([y0, v.plus(y0, P, y1), v.plus(y0, -P, y1), y1])
    }
}

/// [`Form::Pair`].
pub(super) struct Pair;

impl Maps for Pair {
    const FORM: Form = Form::Pair;

    #[inline(always)]
    fn input<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        v.filled([v.add(from[0], from[1]), from[1], from[0]])
    }

    #[inline(always)]
    fn output<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [middle, right, left, ..] = from;
        v.filled([v.add(middle, right), v.add(middle, left)])
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        v.filled([v.add(from[0], from[1]), from[0], from[1]])
    }

    #[inline(always)]
    fn filter<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [g0, g1, g2, ..] = from;
        v.filled([g1, v.sub(g2, g1), v.sub(g0, g1)])
    }

    #[inline(always)]
    fn filter_gradient<S: Simd>(v: Vectors<S>, from: Values<S>) -> Values<S> {
        let [u, right, left, ..] = from;
        v.filled([left, v.sub(u, v.add(right, left)), right])
    }
}

/// A kind of map, likewise.
pub(super) trait OneMap {
    /// Which.
    const MAP: Map;

    /// Applies that of a form.
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S>;
}

/// [`Map::Input`].
pub(super) struct Input;

impl OneMap for Input {
    const MAP: Map = Map::Input;

    #[inline(always)]
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S> {
        F::input(Vectors(simd), from)
    }
}

/// [`Map::Output`].
pub(super) struct Output;

impl OneMap for Output {
    const MAP: Map = Map::Output;

    #[inline(always)]
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S> {
        F::output(Vectors(simd), from)
    }
}

/// [`Map::OutputGradient`].
pub(super) struct OutputGradient;

impl OneMap for OutputGradient {
    const MAP: Map = Map::OutputGradient;

    #[inline(always)]
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S> {
        F::output_gradient(Vectors(simd), from)
    }
}

/// [`Map::Filter`].
pub(super) struct Filter;

impl OneMap for Filter {
    const MAP: Map = Map::Filter;

    #[inline(always)]
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S> {
        F::filter(Vectors(simd), from)
    }
}

/// [`Map::FilterGradient`].
pub(super) struct FilterGradient;

impl OneMap for FilterGradient {
    const MAP: Map = Map::FilterGradient;

    #[inline(always)]
    fn apply<S: Simd, F: Maps>(simd: S, from: Values<S>) -> Values<S> {
        F::filter_gradient(Vectors(simd), from)
    }
}

/// Arithmetic of whole vectors; functions, not closures, since only those can be inlined by force into the code that is
/// compiled for each instruction set.
#[derive(Clone, Copy)]
pub(super) struct Vectors<S>(S);

impl<S: Simd> Vectors<S> {
    /// As many vectors as there can be, the rest zero.
    #[inline(always)]
    fn filled<const N: usize>(self, vectors: [S::f32s; N]) -> Values<S> {
        let mut filled = [self.0.splat_f32s(0.0); MOST];
        filled[..N].copy_from_slice(&vectors);
        filled
    }

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
