//! A whole training on made-up images, ready to run on any backend and on the reference.

use sphereface_models::{
    ImageSource, LAMBDAS, LOSSES, Loss, Model, Network, OF_THE_PAPER, RATES, Training, named_network,
};
use sphereface_tensor::op::{Augmentation, Logits, Rule};
use sphereface_tensor::random::{Stream, uniform};
use sphereface_tensor::{Backend, Error, PARAMETERS, ParameterSet, Plan, Reference};

/// Model, images and schedules of one training.
#[derive(Clone, Debug)]
pub struct TrainingCase {
    /// Network and head.
    pub model: Model,
    /// How it is trained: a few steps of SGD with Nesterov momentum.
    pub training: Training,
    /// Bytes of the images, `[images, H·W·C]`.
    pub images: Vec<u8>,
    /// Class of each image.
    pub labels: Vec<u8>,
    /// Learning rate of each step.
    pub rates: Vec<f32>,
    /// λ of each step.
    pub lambdas: Vec<f32>,
}

impl TrainingCase {
    /// A tiny network with every loss, with few classes and with many, and with those of the paper, whose cosines are
    /// kept or not.
    pub fn tiny() -> Vec<TrainingCase> {
        let network = || Network::input([9, 8, 1]).stage(8, 1).stage(64, 0).linear(16);
        let of = |loss: &Loss, classes| TrainingCase::new(network(), loss, classes, 40, 6);
        let is_new = |loss: &&Loss| OF_THE_PAPER.iter().all(|of_paper| of_paper.key != loss.key);
        let mut cases: Vec<TrainingCase> = LOSSES.into_iter().map(|loss| of(loss, 10)).collect();
        cases.extend(LOSSES.into_iter().filter(is_new).map(|loss| of(loss, 3000)));
        cases.extend(OF_THE_PAPER.map(|loss| of(loss, 3000).with_kept_cosines()));
        cases.extend(OF_THE_PAPER.map(|loss| of(loss, 3000)));
        cases
    }

    /// The same training with cosines that are kept for the backward pass.
    pub fn with_kept_cosines(mut self) -> Self {
        self.model.head.logits = Logits::Kept;
        self
    }

    /// SphereFace-20 on faces with every loss of the paper, in batches of 256 of one image: to be lowered, not to be run.
    pub fn sphereface20() -> Vec<TrainingCase> {
        let network =
            || Network::input([112, 96, 3]).stage(64, 1).stage(128, 2).stage(256, 4).stage(512, 1).linear(512);
        OF_THE_PAPER.map(|loss| TrainingCase::new(network(), loss, 3000, 1, 256)).to_vec()
    }

    /// The named network on digits, with the first loss of the paper, in batches of 256 of one image: to be lowered, not to
    /// be run.
    pub fn digits(key: &str) -> Option<TrainingCase> {
        let network = named_network(key)?.network([28, 28, 1], 2);
        Some(TrainingCase::new(network, OF_THE_PAPER[0], 10, 1, 256))
    }

    /// `images` pictures of `classes` classes, a pattern of the class under noise, to be trained in batches of `batch`;
    /// settings are stock and λ falls from 5.
    pub fn new(network: Network, loss: &Loss, classes: usize, images: usize, batch: usize) -> Self {
        let pixels: usize = network.image.iter().product();
        let random = |tensor: u32, i: usize, limit: usize| {
            (uniform(23, Stream::Augmentation, tensor, i as u64) * limit as f64) as u8
        };
        // Labels are bytes; with more classes than that, some have no image.
        let labels: Vec<u8> = (0..images).map(|i| random(0, i, classes.min(256))).collect();
        let byte = |i: usize| {
            let class = usize::from(labels[i / pixels]);
            random(1, class * pixels + i % pixels, 192) + random(2, i, 64)
        };
        let steps = 16;
        TrainingCase {
            model: Model { network, head: loss.head(classes) },
            training: Training {
                source: ImageSource { name: "train", images },
                batch,
                steps,
                seed: 1,
                augmentation: Augmentation { shift: 1, mirror: false },
                rule: Rule::Sgd { momentum: 0.9, nesterov: true },
                decay: 5e-4,
                clip: None,
                log_rows: steps,
            },
            images: (0..images * pixels).map(byte).collect(),
            labels,
            rates: (0..steps).map(|step| 0.02 / (1 + step) as f32).collect(),
            lambdas: (0..steps).map(|step| 5.0 / (1 + step) as f32).collect(),
        }
    }

    /// The parameters and the plan of one training step.
    ///
    /// # Errors
    /// [`Error`], when the network does not fit the images.
    pub fn plan(&self) -> Result<(ParameterSet, Plan), Error> {
        let parameters = self.model.parameters()?;
        let plan = self.model.training_plan(&parameters, &self.training)?;
        Ok((parameters, plan))
    }

    /// Uploads everything a training starts from to a backend that has lowered the plan.
    ///
    /// # Errors
    /// [`Error`], when the backend knows other buffers.
    pub fn upload(&self, parameters: &ParameterSet, backend: &mut dyn Backend) -> Result<(), Error> {
        self.upload_model(parameters, backend)?;
        backend.upload(RATES, bytemuck::cast_slice(&self.rates))?;
        backend.upload(LAMBDAS, bytemuck::cast_slice(&self.lambdas))
    }

    /// Uploads images, labels and parameters: all that a plan without a head knows.
    ///
    /// # Errors
    /// [`Error`], when the backend knows other buffers.
    pub fn upload_model(&self, parameters: &ParameterSet, backend: &mut dyn Backend) -> Result<(), Error> {
        let source = self.training.source;
        backend.upload(&source.images_buffer(), &self.images)?;
        backend.upload(&source.labels_buffer(), &self.labels)?;
        backend.upload(PARAMETERS, bytemuck::cast_slice(&parameters.initial(self.training.seed)))
    }

    /// The reference with the same values.
    pub fn reference(&self, parameters: &ParameterSet) -> Reference {
        let source = self.training.source;
        let from_bytes = |bytes: &[u8]| bytes.iter().copied().map(f64::from).collect();
        let from_floats = |floats: &[f32]| floats.iter().copied().map(f64::from).collect();
        let mut reference = Reference::default();
        reference.set(&source.images_buffer(), from_bytes(&self.images));
        reference.set(&source.labels_buffer(), from_bytes(&self.labels));
        reference.set(PARAMETERS, from_floats(&parameters.initial(self.training.seed)));
        reference.set(RATES, from_floats(&self.rates));
        reference.set(LAMBDAS, from_floats(&self.lambdas));
        reference
    }
}
