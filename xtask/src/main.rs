//! Developer commands of the workspace: `cargo xtask check`, `test`, `report`, `kernels`, `kit`, `bench` and `soak`.

mod arrows;
mod bench;
mod browser;
mod check;
mod kernels;
mod kit;
mod licences;
mod packages;
mod python;
mod soak;
mod test;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use kernels::Show;

const HELP: &str = "\
Developer commands of this workspace

Usage: cargo xtask <command> [options]

Commands:
  check                     Format, clippy, dependency arrows, tidy rules, docs, licences and packages.
                            Every part runs; the end lists what failed and how to mend it.
  test [--all] [-- ARGS]    Every test that Rust alone can run. The last line is `N passed, M failed`.
                            --all adds the checks of the report in a headless Chromium, and those of exported files with
                            Python's packages for them, which it installs into target/python, and a build of every library
                            from its package.
                            ARGS go to `cargo test`:  cargo xtask test -- -p sphereface-tensor
  report RUN... [--out DIR] The report of finished runs, drawn again; of several side by side: `trainer report`.
  kernels [--document | --sass [PART]]
                            Every CUDA kernel compiled for its architectures: registers, shared memory, spills, occupancy
                            in one table. A spill, a stack frame or a warning fails. Needs no GPU; fetches NVRTC with pip.
                            --document writes docs/kernels.md, with the errors that the last `test` found. --sass prints
                            the instructions of the machine code for sm_90a by kind, of the kernels with PART in their
                            name; local memory or a warning fails. Fetches the disassembler with pip.
  kit [--debug]             target/kit: programs, kernels and MNIST for a machine with a GPU but no Rust; its run.sh checks
                            and measures everything. --debug builds faster, to try it on the emulator.
  bench [--install-peers] [ARGS]
                            Our kernels and trainings beside PyTorch, Burn, candle and the crate gemm (on a GPU beside
                            PyTorch, cuDNN and cuBLASLt), on the same numbers in the same rounds; leaves
                            benches/runs/<date>-<machine>. --install-peers installs those into target/peers first.
                            --predict writes docs/predicted.md instead: what kernels should take on the GPU of a run.
                            ARGS go to the program, which explains them:  cargo xtask bench --help
                            The micro-benches of the CPU backend are run by  cargo bench -p sphereface-benches
  soak [--kills N] [--inputs N] [--steps N] [--seed S] [--out FILE]
                            What takes too long for every test run: trainings killed at random moments (100), disks that
                            refuse, damaged inputs (1,000,000) and a long training (10,000 steps); 0 leaves a part out.
                            Writes docs/soak.json.

Options:
  -h, --help                This text.

Exit code: 0 when all is well, 1 when something failed, 2 when the command line is wrong.";

