//! Which files a dpkg package owns: its list, else its md5sums and conffiles; diversions and alternatives applied.
//! Never trusts that a listed file exists where that matters: it is looked at.

use super::status::{StatusPackage, StatusSource};
use super::{
    ALTERNATIVES, DIVERSIONS, INFO, MAX_LIST_BYTES, MAX_SMALL_FILE_BYTES, METHOD, METHOD_ALTERNATIVES,
};
use crate::ECOSYSTEMS;
use crate::bounds::{LeftOut, bound};
use crate::not_measurable;
use crate::role::{is_shared_library, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use std::borrow::Cow;
use std::collections::HashMap;

/// Most files looked at to find one that exists; a package with so many missing ones counts as measurable.
const MAX_EXISTENCE_CHECKS: usize = bound(4_096, 64);
/// Most diversions read.
const MAX_DIVERSIONS: usize = bound(100_000, 1_000);
/// Most links read of one alternative, its slaves included.
const MAX_ALTERNATIVE_LINKS: usize = 1_000;
/// Longest path accepted in a list, in bytes.
const MAX_LISTED_PATH_BYTES: usize = path::MAX_PATH_BYTES;

const ETC_ALTERNATIVES: &[u8] = b"etc/alternatives";

/// The files of one package as its database lists them: concatenated, each ended by a newline.
#[derive(Default)]
pub(crate) struct OwnedFiles {
    /// The database file; empty when there is none.
    pub list_path: Vec<u8>,
    lines: Vec<u8>,
    left_out: LeftOut,
}

impl OwnedFiles {
    /// Paths relative to the root, as the list spells them, directories left out.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

/// Reads the package's own list of files, wherever this kind of image keeps it.
pub(crate) fn read_owned(
    survey: &mut Survey<'_>,
    source: &StatusSource,
    package: &StatusPackage,
) -> OwnedFiles {
    if source.is_part {
        let md5sums = [source.path.as_slice(), b".md5sums"].concat();
        let mut owned = OwnedFiles::default();
        if let Some(bytes) = survey.read_optional(&md5sums, MAX_LIST_BYTES) {
            owned.list_path = md5sums;
            owned.add_md5sums(&bytes);
        }
        survey.left_out(&owned.list_path, &owned.left_out);
        return owned;
    }
    let plain = path::join(INFO, package.name.as_bytes());
    let qualified = [plain.as_slice(), b":", package.architecture.as_bytes()].concat();
    let stems = if package.is_multi_arch_same { [qualified, plain] } else { [plain, qualified] };
    for stem in &stems {
        let list_path = [stem.as_slice(), b".list"].concat();
        if let Some(bytes) = survey.read_optional(&list_path, MAX_LIST_BYTES) {
            let mut owned = OwnedFiles { list_path, ..OwnedFiles::default() };
            owned.add_list(&bytes);
            survey.left_out(&owned.list_path, &owned.left_out);
            return owned;
        }
    }
    // Some slimmed images drop the lists but keep these.
    for stem in &stems {
        let list_path = [stem.as_slice(), b".md5sums"].concat();
        if let Some(bytes) = survey.read_optional(&list_path, MAX_LIST_BYTES) {
            let mut owned = OwnedFiles { list_path, ..OwnedFiles::default() };
            owned.add_md5sums(&bytes);
            let conffiles = [stem.as_slice(), b".conffiles"].concat();
            if let Some(bytes) = survey.read_optional(&conffiles, MAX_LIST_BYTES) {
                owned.add_list(&bytes);
            }
            survey.left_out(&owned.list_path, &owned.left_out);
            return owned;
        }
    }
    OwnedFiles::default()
}

impl OwnedFiles {
    /// A list names every directory right before what is in it: a line that the next one continues is a directory.
    fn add_list(&mut self, bytes: &[u8]) {
        self.lines.reserve(bytes.len());
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let is_directory = lines.peek().is_some_and(|next| path::is_below(next, line));
            if !is_directory {
                self.push_path(line);
            }
        }
    }

    /// `<32 hexadecimal digits>  <path>` per line.
    fn add_md5sums(&mut self, bytes: &[u8]) {
        self.lines.reserve(bytes.len());
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(blank) = memchr::memchr(b' ', line) {
                self.push_path(line[blank..].trim_ascii_start());
            }
        }
    }

    fn push_path(&mut self, listed: &[u8]) {
        let is_plain = listed.first() == Some(&b'/')
            && memchr::memmem::find(listed, b"/.").is_none()
            && memchr::memmem::find(listed, b"//").is_none();
        let relative: Cow<'_, [u8]> =
            if is_plain { Cow::Borrowed(&listed[1..]) } else { Cow::Owned(path::normalize(listed)) };
        if relative.len() > MAX_LISTED_PATH_BYTES {
            self.left_out.beyond(MAX_LISTED_PATH_BYTES, "bytes in a path of the list");
        } else if !relative.is_empty() {
            self.lines.extend_from_slice(&relative);
            self.lines.push(b'\n');
        }
    }
}

