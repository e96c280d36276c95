//! Which modules of a Go program are really in it: by the names of its functions, else by the types that it describes.
//! Never says "not linked" of a module when the table was not read to its end.

use super::build_info::{BuildInfo, varint};
use super::function_table::FunctionTable;
use crate::binary::elf::Elf;
use crate::binary::search::{Budget, windows};
use crate::percent;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::HashMap;
use std::io;

/// Longest package path that is looked for among types, in bytes.
const MAX_PACKAGE_BYTES: usize = 4_096;
/// Bytes before the path in a package name among types: flags, then the length as a varint or as two bytes.
const NAME_HEADER_BYTES: usize = 3;

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

/// The linkage of each dependency, in the order of the build information.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn of_dependencies(
    elf: &Elf<'_>,
    info: &BuildInfo,
    table: Option<&FunctionTable>,
    budget: &mut Budget,
) -> io::Result<Vec<Linked>> {
    let mut linked = vec![Linked::Unknown; info.dependencies.len()];
    let Some(table) = table else { return Ok(linked) };
    let modules = Modules::new(info);
    let complete = table.names(elf, budget, &mut |name| {
        if let Some(index) = modules.of_function(name).and_then(|index| linked.get_mut(index)) {
            *index = Linked::Function;
        }
        !modules.is_exhausted()
    })?;
    if !complete || modules.is_exhausted() {
        return Ok(linked);
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
    Ok(linked)
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
