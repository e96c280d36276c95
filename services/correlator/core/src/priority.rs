//! The priority of a finding, from 0 to 100:
//!
//! severity (0 to 50: 5 × CVSS base score, or the middle of the severity's range)
//! + known exploitation (20) + EPSS (0 to 10: 10 × probability)
//! + use (used: 20 from `executed`, 17 `loaded`, 14 `accessed`; not known: 8; unused: 0).
//!
//! Not known counts between used and unused, so that what was never looked at neither leads nor sinks.

use plimsoll_schemas::events::Finding;
use plimsoll_schemas::words::{severity, usage};

use crate::usage::Use;

/// Priority and how it came about.
pub(crate) fn priority(finding: &Finding, judged: &Use) -> (i32, String) {
    let by_severity = match finding.severity.as_str() {
        severity::CRITICAL => 9.5,
        severity::HIGH => 8.0,
        severity::MEDIUM => 5.5,
        severity::LOW => 2.5,
        severity::NONE => 0.0,
        _ => 5.0,
    };
    let score = finding.cvss_score.filter(|score| (0.0..=10.0).contains(score)).unwrap_or(by_severity);
    let mut total = score * 5.0;
    let mut reasons = vec![match finding.cvss_score {
        Some(score) => format!("{} ({score:.1})", finding.severity),
        None => {
            format!("{} severity", if finding.severity.is_empty() { "unknown" } else { &finding.severity })
        }
    }];
    if finding.known_exploited {
        total += 20.0;
        reasons.push("known to be exploited".to_owned());
    }
    if let Some(epss) = finding.epss.filter(|epss| (0.0..=1.0).contains(epss)) {
        total += epss * 10.0;
        reasons.push(format!("EPSS {epss:.2}"));
    }
    let (points, reason) = match (judged.usage, judged.rung) {
        (usage::USED, "accessed") => (14.0, "its package is read"),
        (usage::USED, "loaded") => (17.0, "its package is loaded"),
        (usage::USED, _) => (20.0, "its package is executed"),
        (usage::UNUSED, _) => (0.0, "its package is not used"),
        _ => (8.0, "the use of its package is not known"),
    };
    total += points;
    reasons.push(reason.to_owned());
    // Within 0 to 100 by the clamp.
    (total.round().clamp(0.0, 100.0) as i32, reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_urgency() {
        let check =
            |severity: &str, score: Option<f64>, kev: bool, usage: &'static str, rung: &'static str| {
                let finding = Finding {
                    severity: severity.into(),
                    cvss_score: score,
                    known_exploited: kev,
                    ..Finding::default()
                };
                priority(&finding, &Use { usage, rung, ..Use::default() }).0
            };
        assert_eq!(check("critical", Some(10.0), true, "used", "executed"), 90);
        assert_eq!(check("critical", Some(9.8), false, "used", "loaded"), 66);
        assert_eq!(check("critical", Some(9.8), false, "not_measured", "deployed"), 57);
        assert_eq!(check("critical", Some(9.8), false, "unused", "deployed"), 49);
        assert_eq!(check("unknown", None, false, "unused", ""), 25);
        assert_eq!(check("", Some(99.0), false, "unused", ""), 25);
    }
}
