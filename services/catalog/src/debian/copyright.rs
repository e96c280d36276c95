//! Licences of a Debian package from its copyright file (machine-readable copyright format 1.0, DEP-5).
//! Never interprets a licence text: names are taken as written, of older files only those in common-licenses.

use crate::bounds::LeftOut;
use crate::stanza::Stanzas;
use crate::survey::Survey;
use crate::tree::path;
use std::collections::{BTreeSet, HashMap};

/// Most of one copyright file that is read, in bytes.
pub(crate) const MAX_COPYRIGHT_BYTES: usize = 512 * 1024;
/// Most licences kept of one package.
const MAX_LICENSES: usize = 100;
/// Longest name of a licence kept, in bytes.
const MAX_LICENSE_BYTES: usize = 200;
/// Most stanzas read of one file.
const MAX_STANZAS: usize = 5_000;

const DOCUMENTATION: &[u8] = b"usr/share/doc/";

/// `usr/share/doc/<package>/copyright`.
pub(crate) fn is_copyright_path(path: &[u8]) -> bool {
    path.strip_prefix(DOCUMENTATION)
        .and_then(|below| below.strip_suffix(b"/copyright"))
        .is_some_and(|package| !package.is_empty() && !package.contains(&b'/'))
}

/// Packages of one source mostly share one file by a link: each file is parsed once.
#[derive(Default)]
pub(crate) struct LicenseCache {
    by_inode: HashMap<crate::tree::HardLinkIdentity, Vec<String>>,
}

impl LicenseCache {
    pub fn read(&mut self, survey: &mut Survey<'_>, package: &str) -> Vec<String> {
        let path = [DOCUMENTATION, package.as_bytes(), b"/copyright"].concat();
        let Ok(found) = survey.tree.resolve(&path) else { return Vec::new() };
        if let Some(licenses) = self.by_inode.get(&found.metadata.identity) {
            return licenses.clone();
        }
        // A copyright file that cannot be read hides no package: not worth a warning each.
        let mut left_out = LeftOut::default();
        let licenses = match survey.tree.read(&found.path, MAX_COPYRIGHT_BYTES) {
            Ok(contents) => {
                if contents.truncated {
                    left_out.beyond(MAX_COPYRIGHT_BYTES, "bytes, so licences may be missing");
                }
                parse(&contents.bytes, &mut left_out)
            }
            Err(_) => Vec::new(),
        };
        survey.left_out(&found.path, &left_out);
        self.by_inode.insert(found.metadata.identity, licenses.clone());
        licenses
    }
}

fn parse(bytes: &[u8], left_out: &mut LeftOut) -> Vec<String> {
    let mut licenses = BTreeSet::new();
    let first_line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_machine_readable = ["Format:", "Format-Specification:"].iter().any(|field| {
        first_line.get(..field.len()).is_some_and(|start| start.eq_ignore_ascii_case(field.as_bytes()))
    });
    if is_machine_readable {
        for (number, stanza) in Stanzas::new(bytes, None).enumerate() {
            if number >= MAX_STANZAS {
                left_out.beyond(MAX_STANZAS, "stanzas");
                break;
            }
            // The short name stands on the field's own line; what follows is the text.
            for field in stanza.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"License")) {
                let name = field.value.split(|byte| *byte == b'\n').next().unwrap_or_default();
                insert(&mut licenses, name, left_out);
            }
        }
    } else {
        let marker = b"/usr/share/common-licenses/";
        for at in memchr::memmem::find_iter(bytes, marker) {
            let rest = &bytes[at + marker.len()..];
            let end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b".+-".contains(byte)));
            let name = &rest[..end.unwrap_or(rest.len())];
            insert(&mut licenses, name.strip_suffix(b".").unwrap_or(name), left_out);
        }
    }
    licenses.into_iter().collect()
}

fn insert(licenses: &mut BTreeSet<String>, name: &[u8], left_out: &mut LeftOut) {
    let name = name.trim_ascii();
    if name.len() > MAX_LICENSE_BYTES {
        left_out.beyond(MAX_LICENSE_BYTES, "bytes in the name of a licence");
    } else if !name.is_empty() && licenses.insert(path::display(name)) && licenses.len() > MAX_LICENSES {
        licenses.pop_last();
        left_out.beyond(MAX_LICENSES, "licences");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        assert_eq!(parse(text.as_bytes(), &mut LeftOut::default()), expect);
    }

    #[test]
    fn licences() {
        check(
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n\
             Files: *\nLicense: GPL-2+ or MIT\n text\n\nFiles: debian/*\nLicense: Zlib\n\nLicense: Zlib\n more\n",
            &["GPL-2+ or MIT", "Zlib"],
        );
        check(
            "On Debian systems see /usr/share/common-licenses/GPL-3.\nand `/usr/share/common-licenses/LGPL-2.1'",
            &["GPL-3", "LGPL-2.1"],
        );
        check("Format: x\n\nLicense:\n text", &[]);
        check("License: MIT", &[]);
        check("", &[]);
    }

    #[test]
    fn paths() {
        assert!(is_copyright_path(b"usr/share/doc/libc6/copyright"));
        assert!(!is_copyright_path(b"usr/share/doc/libc6/examples/copyright"));
        assert!(!is_copyright_path(b"usr/share/doc/copyright"));
    }
}
