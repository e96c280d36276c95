//! Go programs: the modules that their build information names, and which of these are linked in.
//! Never runs a program; what a stripped, packed or obfuscated one does not tell is said, not guessed.

mod build_info;
mod function_table;
mod linkage;
mod version;

use crate::binary::elf::Elf;
use crate::binary::search::Budget;
use crate::binary::{self, MAX_READ_BYTES};
use crate::digest::{DigestedFiles, Digester, ReadAt, read_range};
use crate::not_measurable;
use crate::purl::Purl;
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use build_info::{BuildInfo, Found, Module};
use function_table::FunctionTable;
use linkage::{Linkage, Linked};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;

const ECOSYSTEM: &str = "golang";
const METHOD: &str = "go-build-info";
/// Name of the standard library, as advisories have it.
const STANDARD_LIBRARY: &str = "stdlib";
/// Go's own programs (`cmd/go`, `cmd/compile`) are packages of the standard library and name no module.
const TOOLCHAIN_PREFIX: &str = "cmd/";
/// UPX's mark stands behind the program headers.
const PACKED_MARK: &[u8] = b"UPX!";
const PACKED_MARK_WITHIN_BYTES: usize = 4096;

static DIGESTER: Digester = Digester { name: ECOSYSTEM, files: DigestedFiles::Binaries, digest };

pub(crate) struct Go;

impl Ecosystem for Go {
    fn wanted(&self, _: &[u8]) -> Option<Wanted> {
        None
    }

    fn is_marker(&self, _: &[u8], _: FileKind) -> bool {
        false
    }

    fn database_of<'p>(&self, _: &'p [u8]) -> Option<&'p [u8]> {
        None
    }

    fn is_database_entry(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn digesters(&self) -> &'static [Digester] {
        std::slice::from_ref(&DIGESTER)
    }

    fn survey(&self, survey: &mut Survey<'_>, _: &[Vec<u8>]) {
        for found in binary::programs(survey, &DIGESTER) {
            binary::watch(survey, &found.paths);
            match serde_json::from_slice::<Program>(&found.digest) {
                Ok(program) => add(survey, &found.paths, &program),
                Err(_) => warn(survey, &found.paths[0], Problem::TooManyModules),
            }
        }
    }
}

fn add(survey: &mut Survey<'_>, paths: &[Vec<u8>], program: &Program) {
    if let Some(problem) = program.problem {
        warn(survey, &paths[0], problem);
    }
    let unknown = match program.problem {
        None => not_measurable::GO_ONLY_INLINED,
        Some(_) => not_measurable::GO_NO_FUNCTION_TABLE,
    };
    for module in &program.modules {
        let (namespace, name) = module.path.rsplit_once('/').unwrap_or(("", &module.path));
        let purl = Purl {
            package_type: "golang",
            // The specification of package URLs wants both in lower case; the version as it is.
            namespace: &namespace.to_lowercase(),
            name: &name.to_lowercase(),
            version: &module.version,
            ..Purl::default()
        };
        let linked = binary::Linked {
            ecosystem: ECOSYSTEM,
            name: &module.path,
            version: &module.version,
            architecture: &program.platform,
            purl: purl.build(),
            dependencies: Vec::new(),
            is_linked: matches!(module.linked, Linked::Function | Linked::Type),
            not_measurable_reason: if module.linked == Linked::Unknown { unknown } else { "" },
            has_interpreter: program.has_interpreter,
            method: METHOD,
            packages: module.import_paths(),
        };
        binary::add(survey, paths, linked);
    }
}

fn warn(survey: &mut Survey<'_>, at: &[u8], problem: Problem) {
    let rebuild =
        "build it with `go build` in module mode (Go 1.18 or later), not obfuscated, then scan again";
    let (code, message, remedy) = match problem {
        Problem::NoBuildInfo => (
            "go-without-build-info",
            "a Go program without build information: built before Go 1.13, or it was taken out",
            rebuild,
        ),
        Problem::DamagedBuildInfo => {
            ("go-build-info-damaged", "a Go program whose build information cannot be read", rebuild)
        }
        Problem::NoModules => (
            "go-without-modules",
            "its build information names no module: built without modules, by another build tool, or obfuscated",
            rebuild,
        ),
        Problem::TooManyModules => (
            "go-too-many-modules",
            "its build information names too many modules, or one whose name is too long; these are left out",
            rebuild,
        ),
        Problem::NoFunctionTable => (
            "go-functions-unreadable",
            "its table of functions cannot be read, so which modules are linked in is not known",
            rebuild,
        ),
        Problem::TooManySections => (
            "bound-reached",
            "there are more sections or segments in it than are looked at, so what is linked into it is not known",
            "check whether it is damaged or made to mislead",
        ),
        Problem::Packed => (
            "packed-program",
            "packed by UPX, so what is linked into it cannot be read",
            "ship the program unpacked, or scan it unpacked (`upx -d`)",
        ),
        Problem::Unreadable => {
            ("unreadable-file", "could not be read to its end", "repair the file system, then scan again")
        }
    };
    survey.warnings.push(code, &path::display(at), message, remedy);
}

/// What is kept of a program: JSON, empty for anything that Go's linker did not make.
fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let program = match read(file) {
        Ok(None) => return Vec::new(),
        Ok(Some(program)) => program,
        Err(_) => Program::without_modules(Problem::Unreadable),
    };
    // Only maps with keys that are no text could fail.
    serde_json::to_vec(&program).unwrap_or_default()
}

/// What is kept of a Go program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub toolchain: String,
    /// `GOOS/GOARCH`; empty where it is not known.
    #[serde(default)]
    pub platform: String,
    /// The standard library, the main module and the dependencies; replaced ones by what replaces them.
    pub modules: Vec<LinkedModule>,
    pub has_interpreter: bool,
    pub problem: Option<Problem>,
}

