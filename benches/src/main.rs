//! The program `bench`: see `cargo xtask bench --help`.

use anyhow::{Context, Result, bail};
use clap::Parser;
use sphereface_benches::ceilings::{self, Ceilings};
use sphereface_benches::device::Choice;
use sphereface_benches::installed::{Installed, Launch, launches};
use sphereface_benches::machine::{Machine, commit, hardware_threads};
use sphereface_benches::measure::Method;
use sphereface_benches::peer::LIMIT;
use sphereface_benches::record::{CaseRecord, FORMAT, Run};
use sphereface_benches::schedule::{self, Job};
use sphereface_benches::session::{Session, Settings};
use sphereface_benches::{compare, folder, interrupt, output, predicted, readme, table, wall_clock};
use sphereface_testkit::catalogue::{Entry, catalogue};
use sphereface_testkit::workload::Arithmetic;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// Times our kernels and whole trainings beside other people's programs, on the same numbers, in the same rounds.
///
/// Every case is first checked: ours against the f64 reference on a small shape, each peer against ours on the shape that
/// is timed. Peers are those that `cargo xtask bench --install-peers` has installed; the others' cells stay empty.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", max_term_width = 110)]
struct Arguments {
    /// Only the cases that stand for all, and a few more, unless --only names others; fewer rounds, and of peers nothing that
    /// takes long to prepare: three minutes on two cores.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name or group contains one of these, separated by commas.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// Which peers: all, none, or some of pytorch, pytorch-bf16, burn, candle, gemm; on a GPU pytorch, cudnn, cublaslt.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all")]
    peers: Vec<String>,
    /// What computes: cpu, cuda, cuda:N or emulator, which checks the small shapes and times nothing.
    #[arg(long, default_value = "cpu")]
    device: Choice,
    /// Threads, ours and the peers': 0 stands for all there are.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Longest time that a run of a case may take, in seconds, as estimated beforehand: others are left out. It does not
    /// hold for `mnist to 99%`, a whole training, which --quick leaves out on a CPU.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    limit: f64,
    /// Seconds after which no further case begins: those that stand for all come first.
    #[arg(long, value_name = "SECONDS")]
    within: Option<f64>,
    /// Folder of the run; if not given, one named after day and machine in benches/runs.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Names the cases, and stops.
    #[arg(long)]
    list: bool,
    /// Checks the small shapes and times nothing.
    #[arg(long)]
    check: bool,
    /// What got slower or faster from one run's folder to another's; fails when something got slower by a tenth.
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"])]
    compare: Option<Vec<PathBuf>>,
    /// Writes a run's table, the latest one's if none is named, between its device's marks in README.md; a folder from
    /// elsewhere is taken into benches/runs before.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    readme: Option<Option<String>>,
    /// Predicts what our kernels take on the GPU of a run, the latest one's if none is named, without one: each launch by
    /// what one of its blocks does in the emulator. Prints what launches wait for; without --only, writes docs/predicted.md too.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    predict: Option<Option<String>>,
    /// Writes the tables and the picture of a run's folder anew, from its run.json.
    #[arg(long, value_name = "RUN")]
    redraw: Option<PathBuf>,
    /// Where peers are installed.
    #[arg(long, value_name = "DIR", hide = true)]
    peers_dir: Option<PathBuf>,
    /// Folder of `cargo xtask kit`, on a machine without a checkout.
    #[arg(long, value_name = "DIR", hide = true)]
    kit: Option<PathBuf>,
    /// Where the run's folder is made if not in benches/runs.
    #[arg(long, value_name = "DIR", hide = true)]
    runs_dir: Option<PathBuf>,
}

/// How the reason begins why there is no time of ours where that is our own fault.
const FAULT: &str = "FAILED: ";

