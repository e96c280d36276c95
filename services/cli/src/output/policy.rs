//! `--fail-on`: which vulnerabilities make the exit code 3.
//! It must never pass a package because its severity is unknown to us in spelling.

use plimsoll_portal::model::Package;
use plimsoll_schemas::words::usage;

use crate::Exit;
use crate::exit::UsageError;

/// Severities, worst first.
const SEVERITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// A policy: `[used:]SEVERITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    worst: Option<usize>,
    only_used: bool,
}

impl Policy {
    /// Reads the policy; none means that everything passes.
    ///
    /// # Errors
    /// [`UsageError`] if the severity is unknown.
    pub fn parse(text: Option<&str>) -> Result<Self, UsageError> {
        let Some(text) = text else { return Ok(Self { worst: None, only_used: false }) };
        let (only_used, severity) =
            text.strip_prefix("used:").map_or((false, text), |severity| (true, severity));
        let worst = SEVERITIES.iter().position(|known| *known == severity).ok_or_else(|| {
            UsageError(format!(
                "--fail-on {text}: expected critical, high, medium or low, or used: before one of them"
            ))
        })?;
        Ok(Self { worst: Some(worst), only_used })
    }

    /// Judges packages.
    pub fn judge(&self, packages: &[Package]) -> Exit {
        let Some(worst) = self.worst else { return Exit::Done };
        let breaks = |package: &Package| {
            (!self.only_used || package.usage == usage::USED)
                && package.vulnerabilities.iter().any(|vulnerability| {
                    SEVERITIES
                        .iter()
                        .position(|known| *known == vulnerability.severity)
                        .is_some_and(|s| s <= worst)
                })
        };
        let broken = packages.iter().filter(|package| breaks(package)).count();
        if broken == 0 {
            return Exit::Done;
        }
        eprintln!("policy broken: {broken} packages have vulnerabilities of {} or worse", SEVERITIES[worst]);
        Exit::PolicyBroken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_portal::model::Vulnerability;

    #[test]
    fn judges_by_severity_and_use() {
        let package = |severity: &str, usage: &str| Package {
            usage: usage.into(),
            vulnerabilities: vec![Vulnerability { severity: severity.into(), ..Vulnerability::default() }],
            ..Package::default()
        };
        let cases = [
            (None, "critical", "used", Exit::Done),
            (Some("high"), "critical", "unused", Exit::PolicyBroken),
            (Some("high"), "high", "unused", Exit::PolicyBroken),
            (Some("high"), "medium", "used", Exit::Done),
            (Some("used:high"), "critical", "unused", Exit::Done),
            (Some("used:high"), "critical", "used", Exit::PolicyBroken),
            (Some("low"), "unknown", "used", Exit::Done),
        ];
        for (policy, severity, usage, expected) in cases {
            let judged = Policy::parse(policy).unwrap().judge(&[package(severity, usage)]);
            assert_eq!(judged, expected, "{policy:?} {severity} {usage}");
        }
        assert!(Policy::parse(Some("severe")).is_err());
    }
}
