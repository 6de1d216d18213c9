//! A loss of your own: cosines bent into straight lines of the angle, with a margin on the target.
//!
//! `cargo run --release -p sphereface --example own_loss`

use sphereface::Session;
use sphereface::data::{Choice, Locations, load};
use sphereface::models::{DIGITS, Model, Recipe, named_network};
use sphereface::tensor::cpu::CpuBackend;
use sphereface::tensor::op::{Bent, Margin, MarginSoftmax, Scale};
use std::error::Error;
use std::f64::consts::PI;
use std::sync::Arc;

/// Logits `s (1 − 2 θ_j / π)`, and `s (1 − 2 (θ_y + m) / π)` of the target: the angle pulls as hard everywhere.
///
/// # Source
/// Li-ArcFace: Li et al., AirFace, ICCV Workshops 2019.
#[derive(Debug)]
struct LinearAngle {
    m: f64,
}

impl Margin for LinearAngle {
    fn name(&self) -> &'static str {
        "linear_angle" // for a GPU, `kernels/margin/linear_angle.cuh` would hold the same function
    }

    fn target(&self, cos_theta: f64, _lambda: f64) -> Bent {
        let Bent { value, slope } = self.other(cos_theta);
        Bent { value: value - 2.0 * self.m / PI, slope }
    }

    fn bends_others(&self) -> bool {
        true
    }

    fn other(&self, cos_theta: f64) -> Bent {
        let sin_theta = (1.0 - cos_theta * cos_theta).sqrt().max(1e-3); // the slope has no end at θ = 0 and π
        Bent { value: 1.0 - 2.0 * cos_theta.acos() / PI, slope: 2.0 / (PI * sin_theta) }
    }
}

/// Trains so many epochs; returns the share of the test images that are right.
fn train(epochs: usize) -> Result<f64, Box<dyn Error>> {
    let digits = load(Choice::Mnist10k, &Locations::default(), &mut |_| {})?;
    let network = named_network("mnist").ok_or("no such network")?.network([28, 28, 1], 16);
    let head = MarginSoftmax::new(digits.classes, Arc::new(LinearAngle { m: 0.2 }), Scale::Constant(10.0));
    let recipe = Recipe { epochs, ..DIGITS };
    let backend = Box::new(CpuBackend::new(0)?);
    let mut session = Session::with_recipe(backend, Model { network, head }, &recipe, &digits.train, &digits.test)?;
    while session.steps_done() < session.steps() {
        if let Some(step) = session.train(50)?.last() {
            println!("step {}: loss {:.3}", session.steps_done(), step.mean(step.loss));
        }
    }
    Ok(session.evaluate_test()?.accuracy())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("test accuracy {:.4}", train(5)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_derivatives() {
        let (margin, step) = (LinearAngle { m: 0.2 }, 1e-6);
        for c in [-0.9, -0.3, 0.0, 0.5, 0.99] {
            let h = |c: f64| margin.target(c, 0.0);
            let difference = (h(c + step).value - h(c - step).value) / (2.0 * step);
            assert!((difference - h(c).slope).abs() < 1e-6, "{c}: {difference}, {}", h(c).slope);
        }
    }

    #[test]
    fn it_learns() {
        let accuracy = train(2).unwrap();
        assert!(accuracy > 0.5, "{accuracy}");
    }
}
