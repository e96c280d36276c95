//! Java packages that one root was asked about: since when without an answer, or answered.
//! Never makes an asker who asks again wait for a newer index than the first time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most questions that are remembered; agents ask for at most half as many of one workload within an hour. Of others, what
/// waits is said anew each time, and they are not asked once more at the end.
const MAX_PATHS: usize = 8_192;

/// By path, since when it waits; nothing once it was answered.
#[derive(Default)]
pub struct Asked(Mutex<HashMap<Vec<u8>, Option<Instant>>>);

impl Asked {
    /// Since when `path` waits, and no later than `asked_at`.
    pub fn since(&self, path: &[u8], asked_at: Instant) -> Instant {
        self.lock().get(path).copied().flatten().map_or(asked_at, |since| asked_at.min(since))
    }

    /// Whether `path` waits since `asked_at`, or is not remembered: nobody was told so yet.
    pub fn is_new(&self, path: &[u8], asked_at: Instant) -> bool {
        self.lock().get(path).is_none_or(|since| *since == Some(asked_at))
    }

    /// Could not be answered.
    pub fn waits(&self, path: &[u8], since: Instant) {
        self.put(path, Some(since));
    }

    /// Was answered.
    pub fn answered(&self, path: &[u8]) {
        self.put(path, None);
    }

    /// Those without an answer.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<Vec<u8>> {
        self.lock().iter().filter(|(_, since)| since.is_some()).map(|(path, _)| path.clone()).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Vec<u8>> {
        self.lock().keys().cloned().collect()
    }

    fn put(&self, path: &[u8], since: Option<Instant>) {
        let mut paths = self.lock();
        if let Some(known) = paths.get_mut(path) {
            *known = since;
        } else if paths.len() < MAX_PATHS {
            paths.insert(path.to_owned(), since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_each_question_is_new() {
        let (asked, now) = (Asked::default(), Instant::now());
        for number in 0..MAX_PATHS {
            asked.waits(format!("?!/{number}").as_bytes(), now);
        }
        let later = now + std::time::Duration::from_secs(1);
        asked.waits(b"?!/one/more", later);
        assert_eq!(asked.all().len(), MAX_PATHS);
        assert!(asked.is_new(b"?!/one/more", later) && asked.is_new(b"?!/0", now));
        assert!(!asked.is_new(b"?!/0", later));
        asked.answered(b"?!/0");
        assert!(!asked.is_new(b"?!/0", now));
        assert_eq!(asked.since(b"?!/1", later), now);
    }
}
