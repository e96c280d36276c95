//! Passes signals on to the command.
//! It must never give the command twice what the terminal has given it already.

use std::process::Child;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

/// Signals that a person or a supervisor sends.
const SIGNALS: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Passes signals on for as long as it lives.
pub struct Forwarder {
    handle: signal_hook::iterator::Handle,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts passing signals on to `child`.
    ///
    /// # Errors
    /// If the system refuses handlers or a thread.
    pub fn start(child: &Child) -> anyhow::Result<Self> {
        let mut signals = SignalsInfo::<WithOrigin>::new(SIGNALS)?;
        let handle = signals.handle();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in &mut signals {
                // What the terminal sends reaches the command too: it is in the same process group. Only what a
                // process sent to us alone has to be passed on.
                let Some(pid) = pid.filter(|_| origin.process.is_some()) else { continue };
                if let Some(signal) = Signal::from_named_raw(origin.signal) {
                    // The command may just have ended.
                    let _ = kill_process(pid, signal);
                }
            }
        })?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic could damage.
            let _ = thread.join();
        }
    }
}
