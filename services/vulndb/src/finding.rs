//! Turns matching records into findings: one per vulnerability, with everything known about it.
//! Never joins two CVEs: records meet only under a finding id that the builder gave both.

use crate::format::*;
use crate::image::{Image, Read};
use crate::platform::Import;
use crate::query::{Finding, NotApplicable};
use crate::ranges::{Cause, Hit, Installed};
use crate::severity::{Rating, Severity};
use crate::version::sort_by_version;
use std::cmp::Ordering;

/// The records that matched one package.
#[derive(Default)]
pub(crate) struct Matches {
    hits: Vec<(AffectedRow, Hit)>,
    /// (finding id, record number, position in `hits`): one for each vulnerability that a record stands for.
    findings: Vec<(u32, u32, usize)>,
    /// Records that matched by version but do not apply.
    pub not_applicable: Vec<NotApplicable>,
}

impl Matches {
    /// Adds a matching record under each vulnerability it stands for.
    pub fn add(&mut self, image: &Image, row: AffectedRow, hit: Hit) -> Read<()> {
        let position = self.hits.len();
        self.findings.extend(image.list(row.finding_ids)?.iter().map(|id| (id, row.record, position)));
        self.hits.push((row, hit));
        Ok(())
    }

    /// One finding per vulnerability, sorted by id.
    pub fn fold(mut self, image: &Image, subject: &str, installed: &Installed<'_>) -> Read<Vec<Finding>> {
        // Records are sorted by id, so a finding's first advisory is the first by name.
        self.findings.sort_unstable();
        let read = |&(_, _, position): &(u32, u32, usize)| {
            let (row, hit) = &self.hits[position];
            let record: RecordRow = image.row(row.record as usize)?;
            Ok(Match { row, hit, id: image.string(record.id)?, record })
        };
        let mut findings = Vec::with_capacity(self.findings.len());
        let mut matched = Vec::new();
        for group in self.findings.chunk_by(|a, b| a.0 == b.0) {
            matched.clear();
            for entry in group {
                matched.push(read(entry)?);
            }
            findings.push(finding(image, subject, installed, group[0].0, &matched)?);
        }
        Ok(findings)
    }
}

/// One record that matched.
struct Match<'a> {
    row: &'a AffectedRow,
    hit: &'a Hit,
    record: RecordRow,
    /// The record's.
    id: &'a str,
}

fn finding(
    image: &Image,
    subject: &str,
    installed: &Installed<'_>,
    finding_id: u32,
    group: &[Match<'_>],
) -> Read<Finding> {
    let mut out = Finding { id: image.string(finding_id)?.to_owned(), ..Finding::default() };
    let mut best = (Rating::default(), 0);
    // A record that names no packages means the whole module.
    let mut whole_module = false;
    for matched in group {
        let Match { record, id, .. } = matched;
        let imports = image.list(matched.row.imports)?;
        whole_module |= imports.len() == 0;
        for path in imports.iter() {
            out.imports.push(Import::path_of(image.string(path)?).to_owned());
        }
        if out.advisories.iter().all(|known| known != *id) {
            out.advisories.push((*id).to_owned());
        }
        add_names(image, matched, &mut out)?;
        for candidate in [(matched.row.rating, matched.row.cvss_vector), (record.rating, record.cvss_vector)]
        {
            let candidate = (Rating::unpack(candidate.0), candidate.1);
            if candidate.0.preference() > best.0.preference() {
                best = candidate;
            }
            // What is said of this package outranks what is said of all of them.
            if candidate.0.is_known() {
                break;
            }
        }
        if out.summary.is_empty() {
            image.string(record.summary)?.clone_into(&mut out.summary);
        }
        if out.urgency.is_empty() {
            image.string(matched.row.urgency)?.clone_into(&mut out.urgency);
        }
        if out.source.is_empty() {
            out.source = source_of(id, image.string(record.source)?);
        }
        let published_ms = record.published_ms as i64;
        if published_ms != 0 && (out.published_ms == 0 || published_ms < out.published_ms) {
            out.published_ms = published_ms;
        }
        out.modified_ms = out.modified_ms.max(record.modified_ms as i64);
    }
    out.match_reason = reason(image, subject, group)?;
    out.fixed_versions = fixed_versions(image, installed, group)?;
    add_vulnerability(image, finding_id, &mut best, &mut out)?;
    let (rating, vector) = best;
    out.severity = with_urgency(rating.severity, &out.urgency);
    out.cvss_score = rating.score();
    image.string(vector)?.clone_into(&mut out.cvss_vector);
    if whole_module {
        out.imports.clear();
    }
    for list in [&mut out.aliases, &mut out.advisories, &mut out.imports] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(out)
}

/// A record's other names are the finding's, unless the record stands for several vulnerabilities: then
/// they name the advisory.
fn add_names(image: &Image, matched: &Match<'_>, out: &mut Finding) -> Read<()> {
    if matched.row.flags & AFFECTED_BY_ALIAS == 0 {
        return Ok(());
    }
    let single = image.list(matched.row.finding_ids)?.len() == 1;
    let names = std::iter::once(matched.record.id).chain(image.list(matched.record.aliases)?.iter());
    for name in names {
        let name = image.string(name)?;
        let list = if single { &mut out.aliases } else { &mut out.advisories };
        if name != out.id && !name.starts_with("CVE-") && list.iter().all(|known| known != name) {
            list.push(name.to_owned());
        }
    }
    Ok(())
}

/// KEV and EPSS of the CVE, and its severity where no matching record gave one.
fn add_vulnerability(
    image: &Image,
    finding_id: u32,
    best: &mut (Rating, u32),
    out: &mut Finding,
) -> Read<()> {
    let at = image.partition_point(|row: &VulnerabilityRow| row.id < finding_id)?;
    if at >= image.count::<VulnerabilityRow>() {
        return Ok(());
    }
    let row: VulnerabilityRow = image.row(at)?;
    if row.id != finding_id {
        return Ok(());
    }
    out.known_exploited = row.flags & VULNERABILITY_EXPLOITED != 0;
    image.string(row.exploited_due_date)?.clone_into(&mut out.known_exploited_due_date);
    out.epss = (row.flags & VULNERABILITY_HAS_EPSS != 0).then(|| f64::from_bits(row.epss));
    if !best.0.is_known() {
        *best = (Rating::unpack(row.rating), row.cvss_vector);
    }
    Ok(())
}

/// Debian's "unimportant" means that its packages are not affected in practice: low at most. Other
/// urgencies speak only where no score does.
fn with_urgency(severity: Severity, urgency: &str) -> Severity {
    match (severity, urgency) {
        (Severity::Unknown, urgency) => Severity::from_word(urgency),
        (severity, "unimportant") => severity.min(Severity::Low),
        (severity, _) => severity,
    }
}

fn fixed_versions(image: &Image, installed: &Installed<'_>, group: &[Match<'_>]) -> Read<Vec<String>> {
    let mut texts = Vec::new();
    for &id in group.iter().flat_map(|m| m.hit.fixed()) {
        texts.push(image.string(id)?);
    }
    if texts.len() < 2 {
        return Ok(texts.into_iter().map(str::to_owned).collect());
    }
    sort_by_version(&mut texts, |a, b| match (installed.scheme.parse(a), installed.scheme.parse(b)) {
        (Some(x), Some(y)) => x.compare(&y).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b)),
        // Boundaries without an order go first, by text.
        (x, y) => x.is_some().cmp(&y.is_some()).then_with(|| a.cmp(b)),
    });
    texts.dedup_by_key(|text| installed.scheme.canonical(text));
    Ok(texts.into_iter().map(str::to_owned).collect())
}

