//! How often an index may be built only because a class came from nobody can tell where: at once for a while, then seldom.
//! What was spent on building for other reasons counts, so that nothing that takes long is done twice at once.
//! Pure: never reads the clock, so that a test tells the time.

use std::time::{Duration, Instant};

/// Such building begins while not more than this was spent on building of late.
const BURST: Duration = Duration::from_secs(5);
/// The same for the last questions of workloads that end, which nobody will ask again.
const LAST_BURST: Duration = Duration::from_secs(30);
/// What building took is forgotten in this many times as long: 5 % of one processor.
const REST: u32 = 20;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pace {
    spent: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// Whether another index may be built now; for questions that nobody will ask again if `is_last`.
    pub fn allows(&self, now: Instant, is_last: bool) -> bool {
        self.owed(now) <= if is_last { LAST_BURST } else { BURST }
    }

    /// Building one took this long, for whatever reason, until now.
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
        assert!(pace.allows(at(0), false));
        // Builds of two seconds, asked for all the time.
        let mut builds = Vec::new();
        for second in 0..200 {
            if pace.allows(at(second), false) {
                pace.spend(Duration::from_secs(2), at(second));
                builds.push(second);
            }
        }
        assert_eq!(builds, [0, 1, 2, 20, 60, 100, 140, 180]);
        // What was not spent is not saved beyond the burst.
        pace.spend(Duration::from_secs(60), at(100_000));
        for (seconds, is_last, expected) in [
            (599, true, false),
            (600, true, true),
            (600, false, false),
            (1_099, false, false),
            (1_100, false, true),
        ] {
            assert_eq!(pace.allows(at(100_000 + seconds), is_last), expected, "{seconds} {is_last}");
        }
    }
}
