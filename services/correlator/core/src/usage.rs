//! Whether a package is used: evidence against the ecosystem's threshold, and the lack of it against coverage.
//! What was not looked at from the first exec must never come out as unused.

use std::collections::BTreeMap;

use plimsoll_schemas::words::{Rung, package_kind, path_role, probe, usage};

use crate::artifact::Artifact;
use crate::coverage::Facts;
use crate::entity::{Evidence, EvidenceKey, Ownership, PathKey, Span};
use crate::merge::earlier;
use crate::package::Known;

/// The rung from which a package counts as used, by ecosystem (DESIGN section 3).
const THRESHOLDS: &[(&str, Rung)] = &[
    ("debian", Rung::Accessed),
    ("ubuntu", Rung::Accessed),
    ("alpine", Rung::Accessed),
    ("rpm", Rung::Accessed),
    ("pypi", Rung::Loaded),
    ("npm", Rung::Loaded),
    ("gem", Rung::Loaded),
    ("composer", Rung::Loaded),
    ("maven", Rung::Loaded),
    ("golang", Rung::Loaded),
    ("cargo", Rung::Loaded),
];

/// The probes that could see a use of a package which no scan described, by ecosystem.
const OBSERVABLE_BY: &[(&str, &[&str])] =
    &[("debian", &[probe::EBPF_FILES]), ("pypi", &[probe::EBPF_FILES, probe::PYTHON_IMPORT])];

/// The rung from which a package counts as used. An ecosystem that the table lacks is judged by its kind.
pub(crate) fn threshold(kind: &str, ecosystem: &str) -> Rung {
    let by_kind = if kind == package_kind::OS { Rung::Accessed } else { Rung::Loaded };
    THRESHOLDS.iter().find(|(name, _)| *name == ecosystem).map_or(by_kind, |(_, rung)| *rung)
}

/// The probes that could see a use of a package which no scan described.
pub(crate) fn default_observable_by(ecosystem: &str) -> Vec<String> {
    let row = OBSERVABLE_BY.iter().find(|(name, _)| *name == ecosystem);
    row.map(|(_, probes)| probes.iter().map(|probe| (*probe).to_owned()).collect()).unwrap_or_default()
}

/// Use with its reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Use {
    pub usage: &'static str,
    pub reason: String,
    pub remedy: String,
    /// Empty if nothing ran.
    pub rung: &'static str,
    pub first_used_ms: i64,
    pub last_used_ms: i64,
    /// Last sign of any use, below the threshold too.
    pub last_evidence_ms: i64,
}

/// Evidence about one package, joined over its paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PackageEvidence {
    pub rungs: BTreeMap<u8, Span>,
}

impl PackageEvidence {
    fn highest(&self) -> Option<Rung> {
        let number = *self.rungs.keys().next_back()?;
        Rung::ALL.into_iter().find(|rung| *rung as u8 == number)
    }
}

impl Artifact {
    /// All evidence of a path.
    pub(crate) fn evidence_at<'a>(
        &'a self,
        path: &'a PathKey,
    ) -> impl Iterator<Item = (&'a EvidenceKey, &'a Evidence)> {
        let from = EvidenceKey {
            at: path.clone(),
            component: String::new(),
            kind: String::new(),
            name: String::new(),
        };
        self.evidence.range(from..).take_while(move |(key, _)| key.at == *path)
    }

    /// The evidence that counts for a package: on paths that it owns and that are neither metadata nor documentation.
    pub(crate) fn evidence_of<'a>(
        &'a self,
        package_id: &str,
        component: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a EvidenceKey, &'a Evidence, &'a Ownership)> {
        let paths = self.cache.owned.get(package_id).into_iter().flatten();
        paths
            .filter_map(|path| self.ownership.get(path).map(|ownership| (path, ownership)))
            .filter(|(_, ownership)| counts(&ownership.role))
            .flat_map(|(path, ownership)| self.evidence_at(path).map(move |(key, e)| (key, e, ownership)))
            .filter(move |(key, ..)| component.is_none_or(|component| key.component == component))
    }

    pub(crate) fn package_evidence(&self, package_id: &str, component: Option<&str>) -> PackageEvidence {
        let mut joined = PackageEvidence::default();
        for (_, evidence, _) in self.evidence_of(package_id, component) {
            for (rung, span) in &evidence.rungs {
                joined.rungs.entry(*rung).and_modify(|kept| *kept = kept.join(*span)).or_insert(*span);
            }
        }
        joined
    }

    /// Unresolved paths that could belong to the package.
    pub(crate) fn unresolved_that_may_belong(&self, package: &Known, component: Option<&str>) -> usize {
        let threshold = threshold(package.kind, package.ecosystem) as u8;
        self.unresolved_paths()
            .filter(|path| package.kind == package_kind::OS || package.may_hold(&path.path))
            .filter(|path| {
                self.evidence_at(path).any(|(key, evidence)| {
                    component.is_none_or(|component| key.component == component)
                        && evidence.rungs.keys().any(|rung| *rung >= threshold)
                })
            })
            .count()
    }
}

