//! A headless Chromium, spoken to in the DevTools protocol: JSON messages, each ended by a NUL, over two pipes.
//!
//! Pipes need no port and no library, and they tell when the browser dies: they end.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Chromium reads commands from descriptor 3 and writes to descriptor 4; a shell can put its own pipes there.
const SHELL: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#;

/// How long a browser that was told to close may take before it is killed.
const CLOSING: Duration = Duration::from_secs(5);

/// A running browser; dropping it ends it.
pub(crate) struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    log: PathBuf,
    last_id: u64,
    deadline: Instant,
    /// Events that came since they were last taken.
    events: Vec<Value>,
}

impl Browser {
    /// Starts a browser without a network, with its profile and its log in `folder`.
    ///
    /// # Errors
    /// When there is no shell, or no such program.
    pub(crate) fn start(program: &Path, folder: &Path, patience: Duration) -> Result<Self, String> {
        let log = folder.join("log.txt");
        let errors = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "sh"]).arg(program).args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox", // Containers and root have no sandbox; the page is our own.
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", // The report must be whole without a network.
        ]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let (sender, messages) = channel();
        if let Some(output) = child.stdout.take() {
            // The thread ends with the pipe, and what it drops tells the receiver that nothing will come.
            thread::spawn(move || {
                for message in BufReader::new(output).split(0) {
                    let Some(message) = message.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
                        return;
                    };
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            });
        }
        let commands = child.stdin.take();
        let deadline = Instant::now() + patience;
        Ok(Browser { child, commands, messages, log, last_id: 0, deadline, events: Vec::new() })
    }

    /// Gives everything up to the next call of this function so much time together.
    pub(crate) fn allow(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    /// Sends a command, to a page if there is a `session`, and waits for its result.
    ///
    /// # Errors
    /// When the browser refuses the command, dies, or takes longer than it is allowed to.
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut message = command.to_string().into_bytes();
        message.push(0);
        let sent = self.commands.as_mut().map(|pipe| pipe.write_all(&message).and_then(|()| pipe.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.death());
        }
        loop {
            let mut message = self.receive(method)?;
            if message["id"] != self.last_id {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                return Err(format!("{method}: {}", error["message"].as_str().unwrap_or("refused")));
            } else {
                return Ok(message["result"].take());
            }
        }
    }

    /// Waits for an event of this name and leaves all that came in their order.
    ///
    /// # Errors
    /// When the browser dies, or takes longer than it is allowed to.
    pub(crate) fn wait_for(&mut self, event: &str) -> Result<(), String> {
        while !self.events.iter().any(|found| found["method"] == event) {
            let message = self.receive(event)?;
            self.events.push(message);
        }
        Ok(())
    }

    /// The events that came since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Value> {
        self.events.extend(self.messages.try_iter());
        std::mem::take(&mut self.events)
    }

    fn receive(&mut self, awaited: &str) -> Result<Value, String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let message = self.messages.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("`{awaited}` did not come in time{}", self.log_note()),
            RecvTimeoutError::Disconnected => self.death(),
        })?;
        match message["method"].as_str() {
            Some("Inspector.targetCrashed" | "Target.targetCrashed") => {
                Err(format!("the page crashed{}", self.log_note()))
            }
            _ => Ok(message),
        }
    }

    /// Why nothing can be said to the browser any more.
    fn death(&mut self) -> String {
        let status = self.ended_within(CLOSING).unwrap_or_else(|| "its pipe is closed".to_owned());
        format!("the browser died ({status}){}", self.log_note())
    }

    fn log_note(&self) -> String {
        format!("; its log: {}", self.log.display())
    }

    /// The exit status of the browser, once it has one.
    fn ended_within(&mut self, time: Duration) -> Option<String> {
        let start = Instant::now();
        while start.elapsed() < time {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser whose pipe ends closes itself, with all its processes.
        self.commands = None;
        if self.ended_within(CLOSING).is_none() {
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
    }
}
