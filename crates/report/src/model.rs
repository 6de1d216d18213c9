//! Everything a report shows, as plain data.

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::error::Error;
use crate::loss::LossInfo;
use crate::significance::{self, Comparison};
use crate::summary::groups;
use crate::{check, figure, file, network, page, pictures, table};

/// One finished training or several to compare: what was run, on what, and what came of it.
///
/// Every accuracy is that of the classifier itself, by its own logits without margin and without the label: w·x for the
/// original softmax, ‖x‖ cos θ (the same decision as cos θ) for losses with unit-norm class weights. Only
/// [`Training::test_accuracy_cosines`] and [`StepRecord::accuracy_penalised`] are something else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// The data trained and tested on.
    pub dataset: DatasetInfo,
    /// The network all trainings share.
    pub network: NetworkInfo,
    /// The machine, in words: processor, accelerator, operating system.
    pub machine: String,
    /// The command line that repeats the run.
    pub command: String,
    /// Version of the program that trained.
    pub version: String,
    /// CPU threads used; 0 if runs with different numbers stand side by side.
    pub threads: usize,
    /// Wall time of the whole comparison, in seconds.
    pub total_seconds: f64,
    /// Test images that a pointer shows beside their embeddings, the first ones of the set.
    #[serde(default)]
    pub images: Option<Images>,
    /// The losses to explain, in the order of their colours: those of the trainings, and others worth knowing beside them.
    #[serde(default)]
    pub losses: Vec<LossInfo>,
    /// The trainings, in the order to show them; several seeds of one (loss, embedding size) are grouped.
    pub trainings: Vec<Training>,
}

/// The data trained and tested on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Name: `MNIST`.
    pub name: String,
    /// One sentence on where it came from, what was done to it, and whether the images tested on are the test set.
    pub note: String,
    /// Images trained on.
    pub train_images: usize,
    /// Images tested on, all of them scored.
    pub test_images: usize,
    /// Whether these were held out of the training images, and are called so, instead of a test set.
    #[serde(default)]
    pub held_out: bool,
    /// Whether accuracies may be held against the published MNIST figures.
    pub comparable: bool,
    /// Number of classes.
    pub classes: usize,
    /// SHA-256 of the data, in hexadecimal; empty if unknown.
    pub sha256: String,
}

/// The network all trainings share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Name: `SphereFace-10/4`.
    pub name: String,
    /// One line on its layers.
    pub summary: String,
    /// Learned parameters, of the largest training shown.
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: u64,
    /// Its layers in the order in which they are computed, from the image to the classifier; empty if unknown.
    #[serde(default)]
    pub layers: Vec<LayerInfo>,
}

/// One layer as it is computed: a convolution with the PReLU and the residual sum that follow it is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Unique name, that of its parameters: `stage1.unit1.conv2`.
    pub name: String,
    /// What it does.
    pub kind: LayerKind,
    /// Whether a PReLU follows.
    pub prelu: bool,
    /// Layers it reads, all of them before it: the one it computes on, then, where it ends a residual unit, the one
    /// that is added to its result.
    pub reads: Vec<String>,
    /// Height, width and channels of its result.
    pub output: [usize; 3],
    /// Learned parameters.
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass, padding multiplied.
    pub multiply_adds: u64,
    /// Bytes of the result for one image.
    pub activation_bytes: u64,
    /// Bytes of the parameters.
    pub parameter_bytes: u64,
    /// Share of a training step's time, from 0 to 1: forward, backward and update. `None` if not measured.
    pub time: Option<f64>,
}

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Brings images in.
    Input,
    /// Convolution with a square filter.
    Convolution {
        /// Side of the filter.
        size: usize,
        /// Pixels from one place of the filter to the next.
        stride: usize,
    },
    /// Fully connected layer.
    Linear,
    /// Class weights and the loss.
    Classifier,
}