/// Whether a read of such a path is a use of its package.
fn counts(role: &str) -> bool {
    role != path_role::METADATA && role != path_role::DOCUMENTATION
}

/// Judges a package: `unresolved` is the number of used paths of unknown owner that could belong to it.
pub(crate) fn judge(package: &Known, evidence: &PackageEvidence, facts: &Facts, unresolved: usize) -> Use {
    let threshold = threshold(package.kind, package.ecosystem);
    let highest = evidence.highest();
    let mut judged = Use::default();
    for (rung, span) in &evidence.rungs {
        judged.last_evidence_ms = judged.last_evidence_ms.max(span.last_ms);
        if *rung >= threshold as u8 {
            judged.first_used_ms = earlier(judged.first_used_ms, span.first_ms);
            judged.last_used_ms = judged.last_used_ms.max(span.last_ms);
        }
    }
    let ran = facts.coverage.workload_count > 0;
    judged.rung = highest.map_or(if ran { Rung::Deployed.as_str() } else { "" }, Rung::as_str);
    if highest.is_some_and(|rung| rung >= threshold) {
        judged.usage = usage::USED;
        judged.reason = match highest {
            Some(Rung::Accessed) => "a file of it was read",
            Some(Rung::Loaded) => "code of it was loaded",
            Some(Rung::Executed) => "code of it was seen executing",
            _ => "a vulnerable function of it was seen executing",
        }
        .to_owned();
        return judged;
    }
    let (usage, reason, remedy) = judge_lack(package, highest, facts, unresolved);
    judged.usage = usage;
    judged.reason = reason;
    judged.remedy = remedy;
    judged
}

/// What it means that nothing was seen.
fn judge_lack(
    package: &Known,
    highest: Option<Rung>,
    facts: &Facts,
    unresolved: usize,
) -> (&'static str, String, String) {
    let coverage = &facts.coverage;
    if !package.not_measurable_reason.is_empty() {
        let remedy = "judge it by what the application needs; no probe can tell".to_owned();
        return (usage::NOT_MEASURABLE, package.not_measurable_reason.to_owned(), remedy);
    }
    if package.observable_by.is_empty() {
        let reason = format!("no probe can see whether {} packages are used", package.ecosystem);
        let remedy = "judge it by what the application needs, until a probe exists".to_owned();
        return (usage::NOT_MEASURABLE, reason, remedy);
    }
    if coverage.workload_count == 0 {
        let reason = "no workload of it has run under observation".to_owned();
        return (usage::NOT_MEASURED, reason, package.how_to_observe.to_owned());
    }
    if facts.sandboxed_count == coverage.workload_count {
        let reason = "all its workloads ran in sandboxes that no probe can look into".to_owned();
        let remedy = "run one workload outside of the sandbox (gVisor, Kata) under observation".to_owned();
        return (usage::NOT_MEASURABLE, reason, remedy);
    }
    let probes = package.observable_by.join(" or ");
    if !facts.watched {
        let reason = format!("no workload was watched by {probes}");
        let remedy = if facts.unavailable.is_empty() {
            format!("let the runtime agent watch it with {probes}, then restart the workload")
        } else {
            facts.unavailable.clone()
        };
        return (usage::NOT_MEASURED, reason, remedy);
    }
    if facts.overflow > 0 {
        let reason = format!("{} uses were too many to be kept", facts.overflow);
        let remedy = "find out what opens so many files in this artifact; volumes are not counted".to_owned();
        return (usage::NOT_MEASURED, reason, remedy);
    }
    let restart = "restart the workload while it is watched".to_owned();
    if !coverage.from_first_exec {
        if facts.other_root && !facts.lossy && !facts.gap {
            let reason = "the workload did not run on the packages that were scanned".to_owned();
            let remedy =
                "scan the directory that it runs in, or run it with --root on the one that was scanned";
            return (usage::NOT_MEASURED, reason, remedy.to_owned());
        }
        let reason = if facts.lossy {
            format!("events were lost while {probes} watched")
        } else if facts.gap {
            format!("watching by {probes} was interrupted")
        } else {
            format!("watching by {probes} began after the workload had started")
        };
        return (usage::NOT_MEASURED, reason, restart);
    }
    if unresolved > 0 {
        let reason = "paths were used whose owner could not be found out; some may belong to it".to_owned();
        let remedy = "see that the package resolver runs beside the agent, then ".to_owned() + &restart;
        return (usage::NOT_MEASURED, reason, remedy);
    }
    let watched = coverage.workload_count_from_first_exec;
    let workloads = if watched == 1 { "1 workload".to_owned() } else { format!("{watched} workloads") };
    let reason = match highest {
        Some(Rung::Accessed) => format!("its files were only read, none was loaded, in {workloads}"),
        _ => format!("none of its files was used in {workloads}"),
    };
    (usage::UNUSED, reason + " watched from the first exec", String::new())
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
