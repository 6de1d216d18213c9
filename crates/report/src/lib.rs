//! Turns finished trainings with margin-softmax losses into one self-contained page and its figures.
//!
//! Fill a [`Report`] and call [`Report::write`]: it leaves `report.html`, which loads nothing from anywhere, and
//! SVG figures beside it. [`Report::terminal_table`] is the same accuracy table for a terminal.
//!
//! # How it is drawn
//!
//! Curves are SVG, drawn here by one small chart ([`Report::write`] puts the same drawing into the page and into the
//! figure files), so the page shows them without a script, prints them sharply and follows its theme through CSS;
//! a script of our own only adds the values under the pointer. A charting library (uPlot) was considered: it draws on
//! a canvas, in the browser only, so the figure files would have needed a second drawing code.
//! Embeddings are thousands of moving points: the page draws those on canvases.
//!
//! # What it claims
//!
//! Accuracy is the classifier's own, by its logits without margin; accuracy by angle alone stands beside it, since the
//! original softmax decides by the lengths of its class weights too. What a margin changes is shown by angles.
//! Accuracy over several seeds is a mean with its 95% Student interval; of a single seed, the value with the Wilson
//! interval of the test set's size. Where intervals overlap the page says that no order is claimed.

mod check;
mod error;
mod figure;
mod file;
mod gap;
mod geometry;
mod model;
mod packed;
mod page;
mod palette;
mod separation;
mod statistics;
mod summary;
mod table;
mod text;

pub use error::Error;
pub use model::{DatasetInfo, Embeddings, EpochRecord, Film, Frame, Images, NetworkInfo, Report, StepRecord, Training};
