use super::*;
use proptest::prelude::*;
use std::process::{Command, Stdio};

/// A header with a right checksum.
fn header(name: &[u8], type_flag: u8, size: &str) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size.as_bytes());
    block[156] = type_flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

fn sealed(mut block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
    data
}

fn entry(name: &[u8], type_flag: u8, data: &[u8]) -> Vec<u8> {
    [&header(name, type_flag, &format!("{:011o}", data.len()))[..], &padded(data)].concat()
}

fn pax(type_flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length += 1;
        }
        text += &format!("{length}{body}");
    }
    entry(b"PaxHeaders/x", type_flag, text.as_bytes())
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK_BYTES]
}

/// `kind path size_bytes [-> link] [= data]` of each entry, then the error if there was one.
fn listing(archive: &[u8]) -> Vec<String> {
    let mut reader = TarReader::new(archive);
    let mut lines = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(None) => return lines,
            Ok(Some(entry)) => {
                let mut line =
                    format!("{:?} {} {}", entry.kind, String::from_utf8_lossy(&entry.path), entry.size_bytes);
                if !entry.link.is_empty() {
                    line += &format!(" -> {}", String::from_utf8_lossy(&entry.link));
                }
                if entry.kind == TarKind::Regular && entry.data_bytes <= 100 {
                    match reader.read_data(100) {
                        Ok((data, _)) => line += &format!(" = {}", String::from_utf8_lossy(&data)),
                        Err(error) => line += &format!(" ! {error}"),
                    }
                }
                lines.push(line);
            }
            Err(error) => {
                lines.push(format!("! {error}"));
                return lines;
            }
        }
    }
}

#[track_caller]
fn check(parts: &[Vec<u8>], expect: &[&str]) {
    assert_eq!(listing(&parts.concat()), expect);
}

#[test]
fn entries_of_every_kind() {
    check(
        &[
            entry(b"dir/", b'5', b""),
            entry(b"dir/file", b'0', b"text"),
            entry(b"old", 0, b"text"),
            entry(b"contiguous", b'7', b"text"),
            entry(b"null", b'3', b""),
            entry(b"disk", b'4', b""),
            entry(b"pipe", b'6', b""),
            entry(b"label", b'V', b"xx"),
            entry(b"last", b'0', b"."),
            end(),
        ],
        &[
            "Directory dir/ 0",
            "Regular dir/file 4 = text",
            "Regular old 4 = text",
            "Regular contiguous 4 = text",
            "CharacterDevice null 0",
            "BlockDevice disk 0",
            "Fifo pipe 0",
            "Other(86) label 2",
            "Regular last 1 = .",
        ],
    );
}

#[test]
fn extensions_as_engines_read_them() {
    let long = "d/".repeat(100) + "file";
    check(
        &[
            // The size of a link or directory says nothing of data behind it, in no kind of header.
            pax(b'x', &[("size", "512"), ("linkpath", "to")]),
            entry(b"link", b'2', b""),
            pax(b'x', &[("size", "4")]),
            [&header(b"sized", b'0', "00000000000")[..], &padded(b"text")].concat(),
            // A GNU long name goes before pax; only the last extended header counts.
            entry(b"././@LongLink", b'L', b"gnu-name\0"),
            pax(b'x', &[("path", "pax-name")]),
            entry(b"short", b'0', b""),
            pax(b'x', &[("path", "forgotten")]),
            pax(b'x', &[("comment", "x")]),
            entry(b"kept", b'0', b""),
            pax(b'x', &[("path", &long)]),
            entry(b"short", b'0', b""),
            // Empty values take nothing away.
            pax(b'x', &[("path", ""), ("size", "")]),
            entry(b"name", b'0', b"text"),
            // Global headers are passed over: they may not rename or hide what follows.
            pax(b'g', &[("path", "hidden"), ("size", "0")]),
            entry(b"seen", b'0', b"text"),
            entry(b"././@LongLink", b'K', b"far/target\0"),
            entry(b"hard", b'1', b""),
            end(),
        ],
        &[
            "Symlink link 0 -> to",
            "Regular sized 4 = text",
            "Regular gnu-name 0 = ",
            "Regular kept 0 = ",
            &format!("Regular {long} 0 = "),
            "Regular name 4 = text",
            "Regular seen 4 = text",
            "HardLink hard 0 -> far/target",
        ],
    );
}

