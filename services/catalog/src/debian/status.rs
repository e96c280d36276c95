//! Reads dpkg's status database (deb-control(5), dpkg(1) on package states) into the packages that are installed.
//! Never drops a stanza silently: what is damaged gives a warning with file, line, byte offset and package.

use crate::bounds::{LeftOut, bound};
use crate::stanza::{Stanza, Stanzas};
use crate::survey::Survey;
use crate::tree::path;

/// Most stanzas read of one file.
pub(crate) const MAX_STANZAS: usize = bound(200_000, 3_000);
/// Most dependencies kept of one package.
pub(crate) const MAX_DEPENDENCIES: usize = 2_000;
/// Longest package name or version accepted, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1_000;

/// States in which the package's files are on the disk.
const PRESENT_STATES: [&[u8]; 5] =
    [b"installed", b"unpacked", b"half-configured", b"triggers-awaited", b"triggers-pending"];

/// One file with status stanzas.
pub(crate) struct StatusSource {
    pub path: Vec<u8>,
    /// A file of `status.d`: its package counts as installed without saying so.
    pub is_part: bool,
    pub max_bytes: usize,
}

/// What the database says of one installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub source_name: String,
    pub source_version: String,
    pub is_essential: bool,
    /// Several architectures may be installed side by side, so its files are listed under `name:architecture`.
    pub is_multi_arch_same: bool,
    pub dependencies: Vec<String>,
    pub provides: Vec<String>,
}

/// Reads one source; of a package that it names twice the last stanza counts, as for dpkg.
pub(crate) fn read(survey: &mut Survey<'_>, source: &StatusSource) -> Vec<StatusPackage> {
    let Some(bytes) = survey.read_optional(&source.path, source.max_bytes) else { return Vec::new() };
    let mut packages: Vec<StatusPackage> = Vec::new();
    for (count, stanza) in Stanzas::new(&bytes, Some("Package")).enumerate() {
        if count >= MAX_STANZAS {
            let message = format!("more than {MAX_STANZAS} packages; the rest is left out");
            survey.warnings.push(
                "file-too-long",
                &path::display(&source.path),
                message,
                "check whether it is damaged",
            );
            break;
        }
        packages.extend(read_stanza(survey, source, &stanza));
    }
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    packages.reverse();
    // Stable sort, reversed: the first of equals is the last of the file.
    packages.dedup_by(|later, kept| (&later.name, &later.architecture) == (&kept.name, &kept.architecture));
    packages.reverse();
    packages
}

