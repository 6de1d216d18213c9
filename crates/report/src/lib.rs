//! Turns finished trainings with margin-softmax losses into one self-contained page and its figures.
//!
//! Fill a [`Report`] and call [`Report::write`]: it leaves `report.html`, which loads nothing from anywhere, and beside
//! it a folder of figures, as SVG and as PNG, and of films. [`Report::terminal_table`] is the same accuracy table for a
//! terminal.
//!
//! # How it is drawn
//!
//! Curves are SVG, drawn here by one small chart ([`Report::write`] puts the same drawing into the page and into the
//! figure files), so the page shows them without a script, prints them sharply and follows its theme through CSS;
//! a script of our own only adds the values under the pointer. A charting library (uPlot) was considered: it draws on
//! a canvas, in the browser only, so the figure files would have needed a second drawing code.
//! Embeddings are thousands of moving points: the page draws those on canvases.
//!
//! What a loss is, it is told ([`LossInfo`]): words, formulas and tables of the loss's own functions. The section on
//! the mathematics draws from these tables, and its script holds what it computes against the loss's own results.
//!
//! # What it claims
//!
//! Accuracy is the classifier's own, by its logits without margin; accuracy by angle alone stands beside it, since the
//! original softmax decides by the lengths of its class weights too. What a margin changes is shown by angles.
//! Accuracy over several seeds is a mean with its 95% Student interval; of a single seed, the value with the Wilson
//! interval of the test set's size. An order of the losses is claimed only where a paired t-test over three seeds or
//! more finds it significant.

mod animation;
mod check;
mod error;
mod figure;
mod file;
mod film;
mod gap;
mod geometry;
mod loss;
mod merge;
mod model;
mod network;
mod packed;
mod page;
mod palette;
mod pictures;
mod raster;
mod saved;
mod separation;
mod significance;
mod statistics;
mod summary;
mod table;
mod text;

pub use error::Error;
pub use loss::{EffectiveMargin, Formula, HeadSample, LossInfo, Parameter, Scale, Schedule, TargetCurve};
pub use model::{
    DatasetInfo, Embeddings, EpochRecord, Film, Frame, GuardEvent, Images, LayerInfo, LayerKind, NetworkInfo, Report,
    StepRecord, Training,
};
pub use significance::Comparison;
