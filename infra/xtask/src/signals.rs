//! Ctrl-C and SIGTERM: stops what this command started, then ends it.
//! It never stops a process that this command did not start.

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

type Cleanup = Box<dyn FnOnce() + Send>;
static CLEANUPS: Mutex<Vec<(u64, Cleanup)>> = Mutex::new(Vec::new());

fn cleanups() -> MutexGuard<'static, Vec<(u64, Cleanup)>> {
    CLEANUPS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

static STOPPING: AtomicBool = AtomicBool::new(false);

/// After a signal the cleanups end this process: whoever calls this then waits for that,
/// instead of going on with work whose children were just stopped.
pub fn yield_to_cleanup() {
    while STOPPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Start the thread that waits for signals.
pub fn install() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            STOPPING.store(true, Ordering::SeqCst);
            eprintln!("\nxtask: signal {signal}, stopping what was started");
            while let Some((_, cleanup)) = { cleanups().pop() } {
                cleanup();
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Runs on a signal, unless it was dropped before.
#[must_use]
pub struct OnSignal(u64);

impl OnSignal {
    pub fn run(cleanup: impl FnOnce() + Send + 'static) -> Self {
        let mut list = cleanups();
        let id = list.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        list.push((id, Box::new(cleanup)));
        Self(id)
    }
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        cleanups().retain(|(id, _)| *id != self.0);
    }
}