/// What can be observed of a package's use.
pub(crate) struct Measured {
    pub loadable_file_count: u64,
    /// Empty if its use can be observed.
    pub not_measurable_reason: &'static str,
    /// The dynamic linker would see any use of it.
    pub only_shared_libraries: bool,
}

/// Counts the files that could be used, and makes sure that at least one is a file of the package's own.
pub(crate) fn measure(survey: &mut Survey<'_>, owned: &OwnedFiles) -> Measured {
    let mut measured =
        Measured { loadable_file_count: 0, not_measurable_reason: "", only_shared_libraries: false };
    let mut has_shared_library = false;
    let mut checks = 0;
    let (mut exists, mut has_more) = (false, false);
    for listed in owned.paths().filter(|listed| role_of(listed).can_be_used()) {
        measured.loadable_file_count += 1;
        has_shared_library |= is_shared_library(path::file_name(listed));
        if !exists {
            checks += 1;
            // A link is seen as what it leads to, so it tells nothing of its own package.
            has_more = checks > MAX_EXISTENCE_CHECKS;
            exists =
                has_more || survey.tree.metadata(listed).is_ok_and(|found| found.kind == FileKind::Regular);
        }
    }
    if has_more {
        let mut left_out = LeftOut::default();
        left_out.beyond(MAX_EXISTENCE_CHECKS, "files that are gone or links, so it counts as measurable");
        survey.left_out(&owned.list_path, &left_out);
    }
    if owned.list_path.is_empty() {
        measured.not_measurable_reason = not_measurable::NO_LIST;
    } else if measured.loadable_file_count == 0 {
        measured.not_measurable_reason = if owned.lines.is_empty() {
            not_measurable::METAPACKAGE
        } else {
            not_measurable::ONLY_DOCUMENTATION
        };
    } else if !exists {
        measured.loadable_file_count = 0;
        measured.not_measurable_reason = not_measurable::ONLY_LINKS;
    }
    measured.only_shared_libraries = has_shared_library && only_shared_libraries(survey, owned);
    measured
}

/// Whether no file of the package is used in another way than by the dynamic linker: programs and data are not.
fn only_shared_libraries(survey: &Survey<'_>, owned: &OwnedFiles) -> bool {
    let others = owned
        .paths()
        .filter(|listed| role_of(listed).can_be_used() && !is_shared_library(path::file_name(listed)));
    // dpkg lists directories as well.
    others.take(MAX_EXISTENCE_CHECKS + 1).enumerate().all(|(number, listed)| {
        number < MAX_EXISTENCE_CHECKS
            && survey.tree.metadata(listed).is_ok_and(|found| found.kind == FileKind::Directory)
    })
}

/// Path → where it was moved to, and the package that moved it.
pub(crate) type Diversions = HashMap<Vec<u8>, Diversion>;

pub(crate) struct Diversion {
    to: Vec<u8>,
    /// `:` for a diversion made by the administrator.
    by: Vec<u8>,
}

/// Three lines each: the path, its new name, the diverting package (dpkg-divert(1)).
pub(crate) fn read_diversions(survey: &mut Survey<'_>) -> Diversions {
    let Some(bytes) = survey.read_optional(DIVERSIONS, MAX_SMALL_FILE_BYTES) else {
        return Diversions::new();
    };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut left_out = LeftOut::default();
    let diversions = left_out.first(lines.chunks_exact(3), MAX_DIVERSIONS, "diversions");
    survey.left_out(DIVERSIONS, &left_out);
    diversions
        .into_iter()
        .map(|three| {
            (path::normalize(three[0]), Diversion { to: path::normalize(three[1]), by: three[2].to_vec() })
        })
        .collect()
}

