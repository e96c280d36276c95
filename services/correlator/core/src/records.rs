//! The records about packages: fields from a view, lists bounded and chunked.
//! A list that was cut must never look whole: counts stand beside it.

use plimsoll_schemas::events::{
    CorrelationFinding, CorrelationPackage, CorrelationUsage, Location, UsedFile,
};
use plimsoll_schemas::words::{Rung, usage_kind, vulnerable};

use crate::artifact::Artifact;
use crate::emit::View;
use crate::limits::{CHUNK_MAX_BYTES, CHUNK_MAX_ENTRIES, CHUNKS_MAX, LOCATIONS_MAX};
use crate::output::PRODUCER_ID;
use crate::priority::priority;
use crate::recommendation::recommend;

impl Artifact {
    /// The latest fact that the view rests on: a record carries it as its time, since the time of sending would differ
    /// from one replay to the next.
    fn as_of_ms(&self, view: &View) -> i64 {
        let scan = view.package.scan.and_then(|_| self.current_manifest()).map_or(0, |m| m.emitted_at_ms);
        scan.max(view.assessment.emitted_at_ms)
            .max(view.judged.last_evidence_ms)
            .max(view.facts.coverage.until_ms)
    }

    fn scan_id(&self, view: &View) -> String {
        view.package.scan.and(self.current.clone()).unwrap_or_default()
    }

    pub(crate) fn package_record(&self, view: &View) -> CorrelationPackage {
        let View { package, assessment, judged, facts, held_by } = view;
        let recommendation = recommend(package, assessment, judged, held_by);
        let mut record = CorrelationPackage {
            artifact: self.key.clone(),
            producer_id: PRODUCER_ID.to_owned(),
            emitted_at_ms: self.as_of_ms(view),
            package_id: package.id.to_owned(),
            purl: package.purl.to_owned(),
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            kind: package.kind.to_owned(),
            ecosystem: package.ecosystem.to_owned(),
            scanned: package.scan.is_some(),
            vulnerable: assessment.vulnerable.to_owned(),
            not_assessed_reason: assessment.not_assessed_reason.clone(),
            severity: assessment.severity().to_owned(),
            known_exploited: assessment.known_exploited(),
            vulnerability_count: count(assessment.findings.len()),
            vulnerabilities: assessment.summaries(),
            scan_id: self.scan_id(view),
            r#use: judged.usage.to_owned(),
            use_reason: judged.reason.clone(),
            use_remedy: judged.remedy.clone(),
            rung: judged.rung.to_owned(),
            first_used_ms: judged.first_used_ms,
            last_used_ms: judged.last_used_ms,
            coverage: Some(facts.coverage.clone()),
            component_count: count(self.linked().count()),
            recommendation_code: recommendation.code.to_owned(),
            recommendation_text: recommendation.text,
            held_by: held_by.clone(),
            ..CorrelationPackage::default()
        };
        if let Some(scan) = package.scan {
            record.source_name.clone_from(&scan.source_name);
            record.source_version.clone_from(&scan.source_version);
            record.architecture.clone_from(&scan.architecture);
            record.licenses.clone_from(&scan.licenses);
            record.locations = locations(&scan.locations);
        }
        record
    }

    pub(crate) fn finding_records(&self, view: &View) -> Vec<CorrelationFinding> {
        let View { package, assessment, judged, facts, .. } = view;
        if assessment.vulnerable != vulnerable::YES {
            return Vec::new();
        }
        let record = |finding: &&plimsoll_schemas::events::Finding| {
            let (priority, priority_reason) = priority(finding, judged);
            CorrelationFinding {
                artifact: self.key.clone(),
                producer_id: PRODUCER_ID.to_owned(),
                emitted_at_ms: self.as_of_ms(view),
                package_id: package.id.to_owned(),
                purl: package.purl.to_owned(),
                name: package.name.to_owned(),
                version: package.version.to_owned(),
                kind: package.kind.to_owned(),
                ecosystem: package.ecosystem.to_owned(),
                vulnerability_id: finding.id.clone(),
                finding: Some((*finding).clone()),
                r#use: judged.usage.to_owned(),
                use_reason: judged.reason.clone(),
                use_remedy: judged.remedy.clone(),
                rung: judged.rung.to_owned(),
                first_used_ms: judged.first_used_ms,
                last_used_ms: judged.last_used_ms,
                coverage: Some(facts.coverage.clone()),
                priority,
                priority_reason,
                ..CorrelationFinding::default()
            }
        };
        assessment.findings.iter().map(record).collect()
    }

