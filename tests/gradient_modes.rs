//! The three gradients of a head, each held against what it is said to be.

use sphereface_models::margin::{CombinedMargin, Past, SphereFace};
use sphereface_models::{LOSSES, loss};
use sphereface_tensor::op::{
    Array, Gradient, MarginSoftmax, MarginSoftmaxBackward, MarginSoftmaxForward, NormPenalty, Operator, Scale,
};
use sphereface_tensor::{Dim, Shape};
use std::sync::Arc;

/// Loss and gradients of one embedding of the first of some classes, by the f64 reference.
struct Found {
    loss: f64,
    d_embedding: Vec<f64>,
    d_weight: Vec<f64>,
}

fn found(head: &MarginSoftmax, embedding: &[f64], weights: &[f64], lambda: f64) -> Found {
    let array = |shape, values: &[f64]| Array { shape, values: values.to_vec() };
    let one = |dim, value| array(Shape::vector(dim, 1), &[value]);
    let columns = embedding.len();
    let classes = weights.len() / columns;
    let head = MarginSoftmax { classes, ..head.clone() };
    let mut reads = vec![
        array(Shape::matrix((Dim::N, 1), (Dim::D, columns)), embedding),
        array(Shape::matrix((Dim::Classes, classes), (Dim::D, columns)), weights),
        one(Dim::N, 0.0),
        one(Dim::Length, 1.0),
        array(head.modifiers(1, 1).1, &[lambda]),
        one(Dim::Length, 0.0),
    ];
    let forward = MarginSoftmaxForward(head.clone()).reference(&reads.iter().collect::<Vec<_>>(), &mut []);
    let loss = forward[0].values[0];
    reads.extend(forward.into_iter().skip(1).take(4));
    let mut backward = MarginSoftmaxBackward(head).reference(&reads.iter().collect::<Vec<_>>(), &mut []);
    Found { loss, d_weight: backward.remove(1).values, d_embedding: backward.remove(0).values }
}

fn assert_near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{name}: {found}, expected {expected}");
    }
}

const EMBEDDINGS: [[f64; 3]; 4] = [[2.1, 0.3, -0.4], [-0.4, 1.9, 0.2], [-2.0, 0.7, 1.1], [0.3, -0.2, 0.1]];
const WEIGHTS: [f64; 9] = [1.4, -0.2, 0.3, -0.3, 0.8, 0.5, 0.1, 0.9, -1.2];

/// A detached gradient is that of a cosine with a constant added: of a CosFace whose margin is what the margin takes off at
/// this very place.
#[test]
fn detached_is_the_gradient_of_a_cosine_and_a_constant() {
    let cosine = |x: &[f64]| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let w = &WEIGHTS[..3];
        dot(x, w) / (dot(x, x) * dot(w, w)).sqrt()
    };
    let mut differing = 0;
    for loss in LOSSES.into_iter().filter(|loss| loss.head(3).is_plain()) {
        let head = MarginSoftmax { gradient: Gradient::Detached, ..loss.head(3) };
        for embedding in EMBEDDINGS {
            for lambda in if loss.annealed { vec![0.0, 2.0] } else { vec![0.0] } {
                let c = cosine(&embedding);
                let off = c - head.margin.target(c, lambda).value;
                let straight = MarginSoftmax {
                    margin: Arc::new(CombinedMargin::new([1.0, 0.0, off], Past::None)),
                    gradient: Gradient::True,
                    ..head.clone()
                };
                let (detached, expected) =
                    (found(&head, &embedding, &WEIGHTS, lambda), found(&straight, &embedding, &WEIGHTS, 0.0));
                let own = MarginSoftmax { gradient: Gradient::True, ..head.clone() };
                let own = found(&own, &embedding, &WEIGHTS, lambda);
                assert_eq!(detached.loss, own.loss, "{}: the loss is the same", loss.key);
                assert_near(loss.key, &[detached.loss], &[expected.loss], 1e-12);
                assert_near(loss.key, &detached.d_embedding, &expected.d_embedding, 1e-12);
                assert_near(loss.key, &detached.d_weight, &expected.d_weight, 1e-12);
                differing += usize::from(detached.d_embedding != own.d_embedding);
            }
        }
    }
    assert!(differing > 10, "{differing} places where the gradients differ");
}

