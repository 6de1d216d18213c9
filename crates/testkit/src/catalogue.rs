//! Everything that is timed, as data: each case with its timed shape, and a small one that is checked on any machine.
//!
//! A new case is a line in one of the functions below; tests check its small shape, `cargo xtask bench` times it.

use crate::cases::LAYOUTS;
use crate::workload::{Arithmetic, CLASSES, Pass, Task, Workload};
use sphereface_models::{LayerKind, TAPS, named_network};

/// A case of the bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Unique, and to be read by people.
    pub name: String,
    /// What it belongs to, such as `gemm`.
    pub group: &'static str,
    /// What is timed.
    pub timed: Workload,
    /// What is checked: the same work, with the same tails, on few numbers.
    pub check: Workload,
    /// Numbers in which products are made.
    pub arithmetic: Arithmetic,
    /// Whether it is one of the few cases that stand for all.
    pub headline: bool,
    /// Whether it belongs to a quick look.
    pub quick: bool,
}

/// Height, width and channels of the digits.
const DIGITS: [usize; 3] = [28, 28, 1];
/// Height, width and channels of the faces.
const FACES: [usize; 3] = [112, 96, 3];
/// Lengths of the embeddings of both.
const EMBEDDINGS: [(&str, [usize; 3], usize); 2] = [("28x28", DIGITS, 2), ("112x96", FACES, 512)];

/// All cases in these arithmetics; what is no product is in fp32 only.
pub fn catalogue(arithmetics: &[Arithmetic]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for &arithmetic in arithmetics {
        let mut these = networks();
        these.extend(gemm());
        these.extend(convolutions());
        these.extend(heads());
        if arithmetic == Arithmetic::F32 {
            these.extend(optimizers());
        }
        for entry in &mut these {
            entry.arithmetic = arithmetic;
            if arithmetic != Arithmetic::F32 {
                entry.name += &format!(" {}", arithmetic.name());
            }
        }
        entries.extend(these);
    }
    entries
}

fn entry(group: &'static str, name: String, timed: Workload, check: Workload) -> Entry {
    Entry { name, group, timed, check, arithmetic: Arithmetic::F32, headline: false, quick: false }
}

/// Whole networks: the depths of the paper on digits and faces, and the network of the default run.
fn networks() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut push = |task: Task, key: &'static str, at: usize, batch: usize| {
        let (size, image, embedding) = EMBEDDINGS[at];
        let of = |key, image, embedding, batch| Workload::Network { task, key, image, embedding, batch };
        // Ten layers have everything that more layers repeat; a few pixels leave tails in the first stages and one in
        // the last.
        let shallow = if matches!(key, "sphereface20" | "sphereface64") { "sphereface10" } else { key };
        let check = of(shallow, [6, 5, image[2]], embedding.min(8), batch.min(2));
        let verb = if task == Task::Forward { "forward" } else { "training step" };
        let name = format!("{key} {size} N{batch} {verb}");
        let headline = match task {
            Task::TrainingStep => {
                matches!((key, at, batch), ("mnist", ..) | ("sphereface20", 0, 256) | ("sphereface20", 1, 16))
            }
            Task::Forward => (key, at, batch) == ("sphereface20", 1, 1),
        };
        let group = if task == Task::Forward { "forward" } else { "training step" };
        entries.push(Entry {
            headline,
            quick: headline,
            ..entry(group, name, of(key, image, embedding, batch), check)
        });
    };
    for task in [Task::TrainingStep, Task::Forward] {
        push(task, "mnist", 0, 128);
        for key in ["sphereface4", "sphereface20", "sphereface64"] {
            push(task, key, 0, 256);
            push(task, key, 1, 16);
        }
    }
    for key in ["sphereface4", "sphereface20", "sphereface64"] {
        push(Task::Forward, key, 1, 1);
    }
    // What fills a GPU.
    push(Task::TrainingStep, "sphereface20", 1, 256);
    entries
}

/// Square products.
fn gemm() -> Vec<Entry> {
    let of = |layout, size: usize| {
        let timed = Workload::Gemm { layout, sizes: [size; 3] };
        // Tails of every tile, and a sum that is longer than those kept in registers.
        let check = Workload::Gemm { layout, sizes: [67, 132, 520] };
        // One that a few cores compute in no time, and one that a GPU does; the large one is too long for the few.
        let quick = matches!(size, 1024 | 8192) && layout == LAYOUTS[0];
        Entry { quick, ..entry("gemm", format!("gemm {layout:?} {size}"), timed, check) }
    };
    let sizes = [512, 1024, 2048, 4096, 8192];
    sizes.into_iter().flat_map(|size| LAYOUTS.map(|layout| of(layout, size))).collect()
}

