//! Which modules of a Go program are really in it: by the names of its functions, else by the types that it describes.
//! Never says "not linked" of a module when the table was not read to its end.

use super::build_info::{BuildInfo, varint};
use super::function_table::FunctionTable;
use crate::binary::elf::Elf;
use crate::binary::search::{Budget, windows};
use crate::percent;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io;

/// Longest package path that is looked for among types, in bytes.
const MAX_PACKAGE_BYTES: usize = 4_096;
/// Bytes before the path in a package name among types: flags, then the length as a varint or as two bytes.
const NAME_HEADER_BYTES: usize = 3;

/// Most bytes of the names of the packages in one program; Kubernetes' programs have 150 KiB.
const MAX_PACKAGES_BYTES: usize = 2 * 1024 * 1024;
/// Most looks for a module by a prefix of a name; Kubernetes' programs need 2 million.
const MAX_LOOKS: u64 = 8_000_000;
/// Most bytes that are searched for types, counted once for each module that is looked for.
const MAX_SEARCHED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// How a module is known to be in a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Linked {
    /// A function of it is there, if only inlined.
    Function,
    /// No function, but a type of it is described for reflection (structures of an API, for example).
    Type,
    /// Neither: the build needed at most its constants.
    Nothing,
    /// It could not be told.
    Unknown,
}

/// What is linked into a program.
pub(crate) struct Linkage {
    /// Of each dependency, in the order of the build information.
    pub dependencies: Vec<Linked>,
    /// Which packages have a function in it, if only inlined; `None` where that could not be told.
    pub packages: Option<Packages>,
}

/// What is linked into a program.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn of_program(
    elf: &Elf<'_>,
    info: &BuildInfo,
    table: Option<&FunctionTable>,
    budget: &mut Budget,
) -> io::Result<Linkage> {
    let mut linked = vec![Linked::Unknown; info.dependencies.len()];
    let Some(table) = table else { return Ok(Linkage { dependencies: linked, packages: None }) };
    let modules = Modules::new(info);
    let mut packages = Packages::new(info);
    let complete = table.names(elf, budget, &mut |name| {
        if let Some(index) = modules.of_function(name).and_then(|index| linked.get_mut(index)) {
            *index = Linked::Function;
        }
        packages.add(name, &modules);
        !modules.is_exhausted()
    })?;
    if !complete || modules.is_exhausted() {
        return Ok(Linkage { dependencies: linked, packages: None });
    }
    let without: Vec<usize> = (0..linked.len()).filter(|index| linked[*index] == Linked::Unknown).collect();
    let types_complete = find_types(elf, info, &modules, &without, budget, &mut linked)?;
    // Inlined functions of old programs cannot be seen, so nothing can be said of the rest.
    if types_complete && table.lists_inlined() {
        for index in without {
            if linked[index] == Linked::Unknown {
                linked[index] = Linked::Nothing;
            }
        }
    }
    let is_whole = table.lists_inlined() && packages.size_bytes <= MAX_PACKAGES_BYTES;
    Ok(Linkage { dependencies: linked, packages: is_whole.then_some(packages) })
}

/// The packages that functions are of, by their modules. A package without any function has no code in the program.
pub(crate) struct Packages {
    /// Of the standard library, by import path.
    pub standard: BTreeSet<String>,
    /// Of the main module and of each dependency, seen from the module's path; the module's own package is empty.
    pub main: BTreeSet<String>,
    pub dependencies: Vec<BTreeSet<String>>,
    /// Functions of one package mostly follow each other.
    last: Vec<u8>,
    size_bytes: usize,
}

impl Packages {
    fn new(info: &BuildInfo) -> Self {
        let main_path = info.main.as_ref().map_or("", |main| main.path.as_str());
        // Its functions are called `main.…`, whatever its import path is.
        let main_package = info.main_package.strip_prefix(main_path).unwrap_or(&info.main_package);
        Self {
            standard: BTreeSet::new(),
            main: BTreeSet::from([main_package.trim_start_matches('/').to_owned()]),
            dependencies: vec![BTreeSet::new(); info.dependencies.len()],
            last: Vec::new(),
            size_bytes: 0,
        }
    }

