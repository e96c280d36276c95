//! How the processes of each language were observed, and how that reads.
//! It must never count a process twice that stands under its component's artifact and under its host's.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::words::language;
use plimsoll_schemas::words::observed::{self, counts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::{count_of, number};

/// How the processes of one language were observed by one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Observed {
    /// Whose packages the processes use: maven, npm, pypi, gem, composer, golang, cargo or debian.
    #[schema(example = "maven")]
    pub ecosystem: String,
    /// Probe that observed them, or should have; empty where no probe can measure packages of the ecosystem.
    #[schema(example = "jvmti")]
    pub probe: String,
    /// `at-start` (hooked or watched from the process's start), `attached` (after it had started), `refused` (could
    /// not be observed) or `not-measurable` (no probe could tell which packages of the ecosystem were used).
    #[schema(example = "attached")]
    pub how: String,
    /// How many processes so. From 100 on two significant digits while a workload lives.
    pub processes: i64,
    /// Workloads in which there were such processes; 0 in what is said of one workload.
    pub workload_count: i64,
    /// Of Java classes: `classes-told`, `classes-generated`, `classes-hidden`, `classes-unloaded` and
    /// `classes-unloaded-before` (the attach).
    pub counts: BTreeMap<String, i64>,
    /// Why they could not be observed, each with the remedy behind the last semicolon, at most 10.
    pub reasons: Vec<String>,
}

