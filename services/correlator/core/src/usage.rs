//! Whether a package is used: evidence against the ecosystem's threshold, and the lack of it against coverage.
//! What was not looked at from the first exec must never come out as unused.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::not_measurable::remedy_of;
use plimsoll_schemas::words::{
    COPY_OF_PACKAGES, Rung, copied_file_of, measured_as, ownership_state, package_kind, possible_copy_of,
    probe, usage,
};

use crate::artifact::Artifact;
use crate::coverage::Facts;
use crate::entity::{Ownership, Span};
use crate::limits::AMBIGUOUS_WITH_MAX;
use crate::merge::earlier;
use crate::package::Known;

/// Packages that a reason names for a use in doubt.
const RIVALS_SHOWN_MAX: usize = 3;

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
const OBSERVABLE_BY: &[(&str, &[&str])] = &[
    ("debian", &[probe::EBPF_FILES]),
    ("ubuntu", &[probe::EBPF_FILES]),
    ("alpine", &[probe::EBPF_FILES]),
    ("rpm", &[probe::EBPF_FILES]),
    ("pypi", &[probe::EBPF_FILES, probe::PYTHON_IMPORT]),
    ("npm", &[probe::EBPF_FILES, probe::NODE_MODULE]),
    ("gem", &[probe::EBPF_FILES, probe::RUBY_FEATURE]),
    ("composer", &[probe::EBPF_FILES, probe::PHP_INCLUDE]),
    ("maven", &[probe::JVMTI]),
    ("golang", &[probe::EBPF_FILES]),
    ("cargo", &[probe::EBPF_FILES]),
];

/// The rung from which a package counts as used. An ecosystem that the table lacks is judged by its kind.
pub(crate) fn threshold(kind: &str, ecosystem: &str) -> Rung {
    let by_kind = if kind == package_kind::OS { Rung::Accessed } else { Rung::Loaded };
    THRESHOLDS.iter().find(|(name, _)| *name == ecosystem).map_or(by_kind, |(_, rung)| *rung)
}

/// The probes that could see a use of a package which no scan described.
pub(crate) fn default_observable_by(ecosystem: &str) -> Vec<String> {
    let row = OBSERVABLE_BY.iter().find(|(name, _)| *name == measured_as(ecosystem));
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
    /// Package URLs of those that part of the use may be of instead.
    pub ambiguous_with: Vec<String>,
}

impl Use {
    /// Not used where the scan found it, but a copy elsewhere was: an archive unpacked by its server, a cache.
    pub(crate) fn of_copied(self) -> Self {
        Self {
            usage: usage::NOT_MEASURED,
            reason: "a copy of it was used, which the scan does not list".to_owned(),
            remedy: "treat it as used; or scan the application as it runs, unpacked".to_owned(),
            ..self
        }
    }

    /// Not used as the scan of a host lists it, but in another version: it was upgraded between the scan and the run.
    pub(crate) fn of_other_version(self, purl: &str) -> Self {
        Self {
            usage: usage::NOT_MEASURED,
            reason: format!("another version of it was used, which the scan does not list: {purl}"),
            remedy: "scan again what runs now, and restart the workload while it is watched".to_owned(),
            ..self
        }
    }
}

/// Evidence about one package, joined over its paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PackageEvidence<'a> {
    pub rungs: BTreeMap<u8, Span>,
    /// Something at or above the threshold can only be its own.
    pub certain: bool,
    /// Package URLs of those that the rest at or above the threshold may be of instead.
    pub rivals: BTreeSet<&'a str>,
    /// A file that an interpreter of its language read, and that may be code by its name.
    pub may_be_code: Option<&'a [u8]>,
    /// Classes of an archive that others are merged into as well, which may be its own.
    pub merged: Option<Merged<'a>>,
}

/// Classes that may be a package's own, without being credited to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merged<'a> {
    pub archive: &'a [u8],
    /// With its trailing dot.
    pub java_package: &'a str,
    /// How many other packages lie in the archive.
    pub others: usize,
}

impl PackageEvidence<'_> {
    fn highest(&self) -> Option<Rung> {
        let number = *self.rungs.keys().next_back()?;
        Rung::ALL.into_iter().find(|rung| *rung as u8 == number)
    }
}