    fn add(&mut self, function: &[u8], modules: &Modules<'_>) {
        let package = package_of(function);
        // The main package's import path is known otherwise.
        if matches!(package, b"" | b"main") || package == self.last || self.size_bytes > MAX_PACKAGES_BYTES {
            return;
        }
        self.last = package.to_vec();
        let Ok(path) = String::from_utf8(percent::decode(package)) else { return };
        let module = modules.of_import(path.as_bytes());
        let (list, length) = match module {
            None => (&mut self.standard, 0),
            Some((index, length)) => (self.dependencies.get_mut(index).unwrap_or(&mut self.main), length),
        };
        let below = path[length..].trim_start_matches('/');
        if !list.contains(below) {
            self.size_bytes += below.len() + 8;
            list.insert(below.to_owned());
        }
    }
}

/// The package of a function, as the table spells it: up to the first dot behind the last slash. Empty for what is of
/// no package.
fn package_of(function: &[u8]) -> &[u8] {
    let name = without_prefix(function);
    // Receivers and type arguments name other packages.
    let name = &name[..memchr::memchr2(b'(', b'[', name).unwrap_or(name.len())];
    // Literals of types (`struct { io.Writer }`) and the linker's own symbols (`go:buildid`).
    if name.iter().any(|byte| b" {:".contains(byte)) {
        return b"";
    }
    let last = memchr::memrchr(b'/', name).map_or(0, |slash| slash + 1);
    memchr::memchr(b'.', &name[last..]).map_or(&[][..], |dot| &name[..last + dot])
}

