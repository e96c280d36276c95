//! What to do with a package: the table of DESIGN section 3.
//! It must never say "no action" of what was not assessed, nor advise removing what something holds.

use plimsoll_schemas::words::{package_kind, recommendation, usage, vulnerable};

use crate::hold::ESSENTIAL;
use crate::package::{Assessment, Known};
use crate::usage::Use;

/// Fixed versions named in a text.
const FIXED_VERSIONS_SHOWN_MAX: usize = 3;
/// Holders named in a text.
const HOLDERS_SHOWN_MAX: usize = 3;

/// How remedies begin that are no observation, the agent's own among them: another run would come out the same.
const NO_RUN_TELLS: &[&str] = &["a new run changes nothing", "judge it", "treat it as used"];

/// Code and text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recommendation {
    pub code: &'static str,
    pub text: String,
}

/// The recommendation for a package that is held by `held_by`.
pub(crate) fn recommend(
    package: &Known,
    assessment: &Assessment,
    judged: &Use,
    held_by: &[String],
) -> Recommendation {
    let os = package.kind == package_kind::OS;
    let measured = judged.usage == usage::USED || judged.usage == usage::UNUSED;
    let observe = || format!("{}: {}. {}", lead(judged), judged.reason, sentence(&judged.remedy));
    let (code, text) = match (assessment.vulnerable, judged.usage) {
        (vulnerable::NOT_ASSESSED, _) => {
            let feed = format!("Not assessed: {}.", assessment.not_assessed_reason);
            let also = if measured { String::new() } else { format!(" {}", observe()) };
            (recommendation::NO_FEED, feed + &also)
        }
        (_, usage::NOT_MEASURED | usage::NOT_MEASURABLE) => (recommendation::OBSERVE, observe()),
        (vulnerable::YES, usage::USED) if os => {
            let text =
                format!("Update the application code and upgrade the OS package{}.", fixed(assessment));
            (recommendation::UPGRADE, text)
        }
        (vulnerable::YES, usage::USED) => (recommendation::UPGRADE, upgrade_dependency(assessment)),
        (vulnerable::YES, _) if !held_by.is_empty() => {
            let what = if os { "the OS package" } else { "it" };
            let text = format!("{} Upgrade {what}{}.", held_text(held_by), fixed(assessment));
            (recommendation::UPGRADE, text)
        }
        (_, usage::USED) => (recommendation::NO_ACTION, "No action needed.".to_owned()),
        _ if !held_by.is_empty() => {
            (recommendation::NO_ACTION, format!("No action needed. {}", held_text(held_by)))
        }
        _ if os => (
            recommendation::REMOVE,
            "Consider removing the unused OS package, or an alternate base image.".to_owned(),
        ),
        _ => (recommendation::REMOVE, "Consider removing the dependency.".to_owned()),
    };
    let provided = package.scan.is_some_and(|scan| !scan.provided_by.is_empty())
        && matches!(code, recommendation::UPGRADE | recommendation::REMOVE);
    let text = if provided { text + " It is part of an OS package: change that one." } else { text };
    let text = match &assessment.taken_from {
        Some(place) => {
            format!(
                "{text} The scan does not list this copy; it was assessed as the same package in {place}."
            )
        }
        None => text,
    };
    Recommendation { code, text }
}

/// What a text begins with where use is not known.
fn lead(judged: &Use) -> &'static str {
    if judged.usage == usage::NOT_MEASURABLE {
        "Not measurable"
    } else if NO_RUN_TELLS.iter().any(|remedy| judged.remedy.starts_with(remedy)) {
        "No run can tell"
    } else {
        "Observe first"
    }
}

fn upgrade_dependency(assessment: &Assessment) -> String {
    match upgrade(assessment) {
        Some((version, left)) if left.is_empty() => {
            return format!("Upgrade to {version}, which has no known vulnerability.");
        }
        Some((version, left)) => return format!("Upgrade to {version}{left}."),
        None => {}
    }
    let versions = fixed_versions(assessment);
    if versions.is_empty() {
        return "Upgrade to the fixed version once there is one; none is known yet.".to_owned();
    }
    format!("Upgrade to the fixed version ({}).", versions.join(", "))
}

