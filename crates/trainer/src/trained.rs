//! The commands that use a trained model: `eval` and `embed`.

use crate::checkpoint::replace;
use crate::cli::{ComputeArgs, DataArgs, EmbedArgs, EvalArgs};
use crate::config::Config;
use crate::export;
use crate::folder::Folder;
use crate::progress::Verbosity;
use crate::run::load_data;
use crate::session::Session;
use anyhow::{Result, bail};
use sphereface_data::Dataset;
use sphereface_export::embeddings::Labelled;
use std::io::Write;
use std::path::Path;

/// A training's folder with its configuration.
struct Trained {
    name: String,
    folder: Folder,
    config: Config,
}

impl Trained {
    /// Changes what the command line asks for.
    fn apply(&mut self, data: &DataArgs, compute: &ComputeArgs) -> Result<()> {
        data.apply(&mut self.config);
        compute.apply(&mut self.config);
        self.config.check()
    }
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
        (inside.has_checkpoint() || inside.model().is_file()).then_some(Trained {
            name,
            folder: inside,
            config: training,
        })
    });
    let found: Vec<Trained> = inside.collect();
    if found.is_empty() {
        bail!("{}: expected trainings that have begun, found none", path.display());
    }
    Ok(found)
}

fn load(trained: &Trained, dataset: &Dataset) -> Result<Session> {
    let mut session = Session::new(&trained.config, dataset, Verbosity::detect(false))?;
    // A folder that was passed on may hold the model alone.
    if !trained.folder.has_checkpoint() && trained.folder.model().is_file() {
        session.load_model(&trained.folder.model())?;
    } else {
        session.load(&trained.folder.checkpoint())?;
    }
    Ok(session)
}

/// Prints the accuracy of every training of a run.
pub(crate) fn eval(args: &EvalArgs) -> Result<()> {
    let mut trainings = trainings(&args.dir)?;
    trainings.iter_mut().try_for_each(|trained| trained.apply(&args.data, &args.compute))?;
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
    trained.apply(&args.data, &args.compute)?;
    let dataset = load_data(&trained.config, Verbosity::Plain)?;
    let mut session = load(trained, &dataset)?;
    let embedded = session.embed_test(dataset.test.len())?;
    let dim = session.model().network.embedding;
    let labelled = Labelled { points: &embedded.points, dim, labels: &dataset.test.labels };
    match extension {
        "csv" => replace(&args.out, labelled.csv().as_bytes())?,
        _ => export::write_npy(&args.out, &labelled)?,
    }
    tell!("{}: {} embeddings of {dim} dimensions", args.out.display(), labelled.labels.len());
    Ok(())
}