/// One training: a loss, an embedding size and a seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Training {
    /// Key of the loss, one of [`Report::losses`].
    pub loss: String,
    /// The loss in words: `A-Softmax, m = 4`.
    pub title: String,
    /// Numbers in an embedding.
    pub embedding_dim: usize,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Wall time of this training, in seconds.
    pub seconds: f64,
    /// Accuracy on the training images, from 0 to 1.
    pub train_accuracy: f64,
    /// Accuracy on the test images by the classifier's own logits (no margin, no label), from 0 to 1.
    pub test_accuracy: f64,
    /// Accuracy on the test images by the angle alone, as if all class weights had length 1, from 0 to 1.
    pub test_accuracy_cosines: f64,
    /// Training loss at the end; NaN if unknown.
    #[serde(with = "crate::gap")]
    pub final_train_loss: f64,
    /// Measurements along the way, thinned by the caller to a few hundred; drawn thinned further above 400.
    pub steps: Vec<StepRecord>,
    /// Measurements after each epoch.
    pub epochs_log: Vec<EpochRecord>,
    /// Embeddings of the test images, if angles are to be measured; those of size 2 and 3 are drawn.
    pub embeddings: Option<Embeddings>,
    /// How the embeddings moved during the training, if they are of size 2 or 3.
    #[serde(default)]
    pub film: Option<Film>,
    /// What went wrong on the way, and what was done about it, in the order in which it was found.
    #[serde(default)]
    pub guard: Vec<GuardEvent>,
}

/// Something that went wrong in a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardEvent {
    /// Steps done when it was found.
    pub found_at: u64,
    /// Steps done in the state that the training went back to, if it did.
    pub back_to: Option<u64>,
    /// What was seen, one sentence.
    pub found: String,
    /// What was done, one sentence.
    pub done: String,
}

/// Measurements of one training step. A NaN becomes a gap in its curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the step.
    pub step: usize,
    /// Passes over the training images so far, with the fraction of the current one.
    #[serde(with = "crate::gap")]
    pub epoch: f64,
    /// Training loss of the batch.
    #[serde(with = "crate::gap")]
    pub loss: f64,
    /// Accuracy of the batch.
    #[serde(with = "crate::gap")]
    pub accuracy: f64,
    /// Accuracy of the batch by the logits the loss penalises, which know the label.
    #[serde(with = "crate::gap")]
    pub accuracy_penalised: f64,
    /// Learning rate.
    #[serde(with = "crate::gap")]
    pub rate: f64,
    /// λ of the margin's annealing; 0 or NaN where there is none.
    #[serde(with = "crate::gap")]
    pub lambda: f64,
    /// Norm of the gradient before clipping.
    #[serde(with = "crate::gap")]
    pub gradient_norm: f64,
    /// Mean length of the batch's embeddings.
    #[serde(with = "crate::gap", default = "crate::gap::missing")]
    pub feature_norm: f64,
}

/// Measurements after one epoch. A NaN becomes a gap in its curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epochs done: 1 after the first.
    pub epoch: usize,
    /// Accuracy on the test images; shown, never chosen by.
    #[serde(with = "crate::gap")]
    pub test_accuracy: f64,
    /// Mean training loss of the epoch.
    #[serde(with = "crate::gap")]
    pub train_loss: f64,
}

/// Embeddings of the test images of the training they stand in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Embeddings {
    /// True classes. Shape `[N]`.
    #[serde(with = "crate::packed")]
    pub labels: Vec<u8>,
    /// Predicted classes: those of the largest logit. Shape `[N]`.
    #[serde(with = "crate::packed")]
    pub predictions: Vec<u8>,
    /// Embeddings, not normalised. Shape `[N, D]`.
    #[serde(with = "crate::packed")]
    pub points: Vec<f32>,
    /// Class weights as trained, even where the loss brings them to length 1. Shape `[C, D]`.
    #[serde(with = "crate::packed")]
    pub class_weights: Vec<f32>,
}

/// Embeddings of the first images of the test set, during a training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Film {
    /// From the first weights to the last, in order.
    pub frames: Vec<Frame>,
}