fn fixed(assessment: &Assessment) -> String {
    if let Some((version, left)) = upgrade(assessment) {
        return format!(" (fixed in {version}{left})");
    }
    let versions = fixed_versions(assessment);
    if versions.is_empty() {
        return "; no fixed version is known yet".to_owned();
    }
    format!(" (fixed in {})", versions.join(", "))
}

/// The version that fixes all that any version fixes, and what is left there.
fn upgrade<'a>(assessment: &Assessment<'a>) -> Option<(&'a str, String)> {
    let (version, left) = assessment.upgrade;
    let left = match left {
        ..=0 => String::new(),
        1 => "; 1 known vulnerability is left there, no version fixes it yet".to_owned(),
        more => format!("; {more} known vulnerabilities are left there, no version fixes them yet"),
    };
    (!version.is_empty()).then_some((version, left))
}

/// For records without that version: the first fixed version of each vulnerability, without repetition, worst vulnerability first.
fn fixed_versions(assessment: &Assessment) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for version in assessment.findings.iter().filter_map(|finding| finding.fixed_versions.first()) {
        if !versions.contains(version) {
            versions.push(version.clone());
        }
    }
    let more = versions.len().saturating_sub(FIXED_VERSIONS_SHOWN_MAX);
    versions.truncate(FIXED_VERSIONS_SHOWN_MAX);
    if more > 0 {
        versions.push(format!("{more} more"));
    }
    versions
}

fn held_text(held_by: &[String]) -> String {
    if held_by.iter().any(|holder| holder == ESSENTIAL) {
        return "It is not used itself, but essential to the system, so do not remove it by itself."
            .to_owned();
    }
    let mut shown: Vec<String> = held_by.iter().take(HOLDERS_SHOWN_MAX).cloned().collect();
    if held_by.len() > HOLDERS_SHOWN_MAX {
        shown.push("others".to_owned());
    }
    let verb = if held_by.len() == 1 { "depends" } else { "depend" };
    format!("It is not used itself, but {} {verb} on it, so do not remove it by itself.", shown.join(", "))
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let sentence: String = first.to_uppercase().chain(letters).collect();
    if sentence.ends_with('.') { sentence } else { sentence + "." }
}

#[cfg(test)]
mod tests {
    use plimsoll_schemas::events::Finding;

    use super::*;

    fn check(kind: &str, vulnerable: &'static str, usage: &'static str, held: &[&str], expect: (&str, &str)) {
        let package = Known {
            id: "p",
            purl: "pkg:x",
            name: "x",
            version: "1",
            kind,
            ecosystem: "",
            scan: None,
            observable_by: Vec::new().into(),
            not_measurable_reason: "",
            how_to_observe: String::new().into(),
        };
        let finding = Finding { fixed_versions: vec!["1.2".into(), "2.0".into()], ..Finding::default() };
        let assessment = Assessment {
            vulnerable,
            not_assessed_reason: if vulnerable == vulnerable::NOT_ASSESSED {
                "no feed for amazon 2".into()
            } else {
                String::new()
            },
            findings: if vulnerable == vulnerable::YES { vec![&finding] } else { Vec::new() },
            ..Assessment::default()
        };
        let judged = Use {
            usage,
            reason: "no workload was watched".into(),
            remedy: "start the agent".into(),
            ..Use::default()
        };
        let held: Vec<String> = held.iter().map(|name| (*name).to_owned()).collect();
        let got = recommend(&package, &assessment, &judged, &held);
        assert_eq!((got.code, got.text.as_str()), expect, "{kind} {vulnerable} {usage} {held:?}");
    }

