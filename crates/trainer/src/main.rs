//! Trains SphereFace and compares margin-softmax losses; see `trainer --help`.

mod checkpoint;
mod cli;
mod config;
mod device;
mod folder;
mod inspect;
mod interrupt;
mod progress;
mod run;
mod session;
mod trained;
mod training;

use clap::Parser;
use cli::{Cli, Command, CompareArgs, TrainArgs};
use folder::Folder;
use progress::Verbosity;
use run::Ended;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(&cli.command.unwrap_or(Command::Compare(cli.compare))) {
        Ok(Ended::Finished) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        Err(error) => {
            // One line, whatever the causes say.
            let message = format!("{error:#}").lines().collect::<Vec<_>>().join(" ");
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: &Command) -> anyhow::Result<Ended> {
    match command {
        Command::Compare(args) => return compare(args),
        Command::Train(args) => return train(args),
        Command::Eval(args) => trained::eval(args)?,
        Command::Embed(args) => trained::embed(args)?,
        Command::Plan(args) => inspect::plan(args)?,
        Command::Devices => inspect::devices()?,
        Command::Data(args) => inspect::data(args)?,
        Command::Losses => inspect::losses(),
    }
    Ok(Ended::Finished)
}

fn compare(args: &CompareArgs) -> anyhow::Result<Ended> {
    interrupt::listen();
    let verbosity = Verbosity::detect(args.common.quiet);
    if let Some(path) = &args.resume {
        return run::resume(path, None, "compare", verbosity);
    }
    let config = args.resolve()?;
    let folder = Folder::create(args.common.out.as_deref(), "compare")?;
    run::run(&config, &folder, "compare", verbosity, None)
}

fn train(args: &TrainArgs) -> anyhow::Result<Ended> {
    interrupt::listen();
    let verbosity = Verbosity::detect(args.common.quiet);
    if let Some(path) = &args.resume {
        return run::resume(path, args.common.steps, "train", verbosity);
    }
    let config = args.resolve()?;
    let folder = Folder::create(args.common.out.as_deref(), &config.training_name(false))?;
    run::run(&config, &folder, "train", verbosity, None)
}
