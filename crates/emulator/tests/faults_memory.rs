//! Planted mistakes with memory: each is found, named and placed.
mod common;

use common::{fault, kernel, try_run};
use sphereface_emulator::{Access, Argument, Device, Fault, FaultKind, Module, Range};

/// A module of one kernel `test(out, in)` on a device with 64 bytes of output and of input.
fn launch(body: &str, blocks: u32, threads: u32) -> Result<(), Fault> {
    let module = Module::load(&kernel(body)).unwrap();
    let mut device = Device::new();
    let (out, input) = (device.allocate(64), device.allocate_with(&[7; 64]));
    let arguments = [Argument::Pointer(out), Argument::Pointer(input)];
    device.launch(&module, "test", [blocks, 1, 1], [threads, 1, 1], 0, &arguments).map(drop)
}

#[test]
fn global_access_out_of_bounds_is_found() {
    let write = launch("st.global.u32 [%out+60], 1;\nst.global.u32 [%out+64], 1;", 1, 1).unwrap_err();
    let nearest = |kind: &FaultKind| match kind {
        FaultKind::OutOfBounds { access, nearest: Some((_, offset, size)), .. } => (*access, *offset, *size),
        other => panic!("{other:?}"),
    };
    assert_eq!(nearest(&write.kind), ("write", 64, 64));
    let read = launch("ld.global.u32 %r1, [%in+-4];", 1, 1).unwrap_err();
    // Below an allocation lies a guard zone, not the allocation before it.
    assert_eq!(nearest(&read.kind).0, "read");
    assert!(nearest(&read.kind).1 > 64);
    let vector = launch("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+64];", 1, 1).unwrap_err();
    assert_eq!(nearest(&vector.kind), ("read", 64, 64));
    let null = launch("mov.u64 %d1, 0;\nld.global.u32 %r1, [%d1];", 1, 1).unwrap_err();
    assert!(matches!(null.kind, FaultKind::OutOfBounds { nearest: None, .. }));
}

