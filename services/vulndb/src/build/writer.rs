//! Lays the collected records out as the file of `format` and puts it in place.
//! Never depends on the order of a hash map: equal input gives equal bytes, apart from the build time.

use super::fold;
use super::model::{Affected, Interner, Rated, Record, Text, base_of};
use super::{FeedInput, FeedKind};
use crate::error::BuildError;
use crate::format::*;
use crate::severity::Rating;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;

pub(super) struct Input {
    pub records: Vec<Record>,
    pub feeds: Vec<FeedInput>,
    pub strings: Interner,
    pub due_dates: BTreeMap<String, String>,
    pub scores: BTreeMap<String, f64>,
    pub built_ms: i64,
}

pub(super) struct Output {
    pub bytes: Vec<u8>,
    pub packages: u64,
    pub newest_modified_ms: i64,
    pub content_sha256: [u8; 32],
}

/// Everything of the file, in memory.
pub(super) fn encode(mut input: Input) -> Result<Output, BuildError> {
    let strings = &mut input.strings;
    input.records.sort_by(|a, b| strings.text(a.id).cmp(strings.text(b.id)));
    let severities = severities_by_cve(&input.records, strings);
    // All strings must be known before they get their sorted ids.
    let feed_names: Vec<Text> = input.feeds.iter().map(|feed| strings.number(&feed.name)).collect();
    let bases: HashMap<Text, Text> = ecosystems_of(&input.records)
        .into_iter()
        .map(|ecosystem| {
            let base = base_of(strings.text(ecosystem)).to_owned();
            (ecosystem, strings.number(&base))
        })
        .collect();
    let vulnerabilities = vulnerabilities(&input.due_dates, &input.scores, severities, strings);

    let mut sections: [Vec<u8>; SECTION_COUNT] = Default::default();
    let ids = write_strings(strings, &mut sections)?;
    let mut lists = Lists::new();
    let mut out = Rows { ids: &ids, lists: &mut lists, sections: &mut sections };
    out.records(&input.records)?;
    let packages = out.packages(&input.records, strings, &bases)?;
    out.vulnerabilities(&vulnerabilities);
    out.feeds(&input.feeds, &feed_names);
    sections[Section::Lists as usize] = lists.bytes();

    let newest_modified_ms = input.feeds.iter().map(|feed| feed.newest_modified_ms).max().unwrap_or(0);
    let (bytes, content_sha256) = assemble(&sections, input.built_ms, newest_modified_ms);
    Ok(Output { bytes, packages, newest_modified_ms, content_sha256 })
}