impl Artifact {
    /// The evidence about a package by which it is judged.
    pub(crate) fn package_evidence(&self, package: &Known, component: Option<&str>) -> PackageEvidence<'_> {
        let threshold = threshold(package.kind, package.ecosystem) as u8;
        let mut joined = PackageEvidence::default();
        for credit in self.evidence_of(package.id, component) {
            credit.seen.join_into(&mut joined.rungs);
            if !credit.seen.reaches(threshold) {
                joined.may_be_code = joined.may_be_code.or(credit.seen.module());
                continue;
            }
            joined.certain |= credit.rivals.is_empty();
            joined.rivals.extend(credit.rivals.iter().map(|owner| owner.purl.as_str()));
        }
        if !joined.certain && joined.rivals.is_empty() {
            joined.merged = self.merged_classes_of(package.id, component);
        }
        joined
    }

    /// The used paths of a scope whose owner could not be found out.
    pub(crate) fn unresolved_in(&self, component: Option<&str>) -> Unresolved {
        let mut unresolved = Unresolved::default();
        for path in self.unresolved_paths() {
            // Its role is known where the operating system's database was read, and does not list it.
            let known = self.ownership.get(path);
            let is_no_os_file = known.is_some_and(|known| known.owners.is_empty() && !known.role.is_empty());
            for seen in self.evidence_at(path) {
                if !self.counts_for(seen.component(), component) {
                    continue;
                }
                unresolved.accessed |= !is_no_os_file && seen.reaches(Rung::Accessed as u8);
                if seen.reaches(Rung::Loaded as u8) {
                    unresolved.loaded.insert(path.path.clone());
                }
            }
        }
        for path in &self.cache.placeless {
            for seen in self.evidence_at(path) {
                if !self.counts_for(seen.component(), component) {
                    continue;
                }
                if let Some(copied) = copied_file_of(&path.path) {
                    if seen.reaches(Rung::Loaded as u8) {
                        unresolved.add_copy(copied, self.ownership.get(path));
                    }
                    continue;
                }
                let Some(class) = seen.first_class() else { continue };
                let Some(ownership) = self.ownership.get(path) else {
                    unresolved.any_archive = true;
                    continue;
                };
                let is_unknown =
                    ownership.state == ownership_state::UNRESOLVED && ownership.owners.is_empty();
                unresolved.any_archive |=
                    ownership.any_archive || !ownership.incomplete.is_empty() || is_unknown;
                for owner in &ownership.owners {
                    let id = owner.package_id.clone();
                    unresolved.classes.entry(id).or_insert_with(|| (class.clone(), copy_in(&path.path)));
                }
            }
        }
        unresolved
    }
}

/// Used paths of unknown owner, such that asking for each of ten thousand packages whether one could be its own costs
/// little.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Unresolved {
    /// Some path was accessed at least: it may be of any OS package.
    accessed: bool,
    /// Paths that were loaded at least.
    loaded: BTreeSet<Vec<u8>>,
    /// By package of which it may be: a class from nobody can tell where, or from what may be a copy of its archive.
    classes: BTreeMap<String, (String, String)>,
    /// Nobody looked whose such a class may be.
    any_archive: bool,
    /// By package, how a file that may be a copy of one of its own was used at a place which no scan lists.
    copies: BTreeMap<String, String>,
    /// Nobody could tell of what such a file is a copy.
    any_file: bool,
    /// Files, and directories with a slash at their ends, of volumes, which hide what the image has there.
    hidden: BTreeSet<Vec<u8>>,
}