#[test]
fn a_fault_names_kernel_block_thread_and_lines() {
    let body = "mov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %r1, 1;\n@%p1 ret;\n.loc 1 42 7\nst.global.u32 [%out+48], 1;";
    let text = kernel(body) + ".file 1 \"gemm.cu\"\n";
    let module = Module::load(&text).unwrap();
    let mut device = Device::new();
    let (out, input) = (device.allocate(64), device.allocate(64));
    let arguments = [Argument::Pointer(out), Argument::Pointer(input)];
    let fault = device.launch(&module, "test", [2, 1, 1], [2, 1, 1], 0, &arguments).unwrap_err();
    let message = fault.to_string();
    let line = 1 + text.lines().position(|line| line.starts_with("st.global")).unwrap();
    let expected =
        format!("[kernel test, block (1, 0, 0), thread (1, 0, 0), PTX line {line}: st.global.u32, gemm.cu:42]");
    assert!(message.ends_with(&expected), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn reads_of_uninitialised_global_memory_are_found() {
    let error = launch("st.global.u32 [%out], 1;\nld.global.v2.u32 {%r1, %r2}, [%out];", 1, 1).unwrap_err();
    assert!(matches!(error.kind, FaultKind::Uninitialised { address } if address % 256 == 4), "{error}");
    let half = launch("st.global.u8 [%out+1], 1;\nld.global.u8 %h1, [%out+1];\nld.global.u16 %h1, [%out];", 1, 1);
    assert!(matches!(half.unwrap_err().kind, FaultKind::Uninitialised { address } if address % 256 == 0));
    let device = &mut Device::new();
    let pointer = device.allocate(8);
    assert!(device.download(pointer, &mut [0; 8]).is_err());
    device.upload(pointer, &[1; 4]).unwrap();
    assert!(device.download(pointer, &mut [0; 4]).is_ok());
    assert!(device.download(pointer, &mut [0; 8]).is_err());
}

#[test]
fn memory_that_was_freed_is_gone() {
    let mut device = Device::new();
    let pointer = device.allocate_with(&[1; 16]);
    device.free(pointer).unwrap();
    assert!(device.free(pointer).is_err());
    assert!(device.upload(pointer, &[1]).is_err());
}

#[test]
fn misaligned_access_is_found() {
    let vector = launch("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+8];", 1, 1).unwrap_err();
    assert!(matches!(vector.kind, FaultKind::Misaligned { bytes: 16, .. }), "{vector}");
    let word = launch("ld.global.u32 %r1, [%in+2];", 1, 1).unwrap_err();
    assert!(matches!(word.kind, FaultKind::Misaligned { bytes: 4, .. }));
    let shared = fault(".shared .align 16 .b8 tile[64];\nst.shared.v2.u32 [tile+4], {%r1, %r1};", 1);
    assert!(matches!(shared.kind, FaultKind::Misaligned { address: 4, bytes: 8 }));
}

#[test]
fn shared_access_out_of_bounds_is_found() {
    let error = fault(".shared .align 16 .b8 tile[64];\nst.shared.u32 [tile+64], %r1;", 1);
    assert!(
        matches!(error.kind, FaultKind::SharedOutOfBounds { access: "write", offset: 64, bytes: 4, size: 64 }),
        "{error}"
    );
}

#[test]
fn reads_of_uninitialised_shared_memory_are_found() {
    let error =
        fault(".shared .align 16 .b8 tile[64];\nst.shared.u32 [tile], %thread;\nld.shared.u32 %r1, [tile+8];", 1);
    assert_eq!(error.kind, FaultKind::SharedUninitialised { offset: 8 });
    // A new block does not see what another one left.
    let body = ".shared .align 16 .b8 tile[4];\nmov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 0;\n\
                @%p1 st.shared.u32 [tile], %r1;\nld.shared.u32 %r2, [tile];";
    assert!(matches!(launch(body, 2, 1).unwrap_err().kind, FaultKind::SharedUninitialised { offset: 0 }));
}

#[test]
fn conflicting_global_writes_of_two_blocks_are_found() {
    let body = "mov.u32 %r1, %ctaid.x;\nst.global.u32 [%out], %r1;";
    let error = launch(body, 2, 1).unwrap_err();
    assert!(matches!(error.kind, FaultKind::GlobalRace { other_thread: 0, .. }), "{error}");
    // The same value is harmless, and so is another word.
    launch("st.global.u32 [%out], 5;", 4, 1).unwrap();
    launch(
        "mov.u32 %r1, %ctaid.x;\nmul.wide.u32 %d1, %r1, 4;\nadd.u64 %d1, %d1, %out;\nst.global.u32 [%d1], %r1;",
        8,
        1,
    )
    .unwrap();
}

#[test]
fn conflicting_global_writes_inside_a_block_need_a_barrier() {
    // Threads 0 and 32 write to the same word.
    let write = "and.b32 %r1, %thread, 31;\nsetp.ne.u32 %p1, %r1, 0;\nld.param.u64 %d1, [out];\n";
    let unordered = format!("{write}@!%p1 st.global.u32 [%d1], %thread;");
    assert!(matches!(launch(&unordered, 1, 64).unwrap_err().kind, FaultKind::GlobalRace { other_block: 0, .. }));
    let ordered = format!(
        "{write}setp.eq.u32 %p2, %thread, 0;\n@%p2 st.global.u32 [%d1], 1;\nbar.sync 0;\n\
         setp.eq.u32 %p3, %thread, 32;\n@%p3 st.global.u32 [%d1], 2;"
    );
    launch(&ordered, 1, 64).unwrap();
    // Two lanes in one instruction.
    let lanes = "ld.param.u64 %d1, [out];\nst.global.u32 [%d1], %thread;";
    assert!(matches!(launch(lanes, 1, 2).unwrap_err().kind, FaultKind::GlobalRace { .. }));
    // Two lanes write the two halves of a word.
    let halves = "ld.param.u64 %d1, [out];\nmul.wide.u32 %d2, %thread, 2;\nadd.u64 %d1, %d1, %d2;\n\
                  cvt.u16.u32 %h1, %thread;\nst.global.u16 [%d1], %h1;";
    launch(halves, 1, 32).unwrap();
}

#[test]
fn constants_cannot_be_written() {
    let text = kernel("mov.u64 %d1, table;\nst.global.u32 [%d1], 1;")
        .replace(".visible", ".const .align 4 .u32 table[2] = {3, 4};\n.visible");
    let module = Module::load(&text).unwrap();
    let mut device = Device::new();
    let arguments = [Argument::Pointer(device.allocate(64)), Argument::Pointer(device.allocate(64))];
    let error = device.launch(&module, "test", [1, 1, 1], [1, 1, 1], 0, &arguments).unwrap_err();
    assert!(matches!(error.kind, FaultKind::ReadOnly { .. }), "{error}");
}

#[test]
fn local_memory_and_parameters_have_bounds() {
    let body = ".local .align 4 .b8 depot[8];\nst.local.u32 [depot+4], 1;\nst.local.u32 [depot+8], 1;";
    let error = try_run(body, &[[0; 4]], 1, 1).unwrap_err();
    assert!(matches!(error.kind, FaultKind::OtherOutOfBounds { space: "local", offset: 8, size: 8 }));
    let error = try_run("ld.param.u64 %d1, [in+8];", &[[0; 4]], 1, 1).unwrap_err();
    assert!(matches!(error.kind, FaultKind::OtherOutOfBounds { space: "parameter", .. }));
}

#[test]
fn declared_ranges_bound_what_a_launch_touches() {
    let run = |body: &str| {
        let module = Module::load(&kernel(body)).unwrap();
        let mut device = Device::new();
        // One arena: 16 bytes of input, 16 that belong to nobody, 16 of output.
        let arena = device.allocate_with(&[1; 48]);
        let arguments = [Argument::Pointer(arena + 32), Argument::Pointer(arena)];
        let ranges = [
            Range { pointer: arena, bytes: 16, access: Access::Read },
            Range { pointer: arena + 32, bytes: 16, access: Access::Write },
        ];
        let result = device.launch_within(&module, "test", [1; 3], [1; 3], 0, &arguments, &ranges);
        result.map(drop).map_err(|fault| fault.kind)
    };
    run("ld.global.u32 %r1, [%in+12];\nst.global.u32 [%out], %r1;\nld.global.u32 %r1, [%out];").unwrap();
    assert!(matches!(run("ld.global.u32 %r1, [%in+16];"), Err(FaultKind::Undeclared { access: "read", .. })));
    assert!(matches!(run("st.global.u32 [%out+-4], 1;"), Err(FaultKind::Undeclared { access: "write", .. })));
    assert!(matches!(run("red.global.add.u32 [%out+-4], 1;"), Err(FaultKind::Undeclared { access: "write", .. })));
    assert!(matches!(run("st.global.u32 [%in], 1;"), Err(FaultKind::ReadOnly { .. })));
    assert!(matches!(run("ld.global.u32 %r1, [%out];"), Err(FaultKind::Uninitialised { .. })));
    let mut device = Device::new();
    let pointer = device.allocate_with(&[1; 8]);
    device.forget(pointer + 4, 4).unwrap();
    assert!(device.download(pointer, &mut [0; 4]).is_ok() && device.download(pointer, &mut [0; 8]).is_err());
}
