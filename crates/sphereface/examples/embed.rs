//! Embeddings from a run's folder, and which images are alike by the angle between them.
//!
//! `cargo run --release -p sphereface --example embed -- runs/m3`

use sphereface::Embedder;
use sphereface::data::{Choice, Locations, load};
use sphereface::tensor::cpu::CpuBackend;
use std::error::Error;
use std::path::Path;

/// Images that are embedded at once.
const BATCH: usize = 64;

/// Cosine of two embeddings.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// Embeds images `[N, H, W, C]`; for each of the first `count` the most similar other one, and their cosine.
fn alike(folder: &Path, images: &[u8], count: usize) -> Result<Vec<(usize, f32)>, Box<dyn Error>> {
    let mut embedder = Embedder::open(Box::new(CpuBackend::new(0)?), folder.join("model.safetensors"), BATCH)?;
    let embeddings = embedder.embed(images)?;
    let rows: Vec<&[f32]> = embeddings.chunks_exact(embedder.embedding()).collect();
    let nearest = |i: usize| {
        let others = (0..rows.len()).filter(|&j| j != i).map(|j| (j, cosine(rows[i], rows[j])));
        others.max_by(|a, b| a.1.total_cmp(&b.1))
    };
    Ok((0..count.min(rows.len())).filter_map(nearest).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("expected the folder of a finished training, found none")?;
    let test = load(Choice::Mnist10k, &Locations::default(), &mut |_| {})?.test;
    for (i, (j, cosine)) in alike(Path::new(&folder), &test.images, 10)?.into_iter().enumerate() {
        println!("image {i}, a {}, is most like image {j}, a {}: cosine {cosine:.5}", test.labels[i], test.labels[j]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sphereface::Session;
    use sphereface::export::{Trained, pytorch};
    use sphereface::models::{DIGITS, Model, Network, Recipe, loss};
    use std::fs;

    #[test]
    fn a_model_in_a_folder_embeds_as_the_session_did() {
        let digits = load(Choice::Mnist10k, &Locations::default(), &mut |_| {}).unwrap();
        let network = Network::input([28, 28, 1]).stage(8, 0).stage(16, 1).linear(16);
        let model = Model { network, head: loss("sphereface").unwrap().head(10) };
        let cpu = || Box::new(CpuBackend::new(0).unwrap());
        let recipe = Recipe { epochs: 1, ..DIGITS };
        let mut session = Session::with_recipe(cpu(), model, &recipe, &digits.train, &digits.test).unwrap();
        session.finish().unwrap();

        let folder = std::env::temp_dir().join(format!("sphereface-embed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let values = session.values().unwrap();
        let facts = [("loss", "sphereface".to_owned())];
        let trained =
            Trained { model: session.model(), parameters: session.parameters(), values: &values, facts: &facts };
        let path = folder.join("model.safetensors");
        fs::write(&path, pytorch::encode(&trained).unwrap()).unwrap();

        let mut embedder = Embedder::open(cpu(), &path, DIGITS.batch).unwrap();
        let images = &digits.test.images[..300 * 28 * 28];
        assert_eq!(embedder.embed(images).unwrap(), session.embed_test(300).unwrap().points);
        assert_eq!((embedder.image(), embedder.embed(&[]).unwrap()), ([28, 28, 1], vec![]));
        let torn = embedder.embed(&images[..100]).unwrap_err().to_string();
        assert_eq!(torn, "images: expected a multiple of 784 bytes, found 100");

        let similar = alike(&folder, images, 100).unwrap();
        let label = |i: usize| digits.test.labels[i];
        let same = similar.iter().enumerate().filter(|(i, (j, _))| label(*i) == label(*j)).count();
        fs::write(&path, &fs::read(&path).unwrap()[..500]).unwrap();
        let damaged = alike(&folder, images, 1).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(same > 70, "{same} of 100 are most like one of their class");
        assert!(damaged.contains("model.safetensors: 'header': expected"), "{damaged}");
    }
}
