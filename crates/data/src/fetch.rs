//! Fetching MNIST's files from mirrors, within bounds on time and size.
//!
//! The mirrors are asked by plain HTTP: every file is accepted by the SHA-256 of its unpacked content only, so TLS would protect
//! nothing but the secrecy of fetching MNIST, and would cost this build a TLS stack. A whole file stays in memory until it is accepted, so an
//! interrupted fetch leaves nothing behind.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config;

use crate::error::grouped;
use crate::parts::{Edition, Part};
use crate::progress::Progress;
use crate::raw_set::{RawFile, check_edition};
use crate::unpack;

/// How long to wait for a mirror.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the name look-up, and again for the connection.
    pub(crate) connect: Duration,
    /// For the first byte, and for each next one.
    pub(crate) silence: Duration,
    /// For a whole file.
    pub(crate) total: Duration,
    /// After this long, a file must have come at `min_bytes_per_s` or more on average.
    pub(crate) slow_start: Duration,
    pub(crate) min_bytes_per_s: u64,
}

/// Nobody waits more than seconds for a network that is not there; a slow one may take its time.
pub(crate) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(3),
    silence: Duration::from_secs(10),
    total: Duration::from_secs(600),
    slow_start: Duration::from_secs(20),
    min_bytes_per_s: 8 << 10,
};

/// Where MNIST's files are, packed by gzip. The addresses end in `/`.
pub(crate) const MIRRORS: [&str; 2] =
    ["http://ossci-datasets.s3.amazonaws.com/mnist/", "http://storage.googleapis.com/cvdf-datasets/mnist/"];

/// Fetches files of one edition from a list of mirrors, the last that worked first.
pub(crate) struct Fetcher<'a> {
    pub(crate) edition: &'a Edition,
    pub(crate) mirrors: Vec<&'a str>,
    pub(crate) patience: Patience,
}

impl Fetcher<'_> {
    /// Fetches one file and checks it.
    ///
    /// # Errors
    ///
    /// One line with each mirror and why it gave nothing.
    pub(crate) fn fetch(&mut self, part: Part, progress: &mut dyn FnMut(Progress<'_>)) -> Result<RawFile, String> {
        let file = part.name();
        let mut refusals = Vec::new();
        for i in 0..self.mirrors.len() {
            let mirror = self.mirrors[i];
            progress(Progress::Asking { file, mirror });
            match self.fetch_from(mirror, part, progress) {
                Ok(content) => {
                    progress(Progress::Fetched { file, mirror });
                    self.mirrors.swap(0, i);
                    return Ok(content);
                }
                Err(reason) => {
                    let reason = &reason;
                    progress(Progress::Refused { file, mirror, reason });
                    refusals.push((mirror, reason.clone()));
                }
            }
        }
        Err(list_refusals(&refusals))
    }

    fn fetch_from(&self, mirror: &str, part: Part, progress: &mut dyn FnMut(Progress<'_>)) -> Result<RawFile, String> {
        let file = part.name();
        let slash = if mirror.ends_with('/') { "" } else { "/" };
        let address = format!("{mirror}{slash}{file}.gz");
        // Deflate stores what it cannot pack, 5 bytes for each 64 KiB, so a packed file is hardly larger than its content.
        let size_bytes = self.edition.fingerprint(part).size_bytes;
        let most_bytes = size_bytes + size_bytes / 1000 + 1024;
        let too_long = || format!("expected at most {} bytes, found more", grouped(most_bytes));

        let started = Instant::now();
        let mut response = self.agent(mirror).get(&address).call().map_err(|error| error.to_string())?;
        let total_bytes = response.body().content_length();
        if total_bytes.is_some_and(|total| total > most_bytes) {
            return Err(too_long());
        }
        let mut body = response.body_mut().as_reader();
        let mut packed = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut chunk).map_err(|error| error.to_string())?;
            if count == 0 {
                break;
            }
            packed.extend_from_slice(&chunk[..count]);
            let received_bytes = packed.len() as u64;
            if received_bytes > most_bytes {
                return Err(too_long());
            }
            let elapsed = started.elapsed();
            let due = elapsed.as_secs_f64() * self.patience.min_bytes_per_s as f64;
            if elapsed > self.patience.slow_start && (received_bytes as f64) < due {
                let seconds = elapsed.as_secs();
                return Err(format!("too slow: {} bytes in {seconds} s", grouped(received_bytes)));
            }
            progress(Progress::Receiving { file, mirror, received_bytes, total_bytes });
        }
        let unpacked = unpack::unpack(file, part.kind(), packed).map_err(|error| error.to_string())?;
        let fetched = RawFile { name: file.to_owned(), content: unpacked.bytes, unpacked_at: None };
        check_edition(&fetched, part, self.edition).map_err(|error| error.to_string())?;
        Ok(fetched)
    }

    fn agent(&self, mirror: &str) -> Agent {
        let patience = self.patience;
        let mut config = Config::builder()
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .timeout_global(Some(patience.total))
            .max_redirects(3)
            .user_agent(concat!("sphereface/", env!("CARGO_PKG_VERSION")));
        // ureq goes through the proxy that the environment names (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY; not for NO_PROXY) by CONNECT. A mirror on
        // this machine is asked directly.
        if is_this_machine(mirror) {
            config = config.proxy(None);
        }
        config.build().new_agent()
    }
}

