//! The hostile inputs that issue 4 lists, word by word: each is read in a process of its own, whose time and greatest
//! memory are bounded; a warning names the file, and everything beside it is still reported.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use flate2::Compression;
use flate2::write::DeflateEncoder;
use plimsoll_catalog::{DirectoryOptions, DirectoryTree, OwnershipIndex, catalog};
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where the process of one case finds its directory.
const DIRECTORY: &str = "PLIMSOLL_HOSTILE_DIRECTORY";
/// Greatest CPU time of one case, unoptimised.
const MAX_CPU: Duration = Duration::from_secs(15);
/// Most resident memory that one case may add, in KiB; what is nested and compressed is inflated into memory.
const MAX_KIB: u64 = 400 * 1024;

/// One archive, written by hand so that it can lie.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

/// What the directory says of a member.
struct Said<'a> {
    name: &'a [u8],
    method: u16,
    compressed: u32,
    size: u32,
    offset: u32,
}

fn deflated(contents: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

impl Raw {
    fn common(said: &Said<'_>) -> Vec<u8> {
        let mut out = [&[20u8, 0, 0, 0][..], &said.method.to_le_bytes(), &[0; 8]].concat();
        out.extend([said.compressed, said.size].iter().flat_map(|size| size.to_le_bytes()));
        out.extend((said.name.len() as u16).to_le_bytes());
        out
    }

    /// A member's header, without its data; gives its offset.
    fn header(&mut self, said: &Said<'_>) -> u32 {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(b"PK\x03\x04");
        self.bytes.extend(Self::common(said));
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(said.name);
        offset
    }

    fn list(&mut self, said: &Said<'_>, extra: &[u8]) {
        self.directory.extend_from_slice(b"PK\x01\x02\x14\0");
        self.directory.extend(Self::common(said));
        self.directory.extend((extra.len() as u16).to_le_bytes());
        self.directory.extend_from_slice(&[0; 10]);
        self.directory.extend(said.offset.to_le_bytes());
        self.directory.extend_from_slice(said.name);
        self.directory.extend_from_slice(extra);
        self.count = self.count.wrapping_add(1);
    }

    /// An honest member.
    fn add(mut self, name: &[u8], contents: &[u8], is_deflated: bool) -> Self {
        let data = if is_deflated { deflated(contents) } else { contents.to_vec() };
        let mut said = Said {
            name,
            method: if is_deflated { 8 } else { 0 },
            compressed: data.len() as u32,
            size: contents.len() as u32,
            offset: 0,
        };
        said.offset = self.header(&said);
        self.bytes.extend(data);
        self.list(&said, &[]);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let (start, size) = (self.bytes.len() as u32, self.directory.len() as u32);
        self.bytes.append(&mut self.directory);
        self.bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend([self.count.to_le_bytes(), self.count.to_le_bytes()].concat());
        self.bytes.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
    }
}

const POM: &[u8] = b"groupId=g\nartifactId=a\nversion=1\n";
const POM_PATH: &[u8] = b"META-INF/maven/g/a/pom.properties";

fn plain_jar() -> Raw {
    Raw::default().add(POM_PATH, POM, false).add(b"g/a/A.class", b"", false)
}

/// A jar within a jar, `depth` times.
fn nested(depth: usize, is_deflated: bool) -> Vec<u8> {
    (0..depth)
        .fold(plain_jar().finish(), |jar, _| Raw::default().add(b"inner.jar", &jar, is_deflated).finish())
}

/// ZIP64 sizes and offsets that are not so: huge members, and members far behind the end.
fn zip64_lies() -> Vec<u8> {
    let mut raw = plain_jar();
    let absent = u32::MAX;
    let wide = |values: [u64; 3]| {
        let mut extra = [1u16.to_le_bytes(), 24u16.to_le_bytes()].concat();
        extra.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        extra
    };
    let data = deflated(POM);
    for (number, values) in [
        [u64::MAX, u64::MAX, 0],
        [1 << 62, 1 << 40, 0],
        [1 << 62, data.len() as u64, u64::MAX - 3],
        [1 << 50, 1 << 50, 0],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("META-INF/maven/g/lie{number}/pom.properties");
        let said =
            Said { name: name.as_bytes(), method: 8, compressed: absent, size: absent, offset: absent };
        raw.header(&said);
        raw.bytes.extend_from_slice(&data);
        raw.list(&said, &wide(values));
        let name = format!("lie{number}.jar");
        raw.list(
            &Said { name: name.as_bytes(), method: 8, compressed: absent, size: absent, offset: absent },
            &wide(values),
        );
    }
    raw.finish()
}

/// Zeros that were compressed, once as every kind of file that is read.
fn bomb() -> Vec<u8> {
    let zeros = vec![b'\n'; 256 << 20];
    let data = deflated(&zeros);
    let mut raw = plain_jar();
    for name in [&b"META-INF/MANIFEST.MF"[..], b"META-INF/maven/g/b/pom.properties", b"inner.jar"] {
        let size = zeros.len() as u32;
        let mut said = Said { name, method: 8, compressed: data.len() as u32, size, offset: 0 };
        said.offset = raw.header(&said);
        raw.bytes.extend_from_slice(&data);
        raw.list(&said, &[]);
    }
    raw.finish()
}

/// Many members that share one kernel of compressed data (overlapping), with true or false (quoted) sizes.
fn overlapping(has_false_sizes: bool) -> Vec<u8> {
    let zeros = vec![0; 16 << 20];
    let data = deflated(&zeros);
    let mut raw = plain_jar();
    let size = if has_false_sizes { 10 } else { zeros.len() as u32 };
    let shared = Said { name: b"x.jar", method: 8, compressed: data.len() as u32, size, offset: 0 };
    let offset = raw.header(&shared);
    raw.bytes.extend_from_slice(&data);
    for number in 0..20_000 {
        let name = format!("lib/bomb{number}.jar");
        raw.list(&Said { name: name.as_bytes(), offset, ..shared }, &[]);
    }
    raw.finish()
}

/// Members each of which quotes the headers of all behind it (a stored DEFLATE block around each header).
fn quoted() -> Vec<u8> {
    let kernel = deflated(&vec![0; 16 << 20]);
    let names: Vec<String> =
        (0..2_000).map(|number| format!("META-INF/maven/g/q{number}/pom.properties")).collect();
    // From the last to the first: the data of one are a stored block with the header of the next, then its data.
    let mut raw = plain_jar();
    let start = raw.bytes.len() as u32;
    let mut lengths = vec![kernel.len() as u32];
    for name in names[1..].iter().rev() {
        let next = lengths[lengths.len() - 1] + 5 + 30 + name.len() as u32;
        lengths.push(next);
    }
    lengths.reverse();
    let mut offset = start;
    for (name, compressed) in names.iter().zip(&lengths) {
        let said = Said { name: name.as_bytes(), method: 8, compressed: *compressed, size: 16 << 20, offset };
        raw.header(&said);
        raw.list(&said, &[]);
        offset = raw.bytes.len() as u32 + 5;
        if *compressed != kernel.len() as u32 {
            let quoted = (30 + name.len()) as u16;
            raw.bytes.extend([&[0u8][..], &quoted.to_le_bytes(), &(!quoted).to_le_bytes()].concat());
        }
    }
    raw.bytes.extend(kernel);
    raw.finish()
}

/// Classes, components and archives whose names hold control characters, terminal sequences and no UTF-8.
fn odd_names() -> Vec<u8> {
    plain_jar()
        .add(b"g/\x1b[31m/\x07/A\nB.class", b"", false)
        .add(b"g/\xff\xfe/C.class", b"", false)
        .add(
            b"META-INF/maven/\x01g/\x02a/pom.properties",
            b"groupId=\x1b]0;x\x07\nartifactId=a\r\nversion=\x00\n",
            false,
        )
        .add(b"lib/\x1b[2Jz.jar", b"no archive", false)
        .add(b"lib/\xff.jar", &plain_jar().finish(), false)
        .finish()
}

const METADATA: &str = "lib/site-packages/six-1.16.0.dist-info/METADATA";

fn write(root: &Path, path: &[u8], bytes: &[u8]) {
    let path = root.join(std::ffi::OsStr::from_bytes(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The beginning and end of a file that is mostly a hole.
fn write_sparse(root: &Path, path: &str, beginning: &[u8], size: u64, end: &[u8]) {
    write(root, path.as_bytes(), beginning);
    let mut file = File::options().write(true).open(root.join(path)).unwrap();
    file.set_len(size).unwrap();
    file.seek(SeekFrom::Start(size - end.len() as u64)).unwrap();
    file.write_all(end).unwrap();
}

/// What a case prints: names of packages, and warnings.
struct Found {
    names: Vec<String>,
    warnings: Vec<String>,
}

/// Catalogs the directory in a process of its own.
#[track_caller]
fn check(what: &str, make: impl FnOnce(&Path), warned: &[&str], found: &[&str]) -> Found {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, METADATA.as_bytes(), b"Name: six\nVersion: 1.16.0\n");
    write(root, b"node_modules/sound/package.json", br#"{"name":"sound","version":"1.0.0"}"#);
    write(root, b"sound/sound-1.0.jar", &Raw::default().add(b"org/sound/S.class", b"", false).finish());
    make(root);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_case", "--nocapture"])
        .env(DIRECTORY, root)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let of = |word: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix('\t'));
        lines.map(str::to_owned).collect()
    };
    let number = |word: &str| of(word)[0].parse::<u64>().unwrap();
    let (cpu_ms, kib) = (number("cpu_ms"), number("kib"));
    println!("{what}: {cpu_ms} ms, {} MiB", kib / 1024);
    assert!(Duration::from_millis(cpu_ms) < MAX_CPU, "{what}: {cpu_ms} ms");
    assert!(kib < MAX_KIB, "{what}: {kib} KiB");
    let all = Found { names: of("package"), warnings: of("warning") };
    for name in ["six", "sound", "org.sound:sound"].iter().chain(found) {
        assert!(all.names.iter().any(|found| found == name), "{what}: no {name} in {:?}", all.names);
    }
    for subject in warned {
        assert!(
            all.warnings.iter().any(|w| w.starts_with(subject)),
            "{what}: {subject}: {:#?}",
            all.warnings
        );
    }
    let is_odd = |text: &String| text.chars().any(|c| c.is_control() && c != '\t');
    assert!(!all.names.iter().chain(&all.warnings).any(is_odd), "{what}: control characters");
    all
}

/// The process of a case; a test of its own only in name.
#[test]
fn one_case() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let status = |word: &str| -> u64 {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let before = status("VmHWM:");
    let tree = DirectoryTree::open(Path::new(&directory), DirectoryOptions::default()).unwrap();
    let outcome = catalog(&tree);
    let index = OwnershipIndex::build(&tree);
    for package in &outcome.packages {
        index.lookup(&package.locations[0].path);
        println!("package\t{}", package.name);
    }
    for warning in &outcome.warnings {
        println!("warning\t{warning}");
    }
    println!("kib\t{}", status("VmHWM:") - before);
    // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    println!("cpu_ms\t{}", ticks * 10);
}

#[test]
fn fat_jars_nested_a_thousand_deep() {
    let jar = |bytes: Vec<u8>| move |root: &Path| write(root, b"app/a.jar", &bytes);
    check("stored", jar(nested(1_000, false)), &["app/a.jar!/inner.jar!/inner.jar"], &[]);
    check("deflated", jar(nested(1_000, true)), &["app/a.jar!/inner.jar!/inner.jar"], &[]);
}

#[test]
fn lies_and_bombs() {
    let jar = |bytes: Vec<u8>| move |root: &Path| write(root, b"app/a.jar", &bytes);
    check(
        "zip64 lies",
        jar(zip64_lies()),
        &["app/a.jar!/lie0.jar", "app/a.jar!/META-INF/maven/g/lie0"],
        &["g:a"],
    );
    check("a bomb", jar(bomb()), &["app/a.jar!/inner.jar"], &["g:a"]);
    check("overlapping", jar(overlapping(false)), &["app/a.jar!/lib/bomb0.jar", "app/a.jar"], &["g:a"]);
    check("quoted sizes", jar(overlapping(true)), &["app/a.jar!/lib/bomb0.jar", "app/a.jar"], &["g:a"]);
    check("quoted headers", jar(quoted()), &["app/a.jar"], &["g:a"]);
    // The same as Python's and yarn's archives.
    let bytes = overlapping(true);
    check(
        "zipapps",
        move |root| {
            write(root, b"app/a.pyz", &bytes);
            write(root, b"app/.pnp.cjs", br#""packageLocation": "./.yarn/cache/b.zip/node_modules/b/""#);
            write(root, b"app/.yarn/cache/b.zip", &bytes);
        },
        &["app/.yarn/cache/b.zip"],
        &[],
    );
}

#[test]
fn names() {
    let all = check(
        "names in a jar",
        |root| write(root, b"app/a.jar", &odd_names()),
        &["app/a.jar!/lib/\\u{1b}[2Jz.jar", "app/a.jar!/lib/\u{fffd}.jar", "app/a.jar: 2 of its members"],
        &["g:a"],
    );
    assert!(all.names.iter().all(|name| !name.contains('\\')), "{:?}", all.names);
    check(
        "names of files",
        |root| {
            write(root, b"app/\xff\xfe-1.0.jar", &plain_jar().finish());
            write(root, b"app/\x1b[31m.jar", b"no archive");
            write(root, b"node_modules/\xff/package.json", br#"{"name":"odd","version":"1.0.0"}"#);
            write(root, b"node_modules/\x07/package.json", b"{");
            write(root, b"lib/site-packages/\xff-1.dist-info/METADATA", b"Name: odder\nVersion: 1\n");
            write(root, b"lib/site-packages/\xfe.dist-info/METADATA", b"\xff");
            write(root, b"g/specifications/\xff-1.gemspec", b"# stub: gemmed 1 ruby lib\n");
            write(root, b"g/specifications/\x01.gemspec", b"");
            write(root, b"v\xff/composer/installed.json", b"[]]");
            write(root, b"c\xff/Cargo.lock", b"[[package]]\n");
        },
        &[
            "app/\\u{1b}[31m.jar",
            "node_modules/\\u{7}/package.json",
            "lib/site-packages/\u{fffd}.dist-info/METADATA",
            "g/specifications/\\u{1}.gemspec",
            "v\u{fffd}/composer/installed.json",
            "c\u{fffd}/Cargo.lock",
        ],
        &["g:a", "odd", "odder", "gemmed"],
    );
}

#[test]
fn documents() {
    let path = "node_modules/huge/package.json";
    let beginning = br#"{"name":"huge","version":"1.0.0","description":""#;
    check("1 GB", |root| write_sparse(root, path, beginning, 1 << 30, b"\"}"), &[path], &["huge"]);
    let nested = [&br#"{"name":"huge","version":"1.0.0","x":"#[..], &vec![b'['; 8 << 20]].concat();
    check("1 GB of nesting", |root| write_sparse(root, path, &nested, 1 << 30, b"]}"), &[path], &["huge"]);
    let objects = [&br#"{"name":"huge","version":"1.0.0","x":"#[..], &br#"{"a":"#.repeat(1 << 20)].concat();
    check("nested objects", |root| write(root, path.as_bytes(), &objects), &[path], &["huge"]);
    let list = "app/vendor/composer/installed.json";
    check("1 GB of Composer", |root| write_sparse(root, list, &nested, 1 << 30, b"]"), &[list], &[]);
    let shapes: [&[u8]; 8] = [
        b"7",
        b"null",
        b"{\"packages\":{\"a\":7}}",
        b"[[[]]]",
        b"[{\"name\":[],\"version\":{}}]",
        b"\"x\"",
        b"{",
        b"\xff",
    ];
    for shape in shapes {
        let what = format!("installed.json {}", String::from_utf8_lossy(shape));
        check(&what, |root| write(root, list.as_bytes(), shape), &[list], &[]);
    }
    let usable = br#"[7,{"name":"v/p","version":"1.0","type":"metapackage"},{"name":7}]"#;
    check("one usable entry", |root| write(root, list.as_bytes(), usable), &[list], &["v/p"]);
}

#[test]
fn gemspecs_are_never_evaluated() {
    let gemspec = |root: &Path, body: &str| {
        let text = body.replace("CANARY", root.join("canary").to_str().unwrap());
        write(root, b"g/specifications/evil-1.gemspec", text.as_bytes());
    };
    for body in [
        "`touch CANARY`\nsystem('touch CANARY')\nGem::Specification.new do |s|\n s.name = \"#{`touch CANARY`}\"\nend\n",
        "BEGIN { File.write('CANARY', '') }\n__END__\n",
        "eval \"File.write('CANARY','')\"\ns.name = %x(touch CANARY)\ns.version = Gem::Version.new(`touch CANARY`)\n",
    ] {
        let directory = tempfile::tempdir().unwrap();
        gemspec(directory.path(), body);
        let canary = directory.path().join("canary");
        let found = check(
            "a gemspec",
            |root| gemspec(root, &body.replace("CANARY", canary.to_str().unwrap())),
            &["g/specifications/evil-1.gemspec"],
            &["evil"],
        );
        assert!(!canary.exists(), "{:?}", found.warnings);
    }
    let long = format!("Gem::Specification.new do |s|\n  s.files = [{}", "\"a\", ".repeat(2 << 20));
    check(
        "1 GB gemspec",
        |root| write_sparse(root, "g/specifications/big-1.gemspec", long.as_bytes(), 1 << 30, b"]"),
        &["g/specifications/big-1.gemspec"],
        &["big"],
    );
}

#[test]
fn go_programs_with_corrupt_build_information() {
    use std::os::unix::fs::PermissionsExt as _;
    let sound = include_bytes!("../src/golang/fixtures/program.elf");
    let at = memchr::memmem::find(sound, b"\xff Go buildinf:").unwrap();
    let program = |root: &Path, bytes: &[u8]| {
        write(root, b"usr/bin/a", bytes);
        fs::set_permissions(root.join("usr/bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let changes: [(&str, usize, &[u8]); 5] = [
        ("endless length", at + 32, &[0xff; 10]),
        ("long length", at + 32, &[0xff, 0xff, 0xff, 0x7f]),
        ("no toolchain", at + 32, &[0]),
        ("pointers to nowhere", at + 14, &[8, 0]),
        ("pointers of no size", at + 14, &[7, 1]),
    ];
    for (what, offset, value) in changes {
        let mut bytes = sound.to_vec();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        check(what, |root| program(root, &bytes), &["usr/bin/a"], &[]);
    }
    for (what, bytes) in [("cut", &sound[..at + 40]), ("cut in the header", &sound[..at + 20])] {
        check(what, |root| program(root, bytes), &[], &[]);
    }
    // Sections whose names overlap: each may be as long as the table of names.
    let mut many = sound.to_vec();
    let table = u64::from_le_bytes(many[40..48].try_into().unwrap()) as usize;
    many.truncate(table);
    let names_at = (table + 4_000 * 64) as u64;
    for number in 0..4_000u64 {
        let mut header = vec![0; 64];
        header[..4].copy_from_slice(&(number as u32).to_le_bytes());
        header[4] = 1;
        header[24..32].copy_from_slice(&if number == 0 { names_at } else { 64 }.to_le_bytes());
        header[32..40].copy_from_slice(&if number == 0 { 1u64 << 20 } else { 8 }.to_le_bytes());
        many.extend(header);
    }
    many.extend(vec![b'n'; (1 << 20) - 1]);
    many.push(0);
    many[60..62].copy_from_slice(&4_000u16.to_le_bytes());
    many[62..64].copy_from_slice(&0u16.to_le_bytes());
    check("overlapping names", |root| program(root, &many), &[], &[]);
}
