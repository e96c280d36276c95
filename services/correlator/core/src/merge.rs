//! The joins of the entities: commutative, associative, idempotent.
//! A merge must never look at anything but its two operands.

use plimsoll_schemas::events::RuntimeWorkload;

use crate::entity::{Evidence, Interval, Loss, Order, Span, Workload};
use crate::limits::{INTERVALS_MAX, LOSSES_MAX};

/// The earlier of two times of which 0 means unknown.
pub fn earlier(a: i64, b: i64) -> i64 {
    if a == 0 || (b != 0 && b < a) { b } else { a }
}

impl Span {
    pub fn join(self, other: Self) -> Self {
        Self { first_ms: self.first_ms.min(other.first_ms), last_ms: self.last_ms.max(other.last_ms) }
    }
}

impl Evidence {
    /// Adds one observation. `true` if anything changed.
    pub fn join(&mut self, rung: u8, span: Span, probe: &str) -> bool {
        let old = self.rungs.get(&rung).copied();
        let new = old.map_or(span, |old| old.join(span));
        let mut changed = old != Some(new);
        self.rungs.insert(rung, new);
        if !probe.is_empty() && !self.probes.contains(probe) {
            self.probes.insert(probe.to_owned());
            changed = true;
        }
        changed
    }
}

impl Workload {
    /// Adds what an event says. `true` if anything changed.
    pub fn join(&mut self, order: Order, event: RuntimeWorkload) -> bool {
        let before = self.clone();
        let seen = event.watched.iter().map(|w| w.until_ms).max().unwrap_or(0);
        self.last_seen_ms = self
            .last_seen_ms
            .max(event.emitted_at_ms)
            .max(seen)
            .max(event.started_at_ms)
            .max(event.stopped_at_ms);
        for watched in event.watched {
            let interval = Interval {
                from_ms: watched.from_ms,
                until_ms: watched.until_ms.max(watched.from_ms),
                from_first_exec: watched.from_first_exec,
            };
            join_intervals(self.watched.entry(watched.probe).or_default(), interval);
        }
        for loss in event.losses {
            let new = Loss { events_lost: loss.events_lost, repaired: loss.repaired };
            let boots = self.losses.entry(loss.probe).or_default();
            if boots.len() < LOSSES_MAX || boots.contains_key(&loss.boot_id) {
                let kept = boots.entry(loss.boot_id).or_default();
                *kept = (*kept).max(new);
            } else {
                // More lives of an agent than are told apart: never repaired.
                let kept = boots.entry(String::new()).or_default();
                kept.events_lost = kept.events_lost.max(new.events_lost);
            }
        }
        self.join_observed(&event.boot_id, event.observed);
        if order >= self.order {
            self.order = order;
            self.application = event.application;
            self.component = event.component;
            self.component_version = event.component_version;
            self.image_name = event.image_name;
            self.image_aliases = event.image_aliases;
            self.started_at_ms = event.started_at_ms;
            self.stopped_at_ms = event.stopped_at_ms;
            self.unidentified_reason = event.unidentified_reason;
            self.sandboxed = event.sandboxed;
            self.unavailable_probes = event.unavailable_probes;
            self.root_package_hash = event.root_package_hash;
            self.moved_to = event.moved_to;
        }
        *self != before
    }
}

/// Adds an interval to a sorted list of disjoint ones. Touching ones become one, which began at the first exec if
/// the part that begins it did.
fn join_intervals(list: &mut Vec<Interval>, new: Interval) {
    let mut merged = new;
    list.retain(|old| {
        if old.until_ms < merged.from_ms || merged.until_ms < old.from_ms {
            return true;
        }
        let from_first_exec = match old.from_ms.cmp(&merged.from_ms) {
            std::cmp::Ordering::Less => old.from_first_exec,
            std::cmp::Ordering::Equal => old.from_first_exec || merged.from_first_exec,
            std::cmp::Ordering::Greater => merged.from_first_exec,
        };
        merged = Interval {
            from_ms: old.from_ms.min(merged.from_ms),
            until_ms: old.until_ms.max(merged.until_ms),
            from_first_exec,
        };
        false
    });
    let place = list.partition_point(|old| old.from_ms < merged.from_ms);
    list.insert(place, merged);
    if list.len() > INTERVALS_MAX {
        // Forgetting a watch never makes anything unused: less was watched, and the gap stays visible.
        list.remove(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(intervals: &[(i64, i64, bool)], expect: &[(i64, i64, bool)]) {
        let mut orders = vec![intervals.to_vec()];
        orders.push(intervals.iter().rev().copied().collect());
        orders.push(intervals.iter().chain(intervals).copied().collect());
        for order in orders {
            let mut list = Vec::new();
            for (from_ms, until_ms, from_first_exec) in order {
                join_intervals(&mut list, Interval { from_ms, until_ms, from_first_exec });
            }
            let got: Vec<_> = list.iter().map(|i| (i.from_ms, i.until_ms, i.from_first_exec)).collect();
            assert_eq!(got, expect, "{intervals:?}");
        }
    }

    #[test]
    fn intervals_unite() {
        check(&[(0, 10, true), (0, 20, true)], &[(0, 20, true)]);
        check(&[(0, 10, true), (10, 20, false)], &[(0, 20, true)]);
        check(&[(0, 10, true), (11, 20, false)], &[(0, 10, true), (11, 20, false)]);
        check(&[(0, 10, true), (11, 20, false), (9, 12, false)], &[(0, 20, true)]);
        check(&[(5, 10, true), (0, 6, false)], &[(0, 10, false)]);
        check(&[(5, 10, false), (5, 6, true)], &[(5, 10, true)]);
    }

    #[test]
    fn a_later_loss_undoes_the_repair_of_an_earlier_one() {
        let repaired = Loss { events_lost: 5, repaired: true };
        let again = Loss { events_lost: 6, repaired: false };
        assert_eq!(repaired.max(again), again);
        assert_eq!(repaired.max(Loss { events_lost: 5, repaired: false }), repaired);
    }

    #[test]
    fn unknown_times_do_not_count_as_early() {
        for (a, b, expect) in [(0, 5, 5), (5, 0, 5), (3, 5, 3), (0, 0, 0)] {
            assert_eq!(earlier(a, b), expect);
        }
    }
}
