//! Operators: each file states one operator's shape rule, cost, f64 reference and adjoint, once.

mod add;
mod advance;
mod cast;
pub(crate) mod conv2d;
mod gather_batch;
mod gemm;
mod gradient_norm;
mod linear;
pub(crate) mod margin_softmax;
mod metrics;
mod optimizer;
mod prelu;
mod row_modifiers;
mod unit_rows;

pub use add::Add;
pub use advance::Advance;
pub use cast::Cast;
pub use conv2d::{Conv2dBackwardData, Conv2dBackwardWeight, Conv2dForward, Conv2dGeometry};
pub use gather_batch::{Augmentation, GatherBatch, Sample};
pub use gemm::{Gemm, GemmGeometry, Layout};
pub use gradient_norm::GradientNorm;
pub use linear::{LinearBackwardData, LinearBackwardWeight, LinearForward, LinearGeometry};
pub use margin_softmax::{
    Bent, FEW_CLASSES, Gradient, Hit, Link, Logits, MARGIN_PARAMETERS, Margin, MarginSoftmax, MarginSoftmaxBackward,
    MarginSoftmaxForward, NormPenalty, Scale,
};
pub use metrics::{METRICS, Metrics};
pub use optimizer::{Group, Optimizer, Rule};
pub use prelu::{PreluBackward, PreluForward};
pub(crate) use row_modifiers::standings;
pub use row_modifiers::{RowModifier, RowModifiers};
pub use unit_rows::UnitRows;

use crate::builder::Tape;
use crate::error::Error;
use crate::plan::Step;
use crate::shape::{DType, Shape, Type};
use std::fmt;
use std::ops::Range;

/// Arithmetic of one step: a multiply-add counts as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flops {
    /// What the formula asks for, padding multiplied: the figure papers quote.
    pub nominal: u64,
    /// What has to be computed: products with padding skipped.
    pub useful: u64,
}

impl Flops {
    /// Arithmetic of which nothing can be skipped.
    pub fn exactly(count: usize) -> Self {
        Flops { nominal: count as u64, useful: count as u64 }
    }
}

/// An array of the f64 reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Named dimensions.
    pub shape: Shape,
    /// Row-major values.
    pub values: Vec<f64>,
}

impl Array {
    /// An array of zeros.
    pub fn zeros(shape: Shape) -> Self {
        Array { values: vec![0.0; shape.elements()], shape }
    }

    /// Sizes of the dimensions.
    ///
    /// # Panics
    /// If the array has another rank.
    pub fn sizes<const RANK: usize>(&self) -> [usize; RANK] {
        let mut sizes = self.shape.sizes();
        let array = std::array::from_fn(|_| sizes.next().expect("rank of a checked shape"));
        assert!(sizes.next().is_none(), "rank of {}", self.shape);
        array
    }
}

/// What every operator states once.
///
/// A step reads some buffers, writes new ones, and updates persistent ones in place.
pub trait Operator: fmt::Debug {
    /// `<op>_<pass>`, the name of its kernels.
    fn name(&self) -> &'static str;

    /// Shape rule: checks the operands and returns the types of the written buffers.
    ///
    /// # Errors
    /// [`Error`], which names operator, operand and shapes.
    fn outputs(&self, reads: &[&Type], updates: &[&Type]) -> Result<Vec<Type>, Error>;

    /// Whether this operand may be bf16: of those an operator has, either all are or none is. The others never are.
    fn may_be_bf16(&self, read: usize) -> bool {
        let _ = read;
        false
    }

    /// The operator that takes this one's place in a plan of bf16 activations, where another does.
    fn narrowed(&self) -> Option<Op> {
        None
    }

    /// The operator that updates, beside its first operand, a last one: a copy in bf16 of these elements of it.
    fn keeping_copy(&self, elements: Range<usize>) -> Option<Op> {
        let _ = elements;
        None
    }

    /// Arithmetic for operands that passed the shape rule.
    fn flops(&self, reads: &[&Type], writes: &[&Type]) -> Flops;

    /// The slow, obvious f64 implementation: returns the written arrays, changes the updated ones.
    fn reference(&self, reads: &[&Array], updates: &mut [Array]) -> Vec<Array>;

    /// Adds to the tape the steps that carry the gradient of `step` to its operands.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where there is no adjoint.
    fn adjoint(&self, step: &Step, tape: &mut Tape<'_, '_>) -> Result<(), Error> {
        let _ = (step, tape);
        Err(Error::NotDifferentiable { op: self.name() })
    }
}

/// Declares the enum of all operators; the compiler's exhaustive matches name what a new one needs.
macro_rules! operators {
    ($($name:ident),* $(,)?) => {
        /// Every operator a plan can hold.
        #[derive(Clone, Debug)]
        pub enum Op {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })*

        impl std::ops::Deref for Op {
            type Target = dyn Operator;

            fn deref(&self) -> &(dyn Operator + 'static) {
                match self {
                    $(Op::$name(op) => op,)*
                }
            }
        }
    };
}

operators![
    GatherBatch,
    Conv2dForward,
    Conv2dBackwardData,
    Conv2dBackwardWeight,
    LinearForward,
    LinearBackwardData,
    LinearBackwardWeight,
    PreluForward,
    PreluBackward,
    Add,
    MarginSoftmaxForward,
    MarginSoftmaxBackward,
    GradientNorm,
    Optimizer,
    Metrics,
    Advance,
    Cast,
    Gemm,
    RowModifiers,
    UnitRows,
];

/// The element type of those operands that may be bf16, the first among them; all others are f32.
pub(crate) fn activation_dtype(op: &dyn Operator, reads: &[&Type]) -> Result<DType, Error> {
    let dtype = if reads[0].dtype == DType::Bf16 { DType::Bf16 } else { DType::F32 };
    for (index, read) in reads.iter().enumerate() {
        let expected = if op.may_be_bf16(index) { dtype } else { DType::F32 };
        read.expect_dtype(op.name(), "operand", expected)?;
    }
    Ok(dtype)
}

/// The operands, if there are exactly as many as the operator takes.
pub(crate) fn operands<'a, 'b, const COUNT: usize>(
    op: &'static str,
    given: &'a [&'b Type],
) -> Result<&'a [&'b Type; COUNT], Error> {
    given
        .try_into()
        .map_err(|_| Error::Attribute { op, message: format!("expected {COUNT} operands, found {}", given.len()) })
}
