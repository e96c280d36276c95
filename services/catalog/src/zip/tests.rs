use super::*;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;
use std::io::Write as _;

/// How a member of a test archive is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Stored,
    Deflated,
}

/// Writes small archives, honest ones; tests damage them afterwards.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Writer {
    pub fn add(mut self, name: &str, contents: &[u8], keep: Keep) -> Self {
        let (method, data) = match keep {
            Keep::Stored => (0u16, contents.to_vec()),
            Keep::Deflated => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(contents).unwrap();
                (8, encoder.finish().unwrap())
            }
        };
        let offset = self.bytes.len() as u32;
        let sizes = [data.len() as u32, contents.len() as u32];
        let mut common = [&[20u8, 0, 0, 0][..], &method.to_le_bytes(), &[0; 8]].concat();
        common.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(b"PK\x03\x04");
        self.bytes.extend_from_slice(&common);
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(&data);
        self.directory.extend_from_slice(b"PK\x01\x02\x14\0");
        self.directory.extend_from_slice(&common);
        self.directory.extend_from_slice(&[0; 12]);
        self.directory.extend_from_slice(&offset.to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        self.count += 1;
        self
    }

    pub fn finish(mut self) -> Vec<u8> {
        let start = self.bytes.len() as u32;
        let size = self.directory.len() as u32;
        self.bytes.append(&mut self.directory);
        self.bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(start.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
    }
}

/// Names and contents of all members, or the error.
fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ZipError> {
    let file = bytes.to_vec();
    let mut budget = Budget::of(file.len() as u64);
    let archive = Archive::open(&file, &mut budget)?;
    let mut found = Vec::new();
    for entry in archive.entries() {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        found.push((name, archive.read(&entry, usize::MAX, &mut budget)?));
    }
    Ok(found)
}

fn sample() -> Vec<u8> {
    Writer::default().add("a/b.txt", b"stored", Keep::Stored).add("c", &[b'x'; 5000], Keep::Deflated).finish()
}

fn expected() -> Vec<(String, Vec<u8>)> {
    vec![("a/b.txt".to_owned(), b"stored".to_vec()), ("c".to_owned(), vec![b'x'; 5000])]
}

/// Puts the place of the directory into a ZIP64 record.
fn as_zip64(mut bytes: Vec<u8>, lie_about_size: u64) -> Vec<u8> {
    let end = bytes.len() - 22;
    let size = u64::from(u32::from_le_bytes(bytes[end + 12..end + 16].try_into().unwrap()));
    let offset = u64::from(u32::from_le_bytes(bytes[end + 16..end + 20].try_into().unwrap()));
    let mut last = bytes.split_off(end);
    let record_at = bytes.len() as u64;
    bytes.extend_from_slice(b"PK\x06\x06");
    bytes.extend(44u64.to_le_bytes());
    bytes.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [2, 2, size + lie_about_size, offset] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    bytes.extend(record_at.to_le_bytes());
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    last[8..20].fill(0xff);
    bytes.extend(last);
    bytes
}

#[test]
fn honest_archives() {
    assert_eq!(read_all(&sample()).unwrap(), expected());
    assert_eq!(
        read_all(&[b"#!/bin/sh\nexec java -jar $0\n".as_slice(), &sample()].concat()).unwrap(),
        expected()
    );
    assert_eq!(read_all(&as_zip64(sample(), 0)).unwrap(), expected());
    assert_eq!(read_all(&[b"prefix".as_slice(), &as_zip64(sample(), 0)].concat()).unwrap(), expected());
    let mut commented = sample();
    let end = commented.len();
    commented[end - 2] = 5;
    commented.extend_from_slice(b"hello");
    assert_eq!(read_all(&commented).unwrap(), expected());
    assert_eq!(read_all(&Writer::default().finish()).unwrap(), []);
}

#[track_caller]
fn check_refused(what: &str, bytes: &[u8]) {
    assert!(read_all(bytes).is_err(), "{what}");
}

#[test]
fn lies_are_refused() {
    check_refused("nothing", b"");
    check_refused("text", b"just some text, long enough to hold an end record of an archive");
    check_refused("truncated", &sample()[..60]);
    check_refused("zip64 lie", &as_zip64(sample(), u64::MAX - 10_000));
    check_refused("zip64 small lie", &as_zip64(sample(), 1));
    let at = |needle: &[u8]| memchr::memmem::find(&sample(), needle).unwrap();
    let changed = |offset: usize, value: &[u8]| {
        let mut bytes = sample();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        bytes
    };
    let directory = at(b"PK\x01\x02");
    check_refused("encrypted", &changed(directory + 8, &[1]));
    check_refused("unknown method", &changed(directory + 10, &[99]));
    check_refused("data behind the end", &changed(directory + 20, &[0xff, 0xff, 0xff, 0]));
    check_refused("header behind the end", &changed(directory + 42, &[0xff, 0xff, 0xff, 0x7f]));
    check_refused("damaged local header", &changed(0, b"XX"));
    let second = memchr::memmem::rfind(&sample(), b"PK\x03\x04").unwrap();
    check_refused("damaged data", &changed(second + LOCAL_HEADER_BYTES + 1, &[0xff]));
    let mut bytes = sample();
    bytes[directory + 28] = 0xff;
    let file = bytes.clone();
    let archive = Archive::open(&file, &mut Budget::of(file.len() as u64)).unwrap();
    assert!(archive.is_damaged());
}

#[test]
fn bombs_stop_at_the_budget() {
    let bomb = Writer::default().add("bomb", &vec![0; 64 << 20], Keep::Deflated).finish();
    assert!(matches!(read_all(&bomb), Err(ZipError::TooLong)));
    let file = bomb.clone();
    let mut budget = Budget::of(file.len() as u64);
    let archive = Archive::open(&file, &mut budget).unwrap();
    let entry = archive.entries().next().unwrap();
    assert_eq!(archive.read(&entry, 1000, &mut budget).unwrap().len(), 1000);
    // The same member again and again uses up what there is.
    let count = (0..10_000).take_while(|_| archive.read(&entry, 100_000, &mut budget).is_ok()).count();
    assert!((10..1_000).contains(&count), "{count}");
}

proptest! {
    #[test]
    fn damaged_archives_never_panic(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
        for mut bytes in [sample(), as_zip64(sample(), 0)] {
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Ok(found) = read_all(&bytes) {
                prop_assert!(found.iter().map(|(_, contents)| contents.len()).sum::<usize>() < 8 << 20);
            }
        }
    }
}
