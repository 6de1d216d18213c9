//! A peer: somebody else's program behind a process that takes JSON lines and answers them.

use crate::installed::Launch;
use crate::interrupt;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a peer may take for a case, all its answers together.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How often it is seen whether somebody wants all of this to end.
const POLL: Duration = Duration::from_millis(100);

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Threads, layout, flags: what it says of itself.
    pub detail: String,
    /// Numbers in which it computes, if they are others than a case asks for.
    pub precision: Option<String>,
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    /// Its last line on stderr, when it has ended.
    last_words: Receiver<String>,
    /// How long it may still take.
    budget: Duration,
}

impl Peer {
    /// Starts a peer that may use this many threads.
    ///
    /// # Errors
    /// One line: why it is missing.
    pub fn start(launch: &Launch, threads: usize, limit: Duration) -> Result<Peer, String> {
        if !launch.program.is_file() {
            return Err("not installed: see benches/README.md".into());
        }
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            command.env(variable, threads.to_string());
        }
        if !launch.libraries.is_empty() {
            let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let others = std::env::split_paths(&others).filter(|folder| !folder.as_os_str().is_empty());
            let all = std::env::join_paths(launch.libraries.iter().cloned().chain(others));
            command.env("LD_LIBRARY_PATH", all.map_err(|error| format!("folders of libraries: {error}"))?);
        }
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", launch.program.display()))?;
        let (Some(requests), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("no pipes".into());
        };
        let mut peer = Peer {
            name: launch.key.clone(),
            version: String::new(),
            detail: String::new(),
            precision: None,
            child,
            requests,
            answers: lines(stdout),
            last_words: last_line(stderr),
            budget: limit,
        };
        let hello = peer.answer()?;
        let text = |field: &str| hello[field].as_str().unwrap_or_default().to_owned();
        if let Some(reason) = hello["missing"].as_str() {
            return Err(reason.to_owned());
        }
        (peer.name, peer.version, peer.detail) = (text("peer"), text("version"), text("detail"));
        peer.precision = hello["precision"].as_str().map(str::to_owned);
        Ok(peer)
    }

    /// Begins a case: the time that the peer may take for it starts anew.
    pub fn begin(&mut self, limit: Duration) {
        self.budget = limit;
    }

    /// The ways in which the peer can do a case; at least one.
    ///
    /// # Errors
    /// One line, when it does not answer.
    pub fn variants(&mut self, case: &Value) -> Result<Vec<String>, String> {
        let answer = self.ask(&json!({ "variants": case }))?;
        let names = answer["variants"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.map(str::to_owned).collect();
        Ok(if names.is_empty() { vec![String::new()] } else { names })
    }

    /// Has the peer load the inputs, run the case once and write what came out.
    ///
    /// # Errors
    /// One line: why it cannot.
    pub fn prepare(&mut self, case: &Value, inputs: &Path, outputs: &Path, variant: &str) -> Result<(), String> {
        let request = json!({ "prepare": case, "inputs": inputs, "outputs": outputs, "variant": variant });
        let answer = self.ask(&request)?;
        if answer["ready"] == true { Ok(()) } else { Err(format!("expected ready, found {answer}")) }
    }

    /// Seconds that the prepared case takes this many times.
    ///
    /// # Errors
    /// One line, when it fails.
    pub fn run(&mut self, times: usize) -> Result<f64, String> {
        let answer = self.ask(&json!({ "run": times }))?;
        let seconds = answer["seconds"].as_f64().filter(|seconds| *seconds > 0.0 && seconds.is_finite());
        seconds.ok_or_else(|| format!("expected seconds, found {answer}"))
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        if writeln!(self.requests, "{request}").and_then(|()| self.requests.flush()).is_err() {
            return Err(self.last_words());
        }
        let answer = self.answer()?;
        match answer["missing"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<Value, String> {
        let answer = loop {
            let start = Instant::now();
            let answer = self.answers.recv_timeout(self.budget.min(POLL));
            self.budget = self.budget.saturating_sub(start.elapsed());
            match answer {
                Err(RecvTimeoutError::Timeout) if interrupt::requested() => {
                    self.stop();
                    return Err("interrupted".into());
                }
                Err(RecvTimeoutError::Timeout) if !self.budget.is_zero() => {}
                _ => break answer,
            }
        };
        match answer {
            Ok(line) => serde_json::from_str(&line).map_err(|error| format!("expected JSON, found '{line}': {error}")),
            Err(RecvTimeoutError::Timeout) => {
                self.stop();
                Err("stopped: took longer than the limit".into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.last_words()),
        }
    }

    /// Whether the process still takes requests.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Why it has ended: how, and the last line it said.
    fn last_words(&mut self) -> String {
        self.stop();
        let status = self.child.wait().map(|status| status.to_string()).unwrap_or_default();
        // A process that it has started may keep the stream open.
        match self.last_words.recv_timeout(Duration::from_secs(1)) {
            Ok(words) if !words.is_empty() => format!("ended ({status}): {words}"),
            _ => format!("ended ({status})"),
        }
    }

    fn stop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lines of a stream as they come; the channel closes with the stream.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The last line of a stream that is not empty, when the stream has ended.
fn last_line(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let said = lines(stream).into_iter().filter(|line| !line.trim().is_empty()).last();
        // Nobody may be left who wants to know.
        let _ = sender.send(said.unwrap_or_default().trim().to_owned());
    });
    receiver
}