/// Looks for descriptions of types of the modules `without` functions. False if the budget ended before.
fn find_types(
    elf: &Elf<'_>,
    info: &BuildInfo,
    modules: &Modules<'_>,
    without: &[usize],
    budget: &mut Budget,
    linked: &mut [Linked],
) -> io::Result<bool> {
    if without.is_empty() {
        return Ok(true);
    }
    let finders: Vec<memchr::memmem::Finder<'_>> = without
        .iter()
        .map(|index| memchr::memmem::Finder::new(info.dependencies[*index].path.as_bytes()))
        .collect();
    let mut searched_bytes = 0;
    for segment in elf.segments().iter().filter(|segment| !segment.is_executable) {
        let overlap = MAX_PACKAGE_BYTES + NAME_HEADER_BYTES;
        let complete = windows(elf.file, segment.range, overlap, budget, &mut |window, _| {
            for (finder, index) in finders.iter().zip(without) {
                if linked[*index] == Linked::Unknown && searched_bytes < MAX_SEARCHED_BYTES {
                    searched_bytes += window.len() as u64;
                    let mut packages = finder
                        .find_iter(window)
                        .take_while(|_| modules.look())
                        .filter_map(|at| package_name(window, at));
                    if packages.any(|package| modules.of_package(package) == Some(*index)) {
                        linked[*index] = Linked::Type;
                    }
                }
            }
            without.iter().any(|index| linked[*index] == Linked::Unknown)
        })?;
        if !complete || modules.is_exhausted() || searched_bytes >= MAX_SEARCHED_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The package path at `at`, if its length stands before it as the runtime's names of packages have it.
fn package_name(window: &[u8], at: usize) -> Option<&[u8]> {
    let before = window.get(at.checked_sub(NAME_HEADER_BYTES)?..at)?;
    let starts = [&before[1..], before];
    starts.into_iter().find_map(|header| {
        // No flag is set in the name of a package.
        let (flags, length) = header.split_first()?;
        let in_place = match length {
            // Since Go 1.17; paths of more than 127 bytes have two.
            [_] | [0x80..=0xff, 0x01..=0x7f] => varint(length)?.0 as usize,
            // Before, always two, the higher first.
            [high, low] => usize::from(*high) << 8 | usize::from(*low),
            _ => return None,
        };
        let name = window.get(at..at.checked_add(in_place)?)?;
        (*flags == 0 && in_place <= MAX_PACKAGE_BYTES).then_some(name)
    })
}

/// Finds the module of a package or function by the longest matching module path.
struct Modules<'i> {
    by_path: HashMap<&'i [u8], usize>,
    longest_bytes: usize,
    /// Whether some path looks like one of the standard library.
    has_plain: bool,
    looks_left: Cell<u64>,
}

impl<'i> Modules<'i> {
    fn new(info: &'i BuildInfo) -> Self {
        let mut by_path: HashMap<&[u8], usize> = HashMap::new();
        // The main module's own packages can lie below a dependency's path and the other way round.
        if let Some(main) = &info.main {
            by_path.insert(main.path.as_bytes(), usize::MAX);
        }
        for (index, module) in info.dependencies.iter().enumerate() {
            by_path.insert(module.path.as_bytes(), index);
        }
        let longest_bytes = by_path.keys().map(|path| path.len()).max().unwrap_or(0);
        // Paths of the standard library have no dot in their first part; modules hardly ever do without.
        let has_plain = by_path.keys().any(|path| !first_part(path).contains(&b'.'));
        Self { by_path, longest_bytes, has_plain, looks_left: Cell::new(MAX_LOOKS) }
    }

    /// Takes one look from what is left.
    fn look(&self) -> bool {
        let left = self.looks_left.get();
        self.looks_left.set(left.saturating_sub(1));
        left > 0
    }

    /// Whether answers may be missing, since too much was looked for.
    fn is_exhausted(&self) -> bool {
        self.looks_left.get() == 0
    }

    /// The dependency that a function of this name belongs to; an index behind all for the main module.
    fn of_function(&self, name: &[u8]) -> Option<usize> {
        let name = without_prefix(name);
        // Receivers and type arguments name other packages.
        let end = memchr::memchr2(b'(', b'[', name).unwrap_or(name.len());
        let name = &name[..end];
        if !self.has_plain && !first_part(name).contains(&b'.') {
            return None;
        }
        // `%2e` for a dot in the last part of a package's path, and the like (cmd/internal/objabi, PathToPrefix).
        if memchr::memchr(b'%', name).is_some() {
            self.longest(&percent::decode(name))
        } else {
            self.longest(name)
        }
    }

    /// The module of an import path, with the length of the module's path.
    fn of_import(&self, path: &[u8]) -> Option<(usize, usize)> {
        let mut end = path.len();
        loop {
            if end <= self.longest_bytes
                && let Some(index) = self.by_path.get(&path[..end])
            {
                return Some((*index, end));
            }
            end = memchr::memrchr(b'/', &path[..end]).filter(|_| self.look())?;
        }
    }

    fn of_package(&self, package: &[u8]) -> Option<usize> {
        self.longest(package)
    }

    /// By every prefix that ends before a slash or a dot: dots can stand in the last part of a package's path.
    fn longest(&self, name: &[u8]) -> Option<usize> {
        if name.len() <= self.longest_bytes
            && let Some(index) = self.by_path.get(name)
        {
            return Some(*index);
        }
        let mut end = name.len().min(self.longest_bytes + 1);
        // Ends, since each prefix is shorter than the one before; the looks of a program are bounded.
        loop {
            let cut = memchr::memrchr2(b'/', b'.', &name[..end]).filter(|_| self.look())?;
            if let Some(index) = self.by_path.get(&name[..cut]) {
                return Some(*index);
            }
            end = cut;
        }
    }
}

fn first_part(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr(b'/', path).unwrap_or(path.len())]
}

