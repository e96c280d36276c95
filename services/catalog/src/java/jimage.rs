//! Module runtime images (`lib/modules`, which jlink writes): the modules linked into one beside those of the JDK, with
//! what Maven and manifests say of them. Reads the image's index and these few files; never unpacks an image.
//! Format: the JDK's `jdk.internal.jimage` (ImageHeader, ImageLocation) and `jdk.tools.jlink` (CompressedResourceHeader).

use super::archive::{
    ArchiveDigest, Facts, MAX_ALL_CLASS_DIRECTORIES, MAX_ARCHIVES, MAX_CLASS_DIRECTORIES, MAX_NOTES,
    MAX_POMS, add_class,
};
use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::properties::{self, MAX_PROPERTIES_BYTES};
use crate::digest::SliceAt;
use crate::tree::read_at::{ReadAt, read_range};
use crate::zip::{Budget, inflate_zlib};
use std::collections::BTreeMap;

const MAGIC: u32 = 0xCAFE_DADA;
const MAJOR_VERSION: u32 = 1;
const HEADER_BYTES: usize = 28;
/// Longest index (tables, locations and names) that is read, in bytes; that of a whole JDK has 2 MiB.
const MAX_INDEX_BYTES: usize = 64 * 1024 * 1024;
/// Most files of an image that are looked at; a whole JDK has 30,000.
const MAX_RESOURCES: usize = 2_000_000;
/// Longest `module-info.class` that is read, in bytes.
const MAX_MODULE_INFO_BYTES: usize = 256 * 1024;
/// Longest name or path in an index, in bytes: what is longer is none.
const MAX_NAME_BYTES: usize = 4_096;
/// Kinds of attributes that a file can have, known ones and those of later JDKs; each stands once at most.
const KINDS: usize = 31;
/// What precedes a compressed file in the image.
const COMPRESSED_HEADER_BYTES: u64 = 29;
const COMPRESSED_MAGIC: u32 = 0xCAFE_FAFA;

/// Modules of every JDK.
const OF_JDK: [&str; 2] = ["java.", "jdk."];
/// Modules that some makers of JDKs add; Maven Central has some of them too, and then they say so.
const OF_VENDORS: [&str; 8] = [
    "oracle.",
    "com.azul.",
    "com.oracle.graal.",
    "com.oracle.svm.",
    "com.oracle.truffle.",
    "ibm.",
    "openj9.",
    "org.graalvm.",
];

/// Of a version that is known here, in either order of bytes.
pub(crate) fn is_head(head: &[u8]) -> bool {
    Reader::of(head).is_some()
}

/// The digest function; empty for an image in which nothing but the JDK's own modules is.
pub(crate) fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let found = look_into(file);
    if found.archives.is_empty() && found.notes.is_empty() {
        return Vec::new();
    }
    // Writing a structure of strings and numbers cannot fail.
    serde_json::to_vec(&found).unwrap_or_default()
}

fn look_into(file: &dyn ReadAt) -> ArchiveDigest {
    let mut found = ArchiveDigest::default();
    if let Err(reason) = look(file, &mut found) {
        found.notes.push((String::new(), reason));
    }
    found
}

/// Numbers in the order of bytes of the image.
#[derive(Clone, Copy)]
struct Reader {
    is_big_endian: bool,
}

