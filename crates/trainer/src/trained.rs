//! The commands that use a trained model: `eval` and `embed`.

use crate::checkpoint::replace;
use crate::cli::{EmbedArgs, EvalArgs};
use crate::config::Config;
use crate::folder::Folder;
use crate::progress::Verbosity;
use crate::run::load_data;
use crate::session::Session;
use anyhow::{Result, bail};
use sphereface_data::Dataset;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// A training's folder with its configuration.
struct Trained {
    name: String,
    folder: Folder,
    config: Config,
}

/// The trainings of a run: the run itself, or those inside it.
fn trainings(path: &Path) -> Result<Vec<Trained>> {
    let folder = Folder::open(path)?;
    let config = folder.read_config()?;
    let several = config.trainings();
    if several.len() == 1 {
        return Ok(vec![Trained { name: config.training_name(false), folder, config }]);
    }
    let inside = several.into_iter().filter_map(|training| {
        let name = training.training_name(config.training.seeds > 1);
        let inside = folder.inside(&name);
        inside.has_checkpoint().then_some(Trained { name, folder: inside, config: training })
    });
    let found: Vec<Trained> = inside.collect();
    if found.is_empty() {
        bail!("{}: expected trainings that have begun, found none", path.display());
    }
    Ok(found)
}

fn load(trained: &Trained, dataset: &Dataset) -> Result<Session> {
    let mut session = Session::new(&trained.config, dataset, Verbosity::detect(false))?;
    session.load(&trained.folder.checkpoint())?;
    Ok(session)
}

/// Prints the accuracy of every training of a run.
pub(crate) fn eval(args: &EvalArgs) -> Result<()> {
    let mut trainings = trainings(&args.dir)?;
    trainings.iter_mut().for_each(|trained| args.data.apply(&mut trained.config));
    let Some(first) = trainings.first() else { return Ok(()) };
    let dataset = load_data(&first.config, Verbosity::Plain)?;
    tell!("{:<22} {:>13} {:>9} {:>9} {:>9} {:>9}", "training", "step", "images", "accuracy", "cosines", "loss");
    for trained in &trainings {
        let mut session = load(trained, &dataset)?;
        let row = session.evaluate_test()?;
        tell!(
            "{:<22} {:>13} {:>9} {:>9.4} {:>9.4} {:>9.4}",
            trained.name,
            format!("{}/{}", session.steps_done(), session.steps()),
            row.rows,
            row.mean(row.hits_logits),
            row.mean(row.hits_cosines),
            row.mean(row.loss)
        );
    }
    Ok(())
}

/// Writes the test set's embeddings.
pub(crate) fn embed(args: &EmbedArgs) -> Result<()> {
    let mut trainings = trainings(&args.dir)?;
    let [trained] = &mut trainings[..] else {
        let names: Vec<&str> = trainings.iter().map(|trained| trained.name.as_str()).collect();
        bail!(
            "{}: expected the folder of one training, found a comparison of {}",
            args.dir.display(),
            names.join(", ")
        );
    };
    let extension = args.out.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !["npy", "csv"].contains(&extension) {
        bail!("--out: expected a file that ends in .npy or .csv, found '{}'", args.out.display());
    }
    args.data.apply(&mut trained.config);
    let dataset = load_data(&trained.config, Verbosity::Plain)?;
    let mut session = load(trained, &dataset)?;
    let embedded = session.embed_test(dataset.test.len())?;
    let dim = session.model().network.embedding;
    let labels = &dataset.test.labels;
    if extension == "csv" {
        let mut text = String::from("label");
        (0..dim).for_each(|d| {
            let _ = write!(text, ",e{d}");
        });
        text.push('\n');
        for (label, point) in labels.iter().zip(embedded.points.chunks_exact(dim)) {
            let _ = write!(text, "{label}");
            point.iter().for_each(|value| {
                let _ = write!(text, ",{value}");
            });
            text.push('\n');
        }
        replace(&args.out, text.as_bytes())?;
    } else {
        let values: Vec<u8> = embedded.points.iter().flat_map(|value| value.to_le_bytes()).collect();
        replace(&labels_file(&args.out), &npy("|u1", &[labels.len()], labels))?;
        replace(&args.out, &npy("<f4", &[labels.len(), dim], &values))?;
    }
    tell!("{}: {} embeddings of {dim} dimensions", args.out.display(), labels.len());
    Ok(())
}

fn labels_file(path: &Path) -> std::path::PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}.labels.npy"))
}

/// A NumPy array file, version 1.0.
///
/// # Source
/// NumPy Enhancement Proposal 1.
fn npy(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // Magic, version, length and header together fill whole blocks of 64 bytes; the header ends in a newline.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(length - header.len() - 1));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_header_fills_whole_blocks_and_says_the_shape() {
        let file = npy("<f4", &[3, 2], &[0; 24]);
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        let length = u16::from_le_bytes([file[8], file[9]]) as usize;
        assert_eq!((10 + length) % 64, 0);
        assert_eq!(file.len(), 10 + length + 24);
        let header = std::str::from_utf8(&file[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2,), }"), "{header}");
        assert!(header.ends_with('\n'));
    }
}
