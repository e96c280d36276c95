//! How the processes of each language were observed in one workload: from their start, attached to, or not at all.
//! It must never count down: whoever reads keeps the greatest number of this life of the agent.

use std::collections::BTreeMap;

use plimsoll_schemas::events::Observed;
use plimsoll_schemas::words::{observed, probe};

use super::Workload;

/// Ecosystems whose packages are linked into programs.
const LINKED: [&str; 2] = ["golang", "cargo"];
/// Programs of a workload that are told apart; more are not counted.
const PROGRAMS_MAX: usize = 4_096;

/// Whose processes, seen by what, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedKey {
    /// Purl type of the packages that they use.
    pub ecosystem: &'static str,
    /// One of `words::probe`.
    pub probe: &'static str,
    /// One of `words::observed`.
    pub how: &'static str,
}

/// What is counted of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedNumbers {
    pub processes: u64,
    /// By words of `words::observed::counts`; those that are 0 may be left out.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Workload {
    /// One more process.
    pub fn count_process(&mut self, key: ObservedKey) {
        self.changed |= !self.observed.contains_key(&key);
        self.observed.entry(key).or_default().processes += 1;
    }

    /// The numbers so far, of a source that counts by itself; smaller ones than those known change nothing. A new key
    /// is published at once, mere numbers with the next event of the workload, which comes soon and at its end.
    pub fn set_observed(&mut self, key: ObservedKey, numbers: &ObservedNumbers) {
        if *numbers == ObservedNumbers::default() {
            return;
        }
        self.changed |= !self.observed.contains_key(&key);
        let known = self.observed.entry(key).or_default();
        known.processes = known.processes.max(numbers.processes);
        for (word, number) in numbers.counts.iter().filter(|(_, number)| **number > 0) {
            let known = known.counts.entry(word).or_default();
            *known = (*known).max(*number);
        }
    }

    /// A program of a language whose packages are linked in was executed, or seen running. Each counts once, and what was
    /// seen from its start is not said to be late because it was looked at again.
    pub fn note_program(&mut self, ecosystem: &str, probe: &str, path: &[u8]) {
        let Some(ecosystem) = LINKED.into_iter().find(|linked| *linked == ecosystem) else { return };
        let (probe, how) = match probe {
            probe::EBPF_FILES => (probe::EBPF_FILES, observed::AT_START),
            probe::LD_AUDIT => (probe::LD_AUDIT, observed::AT_START),
            _ => (probe::RESYNC, observed::ATTACHED),
        };
        let is_known = |how| self.programs.contains(&(how, path.to_vec()));
        let known = is_known(how) || how == observed::ATTACHED && is_known(observed::AT_START);
        if known || self.programs.len() >= PROGRAMS_MAX {
            return;
        }
        self.programs.insert((how, path.to_vec()));
        self.count_process(ObservedKey { ecosystem, probe, how });
    }

    pub(super) fn observed_events(&self) -> Vec<Observed> {
        let event = |(key, numbers): (&ObservedKey, &ObservedNumbers)| Observed {
            ecosystem: key.ecosystem.to_owned(),
            probe: key.probe.to_owned(),
            how: key.how.to_owned(),
            // Of programs that outlive the agent, it is theirs: the next agent sees the same processes.
            boot_id: self
                .watches
                .iter()
                .find(|watch| watch.probe == key.probe)
                .map_or_else(String::new, |watch| watch.boot_id.clone()),
            processes: wire(numbers.processes),
            counts: numbers.counts.iter().map(|(word, number)| ((*word).to_owned(), wire(*number))).collect(),
        };
        self.observed.iter().map(event).collect()
    }
}

fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use plimsoll_schemas::words::observed::counts;

    use super::super::tests::workload;
    use super::*;

    const JVMS: ObservedKey =
        ObservedKey { ecosystem: "maven", probe: probe::JVMTI, how: observed::ATTACHED };

    #[test]
    fn numbers_only_grow_and_a_new_key_is_told_at_once() {
        let numbers = |processes, generated| ObservedNumbers {
            processes,
            counts: [(counts::CLASSES_GENERATED, generated)].into(),
        };
        let mut workload = workload();
        workload.changed = false;
        workload.set_observed(JVMS, &ObservedNumbers::default());
        assert!(!workload.changed && workload.observed_events().is_empty(), "nothing is nothing to tell");
        workload.set_observed(JVMS, &numbers(2, 0));
        assert!(std::mem::take(&mut workload.changed));
        workload.set_observed(JVMS, &numbers(1, 7));
        workload.set_observed(JVMS, &numbers(1, 5));
        assert!(!workload.changed);
        let told = workload.observed_events();
        assert_eq!((told.len(), told[0].processes, told[0].counts["classes-generated"]), (1, 2, 7));
        workload.count_process(JVMS);
        workload.count_process(ObservedKey { how: observed::AT_START, ..JVMS });
        assert!(workload.changed);
        let told: Vec<_> =
            workload.observed_events().into_iter().map(|one| (one.how, one.processes)).collect();
        assert_eq!(told, [("at-start".to_owned(), 1), ("attached".to_owned(), 3)]);
    }

    #[test]
    fn a_program_counts_once_and_is_not_late_because_it_is_seen_again() {
        let mut workload = workload();
        for (ecosystem, probe, path) in [
            ("golang", probe::EBPF_FILES, "app/server"),
            ("golang", probe::EBPF_FILES, "app/server"),
            ("golang", probe::RESYNC, "app/server"),
            ("golang", probe::RESYNC, "app/older"),
            ("cargo", probe::EBPF_FILES, "app/tool"),
            ("debian", probe::EBPF_FILES, "bin/ls"),
        ] {
            workload.note_program(ecosystem, probe, path.as_bytes());
        }
        let told: Vec<_> = workload
            .observed_events()
            .into_iter()
            .map(|one| (one.ecosystem, one.probe, one.how, one.processes))
            .collect();
        let expect =
            |ecosystem: &str, probe: &str, how: &str| (ecosystem.into(), probe.into(), how.into(), 1);
        assert_eq!(
            told,
            [
                expect("cargo", "ebpf-files", "at-start"),
                expect("golang", "ebpf-files", "at-start"),
                expect("golang", "resync", "attached"),
            ]
        );
    }
}
