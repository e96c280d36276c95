//! Which findings a record stands for within one package: CVE ids where there are any, else one id for
//! all records that are aliases of one another. Folds only by `aliases`, and never joins two CVEs.

use super::model::{Interner, Record, Text};
use std::collections::HashMap;

/// The findings of one record for one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub ids: Vec<Text>,
    /// The ids are the record's own names, not those of what it fixes upstream.
    pub by_alias: bool,
}

/// Folds the records that concern one package; the result has the order of `records`. None is withdrawn.
pub(super) fn fold(records: &[&Record], strings: &Interner) -> Vec<Finding> {
    let mut findings: Vec<Option<Finding>> = records.iter().map(|record| from_own_ids(record)).collect();
    if findings.iter().any(Option::is_none) {
        let names: Vec<Vec<Text>> = records.iter().map(|r| names_of(r)).collect();
        adopt_cves_of_aliases(&mut findings, &names);
        join_without_cve(&mut findings, &names, records, strings);
    }
    findings.into_iter().map(Option::unwrap_or_default).collect()
}

fn from_own_ids(record: &Record) -> Option<Finding> {
    let by_alias = record.upstream_cves.is_empty();
    let ids = if by_alias { &record.own_cves } else { &record.upstream_cves };
    let mut ids: Vec<Text> = ids.iter().chain(&record.own_cves).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    (!ids.is_empty()).then_some(Finding { ids, by_alias })
}

fn names_of(record: &Record) -> Vec<Text> {
    std::iter::once(record.id).chain(record.aliases.iter().copied()).collect()
}

/// A record without a CVE takes those of a record that it shares a name with: a GHSA that says CVE-1 and
/// a PYSEC that says only that GHSA are one finding. Goes on until nothing changes, nearest first.
fn adopt_cves_of_aliases(findings: &mut [Option<Finding>], names: &[Vec<Text>]) {
    loop {
        let mut known: HashMap<Text, Vec<Text>> = HashMap::new();
        for (finding, names) in findings.iter().zip(names) {
            if let Some(finding) = finding.as_ref().filter(|f| f.by_alias) {
                names.iter().for_each(|&name| known.entry(name).or_default().extend(&finding.ids));
            }
        }
        let mut changed = false;
        for (finding, names) in findings.iter_mut().zip(names).filter(|(f, _)| f.is_none()) {
            let mut ids: Vec<Text> =
                names.iter().filter_map(|name| known.get(name)).flatten().copied().collect();
            ids.sort_unstable();
            ids.dedup();
            if !ids.is_empty() {
                *finding = Some(Finding { ids, by_alias: true });
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Records that no CVE is known for share one id if they share names: a GHSA id if there is one (the best
/// known), else the first by name.
fn join_without_cve(
    findings: &mut [Option<Finding>],
    names: &[Vec<Text>],
    records: &[&Record],
    strings: &Interner,
) {
    let open: Vec<usize> = (0..findings.len()).filter(|&i| findings[i].is_none()).collect();
    let mut group: Vec<usize> = (0..findings.len()).collect();
    let mut first_with: HashMap<Text, usize> = HashMap::new();
    for &i in &open {
        for &name in &names[i] {
            let other = *first_with.entry(name).or_insert(i);
            let (from, to) = (root(&mut group, i), root(&mut group, other));
            group[from.max(to)] = from.min(to);
        }
    }
    let mut best: HashMap<usize, Text> = HashMap::new();
    let rank = |id: Text| (!strings.text(id).starts_with("GHSA-"), strings.text(id));
    for &i in &open {
        let id = records[i].id;
        let chosen = best.entry(root(&mut group, i)).or_insert(id);
        if rank(id) < rank(*chosen) {
            *chosen = id;
        }
    }
    for &i in &open {
        findings[i] = best.get(&root(&mut group, i)).map(|&id| Finding { ids: vec![id], by_alias: true });
    }
}

fn root(group: &mut [usize], mut member: usize) -> usize {
    while group[member] != member {
        group[member] = group[group[member]];
        member = group[member];
    }
    member
}

#[cfg(test)]
mod tests {
    use super::super::model::reduce;
    use super::super::osv::OsvRecord;
    use super::*;

    /// Each record as JSON, and the finding ids it must stand for.
    fn check(cases: &[(&str, &[&str])]) {
        let mut strings = Interner::new();
        let records: Vec<Record> = cases
            .iter()
            .map(|(json, _)| {
                reduce(&serde_json::from_str::<OsvRecord>(json).unwrap(), &mut strings, &mut |_| ())
            })
            .collect();
        let folded = fold(&records.iter().collect::<Vec<_>>(), &strings);
        for ((json, expect), finding) in cases.iter().zip(folded) {
            let mut ids: Vec<&str> = finding.ids.iter().map(|&id| strings.text(id)).collect();
            ids.sort_unstable();
            assert_eq!(&ids, expect, "{json}");
        }
    }

    #[test]
    fn folds_by_alias() {
        check(&[
            (r#"{"id":"PYSEC-1","aliases":["CVE-1-1","GHSA-a"]}"#, &["CVE-1-1"]),
            (r#"{"id":"GHSA-a","aliases":["CVE-1-1"]}"#, &["CVE-1-1"]),
            (r#"{"id":"PYSEC-2","aliases":["GHSA-a"]}"#, &["CVE-1-1"]),
            (r#"{"id":"PYSEC-3","aliases":["GHSA-b"]}"#, &["GHSA-b"]),
            (r#"{"id":"GHSA-b"}"#, &["GHSA-b"]),
            (r#"{"id":"PYSEC-4"}"#, &["PYSEC-4"]),
        ]);
    }

    #[test]
    fn never_joins_two_cves() {
        // Both advisories name GHSA-x, as two PYSEC records of zope really do.
        check(&[
            (r#"{"id":"PYSEC-1","aliases":["CVE-1-1","GHSA-x"]}"#, &["CVE-1-1"]),
            (r#"{"id":"PYSEC-2","aliases":["CVE-1-2","GHSA-x"]}"#, &["CVE-1-2"]),
            (r#"{"id":"PYSEC-3","aliases":["CVE-1-3","CVE-1-4"]}"#, &["CVE-1-3", "CVE-1-4"]),
        ]);
    }

    #[test]
    fn expands_debian_advisories() {
        let debian = r#""affected":[{"package":{"ecosystem":"Debian:12","name":"x"}}]"#;
        check(&[
            (
                &format!(r#"{{"id":"DSA-1-1","related":["CVE-1-1","CVE-1-2"],{debian}}}"#),
                &["CVE-1-1", "CVE-1-2"],
            ),
            (
                &format!(r#"{{"id":"DSA-2-1","upstream":["CVE-1-3"],"related":["CVE-1-9"],{debian}}}"#),
                &["CVE-1-3"],
            ),
            (&format!(r#"{{"id":"DEBIAN-CVE-1-1","upstream":["CVE-1-1"],{debian}}}"#), &["CVE-1-1"]),
            // A record that names a DSA as alias must not take all of the DSA's CVEs.
            (&format!(r#"{{"id":"DLA-3-1","aliases":["DSA-1-1"],{debian}}}"#), &["DLA-3-1"]),
        ]);
    }

    #[test]
    fn related_counts_for_debian_only() {
        check(&[(
            r#"{"id":"PYSEC-1","related":["CVE-1-1"],"affected":[{"package":{"ecosystem":"PyPI","name":"x"}}]}"#,
            &["PYSEC-1"],
        )]);
    }
}