impl Reader {
    fn of(head: &[u8]) -> Option<Self> {
        let found = [false, true].map(|is_big_endian| Self { is_big_endian });
        found.into_iter().find(|reader| {
            reader.u32(head, 0) == Some(MAGIC)
                && reader.u32(head, 4).is_some_and(|version| version >> 16 == MAJOR_VERSION)
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let eight: [u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(if self.is_big_endian { u64::from_be_bytes(eight) } else { u64::from_le_bytes(eight) })
    }
}

/// Where one file of an image stands, by offsets into the names and the contents.
#[derive(Default)]
struct Place {
    module: u64,
    parent: u64,
    base: u64,
    extension: u64,
    content: u64,
    /// 0 = not compressed.
    compressed_bytes: u64,
    size_bytes: u64,
}

impl Place {
    /// Attributes: a byte with kind and length, then the value, highest byte first; kind 0 ends them.
    fn parse(locations: &[u8], offset: usize) -> Option<Self> {
        let mut place = Self::default();
        let mut at = offset;
        for _ in 0..=KINDS {
            let head = *locations.get(at)?;
            let (kind, length) = (head >> 3, usize::from(head & 7) + 1);
            if kind == 0 {
                return Some(place);
            }
            let value = locations.get(at + 1..at + 1 + length)?;
            let value = value.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            match kind {
                1 => place.module = value,
                2 => place.parent = value,
                3 => place.base = value,
                4 => place.extension = value,
                5 => place.content = value,
                6 => place.compressed_bytes = value,
                7 => place.size_bytes = value,
                // Of a later JDK.
                _ => {}
            }
            at += 1 + length;
        }
        None
    }
}

/// An image whose index was read.
struct Image<'r> {
    file: &'r dyn ReadAt,
    reader: Reader,
    names: &'r [u8],
    contents_at: u64,
}

fn look(file: &dyn ReadAt, found: &mut ArchiveDigest) -> Result<(), String> {
    const DAMAGED: &str = "its index is damaged";
    let head = read_range(file, 0, HEADER_BYTES).map_err(|error| error.to_string())?;
    let reader = Reader::of(&head).ok_or(DAMAGED)?;
    let field = |number: usize| reader.u32(&head, number * 4).map_or(usize::MAX, |value| value as usize);
    let (table, locations_bytes, names_bytes) = (field(4), field(5), field(6));
    let tables_bytes = table.checked_mul(8).ok_or(DAMAGED)?;
    let index_bytes = tables_bytes.checked_add(locations_bytes).and_then(|sum| sum.checked_add(names_bytes));
    let index_bytes = index_bytes.filter(|bytes| *bytes <= MAX_INDEX_BYTES && table <= MAX_RESOURCES);
    let index_bytes = index_bytes.ok_or("its index is longer than what is read of one")?;
    let index = read_range(file, HEADER_BYTES as u64, index_bytes).map_err(|error| error.to_string())?;
    if index.len() < index_bytes {
        return Err(DAMAGED.to_owned());
    }
    let (tables, rest) = index.split_at(tables_bytes);
    let (locations, names) = rest.split_at(locations_bytes);
    let image = Image { file, reader, names, contents_at: (HEADER_BYTES + index_bytes) as u64 };
    let mut budget = Budget::of(file.size());
    let mut modules: BTreeMap<String, Facts> = BTreeMap::new();
    let (mut damaged, mut class_directories) = (0, 0);
    for slot in tables[table * 4..].chunks_exact(4) {
        let offset = reader.u32(slot, 0).unwrap_or(0) as usize;
        let Some(place) = Place::parse(locations, offset) else {
            damaged += 1;
            continue;
        };
        match image.add(&place, &mut modules, &mut class_directories, &mut budget) {
            Ok(()) => {}
            Err((name, reason)) if found.notes.len() < MAX_NOTES => found.notes.push((name, reason)),
            Err(_) => found.more_notes += 1,
        }
    }
    if damaged > 0 {
        found.notes.push((String::new(), format!("{damaged} entries of its index are damaged")));
    }
    if modules.len() > MAX_ARCHIVES {
        found.notes.push((String::new(), format!("there are more than {MAX_ARCHIVES} modules in it")));
    }
    let is_runtimes = |facts: &Facts| {
        facts.poms.is_empty() && OF_VENDORS.iter().any(|prefix| facts.path.starts_with(prefix))
    };
    found.archives = modules.into_values().filter(|facts| !is_runtimes(facts)).take(MAX_ARCHIVES).collect();
    for facts in &mut found.archives {
        facts.poms.sort();
        facts.poms.dedup();
    }
    Ok(())
}

impl Image<'_> {
    fn name(&self, offset: u64) -> &[u8] {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.names.get(offset..)).unwrap_or(&[]);
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES + 1)];
        &rest[..memchr::memchr(0, rest).unwrap_or(0)]
    }

    /// Adds one file to its module; an error names the file. `class_directories` counts those of all modules.
    fn add(
        &self,
        place: &Place,
        modules: &mut BTreeMap<String, Facts>,
        class_directories: &mut usize,
        budget: &mut Budget,
    ) -> Result<(), (String, String)> {
        let module = String::from_utf8_lossy(self.name(place.module));
        // Entries of the image itself (`/modules/…`, `/packages/…`) are no files.
        let is_files = !module.is_empty() && !matches!(module.as_ref(), "modules" | "packages");
        if !is_files || OF_JDK.iter().any(|prefix| module.starts_with(prefix)) {
            return Ok(());
        }
        if !modules.contains_key(module.as_ref()) {
            if modules.len() > MAX_ARCHIVES {
                return Ok(());
            }
            if properties::acceptable(&module).is_none() {
                // Once, not for each of its files.
                let is_first = self.name(place.base) == b"module-info";
                let reason =
                    "a module whose name no coordinates can have; its classes count as the runtime's";
                return if is_first { Err((module.into_owned(), reason.to_owned())) } else { Ok(()) };
            }
            let facts = Facts { path: module.clone().into_owned(), ..Facts::default() };
            modules.insert(facts.path.clone(), facts);
        }
        let Some(facts) = modules.get_mut(module.as_ref()) else { return Ok(()) };
        let parent = String::from_utf8_lossy(self.name(place.parent));
        let base = String::from_utf8_lossy(self.name(place.base));
        let extension = String::from_utf8_lossy(self.name(place.extension));
        if extension == "class" {
            if base == "module-info" {
                // Without it there are the manifest and pom.properties.
                let bytes = self.read(place, MAX_MODULE_INFO_BYTES, budget);
                let bytes = bytes.map_err(|reason| (format!("{module}/module-info.class"), reason))?;
                facts.module_version = module_version(&bytes).unwrap_or_default();
            } else if facts.class_directories.contains_key(parent.as_ref()) {
                add_class(facts, &format!("{parent}/{base}"));
            } else if facts.class_directories.len() < MAX_CLASS_DIRECTORIES
                && *class_directories < MAX_ALL_CLASS_DIRECTORIES
            {
                *class_directories += 1;
                add_class(facts, &format!("{parent}/{base}"));
            } else {
                facts.class_count += 1;
                facts.left_out.beyond(MAX_CLASS_DIRECTORIES, "directories of classes");
            }
            return Ok(());
        }
        let name = format!("{parent}/{base}.{extension}");
        let at = |reason| (format!("{module}/{name}"), reason);
        if name == "META-INF/MANIFEST.MF" {
            let bytes = self.read(place, MAX_MANIFEST_BYTES, budget).map_err(at)?;
            facts.manifest = Manifest::parse(&bytes, &mut facts.left_out);
        } else if let Some(directory) = properties::directory_of(&name, "pom.properties") {
            if facts.poms.len() >= MAX_POMS {
                facts.left_out.beyond(MAX_POMS, "files pom.properties");
                return Ok(());
            }
            let bytes = self.read(place, MAX_PROPERTIES_BYTES, budget).map_err(at)?;
            let pom = properties::parse(&bytes, directory, &mut facts.left_out);
            facts.poms.push(pom.ok_or_else(|| at(properties::NO_ARTIFACT.to_owned()))?);
        }
        Ok(())
    }

    /// The beginning of a file, inflated where jlink compressed it.
    fn read(&self, place: &Place, max_bytes: usize, budget: &mut Budget) -> Result<Vec<u8>, String> {
        const OUTSIDE: &str = "it lies outside of the image";
        let wanted = usize::try_from(place.size_bytes).unwrap_or(usize::MAX).min(max_bytes);
        let start = self.contents_at.checked_add(place.content).ok_or(OUTSIDE)?;
        if place.compressed_bytes == 0 {
            budget.take(wanted).map_err(|error| error.to_string())?;
            let bytes = read_range(self.file, start, wanted).map_err(|error| error.to_string())?;
            return if bytes.len() < wanted { Err(OUTSIDE.to_owned()) } else { Ok(bytes) };
        }
        let header = read_range(self.file, start, COMPRESSED_HEADER_BYTES as usize);
        let header = header.map_err(|error| error.to_string())?;
        let length = self.reader.u64(&header, 4).ok_or(OUTSIDE)?;
        let by = self.reader.u32(&header, 20).ok_or(OUTSIDE)?;
        let is_known = self.reader.u32(&header, 0) == Some(COMPRESSED_MAGIC)
            && self.name(u64::from(by)) == b"zip"
            && header.last() == Some(&1);
        if !is_known {
            return Err("it is compressed in a way that is not supported".to_owned());
        }
        let data = SliceAt::new(self.file, start + COMPRESSED_HEADER_BYTES, length).ok_or(OUTSIDE)?;
        inflate_zlib(&data, wanted, budget).map_err(|error| error.to_string())
    }
}