/// One line; mirrors that gave the same reason, as without a network, share it.
fn list_refusals(refusals: &[(&str, String)]) -> String {
    let Some((_, first)) = refusals.first() else {
        return "no mirror to ask".to_owned();
    };
    if refusals.iter().all(|(_, reason)| reason == first) {
        let mirrors: Vec<_> = refusals.iter().map(|(mirror, _)| *mirror).collect();
        return format!("{} ({first})", mirrors.join(", "));
    }
    let each: Vec<_> = refusals.iter().map(|(mirror, reason)| format!("{mirror} ({reason})")).collect();
    each.join(", ")
}

fn is_this_machine(mirror: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"]
        .iter()
        .any(|start| mirror.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PARTS;
    use crate::test_support::{Answer, Server, closed_port, edition_of, gzip, small_set};

    const SHORT: Patience = Patience {
        connect: Duration::from_millis(500),
        silence: Duration::from_millis(200),
        total: Duration::from_secs(2),
        slow_start: Duration::from_millis(400),
        min_bytes_per_s: 1000,
    };

    /// Fetches the training labels.
    fn fetch(mirrors: &[&str]) -> (Result<Vec<u8>, String>, Vec<String>) {
        let edition = edition_of(&small_set());
        let mut events = Vec::new();
        let mut fetcher = Fetcher { edition: &edition, mirrors: mirrors.to_vec(), patience: SHORT };
        let fetched = fetcher.fetch(Part::TrainLabels, &mut |event| {
            events.push(format!("{event:?}"));
        });
        (fetched.map(|file| file.content), events)
    }

    fn labels() -> Vec<u8> {
        small_set()[Part::TrainLabels as usize].clone()
    }

    #[test]
    fn a_good_file_is_taken_packed_or_raw() {
        for body in [gzip(&labels()), labels()] {
            let server = Server::start(vec![Answer::Whole(body)]);
            let (fetched, events) = fetch(&[&server.address]);
            assert_eq!(fetched.unwrap(), labels());
            assert!(events[0].starts_with("Asking") && events[1].starts_with("Receiving"));
            assert!(events.last().unwrap().starts_with("Fetched"));
            assert_eq!(server.requests(), ["/mnist/train-labels-idx1-ubyte.gz"]);
        }
    }

    #[test]
    fn a_dead_mirror_is_followed_by_the_next_and_asked_last_from_then_on() {
        let dead = closed_port();
        let server = Server::start(small_set().map(|content| Answer::Whole(gzip(&content))).to_vec());
        let edition = edition_of(&small_set());
        let mut fetcher = Fetcher { edition: &edition, mirrors: vec![&dead, &server.address], patience: SHORT };
        let mut refused = 0;
        for part in PARTS {
            let fetched = fetcher.fetch(part, &mut |event| {
                refused += usize::from(matches!(event, Progress::Refused { .. }));
            });
            assert_eq!(fetched.unwrap().content, small_set()[part as usize]);
        }
        assert_eq!(refused, 1);
    }

    #[test]
    fn wrong_content_is_refused() {
        let mut altered = labels();
        altered[20] ^= 1;
        let whole = labels().len() as u64;
        for (answer, expected) in [
            (Answer::Whole(gzip(&altered)), "sha256 of the unpacked file: expected MNIST's"),
            (Answer::Whole(b"<html>log in</html>".to_vec()), "magic: expected 0x00000801 (labels), found 0x3c68746d"),
            (Answer::Whole(Vec::new()), "header: expected 8 bytes, found an empty file"),
            (Answer::Status(404), "404"),
            (Answer::Claim(whole + 5, labels()), ""),
            (Answer::Claim(1 << 40, labels()), "expected at most 1,056 bytes, found more"),
            (Answer::Unframed(vec![0; 5000]), "expected at most 1,056 bytes, found more"),
            (Answer::Unframed(gzip(&labels())[..30].to_vec()), "gzip: expected intact data, found a truncated file"),
        ] {
            let server = Server::start(vec![answer]);
            let reason = fetch(&[&server.address]).0.unwrap_err();
            assert!(reason.contains(expected), "{reason}");
            assert!(reason.starts_with(&server.address), "{reason}");
        }
    }

    #[test]
    fn a_silent_or_trickling_mirror_is_left_in_bounded_time() {
        for answer in [Answer::Silence, Answer::Stall(1000), Answer::Trickle(Duration::from_millis(50))] {
            let server = Server::start(vec![answer]);
            let started = Instant::now();
            let reason = fetch(&[&server.address]).0.unwrap_err();
            // Ten times what it takes here; the trickle alone would take 50 s.
            assert!(started.elapsed() < Duration::from_secs(10), "{reason}");
        }
    }

    #[test]
    fn no_mirror_is_a_reason_too() {
        assert_eq!(fetch(&[]).0.unwrap_err(), "no mirror to ask");
    }

    #[test]
    fn mirrors_share_a_reason_that_is_the_same() {
        let refusals = |b: &str| list_refusals(&[("a", "x".to_owned()), ("b", b.to_owned())]);
        assert_eq!([refusals("x"), refusals("y")], ["a, b (x)", "a (x), b (y)"]);
    }

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        assert!(is_this_machine("http://127.0.0.1:80/mnist/"));
        assert!(is_this_machine("http://localhost"));
        assert!(!is_this_machine("http://127.0.0.100/"));
        assert!(!is_this_machine(MIRRORS[0]));
    }
}