#[test]
fn a_trailing_slash_hides_no_data() {
    // Old archives mark directories so; the data of a regular file are no headers all the same.
    let inner = entry(b"inside", b'0', b"");
    check(
        &[entry(b"old/", 0, b"text"), entry(b"file/", b'0', &inner), entry(b"next", b'0', b"")],
        &["Directory old/ 4", "Regular file/ 512", "Regular next 0 = "],
    );
}

#[test]
fn prefixes() {
    let with_prefix = |prefix: &[u8], magic: &[u8], trailer: &[u8]| {
        let mut block = header(b"name", b'0', "0");
        block[257..257 + magic.len()].copy_from_slice(magic);
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        block[508..508 + trailer.len()].copy_from_slice(trailer);
        sealed(block).to_vec()
    };
    let cases: [(Vec<u8>, String); 4] = [
        (with_prefix(b"a/b", b"ustar\0", b""), "a/b/name".into()),
        (with_prefix(&[b'p'; 155], b"ustar\0", b""), format!("{}/name", "p".repeat(155))),
        (with_prefix(b"14525252525", b"ustar  \0", b""), "name".into()),
        (with_prefix(&[b'p'; 155], b"ustar\0", b"tar\0"), format!("{}/name", "p".repeat(131))),
    ];
    for (archive, path) in cases {
        check(&[archive], &[&format!("Regular {path} 0 = ")]);
    }
}

#[test]
fn numbers() {
    let of = |field: &[u8]| {
        let mut block = header(b"x", b'6', "");
        block[124..136].fill(0);
        block[124..124 + field.len()].copy_from_slice(field);
        RawHeader { bytes: &block, at: 7 }.number(124, 12).map_err(|error| error.to_string())
    };
    let bad = || Err("the header at byte 7 has a bad number".to_owned());
    for (field, expected) in [
        (&b""[..], Ok(0)),
        (b"00000000010\0", Ok(8)),
        (b"00000000010 ", Ok(8)),
        (b"         10\0", Ok(8)),
        (b"\0\0\x0010", Ok(8)),
        (b"777777777777", Ok(0o777_777_777_777)),
        (b"\x80\0\0\0\0\0\0\0\0\x01\x02\x03", Ok(0x0001_0203)),
        (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Ok(u64::MAX)),
        (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", bad()),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", bad()),
        (b"12x", bad()),
        (b"-12", bad()),
    ] {
        assert_eq!(of(field), expected, "{field:?}");
    }
}

#[test]
fn sparse_files_are_told_from_whole_ones() {
    let mut gnu = header(b"gnu", b'S', "00000000004");
    gnu[483..494].copy_from_slice(b"00000100000");
    gnu[482] = 1;
    let more = |flag: u8| {
        let mut block = vec![0; BLOCK_BYTES];
        block[504] = flag;
        block
    };
    check(
        &[
            sealed(gnu).to_vec(),
            more(1),
            more(0),
            padded(b"data"),
            pax(b'x', &[("GNU.sparse.map", "0,4"), ("GNU.sparse.size", "9"), ("GNU.sparse.name", "named")]),
            entry(b"GNUSparseFile.1/x", b'0', b"data"),
            pax(
                b'x',
                &[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.realsize", "9"),
                    ("GNU.sparse.name", "one"),
                ],
            ),
            entry(b"GNUSparseFile.1/y", b'0', b"data"),
            // Without a map or a known version it is a file as any other.
            pax(b'x', &[("GNU.sparse.name", "hidden"), ("GNU.sparse.realsize", "0")]),
            entry(b"whole", b'0', b"data"),
            pax(b'x', &[("GNU.sparse.major", "9"), ("GNU.sparse.name", "hidden")]),
            entry(b"later", b'0', b"data"),
            end(),
        ],
        &[
            "Sparse gnu 32768",
            "Sparse named 9",
            "Sparse one 9",
            "Regular whole 4 = data",
            "Regular later 4 = data",
        ],
    );
}

