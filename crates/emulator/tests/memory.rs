//! Loads, stores and atomics of every width and space, module variables, and what launches count.
mod common;

use common::{kernel, try_run, words};
use sphereface_emulator::{Argument, Device, Module};

fn one(body: &str, input: [u32; 4]) -> [u32; 4] {
    try_run(body, &[input], 1, 1).unwrap()[0]
}

#[test]
fn loads_extend_and_stores_cut() {
    let input = [0x8182_8384, 0xfffe_8001, 3, 4];
    for (load, expected) in [
        ("ld.global.u8 %r1, [%in];", 0x84),
        ("ld.global.s8 %r1, [%in+1];", 0xffff_ff83),
        ("ld.global.u16 %r1, [%in+4];", 0x8001),
        ("ld.global.s16 %r1, [%in+4];", 0xffff_8001),
        ("ld.global.s8 %h1, [%in];\ncvt.u32.u16 %r1, %h1;", 0xff84),
        ("ld.global.s32 %d1, [%in];\nshr.u64 %d1, %d1, 32;\ncvt.u32.u64 %r1, %d1;", 0xffff_ffff),
        ("ld.global.nc.L1::no_allocate.L2::128B.v2.b32 {%r2, %r1}, [%in];", 0xfffe_8001),
        ("ld.global.v2.u16 {%h1, %h2}, [%in];\ncvt.u32.u16 %r1, %h2;", 0x8182),
        ("ld.global.v4.u8 {%h1, %h2, %h3, %h4}, [%in];\ncvt.u32.u16 %r1, %h3;", 0x82),
        ("ld.global.v2.u64 {%d1, %d2}, [%in];\ncvt.u32.u64 %r1, %d2;", 3),
        ("ld.u32 %r1, [%in+8];", 3),
    ] {
        assert_eq!(one(&format!("{load}\nst.global.u32 [%out], %r1;"), input)[0], expected, "{load}");
    }
    assert_eq!(
        one("mov.u32 %r1, 0x12345678;\nst.global.u8 [%out+1], %r1;\nst.global.u16 [%out+4], %r1;", input)[..2],
        [0x7800, 0x5678]
    );
    assert_eq!(one("mov.u16 %h1, 7;\nst.global.v2.u16 [%out], {%h1, %h1};", input)[0], 0x7_0007);
}

#[test]
fn every_space_has_its_own_and_a_generic_address() {
    let shared = ".shared .align 8 .b8 pad[8];\n.shared .align 8 .b8 tile[16];\nmov.u64 %d1, tile;\ncvta.shared.u64 %d2, %d1;\n\
                  st.u32 [%d2+4], 77;\nld.shared.u32 %r1, [tile+4];\ncvta.to.shared.u64 %d3, %d2;\nsub.u64 %d3, %d3, %d1;\ncvt.u32.u64 %r2, %d3;\n\
                  isspacep.shared %p1, %d2;\nselp.u32 %r3, 1, 0, %p1;\nisspacep.global %p1, %d2;\nselp.u32 %r4, 1, 0, %p1;\n\
                  st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};";
    assert_eq!(one(shared, [0; 4]), [77, 0, 1, 0]);
    let local = ".local .align 4 .b8 depot[8];\nmov.u64 %d1, depot;\ncvta.local.u64 %d2, %d1;\nst.u32 [%d2+4], %thread;\n\
                 ld.local.u32 %r1, [depot+4];\nst.global.u32 [%out], %r1;";
    let out = try_run(local, &[[0; 4]; 40], 40, 1).unwrap();
    assert!(out.iter().enumerate().all(|(thread, four)| four[0] == thread as u32));
}

#[test]
fn variables_of_a_module_keep_their_values() {
    let variables = ".visible .global .align 4 .u32 count = 5;\n.const .align 4 .f32 table[3] = {0f3F800000, 2.0};\n";
    let body = "ld.global.u32 %r1, [count];\nadd.u32 %r1, %r1, 1;\nst.global.u32 [count], %r1;\nmov.u64 %d1, table;\n\
                ld.const.f32 %r2, [%d1+4];\nld.const.f32 %r3, [table+8];\nst.global.v4.u32 [%out], {%r1, %r2, %r3, %r3};";
    let module =
        Module::load(&kernel(body).replace(".visible .entry", &format!("{variables}.visible .entry"))).unwrap();
    let mut device = Device::new();
    let out = device.allocate(16);
    for expected in [6, 7] {
        device.launch(&module, "test", [1; 3], [1; 3], 0, &[Argument::Pointer(out), Argument::Pointer(out)]).unwrap();
        assert_eq!(common::download_words(&device, out, 3), [expected, 2.0_f32.to_bits(), 0]);
    }
    let (address, bytes) = device.global(&module, "count").unwrap();
    assert_eq!((bytes, common::download_words(&device, address, 1)[0]), (4, 7));
    assert_eq!(device.global(&module, "nothing"), None);
}

