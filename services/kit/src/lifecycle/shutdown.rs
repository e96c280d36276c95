//! The one signal that a process should end, for threads, channels and async tasks.
//! Never ends anything by itself, and cannot be taken back.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

struct Inner {
    triggered: AtomicBool,
    /// Dropped at the trigger, which disconnects all receivers.
    sender: Mutex<Option<Sender<Infallible>>>,
    receiver: Receiver<Infallible>,
    condvar: Condvar,
    notify: tokio::sync::watch::Sender<bool>,
}

/// Tells that the process should end. Clones share one state.
#[derive(Clone)]
pub struct ShutdownToken {
    inner: Arc<Inner>,
}

impl Default for ShutdownToken {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownToken {
    /// A token that is not triggered.
    pub fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(0);
        Self {
            inner: Arc::new(Inner {
                triggered: AtomicBool::new(false),
                sender: Mutex::new(Some(sender)),
                receiver,
                condvar: Condvar::new(),
                notify: tokio::sync::watch::Sender::new(false),
            }),
        }
    }

    /// Asks everything to end.
    pub fn trigger(&self) {
        let mut sender = self.inner.sender.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.triggered.store(true, Ordering::SeqCst);
        *sender = None;
        drop(sender);
        self.inner.condvar.notify_all();
        self.inner.notify.send_replace(true);
    }

    /// Whether the end was asked for.
    pub fn is_triggered(&self) -> bool {
        self.inner.triggered.load(Ordering::SeqCst)
    }

    /// Waits at most `timeout`; whether the end was asked for.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut guard = self.inner.sender.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_triggered() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.inner.condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// A channel that never carries anything and disconnects at the trigger: for `crossbeam_channel::select!`.
    pub fn receiver(&self) -> Receiver<Infallible> {
        self.inner.receiver.clone()
    }

    /// Completes at the trigger.
    pub async fn cancelled(&self) {
        let mut watch = self.inner.notify.subscribe();
        // The sender lives as long as this token.
        let _ = watch.wait_for(|triggered| *triggered).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_waiting_end() {
        let token = ShutdownToken::new();
        assert!(!token.is_triggered());
        assert!(!token.wait(Duration::ZERO));
        assert!(token.receiver().try_recv().is_err_and(|e| e.is_empty()));
        let waiting = token.clone();
        let thread = std::thread::spawn(move || {
            waiting.wait(Duration::from_secs(10)) && waiting.receiver().recv().is_err()
        });
        token.trigger();
        token.trigger();
        assert!(thread.join().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(token.cancelled());
        assert!(token.wait(Duration::ZERO));
    }
}
