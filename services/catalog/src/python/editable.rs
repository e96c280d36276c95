//! Where the sources of an editable install stand: direct_url.json (PEP 610), .pth files, setuptools' `__editable__`
//! finders. Never runs a finder: the literal table in it is read.

use super::MAX_SMALL_FILE_BYTES;
use crate::bounds::LeftOut;
use crate::percent;
use crate::survey::Survey;
use crate::tree::{FileKind, path};

/// Most .pth files read of one distribution.
const MAX_PTH_FILES: usize = 16;
/// Most lines of one .pth file, or entries of one finder, that are followed.
const MAX_TARGETS: usize = 1_000;

/// What an editable install points to. Paths are relative to the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub directories: Vec<Vec<u8>>,
    pub files: Vec<Vec<u8>>,
}

/// Follows the .pth files among `listed`, the files of a distribution directly in `site`.
pub(super) fn follow(survey: &mut Survey<'_>, site: &[u8], listed: &[Vec<u8>]) -> Sources {
    let mut sources = Sources::default();
    let is_pth = |file: &&Vec<u8>| file.ends_with(b".pth") && path::parent(file) == site;
    let mut left_out = LeftOut::default();
    let pth_files =
        left_out.first(listed.iter().filter(is_pth), MAX_PTH_FILES, "files .pth of one distribution");
    if let Some(last) = pth_files.last() {
        survey.left_out(last, &left_out);
    }
    for pth in pth_files {
        let Some(text) = survey.read_optional(pth, MAX_SMALL_FILE_BYTES) else { continue };
        let mut targets = Vec::new();
        let mut left_out = LeftOut::default();
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        for line in left_out.first(lines, MAX_TARGETS, "lines") {
            if line.starts_with(b"import ") || line.starts_with(b"import\t") {
                if let Some(finder) = finder_of(line) {
                    let file = path::join(site, &[finder, b".py"].concat());
                    if let Some(source) = survey.read_optional(&file, MAX_SMALL_FILE_BYTES) {
                        let mut left_out = LeftOut::default();
                        targets.extend(mapping(&source, &mut left_out));
                        survey.left_out(&file, &left_out);
                    }
                }
            } else {
                targets.push(line.to_vec());
            }
        }
        survey.left_out(pth, &left_out);
        for target in targets {
            add_target(survey, site, &target, &mut sources);
        }
    }
    sources
}

fn add_target(survey: &Survey<'_>, site: &[u8], target: &[u8], sources: &mut Sources) {
    let place = if target.starts_with(b"/") {
        in_root(target, survey.tree.root_path())
    } else {
        Some(path::normalize_from(site, target))
    };
    let Some(place) = place else { return };
    // A whole tree of other packages is nobody's source.
    if place == site || path::is_below(site, &place) {
        return;
    }
    if survey.tree.resolve(&place).is_ok_and(|found| found.metadata.kind == FileKind::Directory) {
        sources.directories.push(place);
        return;
    }
    // A finder names a module without its ending.
    let module = [place.as_slice(), b".py"].concat();
    for file in [place, module] {
        if survey.tree.metadata(&file).is_ok() {
            sources.files.push(file);
        }
    }
}

/// `__editable___NAME_finder` in a line that imports it.
fn finder_of(line: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(line, b"__editable__")?;
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = line[start..].iter().position(|byte| !is_word(byte)).unwrap_or(line.len() - start);
    let name = &line[start..start + length];
    name.ends_with(b"_finder").then_some(name)
}

/// The places in `MAPPING = {'name': 'place', …}` (setuptools, command/editable_wheel.py).
fn mapping(source: &[u8], left_out: &mut LeftOut) -> Vec<Vec<u8>> {
    let mut places = Vec::new();
    let line = source.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"MAPPING"));
    let Some(open) = line.and_then(|line| memchr::memchr(b'{', line).map(|at| &line[at + 1..])) else {
        return places;
    };
    let mut rest = open;
    while places.len() <= MAX_TARGETS {
        let Some((_, after)) = quoted(rest) else { break };
        let Some(after) = after.trim_ascii_start().strip_prefix(b":") else { break };
        let Some((place, after)) = quoted(after) else { break };
        places.push(place);
        rest = after;
    }
    left_out.keep(&mut places, MAX_TARGETS, "entries of the mapping");
    places
}

