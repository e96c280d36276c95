//! Reads which distribution an artifact is (os-release(5), systemd's specification).
//! Never guesses: what the file does not say stays empty.

use crate::Wanted;
use crate::tree::{FileTree, path};
use crate::warning::Warnings;
use serde::Serialize;

/// Where the file is looked for, in this order; both may be links.
pub(crate) const PATHS: [&[u8]; 2] = [b"etc/os-release", b"usr/lib/os-release"];
/// Most of the file that is read, in bytes.
pub const MAX_OS_RELEASE_BYTES: usize = 64 * 1024;

/// The distribution of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OsRelease {
    /// ID, for example `debian`.
    pub id: String,
    /// VERSION_ID, for example `12`; empty for rolling and unreleased distributions.
    pub version_id: String,
    /// VERSION_CODENAME, for example `bookworm`.
    pub codename: String,
    /// PRETTY_NAME.
    pub pretty_name: String,
    /// ID_LIKE, split at blanks.
    pub id_like: Vec<String>,
}

impl OsRelease {
    /// The release as it stands in a purl's `distro` qualifier: `debian-12`, else with the codename, else the bare id.
    pub fn distro(&self) -> String {
        let version = if self.version_id.is_empty() { &self.codename } else { &self.version_id };
        if self.id.is_empty() || version.is_empty() {
            self.id.clone()
        } else {
            format!("{}-{version}", self.id)
        }
    }

    /// Parses the text of an os-release file; lines that are no assignments are passed over, as a shell comment is.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut release = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let value = unquote(value.trim());
            match key.trim() {
                "ID" => release.id = value.to_ascii_lowercase(),
                "VERSION_ID" => release.version_id = value,
                "VERSION_CODENAME" => release.codename = value,
                "PRETTY_NAME" => release.pretty_name = value,
                "ID_LIKE" => release.id_like = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        release
    }
}

/// Undoes the shell quoting that os-release(5) allows.
fn unquote(value: &str) -> String {
    let (inner, escapes) = match value.as_bytes() {
        [b'"', .., b'"'] => (&value[1..value.len() - 1], true),
        [b'\'', .., b'\''] => (&value[1..value.len() - 1], false),
        _ => (value, true),
    };
    if !escapes || !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

pub(crate) fn wanted(path: &[u8]) -> Option<Wanted> {
    PATHS.contains(&path).then_some(Wanted::Content { max_bytes: MAX_OS_RELEASE_BYTES })
}

/// Reads the first os-release file that the tree has.
pub(crate) fn read(tree: &dyn FileTree, warnings: &mut Warnings) -> Option<OsRelease> {
    for candidate in PATHS {
        match tree.read(candidate, MAX_OS_RELEASE_BYTES) {
            Ok(contents) => {
                if contents.truncated {
                    warnings.truncated(&path::display(candidate), MAX_OS_RELEASE_BYTES);
                }
                return Some(OsRelease::parse(&contents.bytes));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => warnings.unreadable(&error),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: [&str; 5]) {
        let found = OsRelease::parse(text.as_bytes());
        let like = found.id_like.join(",");
        let distro = found.distro();
        assert_eq!([&found.id, &found.version_id, &found.codename, &like, &distro], expect, "{text}");
    }

    #[test]
    fn releases() {
        check(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
            ["debian", "12", "bookworm", "", "debian-12"],
        );
        check(
            "ID=ubuntu\nID_LIKE='debian other'\nVERSION_ID=\"22.04\"",
            ["ubuntu", "22.04", "", "debian,other", "ubuntu-22.04"],
        );
        check("# sid\nID=debian\nVERSION_CODENAME=trixie\n", ["debian", "", "trixie", "", "debian-trixie"]);
        check("garbage\n=\nID", ["", "", "", "", ""]);
        check("ID=\"a\\\"b\\\\\"", ["a\"b\\", "", "", "", "a\"b\\"]);
        check("ID=\"", ["\"", "", "", "", "\""]);
    }
}
