//! What does not go together is refused in one line, before anything is trained or embedded.

use sphereface::data::ImageSet;
use sphereface::models::{DIGITS, Model, Network, Recipe, loss};
use sphereface::tensor::cpu::CpuBackend;
use sphereface::{Embedder, Session};

fn set(size: [usize; 3], labels: &[u8]) -> ImageSet {
    let pixels = size.iter().product::<usize>() * labels.len();
    ImageSet::new("made up", size, (0..pixels).map(|i| (i * 37 % 256) as u8).collect(), labels.to_vec()).unwrap()
}

fn model() -> Model {
    Model { network: Network::input([6, 5, 1]).stage(4, 0).linear(2), head: loss("modified").unwrap().head(3) }
}

fn cpu() -> Box<CpuBackend> {
    Box::new(CpuBackend::new(1).unwrap())
}

fn session(train: &ImageSet, test: &ImageSet) -> Result<Session, sphereface::Error> {
    Session::with_recipe(cpu(), model(), &Recipe { epochs: 3, batch: 4, ..DIGITS }, train, test)
}

#[test]
fn images_that_the_model_is_not_made_for_are_refused() {
    let fits = set([6, 5, 1], &[0, 1, 2, 2, 1]);
    let message = |train: &ImageSet, test: &ImageSet| session(train, test).err().expect("a refusal").to_string();
    let wrong = |labels: &[u8]| set([6, 5, 1], labels);
    assert_eq!(message(&wrong(&[0, 3]), &fits), "training labels: expected less than the 3 classes, found 3");
    assert_eq!(message(&fits, &wrong(&[255])), "test labels: expected less than the 3 classes, found 255");
    assert_eq!(message(&fits, &set([5, 6, 1], &[0])), "images: expected [6, 5, 1], found [5, 6, 1]");
    for empty in [message(&wrong(&[]), &fits), message(&fits, &wrong(&[]))] {
        assert!(empty.contains("expected") && !empty.contains('\n'), "{empty}");
    }
}

#[test]
fn a_training_ends_at_its_last_step() {
    let images = set([6, 5, 1], &[0, 1, 2, 2, 1]);
    let mut session = session(&images, &images).unwrap();
    // Three epochs of five images in batches of four.
    assert_eq!((session.steps(), session.train(3).unwrap().len(), session.train(9).unwrap().len()), (4, 3, 1));
    assert!(session.train(1).unwrap().is_empty());
    session.finish().unwrap();
    assert_eq!(
        session.set_steps_done(5).unwrap_err().to_string(),
        "step: expected at most the 4 of the training, found 5"
    );
    assert_eq!(session.evaluate_test().unwrap().rows, 5.0);
    assert!(session.set_values(&[0.0; 3]).is_err());
}

#[test]
fn an_embedder_needs_the_values_of_its_model_and_images_at_once() {
    let message =
        |values: &[f32], batch| Embedder::new(cpu(), &model(), values, batch).err().expect("a refusal").to_string();
    let values = model().parameters().unwrap().initial(1);
    assert_eq!(message(&values[1..], 4), format!("values: expected {}, found {}", values.len(), values.len() - 1));
    assert!(message(&values, 0).contains("expected"), "{}", message(&values, 0));
    let missing = Embedder::open(cpu(), "no/such/model.safetensors", 4).err().expect("a refusal").to_string();
    assert!(missing.starts_with("no/such/model.safetensors: cannot be read: "), "{missing}");
    assert!(!missing.contains('\n'));
}
