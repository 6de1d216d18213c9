//! A training step allocates nothing: everything has its place before the first one runs.
#![allow(unsafe_code)] // An allocator cannot be written without.

use sphereface_models::{LOSSES, Network, loss, named_network};
use sphereface_tensor::Backend;
use sphereface_tensor::cpu::CpuBackend;
use sphereface_testkit::TrainingCase;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting what all threads ask of it.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of `steps` further steps after a few of warming up.
///
/// They are one run of the program: it enters the pool once. Each entry from outside goes through a queue of rayon's
/// that allocates a block of 63 entries now and then; inside, work is taken from deques that have grown to their size.
fn allocations(case: &TrainingCase, threads: usize, steps: usize) -> usize {
    let (parameters, plan) = case.plan().unwrap();
    let mut backend = CpuBackend::new(threads).unwrap();
    let program = backend.lower(&plan).unwrap();
    case.upload(&parameters, &mut backend).unwrap();
    let counted = |backend: &mut CpuBackend, steps: usize| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        backend.run(program, steps).unwrap();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    counted(&mut backend, 5);
    counted(&mut backend, steps)
}

/// One test only: beside a second one, the test harness itself would be counted.
#[test]
fn a_training_step_allocates_nothing() {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    std::thread::spawn(|| drop(std::hint::black_box(vec![0u8; 100]))).join().unwrap();
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter sees every thread");

    let mnist = named_network("mnist").unwrap().network([28, 28, 1], 2);
    let wide = Network::input([8, 8, 3]).stage(64, 1).stage(300, 1).linear(128);
    let mut cases: Vec<_> = LOSSES.into_iter().map(|loss| (loss, (&mnist, 10, 8))).collect();
    // Other batches and many classes for a softmax of straight others, one of bent others, and margins of rows.
    for key in ["sphereface", "sphereface2", "adaface"] {
        cases.extend([(&mnist, 10, 33), (&wide, 2500, 9)].map(|of| (loss(key).unwrap(), of)));
    }
    for (loss, (network, classes, batch)) in cases {
        let case = TrainingCase::new(network.clone(), loss, classes, 40, batch);
        for threads in [1, 2] {
            let count = allocations(&case, threads, 10);
            assert_eq!(count, 0, "allocations of 10 steps, {}, {classes} classes, {threads} threads", loss.key);
        }
    }
}
