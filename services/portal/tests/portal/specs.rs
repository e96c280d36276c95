//! The packages of the fixture: every cell of the recommendation table, and what stands apart from it.

/// A package of the application, by what the tests look at.
pub struct Spec {
    pub name: &'static str,
    pub version: &'static str,
    pub vulnerable: &'static str,
    pub severity: &'static str,
    pub usage: &'static str,
    pub rung: &'static str,
    pub code: &'static str,
    pub text: &'static str,
    pub vulnerabilities: &'static [Vulnerability],
}

type Vulnerability = (&'static str, &'static str, &'static [&'static str], bool);

/// Name and version, vulnerable and severity, use and rung, recommendation, vulnerabilities.
const fn spec(
    (name, version): (&'static str, &'static str),
    (vulnerable, severity): (&'static str, &'static str),
    (usage, rung): (&'static str, &'static str),
    (code, text): (&'static str, &'static str),
    vulnerabilities: &'static [Vulnerability],
) -> Spec {
    Spec { name, version, vulnerable, severity, usage, rung, code, text, vulnerabilities }
}

/// Application dependencies of the component.
pub const APPLICATION_PACKAGES: &[Spec] = &[
    spec(
        ("jinja2", "2.11.2"),
        ("yes", "high"),
        ("used", "loaded"),
        ("upgrade", "Upgrade jinja2 to 2.11.3 or later."),
        &[("CVE-2020-28493", "high", &["2.11.3"], false), ("CVE-2024-22195", "medium", &["3.1.3"], false)],
    ),
    spec(
        ("pyyaml", "5.3"),
        ("yes", "critical"),
        ("used", "loaded"),
        ("upgrade", "Upgrade pyyaml to 5.4 or later."),
        &[("CVE-2020-14343", "critical", &["5.4"], true)],
    ),
    spec(
        ("urllib3", "1.25.8"),
        ("yes", "high"),
        ("unused", ""),
        ("remove", "Consider removing the dependency urllib3."),
        &[("CVE-2021-33503", "high", &["1.26.5"], false)],
    ),
    spec(
        ("requests", "2.23.0"),
        ("yes", "medium"),
        ("unused", ""),
        ("remove", "requests holds urllib3; remove both."),
        &[("CVE-2023-32681", "medium", &["2.31.0"], false)],
    ),
    spec(("flask", "1.1.2"), ("no", "none"), ("used", "loaded"), ("no_action", "No action needed."), &[]),
    spec(("click", "7.1.2"), ("no", "none"), ("used", "loaded"), ("no_action", "No action needed."), &[]),
    spec(("werkzeug", "1.0.1"), ("no", "none"), ("used", "loaded"), ("no_action", "No action needed."), &[]),
    spec(
        ("six", "1.14.0"),
        ("no", "none"),
        ("unused", ""),
        ("remove", "Consider removing the dependency six."),
        &[],
    ),
    spec(
        ("colorama", "0.4.3"),
        ("no", "none"),
        ("not_measurable", ""),
        ("observe", "No probe can tell: the package has no loadable file."),
        &[],
    ),
    spec(
        ("lxml", "4.5.0"),
        ("yes", "high"),
        ("not_measured", ""),
        ("observe", "Observe first: start the component under plimsoll run."),
        &[("CVE-2021-43818", "high", &["4.6.5"], false)],
    ),
    spec(
        ("internal-lib", "0.1"),
        ("not_assessed", "unknown"),
        ("used", "loaded"),
        ("no_feed", "No feed covers this package."),
        &[],
    ),
];

/// OS packages of the host that the component uses.
pub const OS_PACKAGES: &[Spec] = &[
    spec(
        ("libssl3", "3.0.15-1~deb12u1"),
        ("yes", "high"),
        ("used", "loaded"),
        ("upgrade", "Update the application code, upgrade the OS package libssl3."),
        &[("CVE-2024-13176", "high", &["3.0.16-1~deb12u1"], false)],
    ),
    spec(
        ("libc6", "2.36-9+deb12u9"),
        ("no", "none"),
        ("used", "loaded"),
        ("no_action", "No action needed."),
        &[],
    ),
    spec(
        ("tzdata", "2025b-0+deb12u1"),
        ("no", "none"),
        ("used", "accessed"),
        ("no_action", "No action needed."),
        &[],
    ),
];