/// Every convolution of SphereFace-20, each pass, and the groups that a training fuses.
fn convolutions() -> Vec<Entry> {
    let mut entries = Vec::new();
    for ((_, image, embedding), batch) in EMBEDDINGS.into_iter().flat_map(|size| [1, 32, 256].map(|n| (size, n))) {
        let Some(network) = named_network("sphereface20") else { continue };
        let mut seen = Vec::new();
        for layer in network.network(image, embedding).layers() {
            let LayerKind::Conv2d { stride, .. } = layer.kind else { continue };
            let ([h, w, c], k) = (layer.input, layer.output[2]);
            let sizes = [h, w, batch, c, k, TAPS, stride, 1];
            if !seen.contains(&sizes) {
                seen.push(sizes);
                entries.extend(passes(sizes));
            }
        }
    }
    entries
}

/// The passes of a convolution that a training has.
fn passes(sizes: [usize; 8]) -> Vec<Entry> {
    let [h, w, n, c, k, _, stride, _] = sizes;
    let passes = [
        (Pass::Forward, "conv2d_forward", true),
        (Pass::BackwardData, "conv2d_backward_data", c > 3), // Images have no gradient.
        (Pass::BackwardWeight, "conv2d_backward_weight", true),
        (Pass::FusedForward, "fused_forward", stride == 1),
        (Pass::FusedBackward, "fused_backward", stride == 1),
    ];
    let of = |(pass, group, present): (Pass, &'static str, bool)| {
        let name = format!("{group} {h}x{w} N{n} {c}-{k}{}", if stride == 2 { "/2" } else { "" });
        // Channels keep what vectors and tiles divide; pixels and batch leave tails.
        let small = [h.min(if h > 28 { 7 } else { 5 }), w.min(6), n.min(33), c.min(64), k.min(64), TAPS, stride, 1];
        // One small and one large: the bare passes of the one, the fused groups of the other.
        let shown = if group.starts_with("fused") { [14, 12, 32, 256, 256] } else { [14, 14, 32, 64, 64] };
        let quick = [h, w, n, c, k] == shown;
        let [timed, check] = [sizes, small].map(|sizes| Workload::Conv2d { pass, sizes });
        present.then(|| Entry { quick, ..entry(group, name, timed, check) })
    };
    passes.into_iter().filter_map(of).collect()
}

/// Heads from ten digits to a million faces.
fn heads() -> Vec<Entry> {
    let of = |classes: usize, batch: usize| {
        let of = |classes, dimension, batch| Workload::Head { classes, dimension, batch };
        let check = if classes == 10 { of(10, 512, 33) } else { of(classes.min(1030), 68, 33) };
        let name = format!("head C{classes} D512 N{batch}");
        let quick = batch == 256 && classes == 10_572;
        Entry { quick, ..entry("head", name, of(classes, 512, batch), check) }
    };
    let classes = [10, 10_572, 85_742, 1_000_000];
    classes.into_iter().flat_map(|classes| [256, 512].map(|batch| of(classes, batch))).collect()
}

/// Updates of as many parameters as networks have.
fn optimizers() -> Vec<Entry> {
    let of = |(key, at): (&'static str, usize)| {
        let (size, image, embedding) = EMBEDDINGS[at];
        let length = named_network(key)?.network(image, embedding).parameter_count() + CLASSES * embedding;
        let [timed, check] = [length, 20_011].map(|length| Workload::Optimizer { length });
        let name = format!("optimizer {key} {size}");
        Some(entry("optimizer", name, timed, check))
    };
    [("mnist", 0), ("sphereface20", 0), ("sphereface20", 1)].into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = catalogue(&Arithmetic::ALL).into_iter().map(|entry| entry.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn there_are_four_headline_cases_and_each_is_quick() {
        let headline: Vec<Entry> =
            catalogue(&Arithmetic::ALL[..1]).into_iter().filter(|entry| entry.headline).collect();
        let names: Vec<&str> = headline.iter().map(|entry| entry.name.as_str()).collect();
        let expected = [
            "mnist 28x28 N128 training step",
            "sphereface20 28x28 N256 training step",
            "sphereface20 112x96 N16 training step",
            "sphereface20 112x96 N1 forward",
        ];
        assert_eq!(names, expected);
        assert!(headline.iter().all(|entry| entry.quick));
    }

    #[test]
    fn every_plan_is_sound_and_a_check_is_small() {
        for entry in catalogue(&Arithmetic::ALL[..1]) {
            let timed = entry.timed.cost(entry.arithmetic).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            let check = entry.check.cost(entry.arithmetic).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert!(timed.flops.useful > 0 && timed.bytes > 0, "{}", entry.name);
            assert!(check.flops.useful <= 700_000_000, "{}: {} FLOPs", entry.name, check.flops.useful);
        }
    }
}
