//! Trains SphereFace and compares margin-softmax losses; see `trainer --help`.

/// Prints a line of a result. A reader that has seen enough (`trainer plan | head`) ends the program quietly.
macro_rules! tell {
    ($($part:tt)*) => {
        if let Err(error) = writeln!(std::io::stdout(), $($part)*) {
            let code = if error.kind() == std::io::ErrorKind::BrokenPipe { 0 } else { 1 };
            std::process::exit(code);
        }
    };
}

mod checkpoint;
mod choice;
mod cli;
mod config;
mod course;
mod device;
mod doctor;
mod event;
mod export;
mod film;
mod folder;
#[cfg(test)]
mod fuzz;
mod guard;
mod inspect;
mod interrupt;
mod listing;
mod losses;
mod names;
mod network;
mod prediction;
mod progress;
mod recovery;
mod report;
mod run;
mod session;
mod trained;
mod training;

use clap::Parser;
use cli::{Cli, Command, CommonArgs, CompareArgs, TrainArgs};
use config::Config;
use progress::Verbosity;
use run::{Ended, Place};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(&cli.command.unwrap_or(Command::Compare(cli.compare))) {
        Ok(Ended::Finished) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        Err(error) => {
            // One line, whatever the causes say.
            let message = format!("{error:#}").lines().collect::<Vec<_>>().join(" ");
            progress::warn(format_args!("error: {message}"));
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
        Command::Devices(args) => inspect::devices(args)?,
        Command::Data(args) => inspect::data(args)?,
        Command::Report(args) => report::report(args)?,
        Command::Doctor(args) => doctor::doctor(args)?,
        Command::Losses(args) => listing::losses(args)?,
    }
    Ok(Ended::Finished)
}

fn compare(args: &CompareArgs) -> anyhow::Result<Ended> {
    start(args.resume.as_deref(), None, &args.common, "compare", || args.resolve())
}

fn train(args: &TrainArgs) -> anyhow::Result<Ended> {
    start(args.resume.as_deref(), args.common.steps, &args.common, "train", || args.resolve())
}

/// Begins a run, or goes on with one.
fn start(
    resume: Option<&Path>,
    steps: Option<usize>,
    common: &CommonArgs,
    command: &str,
    resolve: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<Ended> {
    interrupt::listen();
    let verbosity = Verbosity::detect(common.quiet);
    match resume {
        Some(path) => run::resume(path, steps, common, verbosity),
        None => run::run(&resolve()?, Place::New(common.out.as_deref()), command, verbosity, None, common.profile),
    }
}
