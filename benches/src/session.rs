//! A run of the bench: each case checked, prepared for us and for every peer, compared, and timed in rounds.

use crate::ceilings::Ceilings;
use crate::device::{Choice, Device};
use crate::installed::Launch;
use crate::machine::available_memory;
use crate::measure::{Contestant, Method, interleaved, ratios};
use crate::peer::Peer;
use crate::prepared::{Prepared, Tensor, difference, operand_bytes, tolerance};
use crate::protocol;
use crate::record::{CaseRecord, HeadMemory, PeerInfo, Rival};
use crate::statistics::{Spread, significant};
use anyhow::{Context, Result};
use serde_json::Value;
use sphereface_testkit::catalogue::Entry;
use sphereface_testkit::workload::{Arithmetic, Workload};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The part of the peak that is assumed when a case's time is estimated, to leave out what would take too long.
const ASSUMED_EFFICIENCY: f64 = 0.5;
/// Seconds for which each of a peer's ways is tried, to choose one.
const TRIED_S: f64 = 0.05;
/// Memory that a case takes here and at a peer, in multiples of its operands.
const MEMORY_FACTOR: u64 = 6;

/// A peer with its process, which is started when it is first needed and again after it was lost.
struct Seat {
    launch: Launch,
    info: PeerInfo,
    process: Option<Peer>,
}

/// What is measured on, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What computes.
    pub device: Choice,
    /// Threads, ours and the peers'.
    pub threads: usize,
    /// Measured limits.
    pub ceilings: Ceilings,
    /// Rounds.
    pub method: Method,
    /// Whether peers leave out what takes long to prepare.
    pub quick: bool,
    /// How long a peer may take for a case: to find its fastest way in each that it has, and to be timed.
    pub peer_limit: Duration,
    /// Seconds that one run of a case may take.
    pub limit_s: f64,
    /// When all of this is to end: no case begins later, and no peer gets more time.
    pub deadline: Option<Instant>,
}

impl Settings {
    /// How long a peer may take from now on.
    fn peer_limit(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(self.peer_limit, |left| left.min(self.peer_limit))
    }
}

/// What a run needs.
pub struct Session {
    settings: Settings,
    seats: Vec<Seat>,
    /// Errors of small shapes that were checked already.
    checked: Vec<((Workload, Arithmetic), f64)>,
    folder: PathBuf,
}

impl Session {
    /// Starts the peers; those that are missing are remembered with the reason.
    ///
    /// # Errors
    /// When there is no place for files that are handed to peers.
    pub fn new(settings: Settings, launches: Vec<Launch>) -> Result<Session> {
        static SESSIONS: AtomicUsize = AtomicUsize::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sphereface-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let seat = |launch: Launch| {
            let mut info = PeerInfo {
                name: launch.key.clone(),
                version: String::new(),
                detail: String::new(),
                precision: None,
                missing: None,
            };
            match Peer::start(&launch, settings.threads, settings.peer_limit()) {
                Ok(peer) => {
                    (info.name, info.version) = (peer.name.clone(), peer.version.clone());
                    (info.detail, info.precision) = (peer.detail.clone(), peer.precision.clone());
                    Seat { info, process: Some(peer), launch }
                }
                Err(reason) => Seat { info: PeerInfo { missing: Some(reason), ..info }, process: None, launch },
            }
        };
        // Each takes seconds to load what it needs.
        let seats = std::thread::scope(|scope| -> Result<Vec<Seat>> {
            let started: Vec<_> = launches.into_iter().map(|launch| scope.spawn(|| seat(launch))).collect();
            let failed = |_| anyhow::anyhow!("peers: a thread that started one failed");
            started.into_iter().map(|seat| seat.join().map_err(failed)).collect()
        })?;
        Ok(Session { settings, seats, checked: Vec::new(), folder })
    }