/// The version that a `module-info.class` was compiled with (JVM specification, 4.4 and 4.7.25).
fn module_version(class: &[u8]) -> Option<String> {
    let u16_at = |at: usize| -> Option<usize> {
        let two: [u8; 2] = class.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(u16::from_be_bytes(two)))
    };
    let u32_at = |at: usize| -> Option<usize> { Some(u16_at(at)? << 16 | u16_at(at.checked_add(2)?)?) };
    let mut texts: Vec<&[u8]> = vec![b""];
    let mut at = 10;
    let count = u16_at(8)?;
    while texts.len() < count {
        let tag = *class.get(at)?;
        let (size, text) = match tag {
            1 => {
                let length = u16_at(at + 1)?;
                (3 + length, class.get(at + 3..at + 3 + length)?)
            }
            3 | 4 | 9..=12 | 17 | 18 => (5, &b""[..]),
            5 | 6 => (9, &b""[..]),
            7 | 8 | 16 | 19 | 20 => (3, &b""[..]),
            15 => (4, &b""[..]),
            _ => return None,
        };
        texts.push(text);
        // Long and double take two numbers.
        if matches!(tag, 5 | 6) {
            texts.push(b"");
        }
        at += size;
    }
    // Flags, this, super; of interfaces, fields and methods a module has none.
    at += 6;
    if [u16_at(at)?, u16_at(at + 2)?, u16_at(at + 4)?] != [0, 0, 0] {
        return None;
    }
    let attributes = u16_at(at + 6)?;
    at += 8;
    for _ in 0..attributes {
        let (name, length) = (u16_at(at)?, u32_at(at + 2)?);
        if *texts.get(name)? == b"Module" {
            let version = texts.get(u16_at(at + 10)?)?;
            return properties::acceptable(std::str::from_utf8(version).ok()?);
        }
        at = at.checked_add(6)?.checked_add(length)?;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image of these files (module, directory, name, ending, contents), none compressed.
    pub(crate) fn image(files: &[(&str, &str, &str, &str, &[u8])]) -> Vec<u8> {
        let (mut locations, mut names, mut contents) = (Vec::new(), vec![0], Vec::new());
        let mut offsets: Vec<u32> = Vec::new();
        let number = |value: usize| (value as u32).to_le_bytes();
        for (module, parent, base, extension, bytes) in files {
            offsets.push(locations.len() as u32);
            let texts = [module, parent, base, extension].map(|text| {
                names.extend_from_slice(text.as_bytes());
                names.push(0);
                names.len() - text.len() - 1
            });
            let attributes = texts.into_iter().chain([contents.len(), 0, bytes.len()]);
            for (kind, value) in (1u8..).zip(attributes) {
                locations.push(kind << 3 | 3);
                locations.extend_from_slice(&(value as u32).to_be_bytes());
            }
            locations.push(0);
            contents.extend_from_slice(bytes);
        }
        let header = [0, files.len(), files.len(), locations.len(), names.len()].map(number).concat();
        let offsets: Vec<u8> = offsets.into_iter().flat_map(u32::to_le_bytes).collect();
        let redirects = vec![0; offsets.len()];
        let head = [MAGIC, MAJOR_VERSION << 16].map(u32::to_le_bytes).concat();
        [head, header, redirects, offsets, locations, names, contents].concat()
    }

    /// `module M { }`, version in the constant pool, as javac writes it.
    fn module_info(version: &str) -> Vec<u8> {
        let mut class = b"\xca\xfe\xba\xbe\0\0\0\x3d\0\x05".to_vec();
        class.extend_from_slice(b"\x01\0\x06Module\x05\0\0\0\0\0\0\0\x01");
        class.push(1);
        class.extend_from_slice(&(version.len() as u16).to_be_bytes());
        class.extend_from_slice(version.as_bytes());
        class.extend_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\0\0\0\x06\0\0\0\0\0\x04");
        class
    }

    #[test]
    fn versions_of_modules() {
        assert_eq!(module_version(&module_info("2.0.13")).as_deref(), Some("2.0.13"));
        assert_eq!(module_version(&module_info("a b")), None);
        let whole = module_info("1");
        for end in 0..whole.len() {
            assert_eq!(module_version(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn heads() {
        assert!(is_head(b"\xda\xda\xfe\xca\0\0\x01\0 and more"));
        assert!(is_head(b"\xca\xfe\xda\xda\0\x01\0\0"));
        assert!(!is_head(b"\xda\xda\xfe\xca\0\0\x02\0"));
        assert!(!is_head(b""));
    }

    #[test]
    fn modules_beside_those_of_the_jdk() {
        let found = look_into(&include_bytes!("fixtures/modules.jimage").to_vec());
        assert_eq!(found.notes, []);
        let [module] = &found.archives[..] else { panic!("{found:?}") };
        assert_eq!(
            (module.path.as_str(), module.module_version.as_str(), module.class_count),
            ("org.x", "1.2", 1)
        );
        assert_eq!(module.manifest.bundle_version, "1.2");
        // This file is compressed.
        assert_eq!((module.poms[0].artifact.as_str(), module.poms[0].version.as_str()), ("y", "1.2"));
    }

    #[test]
    fn files_that_tell_nothing_are_named() {
        let found = look_into(&image(&[
            ("org.x", "META-INF/maven/g/a", "pom", "properties", b"groupId=g\nartifactId=a\nversion=1\n"),
            ("org.x", "META-INF/maven/g/\u{1}", "pom", "properties", b"version=1\n"),
            ("org.x", "org/x", "X", "class", b""),
        ]));
        let place = "org.x/META-INF/maven/g/\u{1}/pom.properties".to_owned();
        assert_eq!(found.notes, [(place, "it names no artifact".to_owned())]);
        let [module] = &found.archives[..] else { panic!("{found:?}") };
        assert_eq!((module.poms.len(), module.class_count), (1, 1));
    }

    #[test]
    fn lies_about_lengths() {
        let image = |fields: [u32; 5]| -> ArchiveDigest {
            let mut bytes = [MAGIC, 0x0001_0000].map(u32::to_le_bytes).concat();
            bytes.extend(fields.map(u32::to_le_bytes).concat());
            look_into(&bytes)
        };
        for fields in [
            [0, 1, u32::MAX, u32::MAX, u32::MAX],
            [0, 1, 1, 1, 1],
            [0, 0, 3_000_000, 0, 0],
            [0, 0, 0, 1 << 30, 0],
        ] {
            assert_eq!(image(fields).notes.len(), 1, "{fields:?}");
        }
        assert_eq!(image([0; 5]), ArchiveDigest::default());
    }

    /// Each of many entries may point at the same bytes: none may cost more than a file's.
    #[test]
    fn attributes_and_names_without_end() {
        let endless = [1 << 3, 0].repeat(1_000);
        assert!(Place::parse(&endless, 0).is_none());
        // The last is of a later JDK.
        let mut once: Vec<u8> = (1..=8u8).flat_map(|kind| [kind << 3, kind]).collect();
        assert!(Place::parse(&once, 0).is_none());
        once.push(0);
        assert_eq!(Place::parse(&once, 0).map(|place| place.size_bytes), Some(7));
        let file = Vec::new();
        let names = [&vec![b'a'; MAX_NAME_BYTES + 1][..], b"\0b\0"].concat();
        let image =
            Image { file: &file, reader: Reader { is_big_endian: false }, names: &names, contents_at: 0 };
        assert_eq!(image.name(0), b"");
        assert_eq!(image.name(1).len(), MAX_NAME_BYTES);
        assert_eq!(image.name(MAX_NAME_BYTES as u64 + 2), b"b");
    }
}