fn reason(image: &Image, subject: &str, group: &[Match<'_>]) -> Read<String> {
    let mut out = String::with_capacity(subject.len() + 64);
    out.push_str(subject);
    let (text, introduced) = match group[0].hit.cause {
        Cause::Fixed { introduced, fixed } => ((" < fixed ", fixed), introduced),
        Cause::LastAffected { introduced, last_affected } => {
            ((" <= last affected ", last_affected), introduced)
        }
        Cause::NoFix { introduced } => ((" has no fixed version", 0), introduced),
        Cause::Listed => ((" is listed as affected", 0), None),
    };
    out.push_str(text.0);
    out.push_str(image.string(text.1)?);
    if let Some(introduced) = introduced {
        out.push_str(", affected since ");
        out.push_str(image.string(introduced)?);
    }
    for (position, matched) in group.iter().enumerate() {
        if position == 0 || group[position - 1].id != matched.id {
            out.push_str(if position == 0 { " (" } else { ", " });
            out.push_str(matched.id);
        }
    }
    out.push(')');
    Ok(out)
}

/// Where people read more: the record's page, or the name of its database.
fn source_of(record_id: &str, database: &str) -> String {
    let page = [
        ("DSA-", "https://security-tracker.debian.org/tracker/"),
        ("DLA-", "https://security-tracker.debian.org/tracker/"),
        ("GHSA-", "https://github.com/advisories/"),
        ("RUSTSEC-", "https://rustsec.org/advisories/"),
        ("GO-", "https://pkg.go.dev/vuln/"),
        ("PYSEC-", "https://osv.dev/vulnerability/"),
        ("CVE-", "https://osv.dev/vulnerability/"),
    ]
    .into_iter()
    .find(|(prefix, _)| record_id.starts_with(prefix));
    if let Some(cve) = record_id.strip_prefix("DEBIAN-").filter(|id| id.starts_with("CVE-")) {
        return format!("https://security-tracker.debian.org/tracker/{cve}");
    }
    match page {
        Some((_, address)) => [address, record_id].concat(),
        None if database.is_empty() => format!("https://osv.dev/vulnerability/{record_id}"),
        None => database.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_source() {
        for (id, database, expect) in [
            ("DSA-1-1", "x", "https://security-tracker.debian.org/tracker/DSA-1-1"),
            ("DEBIAN-CVE-2024-1", "", "https://security-tracker.debian.org/tracker/CVE-2024-1"),
            ("DEBCHANGELOG-CVE-1", "changelogs", "changelogs"),
            ("MAL-1", "", "https://osv.dev/vulnerability/MAL-1"),
        ] {
            assert_eq!(source_of(id, database), expect);
        }
    }

    #[test]
    fn urgency_bounds_severity() {
        for (severity, urgency, expect) in [
            (Severity::Critical, "unimportant", Severity::Low),
            (Severity::Unknown, "unimportant", Severity::Low),
            (Severity::Unknown, "high", Severity::High),
            (Severity::Medium, "low", Severity::Medium),
            (Severity::Unknown, "end-of-life", Severity::Unknown),
        ] {
            assert_eq!(with_urgency(severity, urgency), expect, "{severity:?} {urgency}");
        }
    }
}