/// What may be a use of a package, without being known to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PossibleUse<'a> {
    Nothing,
    /// A path of unknown owner.
    Path,
    /// This class, which came from no file.
    Class(&'a str),
    /// This class, which came from an archive that no scan lists.
    Copy(&'a str, &'a str),
    /// A file at a place that no scan lists; how it was used.
    File(&'a str),
    /// What lies on a volume in the place of a package.
    Hidden,
}

/// The archive that a path names as what may be a copy; empty if none.
fn copy_in(path: &[u8]) -> String {
    possible_copy_of(path).map_or_else(String::new, |copy| String::from_utf8_lossy(copy).into_owned())
}

impl Unresolved {
    /// A file was used that may be a copy.
    fn add_copy(&mut self, copied: &[u8], ownership: Option<&Ownership>) {
        match ownership {
            _ if copied.is_empty() => self.any_file = true,
            _ if !copied.starts_with(COPY_OF_PACKAGES) => drop(self.hidden.insert(copied.to_vec())),
            // The answer is on its way.
            None => self.any_file = true,
            Some(ownership) => {
                for owner in &ownership.owners {
                    let how = || ownership.reason.clone();
                    self.copies.entry(owner.package_id.clone()).or_insert_with(how);
                }
            }
        }
    }

    /// What could belong to a package, strong enough to be a use of it.
    pub fn of(&self, package: &Known) -> PossibleUse<'_> {
        let is_path = if package.kind == package_kind::OS {
            self.accessed
        } else {
            self.any_file
                || self.any_archive && package.ecosystem == "maven"
                || !self.loaded.is_empty() && package.may_hold_any(&self.loaded)
        };
        let is_hidden = package.kind != package_kind::OS
            && package.scan.is_some()
            && !self.hidden.is_empty()
            && package.may_hold_any(&self.hidden);
        match self.classes.get(package.id) {
            _ if is_hidden => PossibleUse::Hidden,
            _ if is_path => PossibleUse::Path,
            Some((class, copy)) if copy.is_empty() => PossibleUse::Class(class),
            Some((class, copy)) => PossibleUse::Copy(class, copy),
            None => self.copies.get(package.id).map_or(PossibleUse::Nothing, |how| PossibleUse::File(how)),
        }
    }
}

/// Hooks of languages that can evaluate a text, of which their interpreter does not tell from where it came.
const EVALUATING: [&str; 4] =
    [probe::PYTHON_IMPORT, probe::NODE_MODULE, probe::RUBY_FEATURE, probe::PHP_INCLUDE];

/// Judges a package, of which there may be uses that nobody can tell.
pub(crate) fn judge(
    package: &Known,
    evidence: &PackageEvidence,
    facts: &Facts,
    possible: PossibleUse<'_>,
) -> Use {
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
        if !evidence.certain && !evidence.rivals.is_empty() {
            judged.reason += &doubt(&evidence.rivals);
        }
        judged.ambiguous_with =
            evidence.rivals.iter().take(AMBIGUOUS_WITH_MAX).map(|purl| (*purl).to_owned()).collect();
        return judged;
    }
    let (usage, reason, remedy) = judge_lack(package, evidence, facts, possible);
    judged.usage = usage;
    judged.reason = reason;
    judged.remedy = remedy;
    judged
}

/// Said of a use that rests on nothing but what may be another package's.
fn doubt(rivals: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = rivals.iter().take(RIVALS_SHOWN_MAX).copied().collect();
    let more = match rivals.len().saturating_sub(RIVALS_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" or {more} more"),
    };
    format!(", unless it is of {}{more}: they share the place and the names", shown.join(" or "))
}

