//! An end that is asked for from outside, by Ctrl-C or a signal: what was measured until then is kept.

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit code of a run that was ended so.
pub const EXIT_CODE: u8 = 130;

/// Starts to listen; the second time ends the process at once.
pub fn listen() {
    let handler = || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
        eprintln!("\nstopping; press Ctrl-C again to stop at once, without a record");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("Ctrl-C cannot be caught, it will stop without a record ({error})");
    }
}

/// Whether somebody wants this to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