    /// One record per chunk of used files. The first carries all that is not a list of files.
    pub(crate) fn usage_records(&self, view: &View, component_path: &str) -> Vec<CorrelationUsage> {
        let View { package, assessment, judged, facts, held_by } = view;
        let Some(component) = self.components.get(component_path) else { return Vec::new() };
        let recommendation = recommend(package, assessment, judged, held_by);
        let (files, classes): (Vec<UsedFile>, Vec<UsedFile>) = self
            .used_files(package.id, component_path)
            .into_iter()
            .partition(|file| file.kind != usage_kind::CLASS && file.kind != usage_kind::MODULE);
        let (file_count, class_count) = (count(files.len()), count(classes.len()));
        let chunks = chunk(files.into_iter().chain(classes));
        let chunk_count = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
        let base = CorrelationUsage {
            artifact: self.key.clone(),
            producer_id: PRODUCER_ID.to_owned(),
            emitted_at_ms: self.as_of_ms(view),
            application: component.application.clone(),
            component: component.component.clone(),
            component_version: component.component_version.clone(),
            package_id: package.id.to_owned(),
            purl: package.purl.to_owned(),
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            kind: package.kind.to_owned(),
            ecosystem: package.ecosystem.to_owned(),
            scanned: package.scan.is_some(),
            vulnerable: assessment.vulnerable.to_owned(),
            not_assessed_reason: assessment.not_assessed_reason.clone(),
            severity: assessment.severity().to_owned(),
            known_exploited: assessment.known_exploited(),
            vulnerability_count: count(assessment.findings.len()),
            r#use: judged.usage.to_owned(),
            use_reason: judged.reason.clone(),
            use_remedy: judged.remedy.clone(),
            rung: judged.rung.to_owned(),
            first_used_ms: judged.first_used_ms,
            last_used_ms: judged.last_used_ms,
            coverage: Some(facts.coverage.clone()),
            recommendation_code: recommendation.code.to_owned(),
            recommendation_text: recommendation.text,
            held_by: held_by.clone(),
            chunk_count,
            file_count,
            class_count,
            ..CorrelationUsage::default()
        };
        let record = |(number, entries): (usize, Vec<UsedFile>)| {
            let (classes, files) = entries
                .into_iter()
                .partition(|file| file.kind == usage_kind::CLASS || file.kind == usage_kind::MODULE);
            let mut record = CorrelationUsage {
                chunk: i32::try_from(number).unwrap_or(i32::MAX),
                files,
                classes,
                ..base.clone()
            };
            if number == 0 {
                record.vulnerabilities = assessment.summaries();
                record.locations = package.scan.map(|scan| locations(&scan.locations)).unwrap_or_default();
            }
            record
        };
        chunks.into_iter().enumerate().map(record).collect()
    }

    fn used_files(&self, package_id: &str, component_path: &str) -> Vec<UsedFile> {
        self.evidence_of(package_id, Some(component_path))
            .map(|(key, evidence, ownership)| {
                let spans = evidence.rungs.values();
                let highest = evidence.rungs.keys().next_back().copied().unwrap_or(0);
                let rung = Rung::ALL.into_iter().find(|rung| *rung as u8 == highest);
                UsedFile {
                    path: key.at.path.clone(),
                    kind: key.kind.clone(),
                    name: key.name.clone(),
                    rung: rung.map(Rung::as_str).unwrap_or_default().to_owned(),
                    first_seen_ms: spans.clone().map(|span| span.first_ms).min().unwrap_or(0),
                    last_seen_ms: spans.map(|span| span.last_ms).max().unwrap_or(0),
                    ambiguous: ownership.owners.len() > 1,
                }
            })
            .collect()
    }
}

/// At least one chunk, at most [`CHUNKS_MAX`]; what lies behind is only counted.
fn chunk(entries: impl Iterator<Item = UsedFile>) -> Vec<Vec<UsedFile>> {
    let mut chunks: Vec<Vec<UsedFile>> = vec![Vec::new()];
    let mut size_bytes = 0;
    for entry in entries {
        let entry_bytes = entry.path.len() + entry.name.len();
        let full = chunks.last().is_some_and(|chunk| {
            chunk.len() >= CHUNK_MAX_ENTRIES
                || (!chunk.is_empty() && size_bytes + entry_bytes > CHUNK_MAX_BYTES)
        });
        if full {
            if chunks.len() == CHUNKS_MAX {
                break;
            }
            chunks.push(Vec::new());
            size_bytes = 0;
        }
        size_bytes += entry_bytes;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(entry);
        }
    }
    chunks
}

fn locations(all: &[Location]) -> Vec<Location> {
    all.iter().take(LOCATIONS_MAX).cloned().collect()
}

pub(crate) fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_in_entries_and_bytes() {
        let entry = |bytes: usize| UsedFile { path: vec![b'x'; bytes], ..UsedFile::default() };
        let check = |entries: Vec<UsedFile>, expect: &[usize]| {
            let lengths: Vec<usize> = chunk(entries.into_iter()).iter().map(Vec::len).collect();
            assert_eq!(lengths, expect);
        };
        check(vec![], &[0]);
        check(vec![entry(10); 1500], &[1000, 500]);
        check(vec![entry(4096); 250], &[100, 100, 50]);
        assert_eq!(chunk(vec![entry(1); 100_000].into_iter()).len(), CHUNKS_MAX);
    }
}
