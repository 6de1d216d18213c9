//! What is not known is refused by name and line, never guessed at.
mod common;

use common::kernel;
use sphereface_emulator::{LoadError, Module};

fn refusal(body: &str) -> LoadError {
    Module::load(&kernel(body)).expect_err(body)
}

#[test]
fn unknown_instructions_and_modifiers_are_named_with_their_line() {
    let line = 1 + kernel("mark;").lines().position(|line| line == "mark;").unwrap() as u32;
    for (body, what) in [
        ("frobnicate.u32 %r1, %r2;", "instruction `frobnicate.u32`"),
        ("add.weird.u32 %r1, %r2, %r3;", "modifier `.weird` of `add.weird.u32`"),
        ("ld.global.surprise.u32 %r1, [%in];", "modifier `.surprise` of `ld.global.surprise.u32`"),
        ("tcgen05.wait::ld.sync.aligned;", "instruction `tcgen05.wait::ld.sync.aligned`"),
        ("mov.u32 %r1, %envreg3;", "`%envreg3`, which is neither a register of the kernel nor a special register"),
        (
            "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 %r1, %r2, %r3, %r4;",
            "instruction `mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32`",
        ),
        (".surprise %r1;", "directive `.surprise`"),
    ] {
        assert_eq!(refusal(body), LoadError::Unsupported { line, what: what.to_owned() }, "{body}");
    }
    let message = refusal("frobnicate.u32 %r1;").to_string();
    assert_eq!(message, format!("PTX line {line}: instruction `frobnicate.u32` is not supported"));
}

#[test]
fn text_that_is_no_ptx_is_refused_without_a_panic() {
    for body in [
        "bra NOWHERE;",
        "add.u32 %r1, %r2;",
        "add.u32 %r1, %d2, %r3;",
        "add.u32 %r99, %r1, %r1;",
        "ld.global.v2.u32 {%r1}, [%in];",
        "ld.global.u64 %r1, [%in];",
        "ld.global.u32 %r1, %in;",
        "ld.param.u32 %r1, [nothing];",
        "A:\nA:\nret;",
        "add.u32 %r1, %r2, %r3",
        "mov.u32 %r1, missing;",
        "@%r1 ret;",
        "cp.async.cg.shared.global [%r1], [%in], 8;",
    ] {
        assert!(Module::load(&kernel(body)).is_err(), "{body}");
    }
    for text in [
        "",
        ".version 9.0",
        "\u{e9}",
        ".target sm_80 .entry k(",
        ".target sm_80 .global .u32 a = {",
        "\"",
        "/*",
        ".target x",
    ] {
        assert!(Module::load(text).is_err(), "{text}");
    }
    // A compiled kernel cut anywhere.
    let text = include_str!("ptx/softmax.ptx");
    for end in (0..text.len()).step_by(97) {
        let _ = Module::load(&text[..end]);
    }
}

#[test]
fn compiled_text_with_words_exchanged_never_panics() {
    let text = include_str!("ptx/functions.ptx");
    let words: Vec<&str> = text.split(' ').collect();
    let mut state = 7_u64;
    let mut pick = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..150 {
        let mut mixed = words.clone();
        for _ in 0..1 + pick(3) {
            let (to, from) = (pick(words.len()), pick(words.len()));
            mixed[to] = words[from];
        }
        let _ = Module::load(&mixed.join(" "));
    }
}