#[test]
fn damage_is_named() {
    let whole = entry(b"file", b'0', b"text");
    let mut wrong = whole.clone();
    wrong[0] ^= 1;
    let after_zeros = [vec![0; BLOCK_BYTES], whole.clone()].concat();
    let long = header(b"x", b'x', "00010000000");
    let cases: [(&[u8], &[&str]); 9] = [
        (b"", &[]),
        (&whole, &["Regular file 4 = text"]),
        (&whole[..100], &["! it ends in the middle of a header: the archive is truncated"]),
        (&whole[..514], &["Regular file 4 ! it ends in the middle of file: the archive is truncated"]),
        // Padding may be missing at the very end.
        (&whole[..516], &["Regular file 4 = text"]),
        (&wrong, &["! the header at byte 0 is damaged (checksum)"]),
        (
            &after_zeros,
            &[
                "! there are entries behind the block of zeros at byte 0, which no container engine would read",
            ],
        ),
        (&long, &["! an extension header of 2097152 bytes is over the bound of 1048576 bytes"]),
        (&[1; 1024], &["! the header at byte 0 has a bad number"]),
    ];
    for (archive, expected) in cases {
        assert!(listing(archive).iter().zip(expected).all(|(found, expected)| found.starts_with(expected)));
        assert_eq!(listing(archive).len().min(1), expected.len(), "{:?}", listing(archive));
    }
}

/// Runs a program of this machine over a directory of many kinds of files; `None` where it is not installed.
fn written_by(program: &str, arguments: &[&str], directory: &std::path::Path) -> Option<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            // GNU tar and Python are everywhere that CI may run; bsdtar is a bonus.
            let needed = program != "bsdtar" && std::env::var("CI").as_deref() == Ok("true");
            assert!(!needed, "CI must have {program}: {error}");
            eprintln!("skipped: {program}: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn archives_of_gnu_tar_and_python() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    // Longer than a header's name, splittable at a slash for ustar's prefix; and one that only extensions can hold.
    let split = format!("{}/{}", "a".repeat(90), "b".repeat(90));
    let long = format!("{}/{}", "l".repeat(150), "m".repeat(200));
    for name in [split.as_str(), &long, "plain", "name with blank", "ünïcode"] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("contents {}", name.len())).unwrap();
    }
    std::fs::hard_link(root.join("plain"), root.join("zlink")).unwrap();
    std::os::unix::fs::symlink(&long, root.join("symlink")).unwrap();
    let hole = std::fs::File::create(root.join("zsparse")).unwrap();
    hole.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&hole, b"end", 1 << 20).unwrap();
    drop(hole);
    let python = "import sys,tarfile\n\
        t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=getattr(tarfile,sys.argv[1]))\n\
        t.add('tree',filter=lambda i: None if sys.argv[1]=='USTAR_FORMAT' and len(i.name)>255 or i.issym() and sys.argv[1]=='USTAR_FORMAT' else i)\n\
        t.close()";
    let python_of = |format| vec!["-c", python, format];
    let gnu_of = |format, more: &[&'static str]| {
        let mut arguments = vec!["--sort=name", format, "-cf", "-"];
        arguments.extend(more);
        arguments.push("tree");
        arguments
    };
    let cases: [(&str, Vec<&str>, bool, bool); 9] = [
        ("tar", gnu_of("--format=gnu", &[]), true, false),
        ("tar", gnu_of("--format=pax", &[]), true, false),
        ("tar", gnu_of("--format=gnu", &["-S"]), true, true),
        ("tar", gnu_of("--format=pax", &["-S"]), true, true),
        ("tar", gnu_of("--format=pax", &["-S", "--sparse-version=0.0"]), true, true),
        ("tar", gnu_of("--format=pax", &["-S", "--sparse-version=0.1"]), true, true),
        ("python3", python_of("GNU_FORMAT"), true, false),
        ("python3", python_of("PAX_FORMAT"), true, false),
        ("python3", python_of("USTAR_FORMAT"), false, false),
    ];
    for (program, arguments, has_long, sparse) in cases {
        let Some(archive) = written_by(program, &arguments, directory.path()) else { continue };
        let mut found = listing(&archive);
        let what = format!("{program} {}", arguments[arguments.len() - 1..].join(" "));
        let mut expected = vec![
            format!("Regular tree/{split} 12 = contents 181"),
            "Regular tree/name with blank 11 = contents 15".into(),
            "Regular tree/ünïcode 10 = contents 9".into(),
        ];
        if has_long {
            expected.push(format!("Regular tree/{long} 12 = contents 351"));
            expected.push(format!("Symlink tree/symlink 0 -> {long}"));
        }
        expected.push(match sparse {
            true => format!("Sparse tree/zsparse {}", (1 << 20) + 3),
            false => format!("Regular tree/zsparse {}", (1 << 20) + 3),
        });
        // Which of two hard links is the file, is the writer's choice.
        let links = ["tree/plain", "tree/zlink"].map(|name| {
            let other = if name == "tree/plain" { "tree/zlink" } else { "tree/plain" };
            (format!("Regular {name} 10 = contents 5"), format!("HardLink {other} 0 -> {name}"))
        });
        found.retain(|line| !line.starts_with("Directory "));
        assert!(
            links.iter().any(|(file, link)| found.contains(file) && found.contains(link)),
            "{what}: {found:#?}"
        );
        found.retain(|line| !links.iter().any(|(file, link)| line == file || line == link));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{what} {arguments:?}");
    }
}

