//! Ctrl-C: the first one asks the training to save and stop, the second one ends the process.

use crate::progress::warn;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit code of a run that was interrupted.
pub(crate) const EXIT_CODE: u8 = 130;

/// Starts to listen.
pub(crate) fn listen() {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
        warn(format_args!("\nstopping at the next safe place; press Ctrl-C again to stop at once"));
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        warn(format_args!("Ctrl-C cannot be caught, it will stop without saving ({error})"));
    }
}

/// Whether the training should save and stop.
pub(crate) fn requested() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
