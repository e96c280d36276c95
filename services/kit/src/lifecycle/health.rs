//! Named checks behind `/readyz` and `/healthz`.
//! Never blocks who reports, and never asks a server itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Checks {
    /// `None`: ready; else why not.
    readiness: BTreeMap<String, Option<String>>,
    /// Without a check the process is not ready: it has not come so far.
    are_expected: bool,
    liveness: BTreeMap<String, LivenessState>,
}

struct LivenessState {
    last_beat_ms: Arc<AtomicI64>,
    max_silence: Duration,
}

struct Inner {
    checks: Mutex<Checks>,
    started: Instant,
}

/// The registry of a process's checks. Clones share it.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// No checks: ready and alive.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { checks: Mutex::default(), started: Instant::now() }) }
    }

    /// From now on a process without any readiness check is not ready: a service that serves its pages before it has
    /// registered one.
    pub(super) fn expect_checks(&self) {
        self.lock().are_expected = true;
    }

    /// Registers a readiness check, not ready until told so.
    pub fn readiness(&self, name: impl Into<String>) -> Readiness {
        let check = Readiness { health: self.clone(), name: name.into() };
        check.not_ready("starting");
        check
    }

    /// Registers a loop that must beat at least every `max_silence`, or the process counts as stuck.
    pub fn liveness(&self, name: impl Into<String>, max_silence: Duration) -> Liveness {
        let last_beat_ms = Arc::new(AtomicI64::new(self.elapsed_ms()));
        let state = LivenessState { last_beat_ms: last_beat_ms.clone(), max_silence };
        self.lock().liveness.insert(name.into(), state);
        Liveness { health: self.clone(), last_beat_ms }
    }

    /// Why the process is not ready, one line each; empty: ready.
    pub fn unready_reasons(&self) -> Vec<String> {
        let checks = self.lock();
        if checks.are_expected && checks.readiness.is_empty() {
            return vec!["service: starting".to_owned()];
        }
        let reason = |(name, reason): (&String, &Option<String>)| {
            reason.as_ref().map(|reason| format!("{name}: {reason}"))
        };
        checks.readiness.iter().filter_map(reason).collect()
    }

    /// Which loops are stuck, one line each; empty: alive.
    pub fn stuck_reasons(&self) -> Vec<String> {
        let now_ms = self.elapsed_ms();
        let checks = self.lock();
        checks
            .liveness
            .iter()
            .filter_map(|(name, state)| {
                let silence_ms = now_ms - state.last_beat_ms.load(Ordering::Relaxed);
                let max_ms = i64::try_from(state.max_silence.as_millis()).unwrap_or(i64::MAX);
                (silence_ms > max_ms)
                    .then(|| format!("{name}: silent for {silence_ms} ms, at most {max_ms} allowed"))
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.inner.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// One readiness check; cheap to call often.
#[derive(Clone)]
pub struct Readiness {
    health: Health,
    name: String,
}

impl Readiness {
    /// It works.
    pub fn ready(&self) {
        self.health.lock().readiness.insert(self.name.clone(), None);
    }
    /// It does not work now, and why.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.health.lock().readiness.insert(self.name.clone(), Some(why.into()));
    }
}

/// One loop's sign of life.
#[derive(Clone)]
pub struct Liveness {
    health: Health,
    last_beat_ms: Arc<AtomicI64>,
}

impl Liveness {
    /// The loop turned once more.
    pub fn beat(&self) {
        self.last_beat_ms.store(self.health.elapsed_ms(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go() {
        let health = Health::new();
        assert!(health.unready_reasons().is_empty());
        health.expect_checks();
        assert_eq!(health.unready_reasons(), ["service: starting"]);
        let check = health.readiness("kafka");
        assert_eq!(health.unready_reasons(), ["kafka: starting"]);
        check.not_ready("broker is away");
        assert_eq!(health.unready_reasons(), ["kafka: broker is away"]);
        check.ready();
        assert!(health.unready_reasons().is_empty());

        let beat = health.liveness("poll", Duration::from_secs(60));
        assert!(health.stuck_reasons().is_empty());
        beat.last_beat_ms.store(-61_000, Ordering::Relaxed);
        assert_eq!(health.stuck_reasons().len(), 1);
        beat.beat();
        assert!(health.stuck_reasons().is_empty());
    }
}