/// A module of a program, named as advisories name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkedModule {
    pub path: String,
    /// Empty where the build did not know it.
    pub version: String,
    pub linked: Linked,
    /// Its packages that have a function in the program, seen from its path (the standard library's as they are
    /// imported); `None` where that could not be told.
    #[serde(default)]
    pub packages: Option<Vec<String>>,
}

impl LinkedModule {
    /// Import paths of [`LinkedModule::packages`], as advisories have them.
    fn import_paths(&self) -> Option<Vec<String>> {
        let full = |below: &String| match (self.path.as_str(), below.as_str()) {
            (STANDARD_LIBRARY, path) => path.to_owned(),
            (path, "") => path.to_owned(),
            (path, below) => format!("{path}/{below}"),
        };
        Some(self.packages.as_ref()?.iter().map(full).collect())
    }
}

/// What a Go program does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Problem {
    /// Older than Go 1.13, or the information was taken out.
    NoBuildInfo,
    DamagedBuildInfo,
    /// Built without modules, by another build tool, or obfuscated.
    NoModules,
    TooManyModules,
    /// The table of functions is missing, damaged or too long.
    NoFunctionTable,
    /// More sections or segments than are looked at: whether it is a Go program cannot be told.
    TooManySections,
    /// Whether Go's linker made it or another one cannot be told.
    Packed,
    Unreadable,
}

/// Reads a program; `None` for anything that Go's linker did not make.
///
/// # Errors
/// Only when the file cannot be read.
fn read(file: &dyn ReadAt) -> io::Result<Option<Program>> {
    let Some(elf) = Elf::parse(file)? else { return Ok(None) };
    let budget = &mut Budget(MAX_READ_BYTES);
    let info = match build_info::find(&elf, budget)? {
        Found::BuildInfo(info) => *info,
        Found::Damaged => return Ok(Some(Program::without_modules(Problem::DamagedBuildInfo))),
        Found::Nothing if function_table::has_section(&elf) => {
            return Ok(Some(Program::without_modules(Problem::NoBuildInfo)));
        }
        Found::Nothing if elf.is_cut => return Ok(Some(Program::without_modules(Problem::TooManySections))),
        Found::Nothing if is_packed(&elf)? => return Ok(Some(Program::without_modules(Problem::Packed))),
        Found::Nothing => return Ok(None),
    };
    let elf = &elf;
    let table = FunctionTable::find(elf, budget)?;
    let linkage = linkage::of_program(elf, &info, table.as_ref(), budget)?;
    let is_of_toolchain = info.main_package.starts_with(TOOLCHAIN_PREFIX);
    let problem = if info.main.is_none() && info.dependencies.is_empty() && !is_of_toolchain {
        Some(Problem::NoModules)
    } else if info.is_cut {
        Some(Problem::TooManyModules)
    } else if linkage.dependencies.contains(&Linked::Unknown)
        && table.is_none_or(|table| table.lists_inlined())
    {
        Some(Problem::NoFunctionTable)
    } else {
        None
    };
    let has_interpreter = elf.has_interpreter;
    Ok(Some(Program {
        modules: modules(&info, &linkage),
        platform: if info.goos.is_empty() || info.goarch.is_empty() {
            String::new()
        } else {
            format!("{}/{}", info.goos, info.goarch)
        },
        toolchain: info.toolchain,
        has_interpreter,
        problem,
    }))
}

fn is_packed(elf: &Elf<'_>) -> io::Result<bool> {
    if elf.has_sections() {
        return Ok(false);
    }
    let beginning = read_range(elf.file, 0, PACKED_MARK_WITHIN_BYTES)?;
    Ok(memchr::memmem::find(&beginning, PACKED_MARK).is_some())
}

impl Program {
    fn without_modules(problem: Problem) -> Self {
        Self {
            toolchain: String::new(),
            platform: String::new(),
            modules: Vec::new(),
            has_interpreter: false,
            problem: Some(problem),
        }
    }
}

fn modules(info: &BuildInfo, linkage: &Linkage) -> Vec<LinkedModule> {
    let packages = linkage.packages.as_ref();
    let listed = |list: &BTreeSet<String>| list.iter().cloned().collect::<Vec<String>>();
    let standard_library = version::of_toolchain(&info.toolchain).map(|version| LinkedModule {
        path: STANDARD_LIBRARY.to_owned(),
        version,
        linked: Linked::Function,
        packages: packages.map(|all| listed(&all.standard)),
    });
    let main = info.main.as_ref().map(|main| {
        let (path, version) = match &main.replacement {
            Some(_) => reported(main),
            None => (main.path.clone(), version::of_main(main, info)),
        };
        LinkedModule {
            path,
            version,
            linked: Linked::Function,
            packages: packages.map(|all| listed(&all.main)),
        }
    });
    let dependencies = info.dependencies.iter().zip(&linkage.dependencies).enumerate();
    let dependencies = dependencies.map(|(index, (module, linked))| {
        let (path, version) = reported(module);
        let packages = packages.and_then(|all| all.dependencies.get(index)).map(listed);
        LinkedModule { path, version, linked: *linked, packages }
    });
    standard_library.into_iter().chain(main).chain(dependencies).collect()
}

/// Path and version of what was compiled. A directory on the builder's disk has no name elsewhere: then the module's
/// own path, of unknown version.
fn reported(module: &Module) -> (String, String) {
    match &module.replacement {
        None => (module.path.clone(), version::of_module(&module.version)),
        Some((path, version)) if !version::of_module(version).is_empty() => {
            (path.clone(), version::of_module(version))
        }
        Some(_) => (module.path.clone(), String::new()),
    }
}

#[cfg(test)]
mod tests;
