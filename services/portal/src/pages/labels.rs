//! Words of the contracts as people read them: each with a sign and a text, so that colour is never needed.
//! It must never render an unknown word as a harmless one.

use maud::{Markup, html};

use plimsoll_schemas::words::{language, observed as words, probe};

use crate::model::{Artifact, Observed};
pub use crate::text::{count_of, number};
use crate::time::{rfc3339, short};

/// Digits of an id in short.
const SHORT_ID_DIGITS: usize = 12;

/// A short text with a tone.
fn badge(tone: &str, sign: &str, text: &str) -> Markup {
    html! { span class={ "badge " (tone) } { span aria-hidden="true" { (sign) } " " (text) } }
}

/// Whether a package is vulnerable.
pub fn vulnerable(word: &str) -> Markup {
    match word {
        "yes" => badge("bad", "▲", "Vulnerable"),
        "no" => badge("good", "✓", "No known vulnerability"),
        "not_assessed" => badge("open", "?", "Not assessed"),
        other => badge("open", "?", other),
    }
}

/// Name of a use.
pub fn use_name(word: &str) -> &str {
    match word {
        "used" => "Used",
        "unused" => "Not used",
        "not_measured" => "Not measured",
        "not_measurable" => "Not measurable",
        other => other,
    }
}

/// Whether a package is used.
pub fn usage(word: &str) -> Markup {
    match word {
        "used" => badge("strong", "●", use_name(word)),
        "unused" => badge("plain", "○", use_name(word)),
        _ => badge("open", "?", use_name(word)),
    }
}

/// A severity.
pub fn severity(word: &str) -> Markup {
    match word {
        "critical" => badge("bad solid", "▲", "Critical"),
        "high" => badge("bad", "▲", "High"),
        "medium" => badge("warn", "▲", "Medium"),
        "low" => badge("plain", "▽", "Low"),
        "none" => badge("plain", "–", "None"),
        "unknown" | "" => badge("open", "?", "Severity unknown"),
        other => badge("open", "?", other),
    }
}

/// Name of a recommendation.
pub fn recommendation_name(code: &str) -> &str {
    match code {
        "upgrade" => "Upgrade",
        "remove" => "Consider removing",
        "no_action" => "No action needed",
        "observe" => "Observe first",
        "no_feed" => "Feed missing",
        other => other,
    }
}

/// A recommendation.
pub fn recommendation(code: &str) -> Markup {
    let (tone, sign) = match code {
        "upgrade" => ("bad", "↑"),
        "remove" => ("warn", "−"),
        "no_action" => ("good", "✓"),
        _ => ("open", "?"),
    };
    badge(tone, sign, recommendation_name(code))
}

/// The mark of a vulnerability that is exploited.
pub fn exploited(known: bool) -> Markup {
    html! { @if known { (badge("bad solid", "!", "Known exploited")) } }
}

/// Name of a kind of packages.
pub fn kind_name(word: &str) -> &str {
    match word {
        "os" => "OS package",
        "application" => "Application dependency",
        other => other,
    }
}

/// A list of probes, in words.
pub fn probes(probes: &[String]) -> String {
    let words: Vec<&str> = probes.iter().map(|name| probe::describe(name)).collect();
    words.join("; ")
}

/// What a workload's unavailable probe means: it did not run, or an ecosystem's packages can not be or were not measured.
pub fn unavailable(key: &str) -> String {
    if let Some(word) = key.strip_prefix(probe::NOT_MEASURABLE_PREFIX) {
        return format!("packages of {} cannot be measured", ecosystem(word));
    }
    match key.strip_prefix(probe::NOT_MEASURED_PREFIX) {
        Some(word) => format!("packages of {} were not measured", ecosystem(word)),
        None => format!("{key} did not run"),
    }
}

/// An ecosystem with the language that it is of.
pub fn ecosystem(word: &str) -> String {
    match language(word) {
        Some(language) => format!("{language} ({word})"),
        None => word.to_owned(),
    }
}

/// How processes of a language were observed, and what became of their classes.
pub fn observed(one: &Observed) -> Markup {
    let classes = one.classes();
    let says_how = html! {
        @if one.how == words::NOT_MEASURABLE { (one.how_name()) } @else { (one.subject()) " " (one.how_name()) }
    };
    html! {
        @if one.how == words::AT_START { (says_how) } @else { strong { (says_how) } }
        @if !classes.is_empty() { div.muted { (classes) } }
    }
}

/// A rung of evidence.
pub fn rung_name(word: &str) -> &str {
    match word {
        "deployed" => "only deployed",
        "accessed" => "read",
        "loaded" => "loaded",
        "executed" => "executed",
        "symbol_executed" => "vulnerable function executed",
        other => other,
    }
}

/// The evidence of use beside a use. That an instance ran is no evidence about a package.
pub fn evidence(rung: Option<&str>) -> Markup {
    html! {
        @if let Some(rung) = rung.filter(|rung| *rung != "deployed") { " " span.rung { (rung_name(rung)) } }
    }
}

/// A time that came as RFC 3339.
pub fn time(at: Option<&str>, absent: &str) -> Markup {
    html! {
        @match at {
            Some(at) => { time datetime=(at) { (people(at)) } }
            None => { span.muted { (absent) } }
        }
    }
}

/// A time in milliseconds.
pub fn time_ms(ms: i64, absent: &str) -> Markup {
    html! {
        @match (rfc3339(ms), short(ms)) {
            (Some(at), Some(text)) => { time datetime=(at) { (text) } }
            _ => { span.muted { (absent) } }
        }
    }
}

fn people(at: &str) -> String {
    at.split('.').next().unwrap_or(at).replacen('T', " ", 1)
}

/// An artifact key in short: digests and machine ids to twelve digits.
pub fn short_key(key: &str) -> String {
    let (kind, rest) = key.split_once('/').unwrap_or(("", key));
    if kind == "component" {
        return format!("{kind} {rest}");
    }
    let ids: Vec<String> = rest.trim_start_matches("sha256:").split('/').map(short_id).collect();
    format!("{kind} {}", ids.join(" "))
}

fn short_id(id: &str) -> String {
    let mut short: String = id.chars().take(SHORT_ID_DIGITS).collect();
    if short.len() < id.len() {
        short.push('…');
    }
    short
}

/// What people call an artifact: its first name, else its key in short.
pub fn artifact_name(artifact: &Artifact) -> String {
    artifact.names.first().cloned().unwrap_or_else(|| short_key(&artifact.artifact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_shown_as_open() {
        for markup in [vulnerable("maybe"), usage("maybe"), severity("maybe"), recommendation("maybe")] {
            let text = markup.into_string();
            assert!(text.contains("open") && text.contains("maybe"), "{text}");
        }
        assert!(!severity("<b>").into_string().contains("<b>"));
    }

    #[test]
    fn what_cannot_be_measured_is_no_probe_that_did_not_run() {
        assert_eq!(unavailable("jvmti"), "jvmti did not run");
        assert_eq!(unavailable("not-measurable:npm"), "packages of Node.js (npm) cannot be measured");
        assert_eq!(unavailable("not-measured:npm"), "packages of Node.js (npm) were not measured");
    }

    #[test]
    fn keys_are_shortened() {
        let check = |key: &str, expect: &str| assert_eq!(short_key(key), expect);
        check("image/sha256:0123456789abcdef0123", "image 0123456789ab…");
        check("component/a/b/1", "component a/b/1");
        check("host/0123456789abcdef", "host 0123456789ab…");
        check("unidentified/0123456789abcdef/c0ffee", "unidentified 0123456789ab… c0ffee");
    }
}