    /// The peers, those that are missing among them.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.seats.iter().map(|seat| seat.info.clone()).collect()
    }

    /// The largest error of an entry's small shape.
    ///
    /// # Errors
    /// When the device refuses it or is wrong.
    pub fn check(&mut self, entry: &Entry) -> Result<f64> {
        let key = (entry.check, entry.arithmetic);
        if let Some((_, error)) = self.checked.iter().find(|(known, _)| *known == key) {
            return Ok(*error);
        }
        let mut device = self.settings.device.open(entry.arithmetic, self.settings.threads)?;
        let error = entry.check.error(entry.arithmetic, device.backend()).map_err(anyhow::Error::msg)?;
        let error = significant(error);
        self.checked.push((key, error));
        Ok(error)
    }

    /// Checks an entry, has every peer do the same, and times all of them.
    ///
    /// # Errors
    /// When our own backend refuses it, is wrong or fails: that is no result, but a fault.
    pub fn measure(&mut self, entry: &Entry) -> Result<CaseRecord> {
        let mut record = self.blank(entry)?;
        record.skipped = self.too_large(&record, operand_bytes(&entry.timed.plan_in(entry.arithmetic)?));
        if record.skipped.is_some() {
            return Ok(record);
        }
        record.error = Some(self.check(entry).with_context(|| entry.name.clone())?);
        let mut device = self.settings.device.open(entry.arithmetic, self.settings.threads)?;
        let sets = self.settings.device.sets(record.bytes);
        let prepared = Prepared::new(&entry.timed, entry.arithmetic, device.backend(), sets)
            .with_context(|| entry.name.clone())?;
        if let Workload::Head { classes, batch, .. } = entry.timed {
            let logits = (size_of::<f32>() * batch * classes) as u64;
            record.memory = Some(HeadMemory { beyond_operands: device.arena_bytes(), logits });
        }
        self.time(entry, device.as_mut(), prepared, &mut record)?;
        Ok(record)
    }

    /// The record of an entry that is not measured, with the reason.
    ///
    /// # Errors
    /// When there is no plan of it.
    pub fn skip(&self, entry: &Entry, reason: String) -> Result<CaseRecord> {
        Ok(CaseRecord { skipped: Some(reason), ..self.blank(entry)? })
    }

    /// What is known of an entry before it is measured.
    fn blank(&self, entry: &Entry) -> Result<CaseRecord> {
        let cost = entry.timed.cost(entry.arithmetic)?;
        Ok(CaseRecord {
            name: entry.name.clone(),
            group: entry.group.into(),
            case: protocol::case(&entry.timed, entry.arithmetic),
            headline: entry.headline,
            items: match entry.timed {
                Workload::Network { batch, .. } => Some((batch as u64, "images".into())),
                _ => None,
            },
            flops_nominal: cost.flops.nominal,
            flops_useful: cost.flops.useful,
            bytes: cost.bytes,
            error: None,
            predicted_s: self.settings.ceilings.predict(&entry.timed.plan()?.1)?,
            memory: None,
            ours: None,
            skipped: None,
            peers: Vec::new(),
        })
    }

    /// Why a case is left out on this machine, if it is.
    fn too_large(&self, record: &CaseRecord, bytes: u64) -> Option<String> {
        let peak = self.settings.ceilings.flops.unwrap_or(f64::INFINITY);
        let by_flops = record.flops_useful as f64 / (ASSUMED_EFFICIENCY * peak);
        let estimate = by_flops.max(record.bytes as f64 / self.settings.ceilings.bytes);
        if estimate > self.settings.limit_s {
            return Some(format!("would take about {estimate:.1} s a run; the limit is {} s", self.settings.limit_s));
        }
        let (needed, available) = (MEMORY_FACTOR * bytes, available_memory()?);
        (needed > available).then(|| {
            let [needed, available] = [needed, available].map(|bytes| bytes as f64 / 1e9);
            format!("would take about {needed:.0} GB; {available:.0} GB are free")
        })
    }

    /// Has the peers prepare, and times all in rounds.
    fn time(
        &mut self,
        entry: &Entry,
        device: &mut dyn Device,
        prepared: Prepared,
        record: &mut CaseRecord,
    ) -> Result<()> {
        let Prepared { programs, inputs, outputs, .. } = prepared;
        let files = [self.folder.join("inputs.safetensors"), self.folder.join("outputs.safetensors")];
        if self.seats.iter().any(|seat| seat.info.missing.is_none()) {
            protocol::write(&files[0], &inputs)?;
        }
        drop(inputs);
        let [inputs, results] = files;
        let settings = self.settings;
        let mut task = Task { case: &record.case, inputs, outputs: results, ours: &outputs, allowed: 0.0, settings };
        for seat in &mut self.seats {
            let arithmetic = seat.info.precision.as_deref().and_then(Arithmetic::named);
            task.allowed = tolerance(&entry.timed, arithmetic.unwrap_or(entry.arithmetic));
            let (variant, difference, missing) = match seat.prepare(&task) {
                Ok((variant, difference)) => (variant, Some(significant(difference)), None),
                Err(reason) => (String::new(), None, Some(reason)),
            };
            let PeerInfo { name, precision, .. } = seat.info.clone();
            record.peers.push(Rival { name, variant, precision, seconds: None, ratio: None, difference, missing });
        }
        drop(outputs);
        let mut ours = |times: usize| -> Result<f64, String> {
            let seconds = device.seconds(&programs, times).map_err(|error| format!("{error:#}"))?;
            Ok(seconds / programs.len() as f64)
        };
        let mut contestants: Vec<Contestant<'_>> = vec![Box::new(&mut ours)];
        let mut rivals = Vec::new();
        for (seat, rival) in self.seats.iter_mut().zip(&mut record.peers) {
            if let (None, Some(peer)) = (&rival.missing, &mut seat.process) {
                contestants.push(Box::new(move |times| peer.run(times)));
                rivals.push(rival);
            }
        }
        let mut samples = interleaved(&mut contestants, self.settings.method).into_iter();
        let ours = samples.next().unwrap_or_else(|| Err("no samples".into()));
        let ours = ours.map_err(anyhow::Error::msg).with_context(|| entry.name.clone())?;
        for (rival, theirs) in rivals.into_iter().zip(samples) {
            match theirs {
                Ok(theirs) => {
                    rival.ratio = Spread::of(&ratios(&ours, &theirs));
                    rival.seconds = spread(&theirs);
                    // Where a long run of theirs met none of ours that was long enough to be a sample.
                    let medians = || Spread::of(&[rival.seconds?.median / spread(&ours)?.median]);
                    rival.ratio = rival.ratio.or_else(medians);
                }
                Err(reason) => rival.missing = Some(reason),
            }
        }
        record.ours = spread(&ours);
        Ok(())
    }
}