impl Observed {
    /// Joins what several artifacts of one component say, each with its key.
    pub fn join(found: impl IntoIterator<Item = (String, Vec<Self>)>) -> Vec<Self> {
        // The workloads of a host's artifact are those of the component's own: they count where there is nothing else.
        let mut sums: [BTreeMap<(String, String, String), Self>; 2] = Default::default();
        for (artifact, list) in found {
            let sums = &mut sums[usize::from(artifact.starts_with("host/"))];
            for one in list {
                match sums.entry((one.ecosystem.clone(), one.probe.clone(), one.how.clone())) {
                    std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(one)),
                    std::collections::btree_map::Entry::Occupied(mut place) => {
                        place.get_mut().join_with(one, i64::saturating_add);
                    }
                }
            }
        }
        let [mut all, hosts] = sums;
        for (key, host) in hosts {
            match all.get_mut(&key) {
                Some(known) => known.join_with(host, i64::max),
                None => drop(all.insert(key, host)),
            }
        }
        all.into_values().collect()
    }

    fn join_with(&mut self, other: Self, join: fn(i64, i64) -> i64) {
        self.processes = join(self.processes, other.processes);
        self.workload_count = join(self.workload_count, other.workload_count);
        for (word, number) in other.counts {
            let known = self.counts.entry(word).or_default();
            *known = join(*known, number);
        }
        let reasons: BTreeSet<String> = self.reasons.drain(..).chain(other.reasons).collect();
        self.reasons = reasons.into_iter().collect();
    }

    /// `2 JVMs`, `1 Go program`.
    pub fn subject(&self) -> String {
        let (one, many) = match self.ecosystem.as_str() {
            "maven" => return count_of(self.processes, "JVM", "JVMs"),
            "golang" | "cargo" => ("program", "programs"),
            _ => ("process", "processes"),
        };
        let count = number(self.processes);
        let noun = if self.processes == 1 { one } else { many };
        match language(&self.ecosystem) {
            Some(language) => format!("{count} {language} {noun}"),
            None => format!("{count} {noun}"),
        }
    }

    /// What happened to the processes.
    pub fn how_name(&self) -> &str {
        let one = self.processes == 1;
        match self.how.as_str() {
            observed::AT_START if one => "observed from its start",
            observed::AT_START => "observed from their start",
            observed::ATTACHED if one => "observed only after it had started",
            observed::ATTACHED => "observed only after they had started",
            observed::REFUSED => "could not be observed",
            observed::NOT_MEASURABLE => "cannot be measured",
            other => other,
        }
    }

    /// What became of the classes; empty where none are counted.
    pub fn classes(&self) -> String {
        let count = |word: &str| self.counts.get(word).copied().unwrap_or(0);
        let mut parts = Vec::new();
        let told = count(counts::CLASSES_TOLD);
        if told > 0 {
            parts.push(count_of(told, "class told", "classes told"));
        }
        let (generated, hidden) = (count(counts::CLASSES_GENERATED), count(counts::CLASSES_HIDDEN));
        let without_place: Vec<String> = [
            (generated, "class made at run time", "classes made at run time"),
            (hidden, "hidden class", "hidden classes"),
        ]
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| count_of(number, one, many))
        .collect();
        if !without_place.is_empty() {
            let verb = if generated + hidden == 1 { "names" } else { "name" };
            parts.push(format!("{} {verb} no archive", without_place.join(" and ")));
        }
        let (unloaded, before) = (count(counts::CLASSES_UNLOADED), count(counts::CLASSES_UNLOADED_BEFORE));
        if unloaded > 0 {
            parts.push(format!("{} unloaded while watched", number(unloaded)));
        }
        if before > 0 {
            parts.push(format!("{} unloaded before the attach, which ones is not known", number(before)));
        }
        parts.join(", ")
    }

    /// One line about it, without the reasons.
    pub fn sentence(&self) -> String {
        let mut line = match self.how.as_str() {
            observed::NOT_MEASURABLE => {
                let where_ = count_of(self.workload_count, "workload", "workloads");
                format!("{} in {where_}", self.how_name())
            }
            _ => format!("{} {} ({})", self.subject(), self.how_name(), self.probe),
        };
        let classes = self.classes();
        if !classes.is_empty() {
            line += ": ";
            line += &classes;
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jvms(how: &str, processes: i64, counts: &[(&str, i64)]) -> Observed {
        Observed {
            ecosystem: "maven".into(),
            probe: "jvmti".into(),
            how: how.into(),
            processes,
            workload_count: 1,
            counts: counts.iter().map(|(word, number)| ((*word).to_owned(), *number)).collect(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn sentences() {
        let check = |one: Observed, expect: &str| assert_eq!(one.sentence(), expect);
        check(
            jvms(
                "attached",
                2,
                &[("classes-told", 1_204), ("classes-generated", 311), ("classes-hidden", 12)],
            ),
            "2 JVMs observed only after they had started (jvmti): 1,204 classes told, 311 classes made at run time and 12 \
             hidden classes name no archive",
        );
        check(
            jvms(
                "at-start",
                1,
                &[("classes-hidden", 1), ("classes-unloaded", 4), ("classes-unloaded-before", 1)],
            ),
            "1 JVM observed from its start (jvmti): 1 hidden class names no archive, 4 unloaded while watched, \
             1 unloaded before the attach, which ones is not known",
        );
        let other = |ecosystem: &str| Observed { ecosystem: ecosystem.into(), ..jvms("refused", 3, &[]) };
        check(other("npm"), "3 Node.js processes could not be observed (jvmti)");
        check(other("golang"), "3 Go programs could not be observed (jvmti)");
        check(other("debian"), "3 processes could not be observed (jvmti)");
        let bundle = Observed { how: "not-measurable".into(), probe: String::new(), ..other("npm") };
        check(bundle, "cannot be measured in 1 workload");
        check(Observed { how: "novel".into(), ..other("gem") }, "3 Ruby processes novel (jvmti)");
    }

    #[test]
    fn a_host_adds_nothing_to_what_its_component_says() {
        let of = |artifact: &str, one: Observed| (artifact.to_owned(), vec![one]);
        let why = |reason: &str| Observed { reasons: vec![reason.into()], ..jvms("refused", 1, &[]) };
        let joined = Observed::join([
            of("component/a/b/1", jvms("attached", 2, &[("classes-hidden", 3)])),
            of("image/sha256:1", jvms("attached", 1, &[("classes-hidden", 4)])),
            of("host/m", jvms("attached", 2, &[("classes-hidden", 3)])),
            of("host/m", jvms("at-start", 1, &[])),
            of("image/sha256:1", why("b; do")),
            of("image/sha256:2", why("a; do")),
            of("image/sha256:2", why("b; do")),
        ]);
        let shown: Vec<_> = joined.iter().map(|one| (one.how.as_str(), one.processes)).collect();
        assert_eq!(shown, [("at-start", 1), ("attached", 3), ("refused", 3)]);
        assert_eq!(joined[1].counts["classes-hidden"], 7);
        assert_eq!(joined[2].reasons, ["a; do", "b; do"]);
    }
}
