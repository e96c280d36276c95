use super::linkage::Linked;
use super::{Problem, Program, digest};
use crate::binary::testing::Shape;
use crate::ownership::OwnershipIndex;
use crate::testing::{Node, catalog, owners, package, tree};
use proptest::prelude::*;

/// A program as Go 1.26 makes them, for fuzzing.
const FIXTURE: &[u8] = include_bytes!("fixtures/program.elf");

const MODULES: &str = "path\texample.com/app\nmod\texample.com/app\t(devel)\t\ndep\tgithub.com/a/b\tv1.2.3\th1:x=\n\
    dep\tgithub.com/a/gone\tv1.0.0\th1:x=\ndep\tgithub.com/a/types\tv1.0.0\th1:x=\n\
    dep\tgithub.com/a/old\tv1.0.0\n=>\tgithub.com/a/new\tv1.1.0\th1:x=\n\
    dep\tgithub.com/a/local\tv1.0.0\n=>\t../local\t(devel)\t\nbuild\tvcs.revision=0123456789abcdef\n";
const NAMES: [&str; 5] =
    ["runtime.main", "main.main", "github.com/a/b/c.F", "github.com/a/old.G", "github.com/a/local.(*T).H"];
/// A package name among the descriptions of types.
const TYPES: &[u8] = b"\0\0\0\x12github.com/a/typesx";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Table {
    Go12,
    Go116,
    Go118,
    Go120,
}

fn framed(modules: &str) -> Vec<u8> {
    [b"0123456789abcdef", modules.as_bytes(), b"0123456789abcdef"].concat()
}

/// Unsigned LEB128.
fn counted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = text.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [out, text.to_vec()].concat()
}

fn in_place(modules: &[u8]) -> Vec<u8> {
    let mut out = b"\xff Go buildinf:\x08\x02".to_vec();
    out.resize(32, 0);
    out.extend(counted(b"go1.26.1"));
    out.extend(counted(modules));
    out
}

/// As before Go 1.18, mapped at `address`.
fn by_pointers(shape: Shape, address: u64, modules: &[u8]) -> Vec<u8> {
    let word = shape.word_bytes() as u64;
    let mut out = b"\xff Go buildinf:".to_vec();
    out.push(word as u8);
    out.push(u8::from(shape.is_big_endian));
    out.extend(shape.word(address + 32));
    out.extend(shape.word(address + 32 + 2 * word));
    out.resize(32, 0);
    let texts = address + 32 + 4 * word;
    for (at, length) in [(texts, 8), (texts + 8, modules.len() as u64)] {
        out.extend(shape.word(at));
        out.extend(shape.word(length));
    }
    [out, b"go1.17.1".to_vec(), modules.to_vec()].concat()
}

fn functions(shape: Shape, table: Table, names: &[&str]) -> Vec<u8> {
    let word = shape.word_bytes();
    let magic = match table {
        Table::Go12 => 0xffff_fffb,
        Table::Go116 => 0xffff_fffa,
        Table::Go118 => 0xffff_fff0,
        Table::Go120 => 0xffff_fff1,
    };
    let mut out = shape.number(magic, 4);
    out.extend([0, 0, 1, word as u8]);
    out.extend(shape.word(names.len() as u64));
    if table == Table::Go12 {
        let records = out.len() + (2 * names.len() + 1) * word + 4;
        let texts = records + names.len() * (word + 4);
        let mut text_at = texts;
        let (mut record_bytes, mut text_bytes) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            out.extend(shape.word(0x1000 + index as u64));
            out.extend(shape.word((records + index * (word + 4)) as u64));
            record_bytes.extend(shape.word(0x1000));
            record_bytes.extend(shape.number(text_at as u64, 4));
            text_bytes.extend_from_slice(name.as_bytes());
            text_bytes.push(0);
            text_at = texts + text_bytes.len();
        }
        out.extend(shape.word(0x2000));
        out.extend(shape.number(0, 4));
        return [out, record_bytes, text_bytes].concat();
    }
    let text: Vec<u8> = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    let words = if table == Table::Go116 { 7 } else { 8 };
    let start = 8 + words * word;
    out.extend(shape.word(0));
    if table != Table::Go116 {
        out.extend(shape.word(0));
    }
    for at in [start, start + text.len()] {
        out.extend(shape.word(at as u64));
    }
    out.resize(start, 0);
    [out, text, vec![0; 64]].concat()
}

