//! What the builder does with broken exports: a warning that names the thing and the remedy, the rest kept.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use plimsoll_vulndb::{BuildError, Database, DatabaseError, MAX_RECORD_BYTES, Progress, build, status};
use std::fs;
use support::*;

const GOOD: &str = r#"{"id":"PYSEC-1","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"a"},"versions":["1"]}]}"#;

/// One bad thing beside a good record: which warning names it, and that the good record stays.
fn check(prepare: impl Fn(&Export), names: &str, problem: &str) {
    let export = Export::new();
    export.records("PyPI", &[GOOD]);
    prepare(&export);
    let report = export.build();
    let found = report.warnings.iter().any(|warning| {
        let text = warning.to_string();
        text.contains(names) && text.contains(problem) && !warning.remedy.is_empty()
    });
    assert!(found, "no warning on {names}: {problem} in {:#?}", report.warnings);
    assert_eq!(ids(&Database::open(&export.output()).unwrap(), &pypi("a", "1")), ["PYSEC-1"]);
}

#[test]
fn bad_entries_are_named_and_left_out() {
    let with = |name: &'static str, content: Vec<u8>| {
        move |export: &Export| export.zip("PyPI", &[("good.json", GOOD.as_bytes()), (name, &content)])
    };
    check(with("page.json", b"<html>".to_vec()), "PyPI/all.zip: page.json", "not an OSV record in JSON");
    check(with("list.json", b"[1,2]".to_vec()), "list.json", "not an OSV record");
    check(with("empty.json", Vec::new()), "empty.json", "not an OSV record in JSON");
    check(with("other.json", b"{}".to_vec()), "other.json", "no id");
    check(with("binary.json", vec![0xff; 64]), "binary.json", "not an OSV record in JSON");
    check(with("deep.json", vec![b'['; 1 << 20]), "deep.json", "not an OSV record in JSON");
    check(
        with("huge.json", vec![b' '; MAX_RECORD_BYTES as usize + 1]),
        "huge.json",
        "larger than the 16 MiB",
    );
}

#[test]
fn a_corrupt_entry_is_left_out() {
    let corrupt = |export: &Export| {
        let payload = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(3);
        let mut zip = zip_bytes(&[("good.json", GOOD.as_bytes()), ("hit.json", payload.as_bytes())]);
        let name_at = zip.windows(8).position(|w| w == b"hit.json").unwrap();
        zip[name_at + 12] ^= 0xff;
        export.file("PyPI/all.zip", &zip);
    };
    check(corrupt, "hit.json", "cannot be unpacked");
}

#[test]
fn bad_zips_cost_only_their_ecosystem() {
    let broken = |content: Vec<u8>| move |export: &Export| export.file("Debian/all.zip", &content);
    let whole = zip_bytes(&[("a.json", GOOD.as_bytes())]);
    check(broken(b"not a zip".to_vec()), "Debian/all.zip", "not a readable zip");
    check(broken(whole[..whole.len() / 2].to_vec()), "Debian/all.zip", "not a readable zip");
    check(broken(Vec::new()), "Debian/all.zip", "not a readable zip");
    check(|export| export.file("Debian/readme.txt", b""), "Debian", "no all.zip");
}

#[test]
fn a_zip_bomb_is_stopped() {
    // 80 entries of 1 MiB spaces: more than the budget of 64 MiB, from a zip of some 80 KiB.
    let spaces = vec![b' '; 1 << 20];
    let names: Vec<String> = (0..80).map(|i| format!("{i}.json")).collect();
    let bomb = |export: &Export| {
        let entries: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), spaces.as_slice())).collect();
        export.zip("npm", &entries);
    };
    check(bomb, "npm/all.zip", "like a zip bomb");
}