fn spread(rounds: &[Option<f64>]) -> Option<Spread> {
    Spread::of(&rounds.iter().flatten().copied().collect::<Vec<f64>>())
}

/// What a peer is to do, and what it has to agree with.
struct Task<'a> {
    case: &'a Value,
    inputs: PathBuf,
    outputs: PathBuf,
    ours: &'a [Tensor],
    allowed: f64,
    settings: Settings,
}

impl Task<'_> {
    /// Has a peer do it once, and returns how far its results are from ours.
    fn agreed(&self, peer: &mut Peer, variant: &str) -> Result<f64, String> {
        peer.begin(self.settings.peer_limit());
        peer.prepare(self.case, &self.inputs, &self.outputs, variant)?;
        let theirs = protocol::read(&self.outputs).map_err(|error| format!("{error:#}"))?;
        let difference = difference(self.ours, &theirs)?;
        if difference > self.allowed {
            let allowed = self.allowed;
            return Err(format!("computes something else: off by {difference:.1e}, allowed are {allowed:.0e}"));
        }
        Ok(difference)
    }
}

impl Seat {
    /// The peer's process, started again if it was lost.
    fn peer(&mut self, settings: Settings) -> Result<&mut Peer, String> {
        if let Some(reason) = &self.info.missing {
            return Err(reason.clone());
        }
        match self.process.take_if(|peer| peer.is_alive()) {
            Some(peer) => Ok(self.process.insert(peer)),
            None => Ok(self.process.insert(Peer::start(&self.launch, settings.threads, settings.peer_limit())?)),
        }
    }

    /// Leaves the peer ready in the fastest of its ways to do the task: its name and the difference of its results.
    fn prepare(&mut self, task: &Task<'_>) -> Result<(String, f64), String> {
        let peer = self.peer(task.settings)?;
        peer.begin(task.settings.peer_limit());
        let mut variants = peer.variants(task.case)?;
        // To compile takes longer than a quick look.
        variants.retain(|variant| !(task.settings.quick && variant.contains("compiled")));
        let mut reason = "no way to do this case".to_owned();
        let mut found: Vec<(f64, &String, f64)> = Vec::new();
        // The one that the peer names first is likely to be the fastest: tried last, it is ready already.
        for variant in variants.iter().rev() {
            let peer = self.peer(task.settings)?;
            let timed = task.agreed(peer, variant).and_then(|difference| {
                // A single one has no rival.
                let once = if variants.len() == 1 { TRIED_S } else { peer.run(1)? };
                let times = (TRIED_S / once).ceil().clamp(1.0, 1000.0) as usize;
                let seconds = if times == 1 { once } else { peer.run(times)? / times as f64 };
                Ok((seconds, variant, difference))
            });
            match timed {
                Ok(timed) => found.push(timed),
                Err(error) if variant.is_empty() => reason = error,
                Err(error) => reason = format!("{variant}: {error}"),
            }
        }
        let last = found.last().map(|(_, variant, _)| *variant);
        let best = found.iter().min_by(|(left, ..), (right, ..)| left.total_cmp(right));
        let &(_, best, difference) = best.ok_or(reason)?;
        let peer = self.peer(task.settings)?;
        if last != Some(best) || variants.first() != Some(best) {
            task.agreed(peer, best)?;
        }
        peer.begin(task.settings.peer_limit());
        Ok((best.clone(), difference))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for such files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