fn assemble(sections: &[Vec<u8>], built_ms: i64, newest_modified_ms: i64) -> (Vec<u8>, [u8; 32]) {
    let mut bytes = vec![0u8; HEADER_BYTES];
    let mut extents = [Extent::default(); SECTION_COUNT];
    for (extent, section) in extents.iter_mut().zip(sections) {
        *extent = Extent { offset: bytes.len() as u64, length: section.len() as u64 };
        bytes.extend_from_slice(section);
    }
    let table = block_checksums(&bytes[HEADER_BYTES..]);
    let content_sha256 = Sha256::digest(&bytes[HEADER_BYTES..]).into();
    let blocks = Extent { offset: bytes.len() as u64, length: table.len() as u64 };
    bytes.extend_from_slice(&table);
    let header = Header {
        file_length: bytes.len() as u64,
        built_ms,
        newest_modified_ms,
        content_sha256,
        sections: extents,
        blocks,
        blocks_crc: crc32fast::hash(&table),
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    (bytes, content_sha256)
}

/// Writes beside `output` and renames: readers see the old file or the new one, and those that have the
/// old one mapped keep it.
pub(super) fn replace_file(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::with_prefix_in(".vulndb-", parent)?;
    file.write_all(bytes)?;
    // The content is public; agents under other users read the same file.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(output).map_err(|error| error.error)?;
    std::fs::File::open(parent)?.sync_all()
}

fn ecosystems_of(records: &[Record]) -> Vec<Text> {
    let mut all: Vec<Text> = records.iter().flat_map(|r| &r.affected).map(|a| a.ecosystem).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The best rating that any record gives to a CVE which is its only one: a record of several CVEs does not
/// say which of them it rates.
fn severities_by_cve(records: &[Record], strings: &Interner) -> BTreeMap<String, Rated> {
    let mut best: BTreeMap<String, Rated> = BTreeMap::new();
    for record in records.iter().filter(|r| !r.withdrawn && r.rated.rating.is_known()) {
        if let [cve] = record.own_cves[..] {
            let known = best.entry(strings.text(cve).to_owned()).or_default();
            if record.rated.rating.preference() > known.rating.preference() {
                *known = record.rated;
            }
        }
    }
    best
}

#[derive(Default)]
struct Vulnerability {
    id: Text,
    due_date: Option<Text>,
    epss: Option<f64>,
    rated: Rated,
}

/// Sorted by CVE id.
fn vulnerabilities(
    due_dates: &BTreeMap<String, String>,
    scores: &BTreeMap<String, f64>,
    severities: BTreeMap<String, Rated>,
    strings: &mut Interner,
) -> Vec<Vulnerability> {
    let mut all: BTreeMap<String, Vulnerability> = BTreeMap::new();
    for (cve, rated) in severities {
        all.entry(cve).or_default().rated = rated;
    }
    for (cve, date) in due_dates {
        all.entry(cve.clone()).or_default().due_date = Some(strings.number(date));
    }
    for (cve, &score) in scores {
        all.entry(cve.clone()).or_default().epss = Some(score);
    }
    all.into_iter().map(|(cve, found)| Vulnerability { id: strings.number(&cve), ..found }).collect()
}

/// Writes the string sections; the result maps building numbers to ids in the file.
fn write_strings(strings: &Interner, sections: &mut [Vec<u8>]) -> Result<Vec<u32>, BuildError> {
    let texts = strings.texts();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_unstable_by(|&a, &b| texts[a].cmp(&texts[b]));
    let mut ids = vec![0u32; texts.len()];
    let (mut offsets, mut bytes) = (Vec::with_capacity(texts.len() * 4 + 4), Vec::new());
    for (id, &number) in order.iter().enumerate() {
        ids[number] = word(id, "strings")?;
        offsets.extend_from_slice(&word(bytes.len(), "text")?.to_le_bytes());
        bytes.extend_from_slice(texts[number].as_bytes());
    }
    offsets.extend_from_slice(&word(bytes.len(), "text")?.to_le_bytes());
    sections[Section::StringOffsets as usize] = offsets;
    sections[Section::StringBytes as usize] = bytes;
    Ok(ids)
}

fn word(value: usize, what: &'static str) -> Result<u32, BuildError> {
    u32::try_from(value).map_err(|_| BuildError::TooLarge { what })
}

/// The list pool; equal lists are stored once.
struct Lists {
    words: Vec<u32>,
    known: HashMap<Vec<u32>, u32>,
}

impl Lists {
    fn new() -> Self {
        Lists { words: vec![0], known: HashMap::from([(Vec::new(), 0)]) }
    }

    fn add(&mut self, list: Vec<u32>) -> Result<u32, BuildError> {
        if let Some(&known) = self.known.get(&list) {
            return Ok(known);
        }
        let reference = word(self.words.len(), "lists")?;
        self.words.push(word(list.len(), "lists")?);
        self.words.extend_from_slice(&list);
        self.known.insert(list, reference);
        Ok(reference)
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

struct Rows<'a> {
    /// Building number → id in the file.
    ids: &'a [u32],
    lists: &'a mut Lists,
    sections: &'a mut [Vec<u8>; SECTION_COUNT],
}

impl Rows<'_> {
    fn id(&self, number: Text) -> u32 {
        self.ids[number as usize]
    }

    fn push<R: Row>(&mut self, row: &R) {
        row.encode(&mut self.sections[R::SECTION as usize]);
    }

    fn count<R: Row>(&self) -> usize {
        self.sections[R::SECTION as usize].len() / R::BYTES
    }

    fn sorted_list(&mut self, numbers: &[Text]) -> Result<u32, BuildError> {
        let mut list: Vec<u32> = numbers.iter().map(|&number| self.id(number)).collect();
        list.sort_unstable();
        list.dedup();
        self.lists.add(list)
    }

    fn records(&mut self, records: &[Record]) -> Result<(), BuildError> {
        for record in records {
            let row = RecordRow {
                id: self.id(record.id),
                aliases: self.sorted_list(&record.aliases)?,
                summary: self.id(record.summary),
                source: self.id(record.source),
                cvss_vector: self.id(record.rated.vector),
                rating: record.rated.rating.pack(),
                flags: if record.withdrawn { RECORD_WITHDRAWN } else { 0 },
                reserved: 0,
                published_ms: record.published_ms as u64,
                modified_ms: record.modified_ms as u64,
            };
            self.push(&row);
        }
        Ok(())
    }

    /// Writes ecosystems, packages and affected rows; returns the number of packages.
    fn packages(
        &mut self,
        records: &[Record],
        strings: &Interner,
        bases: &HashMap<Text, Text>,
    ) -> Result<u64, BuildError> {
        // (ecosystem id, name id) → (record number, entry), in record order.
        let mut index: BTreeMap<(u32, u32), Vec<(usize, &Affected)>> = BTreeMap::new();
        for (number, record) in records.iter().enumerate().filter(|(_, record)| !record.withdrawn) {
            for affected in &record.affected {
                let key = (self.id(affected.ecosystem), self.id(affected.name));
                index.entry(key).or_default().push((number, affected));
            }
        }
        let mut ecosystems: BTreeMap<u32, EcosystemRow> = BTreeMap::new();
        for ((ecosystem, name), entries) in &index {
            let concerned: Vec<&Record> = entries.iter().map(|&(number, _)| &records[number]).collect();
            let findings = fold::fold(&concerned, strings);
            let first_affected = word(self.count::<AffectedRow>(), "package entries")?;
            for ((number, affected), finding) in entries.iter().zip(&findings) {
                self.affected(*number, affected, finding)?;
            }
            let affected_count = word(entries.len(), "package entries")?;
            self.push(&PackageRow { ecosystem: *ecosystem, name: *name, first_affected, affected_count });
            let base = bases.get(&entries[0].1.ecosystem).map_or(*ecosystem, |&base| self.id(base));
            let row = ecosystems.entry(*ecosystem).or_insert(EcosystemRow {
                name: *ecosystem,
                base,
                ..EcosystemRow::default()
            });
            row.packages += 1;
            row.affected += affected_count;
        }
        ecosystems.values().for_each(|row| self.push(row));
        Ok(index.len() as u64)
    }

    fn affected(
        &mut self,
        record: usize,
        affected: &Affected,
        finding: &fold::Finding,
    ) -> Result<(), BuildError> {
        let mut ranges = Vec::new();
        for range in &affected.ranges {
            ranges.extend([range.kind, word(range.events.len(), "events")?]);
            ranges.extend(range.events.iter().flat_map(|&(kind, text)| [kind, self.id(text)]));
        }
        let row = AffectedRow {
            record: word(record, "records")?,
            ranges: self.lists.add(ranges)?,
            versions: self.sorted_list(&affected.versions)?,
            finding_ids: self.sorted_list(&finding.ids)?,
            imports: self.sorted_list(&affected.imports)?,
            urgency: self.id(affected.urgency),
            cvss_vector: self.id(affected.rated.vector),
            rating: affected.rated.rating.pack(),
            flags: if finding.by_alias { AFFECTED_BY_ALIAS } else { 0 },
        };
        self.push(&row);
        Ok(())
    }

    fn vulnerabilities(&mut self, vulnerabilities: &[Vulnerability]) {
        for found in vulnerabilities {
            let exploited = if found.due_date.is_some() { VULNERABILITY_EXPLOITED } else { 0 };
            let scored = if found.epss.is_some() { VULNERABILITY_HAS_EPSS } else { 0 };
            let rating: Rating = found.rated.rating;
            let row = VulnerabilityRow {
                id: self.id(found.id),
                flags: exploited | scored,
                exploited_due_date: self.id(found.due_date.unwrap_or(0)),
                cvss_vector: self.id(found.rated.vector),
                rating: rating.pack(),
                reserved: 0,
                epss: found.epss.unwrap_or(0.0).to_bits(),
            };
            self.push(&row);
        }
    }

    fn feeds(&mut self, feeds: &[FeedInput], names: &[Text]) {
        for (feed, &name) in feeds.iter().zip(names) {
            let row = FeedRow {
                name: self.id(name),
                kind: match feed.kind {
                    FeedKind::Osv => FEED_OSV,
                    FeedKind::KnownExploited => FEED_KEV,
                    FeedKind::ExploitPrediction => FEED_EPSS,
                },
                records: feed.records,
                withdrawn: feed.withdrawn,
                skipped: feed.skipped,
                reserved: 0,
                newest_modified_ms: feed.newest_modified_ms as u64,
            };
            self.push(&row);
        }
    }
}