#[test]
fn broken_lists_are_warnings() {
    check(|export| export.file("kev.json", b"{"), "kev.json", "known exploited");
    check(|export| fs::remove_file(export.path().join("kev.json")).unwrap(), "kev.json", "known exploited");
    check(|export| export.file("epss_scores-current.csv.gz", b"no gzip"), "epss_scores", "cannot be read");
    check(|export| export.file("epss_scores-current.csv", b"CVE-1,high\n"), "epss_scores", "1 lines");
}

#[test]
fn without_anything_usable_the_old_database_stays() {
    let export = Export::new();
    fs::write(export.output(), b"old").unwrap();
    let result = build(&export.path(), &export.output(), &mut |_| ());
    assert!(matches!(result, Err(BuildError::NothingUsable { .. })), "{result:?}");
    export.file("PyPI/all.zip", b"no zip");
    let error = build(&export.path(), &export.output(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("not a readable zip"), "{error}");
    let result = build(&export.path().join("absent"), &export.output(), &mut |_| ());
    assert!(matches!(result, Err(BuildError::Input { .. })), "{result:?}");
    assert_eq!(fs::read(export.output()).unwrap(), b"old");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let export = Export::new();
    export.records("PyPI", &[GOOD]);
    let output = export.path().join("kev.json/database");
    let error = build(&export.path(), &output, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("kev.json/database"), "{error}");
}

#[test]
fn equal_input_gives_equal_bytes() {
    let export = Export::new();
    export.records("PyPI", &[GOOD]);
    export.records("npm", &[r#"{"id":"A","affected":[{"package":{"ecosystem":"npm","name":"b"}}]}"#]);
    let bytes = || {
        let report = export.build();
        let mut bytes = fs::read(export.output()).unwrap();
        // The build time and the header's checksum over it.
        bytes[24..32].fill(0);
        bytes[508..512].fill(0);
        (bytes, report.database_version)
    };
    assert!(bytes() == bytes());
}

#[test]
fn the_newest_of_two_copies_of_a_record_counts() {
    let copy = |modified: &str, version: &str| {
        format!(
            r#"{{"id":"X-1","modified":"{modified}","affected":[{{"package":{{"ecosystem":"PyPI","name":"a"}},"versions":["{version}"]}}]}}"#
        )
    };
    let export = Export::new();
    export.records("PyPI", &[&copy("2024-01-02T00:00:00Z", "2")]);
    export.records("npm", &[&copy("2024-01-01T00:00:00Z", "1")]);
    let database = export.database();
    assert!(ids(&database, &pypi("a", "1")).is_empty());
    assert_eq!(ids(&database, &pypi("a", "2")), ["X-1"]);
    assert_eq!(status(&export.output()).unwrap().records, 1);
}

#[test]
fn other_files_are_refused_with_a_remedy() {
    let export = Export::new();
    let open = |content: Option<&[u8]>| {
        if let Some(content) = content {
            fs::write(export.output(), content).unwrap();
        }
        Database::open(&export.output()).err().unwrap()
    };
    assert!(matches!(open(None), DatabaseError::Missing { .. }));
    for content in [&b""[..], b"PLIM", b"some other file, long enough to have a header"] {
        assert!(matches!(open(Some(content)), DatabaseError::NotADatabase { .. }));
    }
    let mut other_format = b"PLIMVULN".to_vec();
    other_format.resize(600, 9);
    let error = open(Some(&other_format));
    assert!(
        matches!(error, DatabaseError::OtherFormat { .. }) && error.to_string().contains("db build"),
        "{error}"
    );
    assert!(Database::open(&export.path()).is_err());
}

#[test]
fn progress_ends_with_writing() {
    let export = Export::new();
    export.records("PyPI", &[GOOD]);
    let mut seen = Vec::new();
    let _ =
        build(&export.path(), &export.output(), &mut |progress| seen.push(format!("{progress:?}"))).unwrap();
    let last = seen.last().unwrap();
    assert!(last.starts_with("Writing"), "{last}");
    let reading = format!("{:?}", Progress::Reading { ecosystem: "PyPI", done: 1, total: 1 });
    assert!(seen.contains(&reading), "{seen:?}");
}