fn read_stanza(survey: &mut Survey<'_>, source: &StatusSource, stanza: &Stanza<'_>) -> Option<StatusPackage> {
    let name = stanza.get("Package").unwrap_or_default();
    for damage in &stanza.damages {
        warn(survey, source, name, damage.line, damage.offset, damage.what);
    }
    if stanza.more_damages > 0 {
        let what = format!("{} more lines of it are damaged and left out", stanza.more_damages);
        warn(survey, source, name, stanza.line, stanza.offset, &what);
    }
    match stanza.get("Status") {
        Some(status) => {
            let state = status.split(u8::is_ascii_whitespace).rfind(|word| !word.is_empty());
            if !PRESENT_STATES.contains(&state.unwrap_or_default()) {
                return None;
            }
        }
        None if source.is_part => {}
        None => {
            warn(
                survey,
                source,
                name,
                stanza.line,
                stanza.offset,
                "no Status field, so it may not be installed",
            );
            return None;
        }
    }
    let version = stanza.get("Version").unwrap_or_default();
    let problem = if name.is_empty() {
        "no Package field"
    } else if name.len() > MAX_NAME_BYTES || !name.iter().all(|byte| is_name_byte(*byte)) {
        "the name is none that a package can have"
    } else if version.is_empty() || version.len() > MAX_NAME_BYTES || version.iter().any(u8::is_ascii_control)
    {
        "no version that a package can have"
    } else {
        ""
    };
    if !problem.is_empty() {
        warn(survey, source, name, stanza.line, stanza.offset, problem);
        return None;
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let mut text = |field: &str| -> String {
        stanza
            .get(field)
            .map(|value| survey.text(value, &source.path, &name).into_owned())
            .unwrap_or_default()
    };
    let version = text("Version");
    let architecture = text("Architecture");
    let (source_name, source_version) = split_source(&text("Source"), &name, &version);
    let is_yes = |field: &str| stanza.get(field).is_some_and(|value| value.eq_ignore_ascii_case(b"yes"));
    let mut left_out = LeftOut::default();
    let mut names = |field: &str| {
        let what = format!("entries in {field} of package {name}");
        relation_names(&text(field), &what, &mut left_out)
    };
    let dependencies = ["Pre-Depends", "Depends"].into_iter().flat_map(&mut names).collect();
    let provides = names("Provides");
    survey.left_out(&source.path, &left_out);
    Some(StatusPackage {
        is_essential: is_yes("Essential")
            || is_yes("Protected")
            || stanza.get("Priority") == Some(b"required"),
        is_multi_arch_same: stanza.get("Multi-Arch") == Some(b"same"),
        name,
        version,
        architecture,
        source_name,
        source_version,
        dependencies,
        provides,
    })
}

fn warn(survey: &mut Survey<'_>, source: &StatusSource, name: &[u8], line: usize, offset: usize, what: &str) {
    let package = if name.is_empty() {
        "an unknown package".into()
    } else {
        format!("package {}", path::display(name))
    };
    survey.warnings.push(
        "damaged-stanza",
        &path::display(&source.path),
        format!("line {line} (byte {offset}), {package}: {what}"),
        "repair the entry (dpkg --audit) or rebuild the image; all other packages were read",
    );
}

/// Policy 5.6.1 allows lower-case letters, digits and `+-.`; some third-party packages use more of ASCII.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._".contains(&byte)
}

/// `Source: name (version)`, either part defaulting to the binary package's.
fn split_source(source: &str, name: &str, version: &str) -> (String, String) {
    let (source_name, rest) = source.split_once('(').unwrap_or((source, ""));
    let source_version = rest.trim_end().trim_end_matches(')').trim();
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    (or(source_name.trim(), name), or(source_version, version))
}

/// The names of a relation field (deb-control(5)): versions, architectures and qualifiers dropped, alternatives kept.
fn relation_names(value: &str, what: &str, left_out: &mut LeftOut) -> Vec<String> {
    let clauses = left_out.first(value.split(','), MAX_DEPENDENCIES, what);
    clauses
        .into_iter()
        .filter_map(|clause| {
            let names: Vec<&str> = clause
                .split('|')
                .map(|one| {
                    let one = one.trim();
                    let end =
                        one.find(|c: char| c.is_whitespace() || "(<[:".contains(c)).unwrap_or(one.len());
                    &one[..end]
                })
                .filter(|name| !name.is_empty())
                .collect();
            (!names.is_empty()).then(|| names.join(" | "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations() {
        let names = |value| relation_names(value, "", &mut LeftOut::default()).join(", ");
        assert_eq!(names("libc6 (>= 2.34), libgcc-s1"), "libc6, libgcc-s1");
        assert_eq!(
            names("python3:any | python3.11,\n default-mta|mail-transport-agent [amd64]"),
            "python3 | python3.11, default-mta | mail-transport-agent"
        );
        assert_eq!(names(" , | "), "");
    }

    #[test]
    fn sources() {
        let split = |source| split_source(source, "libc6", "2.36-9");
        assert_eq!(split(""), ("libc6".into(), "2.36-9".into()));
        assert_eq!(split("glibc"), ("glibc".into(), "2.36-9".into()));
        assert_eq!(split("glibc (1:2.0-1)"), ("glibc".into(), "1:2.0-1".into()));
        assert_eq!(split("glibc ("), ("glibc".into(), "2.36-9".into()));
    }
}
