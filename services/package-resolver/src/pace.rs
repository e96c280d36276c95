//! How often an index may be built only because a class came from nobody can tell where: at once for a while, then seldom.
//! Pure: never reads the clock, so that a test tells the time.

use std::time::{Duration, Instant};

/// Time that may be spent on such building at once.
const BURST: Duration = Duration::from_secs(5);
/// Beyond [`BURST`], this many times as long has to pass as building took: 5 % of one processor.
const REST: u32 = 20;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pace {
    spent: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// Whether another index may be built now.
    pub fn allows(&self, now: Instant) -> bool {
        self.owed(now) <= BURST
    }

    /// Building one took this long, until now.
    pub fn spend(&mut self, took: Duration, now: Instant) {
        self.spent = self.owed(now) + took;
        self.since = Some(now);
    }

    fn owed(&self, now: Instant) -> Duration {
        let passed = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.spent.saturating_sub(passed / REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_for_a_while_then_seldom() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        assert!(pace.allows(at(0)));
        // Builds of two seconds, asked for all the time.
        let mut builds = Vec::new();
        for second in 0..200 {
            if pace.allows(at(second)) {
                pace.spend(Duration::from_secs(2), at(second));
                builds.push(second);
            }
        }
        assert_eq!(builds, [0, 1, 2, 20, 60, 100, 140, 180]);
        // What was not spent is not saved beyond the burst.
        pace.spend(Duration::from_secs(60), at(100_000));
        assert!(!pace.allows(at(100_000 + 1_099)));
        assert!(pace.allows(at(100_000 + 1_100)));
    }
}