fn program(shape: Shape, table: Table, has_pointers: bool) -> Vec<u8> {
    let modules = framed(MODULES);
    let info =
        if has_pointers { by_pointers(shape, shape.address(&[]), &modules) } else { in_place(&modules) };
    let table = functions(shape, table, &NAMES);
    shape.program(&[(".go.buildinfo", &info), (".gopclntab", &table), (".rodata", TYPES)])
}

fn read(file: Vec<u8>) -> Option<Program> {
    let digest = digest(&file);
    (!digest.is_empty()).then(|| serde_json::from_slice(&digest).unwrap())
}

/// `path version linkage` of each module, or the problem.
fn told(file: Vec<u8>) -> Vec<String> {
    let Some(program) = read(file) else { return vec!["nothing".to_owned()] };
    let modules = program.modules.iter().map(|module| {
        let linked = match module.linked {
            Linked::Function => "function",
            Linked::Type => "type",
            Linked::Nothing => "nothing",
            Linked::Unknown => "unknown",
        };
        format!("{} {} {linked}", module.path, module.version)
    });
    modules.chain(program.problem.map(|problem| format!("{problem:?}"))).collect()
}

#[track_caller]
fn check(file: Vec<u8>, toolchain: &str, gone: &str) {
    let expect = [
        &format!("stdlib {toolchain} function"),
        "example.com/app 0123456789abcdef function",
        "github.com/a/b v1.2.3 function",
        &format!("github.com/a/gone v1.0.0 {gone}"),
        "github.com/a/types v1.0.0 type",
        "github.com/a/new v1.1.0 function",
        "github.com/a/local  function",
    ];
    assert_eq!(told(file), expect);
}

#[test]
fn all_formats_widths_and_byte_orders() {
    for shape in Shape::ALL {
        for table in [Table::Go116, Table::Go118, Table::Go120] {
            for (has_pointers, toolchain) in [(false, "1.26.1"), (true, "1.17.1")] {
                let whole = program(shape, table, has_pointers);
                check(shape.without_sections(whole.clone()), toolchain, "nothing");
                check(whole, toolchain, "nothing");
            }
        }
        // Inlined functions cannot be told there, so that nothing is said of what seems to be missing.
        let old = program(shape, Table::Go12, true);
        check(shape.without_sections(old.clone()), "1.17.1", "unknown");
        check(old, "1.17.1", "unknown");
    }
}

#[test]
fn the_fixture_is_a_program_of_today() {
    check(FIXTURE.to_vec(), "1.26.1", "nothing");
}

/// A module of which nothing is linked in has no claim on the program, and comes out unused once that was watched.
#[test]
fn only_what_is_linked_in_owns_the_program() {
    let tree = tree(&[("bin/app", Node::File(FIXTURE))]);
    let outcome = catalog(&tree);
    for name in ["stdlib", "example.com/app", "github.com/a/b", "github.com/a/gone", "github.com/a/types"] {
        let module = package(&outcome, name);
        assert_eq!(module.not_measurable_reason, "", "{name}");
        assert!(module.observable_by.contains(&"ebpf-files"), "{name}: {:?}", module.observable_by);
        assert_eq!(module.loadable_file_count, u64::from(name != "github.com/a/gone"), "{name}");
    }
    let said = owners(&OwnershipIndex::build(&tree), "bin/app");
    let (names, role) = said.split_once(' ').unwrap();
    let mut names: Vec<&str> = names.split(',').collect();
    names.sort_unstable();
    assert_eq!(
        (names, role),
        (
            vec![
                "example.com/app",
                "github.com/a/b",
                "github.com/a/local",
                "github.com/a/new",
                "github.com/a/types",
                "stdlib"
            ],
            "go-build-info code"
        )
    );
}

