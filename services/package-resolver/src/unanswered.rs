//! Questions of one root about Java packages that no index can answer yet, and since when.
//! Never makes an asker who asks again wait for a newer index than the first time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most questions that are remembered; agents ask for half as many of one workload. Beyond, asking again counts anew.
const MAX_PATHS: usize = 8_192;

/// See the module's documentation.
#[derive(Default)]
pub struct Unanswered(Mutex<HashMap<Vec<u8>, Instant>>);

impl Unanswered {
    /// When `path` was asked for first, and no later than `asked_at`.
    pub fn since(&self, path: &[u8], asked_at: Instant) -> Instant {
        self.lock().get(path).map_or(asked_at, |since| asked_at.min(*since))
    }

    /// Whether `path` waits since `asked_at`, and not longer.
    pub fn is_new(&self, path: &[u8], asked_at: Instant) -> bool {
        self.lock().get(path) == Some(&asked_at)
    }

    /// Could not be answered.
    pub fn keep(&self, path: &[u8], since: Instant) {
        let mut paths = self.lock();
        if paths.len() < MAX_PATHS {
            paths.entry(path.to_owned()).or_insert(since);
        }
    }

    /// All of them.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        self.lock().keys().cloned().collect()
    }

    /// Was answered.
    pub fn remove(&self, path: &[u8]) {
        self.lock().remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
