//! How the processes of each language were observed: by workload and life of an agent, and summed up for a component.
//! It must never count a process again because an agent began anew, nor depend on the order of events.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::{Observed, ObservedSummary};
use plimsoll_schemas::words::observed;
use plimsoll_schemas::words::probe::is_about;
use serde::{Deserialize, Serialize};

use crate::entity::{Folded, Workload};
use crate::limits::{OBSERVED_BOOTS_MAX, OBSERVED_COUNTS_MAX, OBSERVED_MAX, OBSERVED_REASONS_MAX};

/// From this number on, what still grows is shown with two significant digits, so that not each process and each class
/// sends the artifact's record again.
const EXACT_BELOW: i64 = 100;

/// Whose processes, by which probe, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObservedKey {
    pub ecosystem: String,
    pub probe: String,
    pub how: String,
}

/// What was counted of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObservedNumbers {
    pub processes: i64,
    /// By words of `observed::counts`.
    pub counts: BTreeMap<String, i64>,
}

/// By the life of the agent that counted; under the empty one what more of them counted than are told apart.
pub type ObservedByBoot = BTreeMap<String, ObservedNumbers>;

/// What remains of workloads that were folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoldedObserved {
    pub workload_count: i64,
    pub numbers: ObservedNumbers,
    pub reasons: BTreeSet<String>,
}

impl ObservedNumbers {
    /// The greater of each number.
    fn join(&mut self, other: &Self) {
        self.processes = self.processes.max(other.processes);
        for (word, number) in &other.counts {
            let known = self.counts.entry(word.clone()).or_default();
            *known = (*known).max(*number);
        }
        self.bound();
    }

    fn add(&mut self, other: &Self) {
        self.processes = self.processes.saturating_add(other.processes);
        for (word, number) in &other.counts {
            let known = self.counts.entry(word.clone()).or_default();
            *known = known.saturating_add(*number);
        }
        self.bound();
    }

    /// The last words go, whichever came first: so the order of events does not matter.
    fn bound(&mut self) {
        while self.counts.len() > OBSERVED_COUNTS_MAX {
            self.counts.pop_last();
        }
    }
}

/// Over the lives of an agent. A process starts in one of them; what runs on is found by each, and refuses each.
fn over_boots(how: &str, boots: &ObservedByBoot) -> ObservedNumbers {
    let mut all = ObservedNumbers::default();
    for numbers in boots.values() {
        if how == observed::AT_START { all.add(numbers) } else { all.join(numbers) }
    }
    all
}

impl Workload {
    /// Adds what one life of an agent counted so far.
    /// `boot_id` is the event's own.
    pub(crate) fn join_observed(&mut self, boot_id: &str, event: Vec<Observed>) {
        for one in event {
            let numbers = ObservedNumbers {
                processes: one.processes.max(0),
                counts: one.counts.into_iter().filter(|(_, number)| *number > 0).collect(),
            };
            let key = ObservedKey { ecosystem: one.ecosystem, probe: one.probe, how: one.how };
            let boot_id = if one.boot_id.is_empty() { boot_id } else { &one.boot_id };
            let boots = self.observed.entry(key).or_default();
            boots.entry(boot_id.to_owned()).or_default().join(&numbers);
            // The empty name sorts first and stays. A boot that goes was told apart in no order of events.
            while boots.len() > OBSERVED_BOOTS_MAX
                && let Some((_, last)) = boots.pop_last()
            {
                boots.entry(String::new()).or_default().join(&last);
            }
        }
        while self.observed.len() > OBSERVED_MAX {
            self.observed.pop_last();
        }
    }

    /// Why a probe could not observe, each with its remedy.
    pub(crate) fn reasons<'a>(&'a self, probe: &'a str) -> impl Iterator<Item = &'a String> {
        self.unavailable_probes.iter().filter(move |(key, _)| is_about(key, probe)).map(|(_, reason)| reason)
    }