#[test]
fn what_a_program_does_not_tell_is_said() {
    let shape = Shape::USUAL;
    let info = in_place(&framed(MODULES));
    let table = functions(shape, Table::Go120, &NAMES);
    let check = |sections: &[(&str, &[u8])], expect: &[&str]| {
        let mut told = told(shape.program(sections));
        told.retain(|line| !line.contains(' '));
        assert_eq!(told, expect);
    };
    check(&[(".go.buildinfo", &info), (".gopclntab", &table)], &[]);
    check(&[(".go.buildinfo", &info)], &["NoFunctionTable"]);
    check(&[(".go.buildinfo", &info), (".gopclntab", b"\xf1\xff\xff\xff\0\0\x01\x08")], &["NoFunctionTable"]);
    check(&[(".go.buildinfo", b"\xff Go buildinf:")], &["DamagedBuildInfo"]);
    check(&[(".go.buildinfo", b"elsewhere")], &["DamagedBuildInfo"]);
    check(&[(".gopclntab", &table)], &["NoBuildInfo"]);
    check(&[(".text", b"")], &["nothing"]);
    check(&[(".go.buildinfo", &in_place(b"")), (".gopclntab", &table)], &["NoModules"]);
    let of_go = in_place(&framed("path\tcmd/compile\nbuild\t-compiler=gc\n"));
    check(&[(".go.buildinfo", &of_go), (".gopclntab", &table)], &[]);
    let long = in_place(&framed(&format!("{MODULES}dep\t{}\tv1.0.0\n=>\tb\tv2.0.0\n", "a".repeat(2_000))));
    check(&[(".go.buildinfo", &long), (".gopclntab", &table)], &["TooManyModules"]);
    let mut packed = shape.without_sections(shape.program(&[]));
    packed.extend_from_slice(b"UPX!");
    assert_eq!(told(packed), ["Packed"]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let shape = Shape::USUAL;
    for length in [0x7f, 0xffff, u64::from(u32::MAX), u64::MAX, u64::MAX / 2 + 1] {
        let mut info = in_place(b"")[..32].to_vec();
        let mut rest = length;
        for _ in 0..9 {
            info.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        info.push(rest as u8);
        assert_eq!(told(shape.program(&[(".go.buildinfo", &info)])), ["DamagedBuildInfo"], "{length}");
    }
    // Functions without end, records that lead back to the table, names behind it.
    let mut table = functions(shape, Table::Go12, &NAMES);
    table[8..16].copy_from_slice(&15_000_000u64.to_le_bytes());
    let info = by_pointers(shape, shape.address(&[]), &framed(MODULES));
    let told = |table: &[u8]| told(shape.program(&[(".go.buildinfo", &info), (".gopclntab", table)]));
    assert!(told(&table).contains(&"NoFunctionTable".to_owned()));
    let mut looping = functions(shape, Table::Go12, &NAMES);
    for entry in looping[16..16 + 5 * 16].chunks_exact_mut(16) {
        entry[8..].copy_from_slice(&16u64.to_le_bytes());
    }
    assert!(told(&looping).iter().all(|line| !line.ends_with(" nothing")));
}

#[test]
fn an_obfuscated_program_has_no_modules_and_a_broken_table_makes_none_unused() {
    let shape = Shape::USUAL;
    let broken = shape.program(&[(".go.buildinfo", &in_place(&framed(MODULES)))]);
    let outcome = catalog(&tree(&[("app", Node::File(&broken))]));
    assert_eq!(outcome.warnings[0].code, "go-functions-unreadable");
    let dependency = outcome.packages.iter().find(|package| package.name == "github.com/a/gone").unwrap();
    assert!(!dependency.not_measurable_reason.is_empty());
    assert_eq!(dependency.observable_by, [""; 0]);
    assert!(matches!(read(broken).unwrap().problem, Some(Problem::NoFunctionTable)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_programs_never_panic(
        table in 0..4usize,
        damages in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        keep in any::<proptest::sample::Index>(),
    ) {
        let table = [Table::Go12, Table::Go116, Table::Go118, Table::Go120][table];
        let mut file = program(Shape::USUAL, table, table == Table::Go12);
        for (at, byte) in damages {
            // Headers and tables are what lies can be told in.
            let at = at.index(file.len());
            file[at] = byte;
        }
        read(file.clone());
        file.truncate(keep.index(file.len()));
        read(file);
    }
}

#[test]
fn names_made_to_be_slow_end_soon_and_make_none_unused() {
    let shape = Shape::USUAL;
    let modules: String = (0..2_000).map(|number| format!("dep\ta{number}\tv1.0.0\n")).collect();
    let info = in_place(&framed(&format!("{modules}dep\ta{}\tv1.0.0\n", ".a".repeat(500))));
    let slow = format!("a{}", ".b".repeat(500));
    let names = vec![slow.as_str(); 20_000];
    let table = functions(shape, Table::Go120, &names);
    let types = b"\0\0\x01a".repeat(1_000_000);
    let file = shape.program(&[(".go.buildinfo", &info), (".gopclntab", &table), (".rodata", &types)]);
    let started = std::time::Instant::now();
    let program = read(file).unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(program.problem, Some(Problem::NoFunctionTable));
    assert!(program.modules.iter().all(|module| module.linked != Linked::Nothing));
}