/// What it means that nothing was seen.
fn judge_lack(
    package: &Known,
    evidence: &PackageEvidence,
    facts: &Facts,
    possible: PossibleUse<'_>,
) -> (&'static str, String, String) {
    let coverage = &facts.coverage;
    if !package.not_measurable_reason.is_empty() {
        let reason = package.not_measurable_reason;
        return (usage::NOT_MEASURABLE, reason.to_owned(), remedy_of(reason).to_owned());
    }
    if package.observable_by.is_empty() {
        let reason = format!("no probe can see whether {} packages are used", package.ecosystem);
        let remedy = "judge it by what the application needs, until a probe exists".to_owned();
        return (usage::NOT_MEASURABLE, reason, remedy);
    }
    if coverage.workload_count == 0 {
        let reason = "no workload of it has run under observation".to_owned();
        return (usage::NOT_MEASURED, reason, package.how_to_observe.clone().into_owned());
    }
    if facts.sandboxed_count == coverage.workload_count {
        let reason = "all its workloads ran in sandboxes that no probe can look into".to_owned();
        let remedy = "run one workload outside of the sandbox (gVisor, Kata) under observation".to_owned();
        return (usage::NOT_MEASURABLE, reason, remedy);
    }
    if let Some(reason) = facts.not_measurable.get(measured_as(package.ecosystem)) {
        let (reason, remedy) = reason.rsplit_once("; ").unwrap_or((reason, "run it in another form"));
        return (usage::NOT_MEASURABLE, reason.to_owned(), remedy.to_owned());
    }
    let probes = package.observable_by.join(" or ");
    if !facts.watched {
        if !facts.only_tools.is_empty() {
            let known = facts.only_tools.rsplit_once("; ");
            let (reason, remedy) =
                known.unwrap_or((&facts.only_tools, "run the application under observation"));
            return (usage::NOT_MEASURED, reason.to_owned(), remedy.to_owned());
        }
        let reason = format!("no workload was watched by {probes}");
        if let Some((why, remedy)) = facts.unavailable.rsplit_once("; ") {
            return (usage::NOT_MEASURED, format!("{reason}: {why}"), remedy.to_owned());
        }
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
            let reason = format!("events were lost while {probes} watched");
            // A new run does not always help: the agent knows.
            if let Some((why, remedy)) = facts.lost_reason.rsplit_once("; ") {
                return (usage::NOT_MEASURED, format!("{reason}: {why}"), remedy.to_owned());
            }
            match facts.lost_reason.as_str() {
                "" => reason,
                why => format!("{reason}: {why}"),
            }
        } else if facts.gap {
            format!("watching by {probes} was interrupted")
        } else {
            format!("watching by {probes} began after the workload had started")
        };
        return (usage::NOT_MEASURED, reason, restart);
    }
    match possible {
        PossibleUse::Nothing => {}
        PossibleUse::Hidden => {
            let reason =
                "files of a volume, which is no part of the image, were used in its place".to_owned();
            let remedy =
                "run it once without the volume, or scan and run the volume's directory as a component";
            return (usage::NOT_MEASURED, reason, remedy.to_owned());
        }
        PossibleUse::File(how) => {
            let reason = format!("a copy of it may have been used, which the scan does not list: {how}");
            let remedy =
                "treat it as used; or scan and run the application where its packages lie".to_owned();
            return (usage::NOT_MEASURED, reason, remedy);
        }
        PossibleUse::Path => {
            let reason =
                "paths were used whose owner could not be found out; some may belong to it".to_owned();
            let remedy = "see that the package resolver runs beside the agent, then ".to_owned() + &restart;
            return (usage::NOT_MEASURED, reason, remedy);
        }
        PossibleUse::Class(class) => {
            let reason = format!(
                "{class} was loaded from no file that its JVM names, and it has classes of that Java package"
            );
            let remedy = "judge it by what the application needs".to_owned();
            return (usage::NOT_MEASURED, reason, remedy);
        }
        PossibleUse::Copy(class, copy) => {
            let reason = format!(
                "{class} was loaded from {copy}, which no scan lists and which may be a copy of it: it has classes of that \
                 Java package"
            );
            let remedy = "treat it as used; or unpack the application into its own directory, and scan and run it there";
            return (usage::NOT_MEASURED, reason, remedy.to_owned());
        }
    }
    if let Some(path) = evidence.may_be_code {
        let path = String::from_utf8_lossy(path);
        let reason = format!("an interpreter read a file of it that may be code: {path}");
        let remedy = format!("treat it as used, unless {path} is data only");
        return (usage::NOT_MEASURED, reason, remedy);
    }
    if let Some(Merged { archive, java_package, others }) = evidence.merged {
        let archive = String::from_utf8_lossy(archive);
        let others = if others == 1 { "1 other".to_owned() } else { format!("{others} others") };
        let java_package = java_package.trim_end_matches('.');
        let reason = format!(
            "it lies merged with {others} in {archive}, and what was loaded of {java_package} may be its own: which class is \
             whose cannot be told"
        );
        let remedy =
            "treat it as used; or scan and run the application with its libraries as jars of their own"
                .to_owned();
        return (usage::NOT_MEASURED, reason, remedy);
    }
    let watched = coverage.workload_count_from_first_exec;
    let workloads = if watched == 1 { "1 workload".to_owned() } else { format!("{watched} workloads") };
    let reason = match evidence.highest() {
        Some(Rung::Accessed) => format!("its files were only read, none was loaded, in {workloads}"),
        _ => format!("none of its files was used in {workloads}"),
    };
    let others = match coverage.workload_count - watched {
        0 => String::new(),
        1 => "; 1 more was not".to_owned(),
        others => format!("; {others} more were not"),
    };
    let is_hook = |probe: &String| EVALUATING.contains(&probe.as_str());
    let by_hook = match coverage.probes.as_slice() {
        [] => "",
        probes if probes.iter().all(is_hook) => {
            "; the hook does not see what a program reads as text and evaluates"
        }
        _ => "",
    };
    (usage::UNUSED, format!("{reason} watched from the first exec{others}{by_hook}"), String::new())
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