/// A text as Python's repr writes it, behind blanks and commas, and what follows it.
fn quoted(source: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let start = source.iter().position(|byte| !matches!(byte, b' ' | b','))?;
    let quote = source[start];
    if quote != b'\'' && quote != b'"' {
        return None;
    }
    let mut text = Vec::new();
    let mut at = start + 1;
    loop {
        match *source.get(at)? {
            b'\\' => {
                text.push(*source.get(at + 1)?);
                at += 2;
            }
            byte if byte == quote => return Some((text, &source[at + 1..])),
            byte => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// The project directory of an editable install (PEP 610), relative to the root; `None` if it lies outside.
pub(super) fn project(json: &[u8], root_path: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    if value.get("dir_info")?.get("editable")?.as_bool() != Some(true) {
        return None;
    }
    in_root(&percent::decode(value.get("url")?.as_str()?.strip_prefix("file://")?.as_bytes()), root_path)
}

/// An absolute path of the artifact, relative to its root. The root of the whole system is no project.
fn in_root(absolute: &[u8], root_path: &[u8]) -> Option<Vec<u8>> {
    let absolute = path::normalize(absolute);
    let root = path::normalize(root_path);
    if root.is_empty() {
        return Some(absolute).filter(|path| !path.is_empty());
    }
    if absolute == root {
        return Some(Vec::new());
    }
    path::is_below(&absolute, &root).then(|| absolute[root.len() + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn editable_projects() {
        let json = |url: &str| format!(r#"{{"url": "{url}", "dir_info": {{"editable": true}}}}"#);
        let find = |url: &str, root: &str| {
            project(json(url).as_bytes(), root.as_bytes()).map(|path| path::display(&path))
        };
        assert_eq!(find("file:///src/my%20app", "/").as_deref(), Some("src/my app"));
        assert_eq!(find("file:///home/u/app/lib", "/home/u/app").as_deref(), Some("lib"));
        assert_eq!(find("file:///home/u/app", "/home/u/app").as_deref(), Some(""));
        assert_eq!(find("file:///home/u/apple", "/home/u/app"), None);
        assert_eq!(find("https://example.org/x", "/"), None);
        assert_eq!(project(br#"{"url":"file:///x","dir_info":{}}"#, b"/"), None);
        assert_eq!(project(b"[", b"/"), None);
    }

    #[track_caller]
    fn check_mapping(source: &str, expect: &[&str]) {
        let found: Vec<String> = mapping(source.as_bytes(), &mut LeftOut::default())
            .iter()
            .map(|place| path::display(place))
            .collect();
        assert_eq!(found, expect, "{source}");
    }

    #[test]
    fn finders() {
        check_mapping(
            "import sys\nMAPPING: dict[str, str] = {'a': '/src/a', 'b.c': \"/src/it's\"}\nNAMESPACES = {}\n",
            &["/src/a", "/src/it's"],
        );
        check_mapping("MAPPING = {'a': r'/x'}", &[]);
        check_mapping("MAPPING = {'a': '/x", &[]);
        check_mapping("MAPPING = {}", &[]);
        let line = b"import __editable___my_app_0_1_finder; __editable___my_app_0_1_finder.install()";
        assert_eq!(finder_of(line), Some(b"__editable___my_app_0_1_finder".as_slice()));
        assert_eq!(finder_of(b"import os; os.system('x')"), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            project(&bytes, b"/");
            mapping(&bytes, &mut LeftOut::default());
            finder_of(&bytes);
            percent::decode(&bytes);
        }
    }
}
