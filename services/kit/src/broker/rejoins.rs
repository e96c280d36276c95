//! How often a member that was fenced joins its group anew: the one count for all services.
//! Never lets two processes of one name take turns: beyond the bound the caller ends.

use std::time::{Duration, Instant};

use super::BrokerErrorKind;

/// A broker that stalls and then dies fences a member by itself, once for each.
const MAX_REJOINS: usize = 3;
/// Being fenced more often than [`MAX_REJOINS`] within this time means that another process has the same name.
const INTERVAL: Duration = Duration::from_secs(60);

/// The times at which a member joined its group anew, of the last [`INTERVAL`].
///
/// A broker that stalled may have taken one joining of ours for two, and fenced us by ourselves: then joining again
/// helps. If another process has our name, it is fenced by this, joins again too, and soon one of the two ends.
#[derive(Debug, Default)]
pub struct Rejoins {
    at: Vec<Instant>,
}

impl Rejoins {
    /// Whether the answer to an error of this kind is to join anew, which is counted then. No other kind than `Fenced`
    /// and `Fatal` calls for it here.
    #[must_use]
    pub fn take(&mut self, kind: BrokerErrorKind, now: Instant) -> bool {
        self.at.retain(|at| now.saturating_duration_since(*at) < INTERVAL);
        let is_lost = matches!(kind, BrokerErrorKind::Fenced | BrokerErrorKind::Fatal);
        let is_allowed = is_lost && self.at.len() < MAX_REJOINS;
        if is_allowed {
            self.at.push(now);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BrokerErrorKind::{AbortTransaction, Configuration, Fatal, Fenced, Retriable, Unauthorized};

    /// Errors by kind and second, and whether each is answered by joining anew.
    #[track_caller]
    fn check(errors: &[(BrokerErrorKind, u64, bool)]) {
        let start = Instant::now();
        let mut rejoins = Rejoins::default();
        for (number, (kind, second, expect)) in errors.iter().enumerate() {
            let now = start + Duration::from_secs(*second);
            assert_eq!(rejoins.take(*kind, now), *expect, "error {number} of {errors:?}");
            assert!(rejoins.at.len() <= MAX_REJOINS);
        }
    }

    #[test]
    fn a_few_in_a_minute() {
        check(&[(Fenced, 0, true), (Fatal, 0, true), (Fenced, 59, true), (Fenced, 59, false)]);
    }

    #[test]
    fn each_is_forgotten_after_a_minute() {
        check(&[
            (Fenced, 0, true),
            (Fenced, 30, true),
            (Fenced, 50, true),
            (Fenced, 59, false),
            (Fenced, 60, true),
            (Fatal, 61, false),
            (Fatal, 90, true),
            (Fenced, 90, false),
        ]);
    }

    /// What is refused is no joining, so it does not delay the next one.
    #[test]
    fn refused_ones_do_not_count() {
        check(&[
            (Fenced, 0, true),
            (Fenced, 0, true),
            (Fenced, 0, true),
            (Fenced, 40, false),
            (Fenced, 61, true),
        ]);
    }

    #[test]
    fn other_errors_are_none_of_it() {
        for kind in [Retriable, AbortTransaction, Configuration, Unauthorized] {
            check(&[(kind, 0, false), (kind, 1, false), (kind, 2, false), (Fenced, 3, true)]);
        }
    }
}