/// Enters the package's files into the index, and notes which databases of other ecosystems are among them.
pub(crate) fn claim(
    survey: &mut Survey<'_>,
    package: u32,
    name: &str,
    owned: &OwnedFiles,
    diversions: &Diversions,
) {
    let mut carries_packages = false;
    for listed in owned.paths() {
        let path = match diversions.get(listed) {
            Some(diversion) if diversion.by != name.as_bytes() => diversion.to.as_slice(),
            _ => listed,
        };
        if ECOSYSTEMS.iter().any(|ecosystem| ecosystem.is_marker(path, FileKind::Regular)) {
            let canonical = survey.canonicalizer.file(path);
            survey.os_owned.insert(canonical, package);
            carries_packages = true;
        } else if let Some(program) = survey.binary_at(path) {
            survey.os_owned.insert(program, package);
        }
        if let Some(index) = &mut survey.index {
            index.own(&mut survey.canonicalizer, path, package, METHOD);
        }
    }
    if carries_packages {
        survey.os_files.insert(package, owned.lines.clone());
    }
}

/// `etc/alternatives/awk` and `usr/bin/awk` belong to the owner of the file that they lead to.
pub(crate) fn claim_alternatives(survey: &mut Survey<'_>) {
    if survey.index.is_none() {
        return;
    }
    let mut links: Vec<Vec<u8>> = Vec::new();
    for entry in survey.tree.list(ETC_ALTERNATIVES).unwrap_or_default() {
        if entry.kind == FileKind::Symlink {
            links.push(path::join(ETC_ALTERNATIVES, &entry.name));
        }
    }
    for entry in survey.tree.list(ALTERNATIVES).unwrap_or_default() {
        let file = path::join(ALTERNATIVES, &entry.name);
        if let Some(bytes) = survey.read_optional(&file, MAX_SMALL_FILE_BYTES) {
            let mut left_out = LeftOut::default();
            links.extend(links_of_alternative(&bytes, &mut left_out));
            survey.left_out(&file, &left_out);
        }
    }
    for link in links {
        let Ok(target) = survey.tree.resolve(&link) else { continue };
        let Some(index) = &mut survey.index else { return };
        for owner in index.owners(&target.path) {
            index.own(&mut survey.canonicalizer, &link, owner, METHOD_ALTERNATIVES);
        }
    }
}

/// Mode, master link, then name and link of each slave until an empty line (update-alternatives(1)).
fn links_of_alternative(bytes: &[u8], left_out: &mut LeftOut) -> Vec<Vec<u8>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    let mut links: Vec<Vec<u8>> = lines.next().into_iter().map(path::normalize).collect();
    while let (Some(name), Some(link)) = (lines.next(), lines.next()) {
        if name.is_empty() || links.len() > MAX_ALTERNATIVE_LINKS {
            break;
        }
        links.push(path::normalize(link));
    }
    left_out.keep(&mut links, MAX_ALTERNATIVE_LINKS, "links");
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(add: fn(&mut OwnedFiles, &[u8]), list: &[u8], expect: &[&str]) {
        let mut owned = OwnedFiles::default();
        add(&mut owned, list);
        let found: Vec<String> = owned.paths().map(path::display).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn lists() {
        let list = b"/.\n/usr\n/usr/bin\n/usr/bin/a\n/usr/bin/ab\n/usr/empty\n/usr/bin/../lib//x\n\n/";
        check(OwnedFiles::add_list, list, &["usr/bin/a", "usr/bin/ab", "usr/empty", "usr/lib/x"]);
        let md5sums = b"0123456789abcdef0123456789abcdef  usr/bin/a b\ngarbage\nx  ./etc/c\n";
        check(OwnedFiles::add_md5sums, md5sums, &["usr/bin/a b", "etc/c"]);
    }

    #[test]
    fn alternatives() {
        let text = b"auto\n/usr/bin/awk\nnawk\n/usr/bin/nawk\n\n/usr/bin/mawk\n5\n/usr/bin/mawk\n\n";
        let links_of_alternative = |text: &[u8]| super::links_of_alternative(text, &mut LeftOut::default());
        assert_eq!(links_of_alternative(text), [b"usr/bin/awk".to_vec(), b"usr/bin/nawk".to_vec()]);
        assert_eq!(links_of_alternative(b"auto\n"), [b"".to_vec()]);
        assert!(links_of_alternative(b"").is_empty());
    }
}
