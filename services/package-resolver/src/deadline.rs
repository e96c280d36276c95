//! Answers requests whose time is up, on one thread for all: a file system that hangs must not silence the resolver.
//! Never answers a request twice: whoever settles its ticket first does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request under way.
pub struct Ticket {
    settled: AtomicBool,
    deadline: Instant,
    expire: Box<dyn Fn() + Send + Sync>,
}

impl Ticket {
    /// Whether the caller is the first, and so the one who answers.
    pub fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }
}

#[derive(Default)]
struct Pending {
    tickets: BTreeMap<(Instant, u64), Arc<Ticket>>,
    count: u64,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

/// See the module's documentation.
pub struct Deadlines {
    shared: Arc<Shared>,
}

impl Deadlines {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        std::thread::Builder::new().name("deadlines".into()).spawn(move || watched.watch())?;
        Ok(Self { shared })
    }

    /// A ticket whose `expire` is called after `timeout` if it is not settled by then.
    pub fn issue(&self, timeout: Duration, expire: impl Fn() + Send + Sync + 'static) -> Arc<Ticket> {
        let deadline = Instant::now() + timeout;
        let ticket = Ticket { settled: AtomicBool::new(false), deadline, expire: Box::new(expire) };
        let ticket = Arc::new(ticket);
        let mut pending = self.shared.lock();
        pending.count += 1;
        let number = pending.count;
        pending.tickets.insert((ticket.deadline, number), ticket.clone());
        drop(pending);
        self.shared.changed.notify_one();
        ticket
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut pending = self.lock();
        while !pending.ended {
            // Settled ones go first, so that the map holds little more than what is under way.
            while pending
                .tickets
                .first_entry()
                .is_some_and(|first| first.get().settled.load(Ordering::Acquire))
            {
                pending.tickets.pop_first();
            }
            let Some(next) = pending.tickets.first_key_value().map(|((deadline, _), _)| *deadline) else {
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if next > now {
                let waited = self.changed.wait_timeout(pending, next - now);
                pending = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let expired = pending.tickets.pop_first();
            drop(pending);
            if let Some((_, ticket)) = expired
                && ticket.settle()
            {
                (ticket.expire)();
            }
            pending = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn expires_what_is_not_settled_and_nothing_else() {
        let deadlines = Deadlines::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        let issue = |name: &'static str, timeout_ms| {
            let sender = sender.clone();
            deadlines.issue(Duration::from_millis(timeout_ms), move || sender.send(name).unwrap())
        };
        let late = issue("late", 40);
        let settled = issue("settled", 20);
        let early = issue("early", 1);
        assert!(settled.settle());
        assert!(!settled.settle());
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok("early"));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok("late"));
        assert!(!early.settle() && !late.settle());
        assert!(receiver.try_recv().is_err());
    }
}
