//! Peers that do well, and peers that fail: each ends in a time or in one line that says why there is none.

use sphereface_benches::ceilings::Ceilings;
use sphereface_benches::device::Choice;
use sphereface_benches::installed::{Installed, Launch, launches};
use sphereface_benches::measure::Method;
use sphereface_benches::peer::{LIMIT, Peer};
use sphereface_benches::record::CaseRecord;
use sphereface_benches::session::{Session, Settings};
use sphereface_tensor::op::Layout;
use sphereface_testkit::catalogue::Entry;
use sphereface_testkit::skip;
use sphereface_testkit::workload::{Arithmetic, Workload};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Starts the fake peer in a mode, if there is a Python.
fn fake(mode: &str) -> Option<Launch> {
    let path = std::env::var_os("PATH")?;
    let python = std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.is_file());
    let Some(program) = python else {
        skip("no Python in PATH");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_peer.py").display().to_string();
    Some(Launch { key: mode.into(), program, arguments: vec![script, mode.into()], libraries: vec![] })
}

fn entry(timed: Workload) -> Entry {
    let arithmetic = Arithmetic::F32;
    Entry { name: "a case".into(), group: "gemm", timed, check: timed, arithmetic, headline: false, quick: false }
}

fn gemm() -> Entry {
    entry(Workload::Gemm { layout: Layout::NN, sizes: [12, 8, 16] })
}

fn measure(entry: &Entry, modes: &[&str]) -> Option<(CaseRecord, Session)> {
    Some(measure_with(entry, modes.iter().map(|mode| fake(mode)).collect::<Option<Vec<Launch>>>()?))
}

fn measure_with(entry: &Entry, launches: Vec<Launch>) -> (CaseRecord, Session) {
    let method =
        Method { rounds: 3, fewest: 3, sample_seconds: 1e-4, budget: Duration::from_secs(1), settle: Duration::ZERO };
    let ceilings = Ceilings { one_thread_flops: Some(1e9), flops: Some(1e9), bytes: 1e9, overhead: Some(0.0) };
    let (device, deadline) = (Choice::Cpu, None);
    let settings =
        Settings { device, threads: 1, ceilings, method, quick: true, peer_limit: LIMIT, limit_s: 1.0, deadline };
    let mut session = Session::new(settings, launches).unwrap();
    let record = session.measure(entry).unwrap();
    (record, session)
}

#[test]
fn a_peer_that_agrees_is_timed_in_its_fastest_way() {
    let Some((record, _)) = measure(&gemm(), &["right"]) else { return };
    let rival = record.rival("Fake right").unwrap();
    assert_eq!((rival.variant.as_str(), &rival.missing), ("forwards", &None));
    assert_eq!(rival.seconds.unwrap().median, 0.5);
    assert!(rival.difference.unwrap() < 1e-6);
    // 2·12·8·16 operations at 1 GFLOP/s; 4·(12·16 + 16·8 + 12·8) bytes take less.
    assert_eq!(record.predicted_s, Some(3.072e-6));
    // Its one run took half a second, by its own account; ours does the same work in less.
    let (ours, ratio) = (record.ours.unwrap(), rival.ratio.unwrap());
    assert!(ratio.low > 1.0 && ours.median > 0.0, "{ours:?} {ratio:?}");
}

#[test]
fn peers_that_disagree_or_die_are_not_timed_and_the_others_are() {
    let modes = ["wrong", "dies", "short", "absent", "right"];
    let Some((record, session)) = measure(&gemm(), &modes) else { return };
    let reasons: Vec<String> = record.peers.iter().map(|rival| rival.missing.clone().unwrap_or_default()).collect();
    let expected = [
        "computes something else: off by",
        "no more bytes",
        "c: expected shape [12, 8], found [11, 8]",
        "no such library",
        "",
    ];
    for ((reason, expected), rival) in reasons.iter().zip(expected).zip(&record.peers) {
        assert!(reason.contains(expected) && !reason.contains('\n'), "{}: {reason}", rival.name);
        assert_eq!(rival.seconds.is_some(), reason.is_empty(), "{}", rival.name);
    }
    assert_eq!(session.peers()[3].missing.as_deref(), Some("no such library"));
    assert_eq!(record.best().map(|rival| rival.name.as_str()), Some("Fake right"));
}

#[test]
fn a_peer_of_lower_precision_is_held_to_that_and_shown_but_never_the_best() {
    let Some((record, session)) = measure(&gemm(), &["narrow", "right"]) else { return };
    let [narrow, right] = ["Fake narrow", "Fake right"].map(|name| record.rival(name).unwrap());
    assert_eq!((narrow.precision.as_deref(), &narrow.missing), (Some("bf16"), &None));
    assert!(narrow.difference.unwrap() > 5e-3);
    assert!(narrow.seconds.unwrap().median < right.seconds.unwrap().median);
    assert_eq!(record.best(), Some(right));
    assert_eq!(session.peers()[0].precision.as_deref(), Some("bf16"));
}

