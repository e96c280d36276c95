//! The records about packages: fields from a view, lists bounded and chunked.
//! A list that was cut must never look whole: counts stand beside it.

use plimsoll_schemas::events::{
    CorrelationFinding, CorrelationPackage, CorrelationUsage, Location, UsedFile,
};
use plimsoll_schemas::words::{Rung, usage_kind, vulnerable};

use crate::artifact::Artifact;
use crate::emit::View;
use crate::limits::{
    CHUNK_FIRST_ENTRIES, CHUNK_MAX_BYTES, CHUNK_MAX_ENTRIES, CHUNK_MIN_ENTRIES, CHUNKS_MAX, LOCATIONS_MAX,
};
use crate::output::PRODUCER_ID;
use crate::priority::priority;
use crate::recommendation::recommend;
use crate::seen::{Credit, Seen};

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
            held_by: held_by.to_vec(),
            ambiguous_with: judged.ambiguous_with.clone(),
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

    /// One record per chunk of used files. The first alone carries what is not a list of files.
    pub(crate) fn usage_records(&self, view: &View, component_path: &str) -> Vec<CorrelationUsage> {
        let View { package, assessment, judged, facts, held_by } = view;
        let Some(component) = self.components.get(component_path) else { return Vec::new() };
        let recommendation = recommend(package, assessment, judged, held_by);
        let (files, classes): (Vec<UsedFile>, Vec<UsedFile>) =
            self.used_files(package.id, component_path).into_iter().partition(|file| !is_class(file));
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
            held_by: held_by.to_vec(),
            ambiguous_with: judged.ambiguous_with.clone(),
            chunk_count,
            file_count,
            class_count,
            ..CorrelationUsage::default()
        };
        let record = |(number, entries): (usize, Vec<UsedFile>)| {
            let (classes, files) = entries.into_iter().partition(is_class);
            if number > 0 {
                return further_chunk(&base, number, files, classes);
            }
            CorrelationUsage {
                files,
                classes,
                vulnerabilities: assessment.summaries(),
                locations: package.scan.map(|scan| locations(&scan.locations)).unwrap_or_default(),
                ..base.clone()
            }
        };
        chunks.into_iter().enumerate().map(record).collect()
    }

    fn used_files(&self, package_id: &str, component_path: &str) -> Vec<UsedFile> {
        let mut files = Vec::new();
        for Credit { seen, rivals } in self.evidence_of(package_id, Some(component_path)) {
            let ambiguous = !rivals.is_empty();
            match seen {
                Seen::Item(key, evidence) => {
                    let spans = evidence.rungs.values();
                    files.push(UsedFile {
                        path: key.at.path.clone(),
                        kind: key.kind.clone(),
                        name: key.name.clone(),
                        rung: rung_word(evidence.rungs.keys().next_back().copied().unwrap_or(0)),
                        first_seen_ms: spans.clone().map(|span| span.first_ms).min().unwrap_or(0),
                        last_seen_ms: spans.map(|span| span.last_ms).max().unwrap_or(0),
                        ambiguous,
                    });
                }
                Seen::Classes(key, classes) => {
                    files.extend(classes.by_name.iter().map(|(name, class)| UsedFile {
                        path: key.at.path.clone(),
                        kind: usage_kind::CLASS.to_owned(),
                        name: format!("{}{name}", key.package),
                        rung: rung_word(class.rung),
                        first_seen_ms: class.first_ms,
                        last_seen_ms: class.last_ms,
                        ambiguous,
                    }));
                }
            }
        }
        files
    }
}

fn is_class(file: &UsedFile) -> bool {
    // What was only read, and may be a module, is a file.
    let is_loaded = file.rung != Rung::Accessed.as_str();
    file.kind == usage_kind::CLASS || file.kind == usage_kind::MODULE && is_loaded
}

fn rung_word(number: u8) -> String {
    let rung = Rung::ALL.into_iter().find(|rung| *rung as u8 == number);
    rung.map(Rung::as_str).unwrap_or_default().to_owned()
}

/// A chunk behind the first: what names the package, and its entries. Nothing else, so that it is only sent again when
/// its own entries change.
fn further_chunk(
    base: &CorrelationUsage,
    number: usize,
    files: Vec<UsedFile>,
    classes: Vec<UsedFile>,
) -> CorrelationUsage {
    let latest_ms = files.iter().chain(&classes).map(|file| file.last_seen_ms).max();
    CorrelationUsage {
        artifact: base.artifact.clone(),
        producer_id: base.producer_id.clone(),
        emitted_at_ms: latest_ms.unwrap_or(0),
        application: base.application.clone(),
        component: base.component.clone(),
        component_version: base.component_version.clone(),
        package_id: base.package_id.clone(),
        purl: base.purl.clone(),
        name: base.name.clone(),
        version: base.version.clone(),
        kind: base.kind.clone(),
        ecosystem: base.ecosystem.clone(),
        chunk: i32::try_from(number).unwrap_or(i32::MAX),
        chunk_count: base.chunk_count,
        files,
        classes,
        ..CorrelationUsage::default()
    }
}

/// Whether a chunk may end behind this entry. The entry alone decides, so that a new one moves no more than the end of
/// its own chunk.
fn ends_chunk(entry: &UsedFile) -> bool {
    // FNV-1a, as short as it gets and the same everywhere.
    let bytes = entry.path.iter().chain(entry.name.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) % (CHUNK_MIN_ENTRIES as u64) == 0
}

/// At least one chunk, at most [`CHUNKS_MAX`]; what lies behind is only counted.
fn chunk(entries: impl Iterator<Item = UsedFile>) -> Vec<Vec<UsedFile>> {
    let mut chunks: Vec<Vec<UsedFile>> = vec![Vec::new()];
    let mut size_bytes = 0;
    let mut ended = false;
    for entry in entries {
        let first = chunks.len() == 1;
        let entry_bytes = entry.path.len() + entry.name.len();
        let full = chunks.last().is_some_and(|chunk| {
            ended
                || chunk.len() >= if first { CHUNK_FIRST_ENTRIES } else { CHUNK_MAX_ENTRIES }
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
            ended = chunk.len() + 1 >= CHUNK_MIN_ENTRIES && ends_chunk(&entry);
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
        check(vec![entry(10); 1600], &[100, 1000, 500]);
        check(vec![entry(4096); 250], &[100, 100, 50]);
        assert_eq!(chunk(vec![entry(4096); 50_000].into_iter()).len(), CHUNKS_MAX);
    }

    #[test]
    fn a_new_entry_changes_few_chunks() {
        let entries = |without: usize| {
            let name = |number: usize| format!("org.example.Class{number:05}");
            let entry = move |number| UsedFile { name: name(number), ..UsedFile::default() };
            chunk((0..20_000).filter(|number| *number != without).map(entry).collect::<Vec<_>>().into_iter())
        };
        let all = entries(usize::MAX);
        assert!((20..80).contains(&all.len()), "{}", all.len());
        for new in [0, 7_777, 19_999] {
            let before = entries(new);
            let changed =
                all.iter().enumerate().filter(|(number, chunk)| before.get(*number) != Some(*chunk));
            // All chunks behind a new cut would move by one; that this is rare is what makes it worth it.
            assert!(changed.count() <= 3, "{new}");
        }
    }
}