    #[test]
    fn table() {
        use plimsoll_schemas::words::package_kind::{APPLICATION, OS};
        use usage::{NOT_MEASURABLE, NOT_MEASURED, UNUSED, USED};
        use vulnerable::{NO, NOT_ASSESSED, YES};
        let remove_os = "Consider removing the unused OS package, or an alternate base image.";
        let remove_app = "Consider removing the dependency.";
        let observe = "Observe first: no workload was watched. Start the agent.";
        let not_measurable = "Not measurable: no workload was watched. Start the agent.";
        check(
            OS,
            YES,
            USED,
            &[],
            ("upgrade", "Update the application code and upgrade the OS package (fixed in 1.2)."),
        );
        check(APPLICATION, YES, USED, &[], ("upgrade", "Upgrade to the fixed version (1.2)."));
        check(OS, YES, UNUSED, &[], ("remove", remove_os));
        check(APPLICATION, YES, UNUSED, &[], ("remove", remove_app));
        check(OS, NO, USED, &[], ("no_action", "No action needed."));
        check(APPLICATION, NO, USED, &[], ("no_action", "No action needed."));
        check(OS, NO, UNUSED, &[], ("remove", remove_os));
        check(APPLICATION, NO, UNUSED, &[], ("remove", remove_app));
        for kind in [OS, APPLICATION] {
            for vulnerable in [YES, NO] {
                check(kind, vulnerable, NOT_MEASURED, &["bash"], ("observe", observe));
                check(kind, vulnerable, NOT_MEASURABLE, &["bash"], ("observe", not_measurable));
            }
            for usage in [USED, UNUSED] {
                check(
                    kind,
                    NOT_ASSESSED,
                    usage,
                    &["bash"],
                    ("no_feed", "Not assessed: no feed for amazon 2."),
                );
            }
            check(
                kind,
                NOT_ASSESSED,
                NOT_MEASURED,
                &[],
                ("no_feed", &format!("Not assessed: no feed for amazon 2. {observe}")),
            );
        }
        check(
            OS,
            YES,
            UNUSED,
            &["bash"],
            (
                "upgrade",
                "It is not used itself, but bash depends on it, so do not remove it by itself. Upgrade the OS package (fixed in 1.2).",
            ),
        );
        check(
            APPLICATION,
            NO,
            UNUSED,
            &["a", "b", "c", "d"],
            (
                "no_action",
                "No action needed. It is not used itself, but a, b, c, others depend on it, so do not remove it by itself.",
            ),
        );
        check(
            OS,
            NO,
            UNUSED,
            &["essential"],
            (
                "no_action",
                "No action needed. It is not used itself, but essential to the system, so do not remove it by itself.",
            ),
        );
    }

    /// What to do must not contradict how it is introduced.
    #[test]
    fn only_what_a_run_can_tell_is_to_be_observed() {
        let check = |remedy: &str, expect: &str| {
            let judged = Use { usage: usage::NOT_MEASURED, remedy: remedy.into(), ..Use::default() };
            assert_eq!(lead(&judged), expect, "{remedy}");
        };
        check("restart the workload while it is watched", "Observe first");
        check("run it once without the volume, or scan it", "Observe first");
        check("judge it by what the application needs", "No run can tell");
        check("treat it as used; or scan the application as it runs, unpacked", "No run can tell");
        check("treat it as used, unless x.js is data only", "No run can tell");
        let of_agent = "a new run changes nothing, so judge its packages by what the application needs";
        check(of_agent, "No run can tell");
    }

    #[test]
    fn one_version_is_named_where_the_scanner_told_it() {
        let findings: Vec<Finding> = ["2.15.0", "2.16.0", "2.17.1"]
            .map(|version| Finding { fixed_versions: vec![version.into()], ..Finding::default() })
            .into();
        let check = |upgrade: (&str, i32), of_dependency: &str, of_os: &str| {
            let assessment =
                Assessment { findings: findings.iter().collect(), upgrade, ..Assessment::default() };
            assert_eq!(upgrade_dependency(&assessment), of_dependency, "{upgrade:?}");
            assert_eq!(fixed(&assessment), of_os, "{upgrade:?}");
        };
        check(("2.17.1", 0), "Upgrade to 2.17.1, which has no known vulnerability.", " (fixed in 2.17.1)");
        let left = "; 1 known vulnerability is left there, no version fixes it yet";
        check(("2.17.1", 1), &format!("Upgrade to 2.17.1{left}."), &format!(" (fixed in 2.17.1{left})"));
        let left = "; 3 known vulnerabilities are left there, no version fixes them yet";
        check(("2.17.1", 3), &format!("Upgrade to 2.17.1{left}."), &format!(" (fixed in 2.17.1{left})"));
        // A scanner of before tells none.
        check(
            ("", 0),
            "Upgrade to the fixed version (2.15.0, 2.16.0, 2.17.1).",
            " (fixed in 2.15.0, 2.16.0, 2.17.1)",
        );
    }
}
