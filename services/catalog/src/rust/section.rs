//! The list of crates that cargo-auditable puts into a program: section `.dep-v0`, zlib-compressed JSON
//! (cargo-auditable's PARSING.md). Never inflates further than its bound.

use crate::binary::elf::{Elf, read_part};
use flate2::{Decompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};
use std::io;

const SECTION: &str = ".dep-v0";
/// Most bytes of the compressed list; a list of 1,000 crates takes 20 KB.
const MAX_COMPRESSED_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of the list; one of 1,000 crates takes 150 KB.
const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;
/// Most crates of one program.
const MAX_CRATES: usize = 50_000;
/// Longest name or version; crates.io takes names of 64.
const MAX_FIELD_BYTES: usize = 128;
/// Most dependencies in one list: their names are written out for each crate.
const MAX_DEPENDENCIES: usize = 200_000;
const STEP_BYTES: usize = 64 * 1024;
/// Most bytes of `.comment`, where compilers name themselves.
const MAX_COMMENT_BYTES: usize = 64 * 1024;

/// What is kept of a program that rustc made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub crates: Vec<Crate>,
    pub has_interpreter: bool,
    pub problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Crate {
    pub name: String,
    pub version: String,
    /// Whether only the build needed it.
    pub is_build_only: bool,
    /// Whether it is the crate of the program itself.
    pub is_root: bool,
    /// Indexes of crates in the same list.
    pub dependencies: Vec<usize>,
}

/// What a program does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Problem {
    /// rustc made it, but without cargo-auditable.
    NoList,
    Damaged,
    TooLong,
    /// The section in which compilers name themselves is longer than what is read of it.
    LongComment,
    Unreadable,
}

impl Program {
    pub fn without_crates(problem: Problem) -> Self {
        Self { crates: Vec::new(), has_interpreter: false, problem: Some(problem) }
    }
}

#[derive(Deserialize)]
struct Listed {
    packages: Vec<ListedCrate>,
}

#[derive(Deserialize)]
struct ListedCrate {
    name: String,
    version: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    dependencies: Vec<usize>,
    #[serde(default)]
    root: bool,
}

/// The crates of a program; `None` for anything that rustc did not make.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn read(elf: &Elf<'_>) -> io::Result<Option<Program>> {
    let Some(section) = elf.section(SECTION) else {
        let comment = match elf.section(".comment") {
            Some(comment) => read_part(elf.file, comment, MAX_COMMENT_BYTES)?,
            None => Vec::new(),
        };
        let problem = if memchr::memmem::find(&comment, b"rustc version ").is_some() {
            Some(Problem::NoList)
        } else {
            (comment.len() >= MAX_COMMENT_BYTES).then_some(Problem::LongComment)
        };
        return Ok(problem.map(Program::without_crates));
    };
    if section.size_bytes > MAX_COMPRESSED_BYTES as u64 {
        return Ok(Some(Program::without_crates(Problem::TooLong)));
    }
    let compressed = read_part(elf.file, section, MAX_COMPRESSED_BYTES)?;
    Ok(Some(match inflate(&compressed).and_then(|list| parse(&list)) {
        Ok(crates) => Program { crates, has_interpreter: elf.has_interpreter, problem: None },
        Err(problem) => Program::without_crates(problem),
    }))
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut inflater = Decompress::new(true);
    let mut list = Vec::new();
    loop {
        if list.len() >= MAX_LIST_BYTES {
            return Err(Problem::TooLong);
        }
        let filled = list.len();
        list.resize(filled + STEP_BYTES, 0);
        // Cannot be more than there is.
        let input = &compressed[(inflater.total_in() as usize).min(compressed.len())..];
        let before = inflater.total_out();
        let status = inflater
            .decompress(input, &mut list[filled..], FlushDecompress::None)
            .map_err(|_| Problem::Damaged)?;
        let produced = (inflater.total_out() - before) as usize;
        list.truncate(filled + produced);
        match status {
            Status::StreamEnd => return Ok(list),
            _ if produced == 0 => return Err(Problem::Damaged),
            _ => {}
        }
    }
}

fn parse(list: &[u8]) -> Result<Vec<Crate>, Problem> {
    let listed: Listed = serde_json::from_slice(list).map_err(|_| Problem::Damaged)?;
    let dependencies: usize = listed.packages.iter().map(|one| one.dependencies.len()).sum();
    let is_long = |one: &ListedCrate| one.name.len().max(one.version.len()) > MAX_FIELD_BYTES;
    let is_too_long = listed.packages.len() > MAX_CRATES || dependencies > MAX_DEPENDENCIES;
    if is_too_long || listed.packages.iter().any(is_long) {
        return Err(Problem::TooLong);
    }
    Ok(listed
        .packages
        .into_iter()
        .map(|one| Crate {
            name: one.name,
            version: one.version,
            is_build_only: one.kind.as_deref() == Some("build"),
            is_root: one.root,
            dependencies: one.dependencies,
        })
        .collect())
}
