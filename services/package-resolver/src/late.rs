//! When to say that a root's answers are late: at the first one, then once a minute with their number.
//! It must never say so for each request: hundreds wait while one file system hangs.

use std::time::{Duration, Instant};

/// Least time between two notices about one root.
const INTERVAL: Duration = Duration::from_secs(60);

/// Of one root.
#[derive(Default)]
pub struct Late {
    told: Option<Instant>,
    /// Requests since then.
    count: u64,
}

impl Late {
    /// Counts one more request; how many to tell of now, if any.
    pub fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_once_a_minute() {
        let (mut late, begun) = (Late::default(), Instant::now());
        let told: Vec<(u64, u64)> = (0..166)
            .filter_map(|second| Some((second, late.add(begun + Duration::from_secs(second))?)))
            .collect();
        assert_eq!(told, [(0, 1), (60, 60), (120, 60)]);
    }
}