/// `type:.eq.example.com/x.T` is compiled for the type's package.
fn without_prefix(name: &[u8]) -> &[u8] {
    let prefixes: [&[u8]; 4] = [b"type:.eq.", b"type:.hash.", b"type..eq.", b"type..hash."];
    prefixes.into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::build_info::Module;
    use super::*;

    #[track_caller]
    fn check(function: &str, expect: &str) {
        let paths = [
            "github.com/a/b",
            "github.com/a/b/sub",
            "github.com/a/b/v2",
            "gopkg.in/yaml.v3",
            "gopkg.in/yaml.v2",
            "golang.org/x/net",
        ];
        let info = BuildInfo {
            main: Some(Module { path: "example.com/app".into(), ..Module::default() }),
            dependencies: paths.map(|path| Module { path: path.into(), ..Module::default() }).to_vec(),
            ..BuildInfo::default()
        };
        let found = match Modules::new(&info).of_function(function.as_bytes()) {
            None => "-",
            Some(index) => paths.get(index).copied().unwrap_or("main"),
        };
        assert_eq!(found, expect, "{function}");
    }

    #[test]
    fn functions_to_modules() {
        check("github.com/a/b.F", "github.com/a/b");
        check("github.com/a/b/deep/er.(*T).M.func1", "github.com/a/b");
        check("github.com/a/b/sub/x.F", "github.com/a/b/sub");
        check("github.com/a/b/v2.F", "github.com/a/b/v2");
        check("github.com/a/bc.F", "-");
        check("github.com/a/b-c.F", "-");
        check("gopkg.in/yaml%2ev3.(*Decoder).Decode", "gopkg.in/yaml.v3");
        check("gopkg.in/yaml.v2.Unmarshal", "gopkg.in/yaml.v2");
        check("slices.SortFunc[go.shape.[]github.com/a/b.T]", "-");
        check("github.com/a/b.Map[go.shape.int,golang.org/x/net/http2.T]", "github.com/a/b");
        check("vendor/golang.org/x/net/idna.ToASCII", "-");
        check("golang.org/x/net/idna.ToASCII", "golang.org/x/net");
        check("type:.eq.golang.org/x/net/html.Token", "golang.org/x/net");
        check("type..hash.github.com/a/b.K", "github.com/a/b");
        check("net/http.(*Client).Do", "-");
        check("example.com/app/internal.F", "main");
        check("main.main", "-");
        check("", "-");
        check("%", "-");
        check("/", "-");
    }

    #[test]
    fn functions_to_packages() {
        for (function, package) in [
            ("net/http.(*Client).Do", "net/http"),
            ("github.com/a/b.F", "github.com/a/b"),
            ("gopkg.in/yaml%2ev3.(*Decoder).Decode", "gopkg.in/yaml%2ev3"),
            ("slices.SortFunc[go.shape.[]github.com/a/b.T]", "slices"),
            ("type:.eq.golang.org/x/net/html.Token", "golang.org/x/net/html"),
            ("main.main", "main"),
            ("_cgo_panic", ""),
            ("go:struct { io.Writer; x int }", ""),
            ("type:.eq.struct { sync.Once; crypto/x509.v *crypto/x509.C }", ""),
            ("", ""),
        ] {
            assert_eq!(package_of(function.as_bytes()), package.as_bytes(), "{function}");
        }
        let module = |path: &str| Module { path: path.into(), ..Module::default() };
        let info = BuildInfo {
            main: Some(module("example.com/app")),
            main_package: "example.com/app/cmd/tool".into(),
            dependencies: vec![
                module("github.com/a/b"),
                module("github.com/a/b/v2"),
                module("gopkg.in/yaml.v3"),
            ],
            ..BuildInfo::default()
        };
        let (modules, mut packages) = (Modules::new(&info), Packages::new(&info));
        for function in [
            "github.com/a/b.F",
            "github.com/a/b/sub/x.F",
            "github.com/a/b/v2/y.F",
            "gopkg.in/yaml%2ev3.(*Decoder).Decode",
            "net/http.(*Client).Do",
            "vendor/golang.org/x/net/idna.ToASCII",
            "example.com/app/internal.F",
            "main.main",
        ] {
            packages.add(function.as_bytes(), &modules);
        }
        let listed = |list: &BTreeSet<String>| list.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(packages.dependencies.iter().map(listed).collect::<Vec<_>>(), [" sub/x", "y", ""]);
        assert_eq!(packages.dependencies[2].len(), 1);
        assert_eq!(listed(&packages.main), "cmd/tool internal");
        assert_eq!(listed(&packages.standard), "net/http vendor/golang.org/x/net/idna");
    }

    #[track_caller]
    fn check_name(window: &[u8], at: usize, expect: Option<&str>) {
        assert_eq!(package_name(window, at), expect.map(str::as_bytes));
    }

    #[test]
    fn names_of_packages() {
        check_name(b"xx\x00\x0agithub.com/x", 4, Some("github.com"));
        check_name(b"x\x00\x00\x0agithub.com/x", 4, Some("github.com"));
        check_name(b"xx\x00\x0cgithub.com/x", 4, Some("github.com/x"));
        check_name(b"xx\x01\x0agithub.com/x", 4, None);
        check_name(b"xx\x00\xffgithub.com/x", 4, None);
        check_name(b"\x00github.com/x", 1, None);
    }
}