/// Worked out by hand from the description of the authors' layer. Two classes, ŵ₁ = (1, 0), ŵ₂ = (0, 1), an embedding
/// x = (3, 4) of the first: ‖x‖ = 5, c = 0.6, so that m = 4 has k = 1:
///
///     ψ  = −(8·0.6⁴ − 8·0.6² + 1) − 2 = −1.1568        ψ′ = −(32·0.6³ − 16·0.6) = 2.688
///     a = 2.688, b = (−1.1568 − 0.6·2.688) / 5 = −0.55392, √(a² + b²) = 2.7444802
///     â = 0.9794205, b̂ = −0.2018306
#[test]
fn caffe_is_what_its_description_gives_by_hand() {
    let head = MarginSoftmax {
        gradient: Gradient::Caffe,
        ..MarginSoftmax::new(2, Arc::new(SphereFace::new(4)), Scale::FeatureNorm)
    };
    let (x, weights) = ([3.0, 4.0], [1.0, 0.0, 0.0, 1.0]);
    // λ = 0: z₁ = 5·(−1.1568) = −5.784, z₂ = 4, so g₁ = σ(z₁ − z₂) − 1 = −0.9999437, g₂ = −g₁.
    //   d_x = g₁ (â + b̂·3, b̂·4) + g₂ (0, 1) = (−0.3739077, 1.8072205)
    let at = found(&head, &x, &weights, 0.0);
    let g = 0.999_943_657_2;
    assert_near("loss", &[at.loss], &[9.784_056_344], 1e-8);
    assert_near("d_x", &at.d_embedding, &[-0.373_907_668, 1.807_220_457], 1e-8);
    assert_near("d_w", &at.d_weight, &[-3.0 * g, -4.0 * g, 3.0 * g, 4.0 * g], 1e-7);
    // λ = 1: z₁ = 5·(0.6 − 1.1568) / 2 = −1.392, z₂ = 4, g₁ = −0.9954678; half of it by the margin, half by ŵ₁:
    //   d_x = g₁ (½ (â + b̂·3) + ½, ½ b̂·4) + g₂ (0, 1) = (−0.6838509, 1.3972994)
    let at = found(&head, &x, &weights, 1.0);
    let g = 0.995_467_776;
    assert_near("d_x", &at.d_embedding, &[-0.683_850_892, 1.397_299_437], 1e-8);
    assert_near("d_w", &at.d_weight, &[-3.0 * g, -4.0 * g, 3.0 * g, 4.0 * g], 1e-6);
    // A large λ leaves the modified softmax's gradient of x: g₁ ŵ₁ + g₂ ŵ₂.
    let at = found(&head, &x, &weights, 1e9);
    let g = 1.0 / (1.0 + (3.0f64 - 4.0).exp());
    assert_near("d_x", &at.d_embedding, &[-g, g], 1e-7);
}

/// At a flat spot of the margin its own gradient is 0 along ŵ; the authors' layer follows x alone there, by a whole length.
#[test]
fn gradients_differ_most_at_a_flat_spot() {
    let (x, weights) = ([0.0, 2.0], [1.0, 0.0, -1.0, 0.0]); // c = 0: ψ = −3, ψ′ = 0
    let slope_of = |gradient| {
        let head = MarginSoftmax { gradient, ..loss("sphereface").map(|loss| loss.head(2)).unwrap() };
        let at = found(&head, &x, &weights, 0.0);
        // What pulls x towards ŵ₁, apart from the other class's g₂ ŵ₂ with g₂ = 1 − e^−loss.
        (at.d_embedding[0] + (1.0 - (-at.loss).exp()), at.d_embedding[1])
    };
    let g = 1.0 - (-(1.0f64 + 6.0f64.exp()).ln()).exp();
    let (true_along, true_across) = slope_of(Gradient::True);
    assert!(true_along.abs() < 1e-12 && (true_across - 3.0 * g).abs() < 1e-9, "{true_along} {true_across}");
    let (detached, _) = slope_of(Gradient::Detached);
    assert!((detached + g).abs() < 1e-9, "{detached}");
    let (caffe_along, caffe_across) = slope_of(Gradient::Caffe);
    // a = 0, b = −3/2, scaled to −1: g₁ b̂ x = −g·(−1)·2 along x.
    assert!(caffe_along.abs() < 1e-9 && (caffe_across - 2.0 * g).abs() < 1e-9, "{caffe_along} {caffe_across}");
}

/// A penalty draws the length of an embedding to its own, and changes nothing else.
#[test]
fn a_norm_penalty_acts_along_the_embedding() {
    let plain = loss("modified").map(|loss| loss.head(3)).unwrap();
    for (embedding, norm) in [([2.1, 0.3, -0.4], 3.0f32), ([2.1, 0.3, -0.4], 1.0)] {
        let head = MarginSoftmax { penalty: NormPenalty { weight: 0.5, norm }, ..plain.clone() };
        let (with, without) = (found(&head, &embedding, &WEIGHTS, 0.0), found(&plain, &embedding, &WEIGHTS, 0.0));
        let length = embedding.iter().map(|v| v * v).sum::<f64>().sqrt();
        let beyond = length - f64::from(norm);
        assert_near("loss", &[with.loss - without.loss], &[0.5 * beyond.abs()], 1e-12);
        let expected: Vec<f64> = embedding.iter().map(|v| 0.5 * beyond.signum() * v / length).collect();
        let added: Vec<f64> = with.d_embedding.iter().zip(&without.d_embedding).map(|(a, b)| a - b).collect();
        assert_near("d_x", &added, &expected, 1e-12);
        assert_eq!(with.d_weight, without.d_weight);
    }
}