/// The one option of `bench` that is ours.
const INSTALL_PEERS: &str = "--install-peers";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match parse(&args) {
        Ok(Request::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Request::Check) => check::run(),
        Ok(Request::Test { all, cargo_args }) => test::run(all, &cargo_args),
        Ok(Request::Kernels(show)) => kernels::run(&show),
        Ok(Request::Kit { debug }) => kit::run(debug),
        Ok(Request::Bench { install, arguments }) => bench::run(install, &arguments),
        Ok(Request::Soak(options)) => soak::run(&options),
        Ok(Request::Report { arguments }) => report(&arguments),
        Err(message) => {
            eprintln!("xtask: {message}; see `cargo xtask --help`");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Request {
    Help,
    Check,
    Kernels(Show),
    Kit { debug: bool },
    Test { all: bool, cargo_args: Vec<String> },
    Bench { install: bool, arguments: Vec<String> },
    Report { arguments: Vec<String> },
    Soak(soak::Options),
}

/// Reads the command line. A few commands and one flag need no argument parser, and `cargo xtask`
/// stays quick to build without one.
fn parse(args: &[&str]) -> Result<Request, String> {
    let Some((&command, rest)) = args.split_first() else {
        return Ok(Request::Help);
    };
    let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
    // The trainer and the bench know their own arguments, and their own help.
    if command == "report" {
        return Ok(Request::Report { arguments: owned(rest) });
    }
    if command == "bench" {
        let install = rest.contains(&INSTALL_PEERS);
        let arguments: Vec<&str> = rest.iter().copied().filter(|&argument| argument != INSTALL_PEERS).collect();
        return Ok(Request::Bench { install, arguments: owned(&arguments) });
    }
    // What follows a `--` belongs to cargo, a `--help` among it too.
    let (ours, cargo_args) = match rest.iter().position(|&arg| arg == "--") {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    if matches!(command, "-h" | "--help" | "help") || ours.iter().any(|arg| matches!(*arg, "-h" | "--help")) {
        return Ok(Request::Help);
    }
    match command {
        "kernels" => match rest {
            [] => Ok(Request::Kernels(Show::Table)),
            ["--document"] => Ok(Request::Kernels(Show::Document)),
            ["--sass"] => Ok(Request::Kernels(Show::Sass(String::new()))),
            ["--sass", part] => Ok(Request::Kernels(Show::Sass((*part).to_owned()))),
            _ => Err(format!("`kernels` takes `--document`, `--sass [PART]` or nothing, found `{}`", rest.join(" "))),
        },
        "check" => match rest.first() {
            None => Ok(Request::Check),
            Some(extra) => Err(format!("`check` takes no argument, found `{extra}`")),
        },
        "soak" => soak::options(rest).map(Request::Soak),
        "kit" => match rest {
            [] | ["--debug"] => Ok(Request::Kit { debug: !rest.is_empty() }),
            _ => Err(format!("`kit` takes `--debug` or nothing, found `{}`", rest.join(" "))),
        },
        "test" => match ours.iter().find(|&&arg| arg != "--all") {
            None => Ok(Request::Test { all: !ours.is_empty(), cargo_args: owned(cargo_args) }),
            Some(extra) => {
                Err(format!("`test` takes `--all` and, after `--`, arguments of `cargo test`; found `{extra}`"))
            }
        },
        unknown => Err(format!(
            "unknown command `{unknown}`; the commands are check, test, report, kernels, kit, bench and soak"
        )),
    }
}

/// Lets the trainer draw the report of finished runs, whose folders are meant from where we were called.
fn report(arguments: &[String]) -> ExitCode {
    let mut command = cargo();
    if let Ok(here) = env::current_dir() {
        command.current_dir(here);
    }
    command.args(["run", "--quiet", "--release", "-p", "trainer", "--", "report"]).args(arguments);
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The root folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The folder for what these commands write, inside cargo's target folder.
fn output_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir).join("xtask"),
        None => root().join("target").join("xtask"),
    }
}

/// The cargo that started us, in the workspace's root folder.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use super::{Request, Show, parse};

    #[test]
    fn commands_and_arguments_are_told_apart() {
        assert_eq!(parse(&[]), Ok(Request::Help));
        assert_eq!(parse(&["test", "--help"]), Ok(Request::Help));
        assert_eq!(parse(&["check"]), Ok(Request::Check));
        assert_eq!(parse(&["kernels"]), Ok(Request::Kernels(Show::Table)));
        assert_eq!(parse(&["kernels", "--sass", "gemm"]), Ok(Request::Kernels(Show::Sass("gemm".into()))));
        assert_eq!(parse(&["kit", "--debug"]), Ok(Request::Kit { debug: true }));
        assert_eq!(parse(&["test"]), Ok(Request::Test { all: false, cargo_args: vec![] }));
        let cargo_args = ["-p", "sphereface-tensor", "--", "--help"].map(str::to_owned).to_vec();
        assert_eq!(
            parse(&["test", "--all", "--", "-p", "sphereface-tensor", "--", "--help"]),
            Ok(Request::Test { all: true, cargo_args })
        );
        let arguments = ["runs/one", "--help"].map(str::to_owned).to_vec();
        assert_eq!(parse(&["report", "runs/one", "--help"]), Ok(Request::Report { arguments }));
        let arguments = ["--quick", "--help"].map(str::to_owned).to_vec();
        let bench = |install| Ok(Request::Bench { install, arguments: arguments.clone() });
        assert_eq!(parse(&["bench", "--quick", "--help"]), bench(false));
        assert_eq!(parse(&["bench", "--quick", "--install-peers", "--help"]), bench(true));
    }

    #[test]
    fn a_wrong_command_line_is_one_clear_line() {
        for wrong in [
            &["soap"][..],
            &["check", "--all"],
            &["kernels", "gemm"],
            &["kit", "--fast"],
            &["test", "--al"],
            &["soak", "--kill"],
        ] {
            let message = parse(wrong).unwrap_err();
            assert!(message.contains(wrong[wrong.len() - 1]) && !message.contains('\n'), "{message}");
        }
    }
}