    /// Adds its share to that of others.
    fn sum_observed(&self, all: &mut BTreeMap<ObservedKey, FoldedObserved>) {
        for (key, boots) in &self.observed {
            let sum = all.entry(key.clone()).or_default();
            sum.workload_count += 1;
            sum.numbers.add(&over_boots(&key.how, boots));
            if key.how == observed::REFUSED {
                sum.reasons.extend(self.reasons(&key.probe).cloned());
            }
        }
        for (ecosystem, reason) in self.not_measurable() {
            let key = ObservedKey {
                ecosystem: ecosystem.to_owned(),
                probe: String::new(),
                how: observed::NOT_MEASURABLE.to_owned(),
            };
            let sum = all.entry(key).or_default();
            sum.workload_count += 1;
            sum.reasons.insert(reason.to_owned());
        }
        bound(all);
    }
}

fn bound(all: &mut BTreeMap<ObservedKey, FoldedObserved>) {
    for sum in all.values_mut() {
        while sum.reasons.len() > OBSERVED_REASONS_MAX {
            sum.reasons.pop_last();
        }
    }
    while all.len() > OBSERVED_MAX {
        all.pop_last();
    }
}

impl Folded {
    /// Keeps what a workload that stopped long ago says of it.
    pub(crate) fn fold_observed(&mut self, workload: &Workload) {
        workload.sum_observed(&mut self.observed);
    }
}

/// How a component was observed, in all its workloads.
pub(crate) fn summaries(folded: &[&Folded], workloads: &[&Workload]) -> Vec<ObservedSummary> {
    let mut all: BTreeMap<ObservedKey, FoldedObserved> = BTreeMap::new();
    for (key, share) in folded.iter().flat_map(|folded| &folded.observed) {
        let sum = all.entry(key.clone()).or_default();
        sum.workload_count += share.workload_count;
        sum.numbers.add(&share.numbers);
        sum.reasons.extend(share.reasons.iter().cloned());
    }
    bound(&mut all);
    workloads.iter().for_each(|workload| workload.sum_observed(&mut all));
    let grows = workloads.iter().any(|workload| workload.stopped_at_ms == 0);
    let shown = |number: i64| if grows { coarse(number) } else { number };
    let summary = |(key, sum): (ObservedKey, FoldedObserved)| ObservedSummary {
        ecosystem: key.ecosystem,
        probe: key.probe,
        how: key.how,
        processes: shown(sum.numbers.processes),
        workload_count: sum.workload_count,
        counts: sum.numbers.counts.into_iter().map(|(word, number)| (word, shown(number))).collect(),
        reasons: sum.reasons.into_iter().collect(),
    };
    all.into_iter().map(summary).collect()
}