/// How long a peer may take for a case when it has to be quick.
const QUICK_LIMIT: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> &'static Path {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().unwrap_or(benches)
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runs = arguments.runs_dir.clone().unwrap_or_else(|| root().join("benches/runs"));
    if let Some([before, after]) = arguments.compare.as_deref() {
        let comparison = compare::compare(&Run::read(before)?, &Run::read(after)?);
        print!("{}", comparison.text);
        return Ok(if comparison.regressed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if let Some(name) = &arguments.readme {
        let run = output::adopted(&runs, &readme::find_run(&runs, name.as_deref())?)?;
        let path = root().join("README.md");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        folder::write_file(&path, &readme::replaced(&text, &run)?)?;
        println!("README.md shows {}", run.name);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &arguments.predict {
        let run = Run::read(&readme::find_run(&runs, name.as_deref())?)?;
        let show = |row: &predicted::Row| print!("{}", predicted::launches(row));
        let rows = predicted::predict(&run, &root().join("docs/kernels.md"), &arguments.only, show)?;
        if arguments.only.is_empty() {
            folder::write_file(&root().join("docs/predicted.md"), &predicted::page(&run, &rows)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(place) = &arguments.redraw {
        let files = output::files(&Run::read(place)?)?;
        files.iter().try_for_each(|(name, text)| folder::write_file(&place.join(name), text))?;
        println!("{}", place.display());
        return Ok(ExitCode::SUCCESS);
    }
    let entries = chosen(arguments)?;
    if arguments.list {
        let mut out = std::io::stdout().lock();
        for Entry { name, group, timed, arithmetic, .. } in &entries {
            writeln!(out, "{name:<52} {group:<24} {:>10.3} GFLOP", timed.cost(*arithmetic)?.flops.useful as f64 / 1e9)?;
        }
        if trains(arguments) {
            writeln!(out, "{:<52} {}", wall_clock::NAME, wall_clock::GROUP)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let threads = if arguments.threads == 0 { hardware_threads() } else { arguments.threads };
    if arguments.check || arguments.device == Choice::Emulator {
        return check(arguments.device, threads, &entries);
    }
    let date = OffsetDateTime::now_utc();
    let place = match &arguments.out {
        Some(place) if place.exists() => bail!("--out {}: exists already", place.display()),
        Some(place) => place.clone(),
        None => folder::free(&runs, &format!("{}-{}", date.date(), machine(arguments.device, threads)?.slug())),
    };
    let name = place.file_name().context("--out: expected a folder's name")?.to_string_lossy().into_owned();
    interrupt::listen();
    let run = measure(arguments, threads, &entries, name, date)?;
    if run.cases.iter().all(|case| case.ours.is_none()) {
        bail!(
            "nothing was measured: {}",
            run.cases.iter().find_map(|case| case.skipped.as_deref()).unwrap_or("no case")
        );
    }
    folder::write(&place, &output::files(&run)?)?;
    println!("{}", place.display());
    let faults = run.cases.iter().filter(|case| case.skipped.as_deref().is_some_and(|why| why.starts_with(FAULT)));
    match (faults.count(), interrupt::requested()) {
        (0, false) => Ok(ExitCode::SUCCESS),
        (0, true) => Ok(ExitCode::from(interrupt::EXIT_CODE)),
        (count, _) => bail!("{count} of {} cases failed", run.cases.len()),
    }
}

/// Whether the command line asks for a case of this name and group.
fn is_named(arguments: &Arguments, name: &str, group: &str) -> bool {
    let named = |pattern: &String| name.contains(pattern) || group.contains(pattern.as_str());
    arguments.only.is_empty() || arguments.only.iter().any(named)
}

/// Whether the command line asks for a whole training, which takes seconds on a GPU.
fn trains(arguments: &Arguments) -> bool {
    let is_short = matches!(arguments.device, Choice::Cuda(_));
    (!arguments.quick || is_short) && is_named(arguments, wall_clock::NAME, wall_clock::GROUP)
}

/// Entries that the command line asks for.
fn chosen(arguments: &Arguments) -> Result<Vec<Entry>> {
    let all = !arguments.quick || !arguments.only.is_empty();
    let wanted = |entry: &Entry| (all || entry.quick) && is_named(arguments, &entry.name, entry.group);
    let entries: Vec<Entry> = catalogue(arguments.device.arithmetics()).into_iter().filter(wanted).collect();
    if entries.is_empty() && !trains(arguments) {
        bail!("--only {}: no case is named so; --list names them", arguments.only.join(","));
    }
    Ok(entries)
}

/// The peers that the command line asks for.
fn peers(arguments: &Arguments) -> Result<Vec<Launch>> {
    let built = arguments.peers_dir.clone().unwrap_or_else(|| root().join("target/peers"));
    let installed = arguments.kit.as_deref().map_or_else(|| Installed::into(&built, root()), Installed::in_kit);
    let all = launches(arguments.device, &installed);
    match arguments.peers.as_slice() {
        [one] if one == "all" => Ok(all),
        [one] if one == "none" => Ok(Vec::new()),
        names => {
            let known: Vec<String> = all.iter().map(|launch| launch.key.clone()).collect();
            if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
                bail!("--peers: expected all, none or some of {}, found '{unknown}'", known.join(", "));
            }
            Ok(all.into_iter().filter(|launch| names.contains(&launch.key)).collect())
        }
    }
}

/// Checks the small shapes, each once.
fn check(device: Choice, threads: usize, entries: &[Entry]) -> Result<ExitCode> {
    device.open(Arithmetic::F32, threads)?; // Where there is none, one line says so.
    let ceilings = Ceilings { one_thread_flops: None, flops: None, bytes: f64::INFINITY, overhead: None };
    let (method, limit_s) = (method(true), f64::INFINITY);
    let settings =
        Settings { device, threads, ceilings, method, quick: true, peer_limit: LIMIT, limit_s, deadline: None };
    let mut session = Session::new(settings, Vec::new())?;
    let (mut seen, mut failed) = (Vec::new(), 0);
    for entry in entries {
        if seen.contains(&(entry.check, entry.arithmetic)) {
            continue;
        }
        seen.push((entry.check, entry.arithmetic));
        match session.check(entry) {
            Ok(error) => println!("{:<52} {error:.1e}", entry.name),
            Err(error) => {
                failed += 1;
                println!("{:<52} FAILED: {error:#}", entry.name);
            }
        }
    }
    println!("{} shapes checked, {failed} failed", seen.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn method(quick: bool) -> Method {
    let (rounds, fewest, budget) = if quick { (5, 1, 2) } else { (9, 3, 40) };
    Method {
        rounds,
        fewest,
        sample_seconds: 0.05,
        budget: Duration::from_secs(budget),
        settle: Duration::from_millis(10),
    }
}

/// This machine, with its GPU if that is what computes.
fn machine(device: Choice, threads: usize) -> Result<Machine> {
    let gpu = match device {
        Choice::Cuda(_) => device.open(Arithmetic::F32, threads)?.gpu(),
        Choice::Cpu | Choice::Emulator => None,
    };
    Ok(Machine { gpu, ..Machine::here(threads) })
}

/// Times the entries, with a line of the table for each as it comes.
fn measure(
    arguments: &Arguments,
    threads: usize,
    entries: &[Entry],
    name: String,
    date: OffsetDateTime,
) -> Result<Run> {
    let start = Instant::now();
    let machine = machine(arguments.device, threads)?;
    let ceilings = match arguments.device {
        Choice::Cuda(_) => ceilings::gpu(arguments.device.open(Arithmetic::F32, threads)?.as_mut())?,
        Choice::Cpu | Choice::Emulator => ceilings::cpu(threads)?,
    };
    let peak = ceilings.flops.map_or_else(String::new, |flops| format!("{:.0} GFLOP/s, ", flops / 1e9));
    println!("{}: {peak}copies {:.1} GB/s, {threads} threads", machine.slug(), ceilings.bytes / 1e9);
    let &Arguments { device, quick, limit: limit_s, .. } = arguments;
    let peer_limit = if quick { QUICK_LIMIT } else { LIMIT };
    let within = arguments.within.map(Duration::try_from_secs_f64).transpose().context("--within")?;
    let deadline = within.map(|within| start + within);
    let method = method(quick);
    let settings = Settings { device, threads, ceilings, method, quick, peer_limit, limit_s, deadline };
    let mut session = Session::new(settings, peers(arguments)?)?;
    for peer in session.peers() {
        match &peer.missing {
            Some(reason) => println!("{}: {reason}", peer.name),
            None => println!("{} {}: {}", peer.name, peer.version, peer.detail),
        }
    }
    // What holds for a peer as a whole, or for all cases but a few, is not said of each.
    let silent: Vec<String> = session.peers().into_iter().filter_map(|peer| peer.missing).collect();
    let show = |record: &CaseRecord| {
        println!("{}", table::terminal_row(record, ceilings.flops));
        for rival in &record.peers {
            match &rival.missing {
                Some(reason) if !silent.contains(reason) && !reason.contains("not supported") => {
                    println!("    {}: {reason}", rival.name)
                }
                _ => {}
            }
        }
    };
    println!("{}", table::terminal_header());
    let jobs: Vec<Job<'_>> = entries.iter().map(Job::Case).chain(trains(arguments).then_some(Job::Training)).collect();
    let mut cases = Vec::new();
    for number in schedule::order(&jobs, deadline.is_some()) {
        let is_due = schedule::ended(&settings).is_none();
        let case = record(jobs[number], &mut session, &settings)?;
        if is_due {
            show(&case);
        }
        cases.push((number, case));
    }
    cases.sort_by_key(|(number, _)| *number);
    let cases: Vec<CaseRecord> = cases.into_iter().map(|(_, case)| case).collect();
    let left = cases.iter().filter(|case| case.ours.is_none()).count();
    println!("{} of {} cases timed, in {:.0} s", cases.len() - left, cases.len(), start.elapsed().as_secs_f64());
    let (commit, dirty) = match &arguments.kit {
        Some(kit) => packed_commit(kit)?,
        None => commit(root()),
    };
    Ok(Run {
        format: FORMAT,
        name,
        command: command(std::env::args().skip(1)),
        commit,
        dirty,
        date: format!("{} {:02}:{:02} UTC", date.date(), date.hour(), date.minute()),
        device: match arguments.device {
            Choice::Cpu => "cpu".into(),
            Choice::Cuda(number) => format!("cuda:{number}"),
            Choice::Emulator => "emulator".into(),
        },
        machine,
        ceilings,
        peers: session.peers(),
        cases,
    })
}

/// Measures a job; one that fails by our own fault is a record that says so, so that it does not cost the others.
fn record(job: Job<'_>, session: &mut Session, settings: &Settings) -> Result<CaseRecord> {
    let skip = |session: &Session, reason: String| match job {
        Job::Case(entry) => session.skip(entry, reason),
        Job::Training => Ok(wall_clock::skip(reason)),
    };
    if let Some(reason) = schedule::ended(settings) {
        return skip(session, reason.into());
    }
    let measured = match job {
        Job::Case(entry) => session.measure(entry),
        Job::Training => wall_clock::measure(settings, &session.peers()),
    };
    match measured {
        // What was in the middle of something is no sample of it.
        _ if interrupt::requested() => skip(session, "the run was stopped meanwhile".into()),
        Ok(record) => Ok(record),
        Err(error) => skip(session, format!("{FAULT}{error:#}")),
    }
}

/// The commit that a kit was made of, and whether sources differed from it.
fn packed_commit(kit: &Path) -> Result<(String, bool)> {
    let path = kit.join("commit.txt");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (commit, changes) = text.trim().split_once(", ").unwrap_or((text.trim(), ""));
    Ok((commit.into(), !changes.is_empty()))
}

/// The command as a person would type it: without folders, which exist on one machine only.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["cargo xtask bench".to_owned()];
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" | "--peers-dir" | "--kit" | "--runs-dir" => _ = arguments.next(),
            word if word.contains(' ') => words.push(format!("'{word}'")),
            _ => words.push(argument),
        }
    }
    words.join(" ")
}