#[test]
fn a_peer_without_the_case_leaves_an_empty_cell() {
    let Some((record, _)) = measure(&entry(Workload::Optimizer { length: 100 }), &["right"]) else { return };
    assert!(record.peers[0].missing.as_ref().unwrap().contains("this case is not supported"));
    assert!(record.ours.is_some());
}

#[test]
fn a_head_says_what_memory_it_takes_beside_that_of_logits() {
    let Some((record, _)) = measure(&entry(Workload::Head { classes: 3000, dimension: 16, batch: 64 }), &[]) else {
        return;
    };
    let memory = record.memory.unwrap();
    assert_eq!(memory.logits, 4 * 64 * 3000);
    // At least the sum of exponentials of each row; at most a part of what all logits take.
    assert!((4 * 64..memory.logits).contains(&memory.beyond_operands), "{memory:?}");
}

#[test]
fn a_peer_that_hangs_is_stopped_at_the_limit() {
    let Some(launch) = fake("hangs") else { return };
    let mut peer = Peer::start(&launch, 1, Duration::from_secs(30)).unwrap();
    peer.begin(Duration::from_millis(300));
    let case = sphereface_benches::protocol::case(&gemm().timed, Arithmetic::F32);
    let nowhere = Path::new("nowhere");
    assert_eq!(peer.variants(&case).unwrap(), ["backwards", "forwards"]);
    let reason = peer.prepare(&case, nowhere, nowhere, "forwards").unwrap_err();
    assert!(reason.contains("longer than the limit"), "{reason}");
    assert!(!peer.is_alive());
}

#[test]
fn a_peer_that_is_not_installed_is_missing() {
    let launch =
        Launch { key: "none".into(), program: PathBuf::from("no/such/program"), arguments: vec![], libraries: vec![] };
    assert!(Peer::start(&launch, 1, Duration::from_secs(1)).unwrap_err().contains("not installed"));
}

#[test]
fn peers_on_a_gpu_are_told_its_number_and_where_their_libraries_may_lie() {
    let built = std::env::temp_dir().join(format!("sphereface-peers-{}", std::process::id()));
    let folder = built.join("python/lib/python3.12/site-packages/nvidia/cudnn/lib");
    std::fs::create_dir_all(&folder).unwrap();
    let found = launches(Choice::Cuda(3), &Installed::into(&built, Path::new("root")));
    std::fs::remove_dir_all(&built).unwrap();
    assert_eq!(found.iter().map(|launch| launch.key.as_str()).collect::<Vec<_>>(), ["pytorch", "cudnn", "cublaslt"]);
    assert_eq!(found[0].arguments[1..], ["--device", "cuda:3"]);
    assert_eq!(found[1].arguments, ["cudnn", "3"]);
    assert!(found[1..].iter().all(|launch| launch.libraries == [folder.clone()]), "{found:?}");
}

#[test]
fn folders_of_libraries_come_before_those_of_the_system() {
    let Some(mut launch) = fake("libraries") else { return };
    launch.libraries = vec![PathBuf::from("/one"), PathBuf::from("/two")];
    let peer = Peer::start(&launch, 1, Duration::from_secs(30)).unwrap();
    assert!(peer.detail.starts_with("/one:/two"), "{}", peer.detail);
}

#[test]
fn peers_without_their_library_are_empty_columns_with_the_reason() {
    let built = std::env::var_os("SPHEREFACE_PEERS").map(PathBuf::from);
    let built = built.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"));
    let mut found = launches(Choice::Cuda(9999), &Installed::into(&built, Path::new("root")));
    found.retain(|launch| launch.key != "pytorch");
    if !found[0].program.is_file() {
        return skip("the peers are not built: cargo xtask bench --install-peers");
    }
    let (record, session) = measure_with(&gemm(), found);
    for (peer, rival) in session.peers().iter().zip(&record.peers) {
        let reason = peer.missing.as_deref().unwrap();
        assert!(reason.contains("searched: ") || reason.contains("cuda:9999"), "{reason}");
        assert_eq!((rival.missing.as_deref(), rival.seconds), (Some(reason), None));
    }
    assert!(record.ours.is_some());
}

#[test]
fn a_case_that_takes_too_long_is_left_out_with_the_reason() {
    let Some((record, _)) = measure(&entry(Workload::Gemm { layout: Layout::NN, sizes: [4096; 3] }), &[]) else {
        return;
    };
    assert!(record.ours.is_none() && record.skipped.as_ref().unwrap().contains("the limit is 1 s"), "{record:?}");
}