/// Embeddings at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Passes over the training images so far.
    pub epoch: f64,
    /// Embeddings, not normalised. Shape `[M, D]`, of the first M test images.
    #[serde(with = "crate::packed")]
    pub points: Vec<f32>,
    /// Class weights at that moment. Shape `[C, D]`.
    #[serde(with = "crate::packed")]
    pub class_weights: Vec<f32>,
}

/// Grey images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Brightness. Shape `[N, height, width]`.
    #[serde(with = "crate::packed::deflated")]
    pub pixels: Vec<u8>,
}

impl DatasetInfo {
    /// The text with the images tested on called what they are. Everything is written for a test set; this is the one
    /// place that knows of held-out images.
    pub(crate) fn named(&self, text: String) -> String {
        if !self.held_out {
            return text;
        }
        let nouns = ["accurac", "image", "embedding"];
        let replace = |text: String, noun: &str| {
            let plain = text.replace(&format!("test {noun}"), &format!("held-out {noun}"));
            plain.replace(&format!("Test {noun}"), &format!("Held-out {noun}"))
        };
        nouns.into_iter().fold(text, replace)
    }

    /// The note as a clause: without the data's name before it and a full stop after it.
    pub(crate) fn described(&self) -> &str {
        let note = self.note.trim().trim_end_matches('.');
        note.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(note)
    }
}

impl NetworkInfo {
    /// The layer table as plain text of at most 80 columns, without colour; times only where they were measured.
    #[must_use]
    pub fn table(&self) -> String {
        network::table::text(self)
    }

    /// The graph as an SVG file; equal residual units that follow each other are drawn once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the layers are no network.
    pub fn svg(&self) -> Result<String, Error> {
        check::layers(&self.layers)?;
        Ok(figure::network::file(self))
    }

    /// The graph of all layers in the language of Graphviz.
    #[must_use]
    pub fn dot(&self) -> String {
        network::dot::text(self)
    }
}

impl Report {
    /// What is known of a training's loss; a checked report knows all of them.
    pub(crate) fn loss_of(&self, training: &Training) -> Option<&LossInfo> {
        self.losses.iter().find(|loss| loss.key == training.loss)
    }

    /// Writes `report.html` and the folder `figures` into `dir`, which is created if missing.
    ///
    /// Every figure is there as SVG and as PNG, at 300 pixels to the inch for a paper of two columns: `loss`,
    /// `accuracy`, `intervals`, `psi` if a loss has a margin, `embedding-<D>d-<loss>` for embeddings of size 2 and 3,
    /// `embeddings` (all of them), `angles`, and `network`, if its layers are known, with `network.dot` and
    /// `network.txt`. Trainings that were filmed play in `embedding-2d.gif` and `embedding-3d.gif`, each under 3 MB.
    /// Each file is whole or not there, and nothing is written before everything has been drawn.
    ///
    /// # Errors
    /// [`Error::NoTrainings`], [`Error::Invalid`] or [`Error::Draw`] before anything is written; [`Error::Write`] if
    /// the disk refuses.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let page = self.html()?;
        let pictures = pictures::files(self)?;
        let folder = dir.join(pictures::FOLDER);
        file::create_dir(&folder)?;
        pictures.iter().try_for_each(|(name, content)| file::write(&folder.join(name), content))?;
        file::write(&dir.join("report.html"), page.as_bytes())
    }

    /// The page as one HTML document that loads nothing.
    ///
    /// # Errors
    /// [`Error::NoTrainings`] or [`Error::Invalid`] if the report holds something that cannot be shown.
    pub fn html(&self) -> Result<String, Error> {
        check::report(self)?;
        page::html(self)
    }

    /// Every pair of losses at each embedding size, and whether their difference is significant.
    #[must_use]
    pub fn comparisons(&self) -> Vec<Comparison> {
        significance::comparisons(&groups(self))
    }

    /// The accuracy table as plain text of at most 80 columns, without colour.
    #[must_use]
    pub fn terminal_table(&self) -> String {
        table::terminal(self)
    }
}
