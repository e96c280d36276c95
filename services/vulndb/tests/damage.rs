//! A damaged database never panics and never gives a wrong answer: the same answer, or "damaged".

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::format::{HEADER_BYTES, Header, block_checksums};
use plimsoll_vulndb::{Assessment, Database, NotAssessedCode, PackageQuery};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use support::*;

/// A database with several packages, every kind of range, lists and folded records.
static ORIGINAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let export = Export::new();
    let mut records = Vec::new();
    for i in 0..40 {
        records.push(format!(
            r#"{{"id":"PYSEC-{i}","aliases":["CVE-2024-{}","GHSA-{i}"],"severity":[{{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}],"affected":[{{"package":{{"ecosystem":"PyPI","name":"package-{}"}},"versions":["1.{i}","1.0"],"ranges":[{{"type":"ECOSYSTEM","events":[{{"introduced":"0"}},{{"fixed":"2.{i}"}},{{"introduced":"3"}},{{"last_affected":"3.{i}"}}]}},{{"type":"ECOSYSTEM","events":[{{"introduced":"9"}},{{"limit":"10"}}]}}]}}]}}"#,
            i / 2,
            i % 5
        ));
    }
    export.records("PyPI", &records.iter().map(String::as_str).collect::<Vec<_>>());
    export.records(
        "Debian",
        &[r#"{"id":"DSA-1-1","upstream":["CVE-2024-1","CVE-2024-2"],"affected":[{"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}]}"#],
    );
    export.records(
        "Maven",
        &[r#"{"id":"X-1","affected":[{"package":{"ecosystem":"Maven","name":"org.x:y"},"versions":["1"]}]}"#],
    );
    let _ = export.build();
    fs::read(export.output()).unwrap()
});

fn questions() -> Vec<PackageQuery<'static>> {
    let names = ["package-0", "package-1", "package-4", "unknown"];
    let versions = ["1.0", "1.5", "3.1", "9.5", "50"];
    let pypi_questions = names.iter().flat_map(|&name| versions.map(|version| pypi(name, version)));
    let guessed = PackageQuery { group_hints: Some(&[]), ..application("maven", "org.x.z:y", "1") };
    let others = [debian("12", "a", "1"), debian("12", "a", "3"), debian("11", "a", "1"), guessed];
    pypi_questions.chain(others).collect()
}

/// Opens, asks everything and describes; `None` if the file is refused.
fn answers(path: &Path) -> Option<Vec<Assessment>> {
    let database = Database::open(path).ok()?;
    let _ = (database.status(), database.ecosystems(), database.verify());
    Some(questions().iter().map(|question| database.match_package(question)).collect())
}

fn with_bytes<T>(bytes: &[u8], then: impl FnOnce(&Path) -> T) -> T {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    then(file.path())
}

/// Makes all checksums fit the (changed) content, so that only the bounds checks are left.
fn reseal(bytes: &mut [u8]) {
    let mut header = Header::decode(&ORIGINAL).unwrap();
    let end = header.blocks.offset as usize;
    let table = block_checksums(&bytes[HEADER_BYTES..end]);
    header.blocks_crc = crc32fast::hash(&table);
    bytes[end..].copy_from_slice(&table);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_change_an_answer(changes in changes()) {
        let expected = with_bytes(&ORIGINAL, answers).unwrap();
        let mut bytes = ORIGINAL.clone();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for (answer, expect) in with_bytes(&bytes, answers).into_iter().flatten().zip(expected) {
            let damaged = matches!(&answer, Assessment::NotAssessed { code: NotAssessedCode::DatabaseDamaged, .. });
            prop_assert!(damaged || answer == expect, "{answer:?} for {expect:?}");
        }
    }

    #[test]
    fn changed_bytes_under_good_checksums_never_panic(changes in changes()) {
        let mut bytes = ORIGINAL.clone();
        let end = Header::decode(&ORIGINAL).unwrap().blocks.offset as usize;
        for (index, value) in changes {
            bytes[HEADER_BYTES + index.index(end - HEADER_BYTES)] = value;
        }
        reseal(&mut bytes);
        with_bytes(&bytes, answers);
    }

    #[test]
    fn changed_sections_never_panic(section in 0usize..9, offset in any::<u64>(), length in any::<u64>(), small in any::<bool>()) {
        let mut header = Header::decode(&ORIGINAL).unwrap();
        let limit = if small { ORIGINAL.len() as u64 } else { u64::MAX };
        header.sections[section].offset = offset % limit;
        header.sections[section].length = length % limit;
        let mut bytes = ORIGINAL.clone();
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        with_bytes(&bytes, answers);
    }

    #[test]
    fn truncation_is_refused(kept in any::<prop::sample::Index>()) {
        let bytes = &ORIGINAL[..kept.index(ORIGINAL.len())];
        prop_assert!(with_bytes(bytes, answers).is_none());
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048), magic in any::<bool>()) {
        let bytes = if magic { [&b"PLIMVULN\x02\0\0\0"[..], &bytes].concat() } else { bytes };
        prop_assert!(with_bytes(&bytes, answers).is_none());
    }
}

#[test]
fn damage_is_named_with_the_remedy() {
    let mut bytes = ORIGINAL.clone();
    bytes[HEADER_BYTES + 10] ^= 1;
    with_bytes(&bytes, |path| {
        let error = plimsoll_vulndb::status(path).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("plimsoll db build"), "{error}");
    });
}
