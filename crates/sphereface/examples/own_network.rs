//! A network of your own: filters of 5×5, residual units of one convolution.
//!
//! `cargo run --release -p sphereface --example own_network`

use sphereface::data::{Choice, Locations, load};
use sphereface::models::{Backbone, DIGITS, Model, Recipe, loss};
use sphereface::tensor::cpu::CpuBackend;
use sphereface::tensor::{BufferId, Dim, Error, Init, ParameterSet, PlanBuilder, Shape};
use sphereface::{Embedder, Session};

/// Channels of each stage, which halves height and width.
const STAGES: [usize; 3] = [16, 32, 64];
const EMBEDDING: usize = 2;

struct Short;

impl Backbone for Short {
    fn image(&self) -> [usize; 3] {
        [28, 28, 1]
    }

    fn embedding(&self) -> usize {
        EMBEDDING
    }

    fn declare(&self, parameters: &mut ParameterSet) -> Result<(), Error> {
        let mut weight = |name: String, [height, width, inputs, outputs]: [usize; 4]| {
            let init = Init::Normal { std: (2.0 / (height * width * inputs) as f32).sqrt() }; // He et al., ICCV 2015
            parameters.add(name, Shape::filter(height, width, inputs, outputs), init, 1.0, 1.0)
        };
        let mut inputs = 1;
        for (stage, &outputs) in STAGES.iter().enumerate() {
            weight(format!("{stage}.down.filter"), [5, 5, inputs, outputs])?;
            weight(format!("{stage}.unit.filter"), [3, 3, outputs, outputs])?;
            inputs = outputs;
        }
        weight("embedding.weight".into(), [4, 4, inputs, EMBEDDING])?;
        parameters.add("embedding.bias", Shape::vector(Dim::K, EMBEDDING), Init::Constant(0.0), 0.0, 1.0)?;
        for (stage, &channels) in STAGES.iter().enumerate() {
            for name in ["down", "unit"] {
                let slopes = Shape::vector(Dim::C, channels);
                parameters.add(format!("{stage}.{name}.slope"), slopes, Init::Constant(0.25), 0.0, 1.0)?;
            }
        }
        Ok(())
    }

    fn build(&self, plan: &mut PlanBuilder<'_>, images: BufferId) -> Result<BufferId, Error> {
        let mut x = images; // [H, W, N, C]
        for stage in 0..STAGES.len() {
            let part = |name: &str| format!("{stage}.{name}");
            plan.label(format!("stage{stage}"));
            x = plan.conv2d(x, plan.parameter(&part("down.filter"))?, None, 2, 2)?;
            x = plan.prelu(x, plan.parameter(&part("down.slope"))?)?;
            let unit = plan.conv2d(x, plan.parameter(&part("unit.filter"))?, None, 1, 1)?;
            let unit = plan.prelu(unit, plan.parameter(&part("unit.slope"))?)?;
            x = plan.add(unit, x)?;
        }
        plan.label("embedding");
        plan.linear(x, plan.parameter("embedding.weight")?, plan.parameter("embedding.bias")?)
    }
}

/// Trains so many epochs; returns the share of the test images that are right, and the embedding of the first.
fn train(epochs: usize) -> Result<(f64, Vec<f32>), Box<dyn std::error::Error>> {
    let digits = load(Choice::Mnist10k, &Locations::default(), &mut |_| {})?;
    let model = Model { network: Short, head: loss("modified").ok_or("no such loss")?.head(digits.classes) };
    let recipe = Recipe { epochs, ..DIGITS };
    let cpu = || CpuBackend::new(0).map(Box::new);
    let mut session = Session::with_recipe(cpu()?, model, &recipe, &digits.train, &digits.test)?;
    session.finish()?;
    let values = session.values()?;
    let mut embedder = Embedder::new(cpu()?, session.model(), &values, 1)?;
    Ok((session.evaluate_test()?.accuracy(), embedder.embed(digits.test.image(0))?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (accuracy, embedding) = train(5)?;
    println!("test accuracy {accuracy:.4}; the first test image lies at {embedding:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_learns() {
        let (accuracy, embedding) = super::train(2).unwrap();
        assert!(accuracy > 0.5, "{accuracy}");
        assert!(embedding.len() == 2 && embedding.iter().all(|x| x.is_finite()), "{embedding:?}");
    }
}