#[test]
fn atomics_return_the_old_value() {
    for (operation, old, operand, expected) in [
        ("add.u32", 5, 3, 8),
        ("add.f32", 1.0_f32.to_bits(), 2.0_f32.to_bits(), 3.0_f32.to_bits()),
        ("min.s32", u32::MAX, 3, u32::MAX),
        ("min.u32", u32::MAX, 3, 3),
        ("max.s32", u32::MAX, 3, 3),
        ("and.b32", 6, 3, 2),
        ("or.b32", 6, 3, 7),
        ("xor.b32", 6, 3, 5),
        ("exch.b32", 6, 3, 3),
        ("inc.u32", 2, 3, 3),
        ("inc.u32", 3, 3, 0),
        ("dec.u32", 0, 3, 3),
    ] {
        let global = format!(
            "mov.u32 %r1, {operand};\natom.global.{operation} %r2, [%in], %r1;\nld.global.u32 %r3, [%in];\nst.global.v2.u32 [%out], {{%r2, %r3}};"
        );
        assert_eq!(one(&global, [old, 0, 0, 0])[..2], [old, expected], "{operation}");
        let shared = format!(
            ".shared .align 4 .b8 cell[4];\nld.global.u32 %r4, [%in];\nst.shared.u32 [cell], %r4;\nmov.u32 %r1, {operand};\natom.shared.{operation} %r2, [cell], %r1;\nld.shared.u32 %r3, [cell];\nst.global.v2.u32 [%out], {{%r2, %r3}};"
        );
        assert_eq!(one(&shared, [old, 0, 0, 0])[..2], [old, expected], "{operation}");
    }
    let exchange = "atom.global.cas.b32 %r1, [%in], 5, 9;\natom.global.cas.b32 %r2, [%in], 5, 11;\nst.global.v2.u32 [%out], {%r1, %r2};";
    assert_eq!(one(exchange, [5, 0, 0, 0])[..2], [5, 9]);
    let long = "mov.u64 %d1, 1;\natom.global.add.u64 %d2, [%in], %d1;\nld.global.u64 %d3, [%in];\nst.global.v2.u64 [%out], {%d2, %d3};";
    assert_eq!(one(long, [u32::MAX, 0, 0, 0]), [u32::MAX, 0, 0, 1]);
}

#[test]
fn a_ticket_counts_every_thread_of_every_block() {
    let text = kernel("ld.param.u64 %d1, [in];\nred.global.add.u32 [%d1], 1;\natom.global.inc.u32 %r1, [%d1+4], 1000;");
    let module = Module::load(&text).unwrap();
    let mut device = Device::new();
    let cell = device.allocate_with(&words(&[0, 0]));
    device
        .launch(&module, "test", [50, 2, 1], [96, 1, 1], 0, &[Argument::Pointer(cell), Argument::Pointer(cell)])
        .unwrap();
    assert_eq!(common::download_words(&device, cell, 2), [9600, 9600 % 1001]);
}

#[test]
fn asynchronous_copies_fill_with_zeros() {
    for (bytes, size, expected) in
        [(16, 16, [1, 2, 3, 4]), (16, 8, [1, 2, 0, 0]), (16, 0, [0; 4]), (16, 5, [1, 2, 0, 0])]
    {
        let body = format!(
            ".shared .align 16 .b8 tile[16];\nmov.u32 %r1, tile;\nmov.u32 %r2, {size};\n\
             cp.async.cg.shared.global.L2::128B [%r1], [%in], {bytes}, %r2;\ncp.async.wait_all;\n\
             ld.shared.v4.u32 {{%r3, %r4, %r5, %r6}}, [tile];\nst.global.v4.u32 [%out], {{%r3, %r4, %r5, %r6}};"
        );
        assert_eq!(one(&body, [1, 2, 3, 4]), expected, "{size} of {bytes}");
    }
    let short = ".shared .align 16 .b8 tile[16];\nmov.u32 %r1, tile;\ncp.async.ca.shared.global [%r1+4], [%in+8], 4;\n\
                 cp.async.ca.shared.global [%r1+8], [%in], 8;\ncp.async.commit_group;\ncp.async.wait_group 0;\n\
                 ld.shared.u32 %r2, [tile+4];\nld.shared.v2.u32 {%r3, %r4}, [tile+8];\nst.global.v4.u32 [%out], {%r2, %r3, %r4, %r4};";
    assert_eq!(one(short, [1, 2, 3, 4]), [3, 1, 2, 2]);
}

#[test]
fn sectors_and_bank_conflicts_are_counted() {
    let count = |body: &str| {
        let module = Module::load(&kernel(body)).unwrap();
        let mut device = Device::new();
        let memory = device.allocate_with(&[0; 8192]);
        let arguments = [Argument::Pointer(memory), Argument::Pointer(memory)];
        device.launch(&module, "test", [1; 3], [32, 1, 1], 0, &arguments).unwrap()
    };
    let stride = |bytes: u32| {
        count(&format!(
            "ld.param.u64 %d1, [in];\nmul.wide.u32 %d2, %thread, {bytes};\nadd.u64 %d1, %d1, %d2;\nld.global.u32 %r1, [%d1];"
        ))
    };
    assert_eq!(stride(4).global_sectors, 4);
    assert_eq!(stride(32).global_sectors, 32);
    assert_eq!(stride(0).global_sectors, 1);
    assert_eq!(stride(4).global_read_bytes, 128);
    // From the last lane to the first.
    let back = count(
        "ld.param.u64 %d1, [in];\nxor.b32 %r1, %thread, 31;\nmul.wide.u32 %d2, %r1, 4;\nadd.u64 %d1, %d1, %d2;\nld.global.u32 %r1, [%d1];",
    );
    assert_eq!(back.global_sectors, 4);
    let shared = |bytes: u32, width: &str, value: &str| {
        count(&format!(
            ".shared .align 16 .b8 tile[4096];\nmul.lo.u32 %r1, %thread, {bytes};\nst.shared.{width} [%r1], {value};"
        ))
        .bank_conflicts
    };
    assert_eq!(shared(4, "u32", "1"), 0);
    assert_eq!(shared(8, "u32", "1"), 1);
    assert_eq!(shared(128, "u32", "1"), 31);
    assert_eq!(shared(0, "u32", "1"), 0);
    assert_eq!(shared(16, "v4.u32", "{%r2, %r2, %r2, %r2}"), 0);
    assert_eq!(shared(32, "v4.u32", "{%r2, %r2, %r2, %r2}"), 4);
}
