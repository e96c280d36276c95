//! How many JVMs of a workload were observed in which way, and how many of their classes have no place. Pure.
//! It must never count down, nor count a JVM twice.

use std::collections::{BTreeMap, HashMap};

use plimsoll_schemas::words::observed::counts;

use crate::workload::ObservedNumbers;

/// JVMs that run and are counted one by one; more are only counted as processes.
const JVMS_MAX: usize = 4_096;
/// Words of the numbers in an agent's report, in its order.
const TOLD: [&str; 4] =
    [counts::CLASSES_HIDDEN, counts::CLASSES_GENERATED, counts::CLASSES_TOLD, counts::CLASSES_UNLOADED];

type Numbers = BTreeMap<&'static str, u64>;

/// Numbers of JVMs and of their classes.
#[derive(Debug, Default)]
pub struct Counted {
    /// Those that run: how each is observed, and its newest numbers.
    running: HashMap<u32, (&'static str, Numbers)>,
    /// All JVMs, and the numbers of those that ended, by how they were observed.
    all: BTreeMap<&'static str, ObservedNumbers>,
}

impl Counted {
    /// A JVM is observed in this way from now on; the second word about one changes nothing.
    pub fn begin(&mut self, pid: u32, how: &'static str) {
        if self.running.contains_key(&pid) {
            return;
        }
        self.all.entry(how).or_default().processes += 1;
        if self.running.len() < JVMS_MAX {
            self.running.insert(pid, (how, Numbers::new()));
        }
    }

    /// An agent told its numbers: hidden, generated, placed, and where its JVM counts them, unloaded classes.
    pub fn told(&mut self, pid: u32, text: &str) {
        let Some((_, numbers)) = self.running.get_mut(&pid) else { return };
        for (word, number) in TOLD.iter().zip(text.split(' ')) {
            let known = numbers.entry(word).or_default();
            *known = (*known).max(number.parse().unwrap_or(0));
        }
    }

    /// Classes had been unloaded before the agent came.
    pub fn unloaded_before(&mut self, pid: u32, classes: u64) {
        if let Some((_, numbers)) = self.running.get_mut(&pid) {
            numbers.insert(counts::CLASSES_UNLOADED_BEFORE, classes);
        }
    }

    /// A process ended, or became another JVM.
    pub fn end(&mut self, pid: u32) {
        let Some((how, numbers)) = self.running.remove(&pid) else { return };
        add(&mut self.all.entry(how).or_default().counts, &numbers);
    }

    /// All so far, by how they were observed.
    pub fn numbers(&self) -> BTreeMap<&'static str, ObservedNumbers> {
        let mut all = self.all.clone();
        for (how, numbers) in self.running.values() {
            add(&mut all.entry(how).or_default().counts, numbers);
        }
        all
    }
}

fn add(to: &mut Numbers, numbers: &Numbers) {
    for (word, number) in numbers {
        let sum = to.entry(word).or_default();
        *sum = sum.saturating_add(*number);
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_schemas::words::observed;

    use super::*;

    #[test]
    fn sums_over_jvms_that_run_and_those_that_ended() {
        let mut counted = Counted::default();
        counted.begin(1, observed::AT_START);
        counted.told(1, "1 2 6 0");
        counted.told(1, "4 5 7 1");
        counted.begin(1, observed::REFUSED);
        counted.begin(2, observed::ATTACHED);
        counted.unloaded_before(2, 7);
        counted.told(2, "10 x");
        let before = counted.numbers();
        counted.end(1);
        counted.end(1);
        assert_eq!(counted.numbers(), before);
        // Another with its number.
        counted.begin(1, observed::AT_START);
        counted.told(1, "1 0 2 0");
        counted.told(3, "9 9 9 9");
        let text: Vec<String> = counted
            .numbers()
            .iter()
            .map(|(how, numbers)| format!("{how} {} {:?}", numbers.processes, numbers.counts))
            .collect();
        assert_eq!(
            text,
            [
                r#"at-start 2 {"classes-generated": 5, "classes-hidden": 5, "classes-told": 9, "classes-unloaded": 1}"#,
                r#"attached 1 {"classes-generated": 0, "classes-hidden": 10, "classes-unloaded-before": 7}"#,
            ]
        );
    }
}