/// Rounded down to two significant digits; small numbers as they are.
fn coarse(number: i64) -> i64 {
    let mut step = 1;
    while number / step >= EXACT_BELOW {
        step *= 10;
    }
    number - number % step
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::words::observed::{AT_START, ATTACHED, REFUSED};
    use proptest::prelude::*;

    fn event(how: &str, processes: i64, generated: i64) -> Vec<Observed> {
        vec![Observed {
            ecosystem: "maven".into(),
            probe: "jvmti".into(),
            how: how.into(),
            processes,
            counts: [("classes-generated".to_owned(), generated)].into(),
            boot_id: String::new(),
        }]
    }

    fn joined(events: &[(&str, &str, i64, i64)]) -> Workload {
        let mut workload = Workload { stopped_at_ms: 1, ..Workload::default() };
        for (boot, how, processes, generated) in events {
            workload.join_observed(boot, event(how, *processes, *generated));
        }
        workload
    }

    fn check(events: &[(&str, &str, i64, i64)], expect: &[(&str, i64, Option<i64>)]) {
        let got = summaries(&[], &[&joined(events)]);
        let got: Vec<_> = got
            .iter()
            .map(|one| (one.how.as_str(), one.processes, one.counts.get("classes-generated").copied()))
            .collect();
        assert_eq!(got, expect, "{events:?}");
    }

    #[test]
    fn each_process_counts_once_over_the_lives_of_an_agent() {
        check(&[("b1", AT_START, 2, 10), ("b1", AT_START, 3, 12)], &[(AT_START, 3, Some(12))]);
        check(&[("b1", AT_START, 2, 10), ("b2", AT_START, 3, 1)], &[(AT_START, 5, Some(11))]);
        // What an agent finds running, the next one finds again.
        check(&[("b1", ATTACHED, 2, 10), ("b2", ATTACHED, 1, 20)], &[(ATTACHED, 2, Some(20))]);
        check(&[("b1", REFUSED, 1, 0), ("b1", AT_START, 1, 0)], &[(AT_START, 1, None), (REFUSED, 1, None)]);
        check(&[("b1", AT_START, -5, -7)], &[(AT_START, 0, None)]);
        // Programs in the kernel that outlive an agent: the next one sees the same processes.
        let mut workload = Workload::default();
        for boot in ["b1", "b2"] {
            let pinned = |one| Observed { boot_id: "kernel".into(), ..one };
            workload.join_observed(boot, event(AT_START, 2, 0).into_iter().map(pinned).collect());
        }
        assert_eq!(summaries(&[], &[&workload])[0].processes, 2);
    }

    #[test]
    fn refusals_say_why() {
        let mut workload = joined(&[("b", REFUSED, 2, 0), ("b", ATTACHED, 1, 0)]);
        let reason = |key: &str| (key.to_owned(), format!("why {key}; do"));
        workload.unavailable_probes =
            ["jvmti", "jvmti:/usr/bin/java", "jvmti2", "python-import", "not-measurable:npm"]
                .map(reason)
                .into();
        let got = summaries(&[], &[&workload]);
        let reasons: Vec<_> = got.iter().map(|one| (one.how.as_str(), one.reasons.clone())).collect();
        assert_eq!(
            reasons,
            [
                (ATTACHED, vec![]),
                (REFUSED, vec!["why jvmti:/usr/bin/java; do".to_owned(), "why jvmti; do".to_owned()]),
                (observed::NOT_MEASURABLE, vec!["why not-measurable:npm; do".to_owned()]),
            ]
        );
        // Nothing is lost when the workload is folded, and a further one is added.
        let mut folded = Folded::default();
        folded.fold_observed(&workload);
        assert_eq!(summaries(&[&folded], &[]), got);
        let both = summaries(&[&folded], &[&workload]);
        assert_eq!((both[1].processes, both[1].workload_count, both[1].reasons.len()), (4, 2, 2));
    }

    #[test]
    fn what_still_grows_is_shown_coarsely() {
        for (number, expect) in [(0, 0), (99, 99), (100, 100), (129, 120), (12_345, 12_000)] {
            assert_eq!(coarse(number), expect);
        }
        let mut workload = joined(&[("b", AT_START, 1_234, 567)]);
        let shown = |workload: &Workload| {
            let got = summaries(&[], &[workload]);
            (got[0].processes, got[0].counts["classes-generated"])
        };
        assert_eq!(shown(&workload), (1_234, 567));
        workload.stopped_at_ms = 0;
        assert_eq!(shown(&workload), (1_200, 560));
    }

    proptest! {
        #[test]
        fn no_order_of_events_and_no_repetition_matters(
            events in prop::collection::vec((0..40_u8, 0..3_usize, 0..9_i64, 0..9_i64), 1..80),
            seed in any::<u64>(),
        ) {
            let hows = [AT_START, ATTACHED, REFUSED];
            let play = |order: &[(u8, usize, i64, i64)]| {
                let mut workload = Workload::default();
                for (boot, how, processes, generated) in order {
                    workload.join_observed(&format!("boot-{boot:02}"), event(hows[*how], *processes, *generated));
                }
                workload.observed
            };
            let mut other: Vec<_> = events.iter().chain(&events).copied().collect();
            // A permutation that depends on the seed alone.
            other.sort_by_key(|(boot, how, a, b)| (u64::from(*boot) * 31 + *how as u64 * 7 + (*a * 5 + *b) as u64).wrapping_mul(seed | 1));
            let once = play(&events);
            prop_assert_eq!(&play(&other), &once);
            prop_assert!(once.values().all(|boots| boots.len() <= OBSERVED_BOOTS_MAX));
        }
    }
}