/// Valid archives with some of everything, for mutations.
fn sample() -> Vec<u8> {
    let mut gnu = header(b"sparse", b'S', "00000000004");
    gnu[482] = 1;
    [
        entry(b"dir/", b'5', b""),
        entry(b"dir/file", b'0', b"some text"),
        pax(b'x', &[("path", "renamed"), ("size", "4")]),
        entry(b"name", b'0', b"text"),
        entry(b"././@LongLink", b'L', &[b'n'; 700]),
        entry(b"long", b'0', b"x"),
        pax(b'x', &[("GNU.sparse.map", "0,4"), ("GNU.sparse.size", "9")]),
        entry(b"sparse", b'0', b"data"),
        sealed(gnu).to_vec(),
        vec![0; BLOCK_BYTES],
        padded(b"data"),
        entry(b"hard", b'1', b""),
        end(),
    ]
    .concat()
}

/// Reads to the end or the first error; what comes out stays within its bounds.
fn read_all(bytes: &[u8]) -> usize {
    let mut reader = TarReader::new(bytes);
    let mut entries = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.path.len() <= PATH_MAX_BYTES + 1 && entry.link.len() <= PATH_MAX_BYTES + 1);
        assert!(reader.position() <= bytes.len() as u64);
        let Ok((data, _)) = reader.read_data(4096) else { break };
        assert!(data.len() <= 4096);
        entries += 1;
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(read_all(&bytes) <= bytes.len() / BLOCK_BYTES);
    }

    #[test]
    fn mutated_archives_are_no_harm(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        reseal in any::<bool>(),
    ) {
        let mut archive = sample();
        for (place, byte) in &changes {
            let place = place.index(archive.len());
            archive[place] = *byte;
            if reseal {
                // Past the checksum: the headers' fields themselves are what is tried.
                let start = place / BLOCK_BYTES * BLOCK_BYTES;
                let block: [u8; BLOCK_BYTES] = archive[start..start + BLOCK_BYTES].try_into().unwrap();
                archive[start..start + BLOCK_BYTES].copy_from_slice(&sealed(block));
            }
        }
        if let Some(cut) = cut {
            archive.truncate(cut.index(archive.len()));
        }
        prop_assert!(read_all(&archive) <= archive.len() / BLOCK_BYTES);
    }

    #[test]
    fn seeking_and_reading_readers_agree(archive in Just(sample()), cut in any::<proptest::sample::Index>()) {
        let cut = &archive[..cut.index(archive.len())];
        let skip: fn(&mut &[u8], u64) -> io::Result<u64> = |bytes, count| {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
            *bytes = &bytes[count..];
            Ok(count as u64)
        };
        let mut seeking = TarReader::with_skip(cut, skip);
        let mut reading = TarReader::new(cut);
        loop {
            let (one, two) = (seeking.next_entry(), reading.next_entry());
            prop_assert_eq!(format!("{one:?}"), format!("{two:?}"));
            if !matches!(one, Ok(Some(_))) {
                break;
            }
        }
    }
}
