//! Reads METADATA and PKG-INFO (core metadata specification): name, version, licence, dependencies.
//! Never guesses what a marker says: a dependency counts unless it is only for an extra, or for another Python.

use super::{Distribution, Format, MAX_METADATA_BYTES, MAX_SMALL_FILE_BYTES};
use crate::bounds::LeftOut;
use crate::stanza::{Stanza, Stanzas};
use crate::survey::Survey;
use crate::tree::path;

/// Most dependencies kept of one distribution.
const MAX_DEPENDENCIES: usize = 2_000;
/// Longest name or version accepted, in bytes.
const MAX_NAME_BYTES: usize = 500;
/// Longest licence text taken for the name of a licence, in bytes.
const MAX_LICENSE_BYTES: usize = 200;

/// What the metadata file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Metadata {
    /// As declared.
    pub name: String,
    pub version: String,
    pub licenses: Vec<String>,
    /// Normalised names.
    pub dependencies: Vec<String>,
}

/// Reads the metadata of one distribution; name and version fall back to those of its directory.
pub(crate) fn read(survey: &mut Survey<'_>, distribution: &Distribution<'_>) -> Option<Metadata> {
    // Only the description behind the fields may be missing without a warning: nothing of it is used.
    let bytes = match survey.tree.read(distribution.marker, MAX_METADATA_BYTES) {
        Ok(contents) => {
            if contents.truncated && !has_description(&contents.bytes) {
                survey.warnings.truncated(&path::display(distribution.marker), MAX_METADATA_BYTES);
            }
            contents.bytes
        }
        Err(error) => {
            survey.warnings.unreadable(&error);
            Default::default()
        }
    };
    let stanza = Stanzas::new(&bytes, None).next().unwrap_or_default();
    let (named, versioned) = distribution.name_and_version();
    let mut left_out = LeftOut::default();
    let mut metadata = Metadata {
        name: field(survey, distribution, &stanza, "Name"),
        version: field(survey, distribution, &stanza, "Version"),
        licenses: licenses(&stanza),
        dependencies: requires_dist(&stanza, python_of(distribution.marker), &mut left_out),
    };
    let mut problem = damage_of(&stanza, &path::display(named));
    if !is_name(&metadata.name) {
        problem = Some("no usable Name field; taken from the directory's name".to_owned());
        metadata.name = path::display(named);
    }
    if !is_version(&metadata.version) {
        problem = Some(format!(
            "package {:?}: no usable Version field; taken from the directory's name",
            metadata.name
        ));
        metadata.version = path::display(versioned);
    }
    let is_usable = is_name(&metadata.name) && is_version(&metadata.version);
    if !is_usable {
        problem =
            Some("neither it nor its directory names a package and version, so it is left out".to_owned());
    }
    if let Some(problem) = problem {
        let remedy = "reinstall the package (pip install --force-reinstall)";
        survey.warnings.push("damaged-metadata", &path::display(distribution.marker), problem, remedy);
    }
    if distribution.format != Format::DistInfo
        && let Some(path) = distribution.file("requires.txt")
        && let Some(bytes) = survey.read_optional(&path, MAX_SMALL_FILE_BYTES)
    {
        metadata.dependencies.extend(requires_txt(&String::from_utf8_lossy(&bytes), &mut left_out));
    }
    survey.left_out(distribution.marker, &left_out);
    is_usable.then_some(metadata)
}

/// Whether the empty line behind the fields is there.
pub(super) fn has_description(bytes: &[u8]) -> bool {
    [b"\n\n".as_slice(), b"\n\r\n"].iter().any(|end| memchr::memmem::find(bytes, end).is_some())
}

/// The metadata in `bytes` alone, of whatever Python, and what is damaged in it; `None` unless it names a distribution and version.
pub(super) fn of(bytes: &[u8], left_out: &mut LeftOut) -> Option<(Metadata, Option<String>)> {
    let stanza = Stanzas::new(bytes, None).next()?;
    let text = |name: &str| String::from_utf8_lossy(stanza.get(name).unwrap_or_default()).into_owned();
    let metadata = Metadata {
        name: text("Name"),
        version: text("Version"),
        licenses: licenses(&stanza),
        dependencies: requires_dist(&stanza, None, left_out),
    };
    let problem = damage_of(&stanza, &metadata.name);
    (is_name(&metadata.name) && is_version(&metadata.version)).then_some((metadata, problem))
}

/// What is wrong with the lines, if anything.
fn damage_of(stanza: &Stanza<'_>, package: &str) -> Option<String> {
    let damage = stanza.damages.first()?;
    let more = match stanza.damages.len() - 1 + stanza.more_damages {
        0 => String::new(),
        more => format!(", and {more} more lines"),
    };
    Some(format!("line {} (byte {}), package {package}: {}{more}", damage.line, damage.offset, damage.what))
}

fn field(
    survey: &mut Survey<'_>,
    distribution: &Distribution<'_>,
    stanza: &Stanza<'_>,
    name: &str,
) -> String {
    let value = stanza.get(name).unwrap_or_default();
    let package = path::display(distribution.name_and_version().0);
    survey.text(value, distribution.marker, &package).into_owned()
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c) || c == char::REPLACEMENT_CHARACTER)
}

pub(super) fn is_version(version: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&version.len())
        && !version.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// PEP 503: lower case, runs of `-`, `_` and `.` become one `-`.
pub(crate) fn normalize_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if !"-_.".contains(character) {
            out.extend(character.to_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out
}

/// The licence expression; else the License field if it is a name; else the classifiers.
fn licenses(stanza: &Stanza<'_>) -> Vec<String> {
    let usable = |value: &[u8]| {
        let text = path::display(value);
        let is_name = !text.is_empty() && text.len() <= MAX_LICENSE_BYTES && !value.contains(&b'\n');
        (is_name && text != "UNKNOWN").then_some(text)
    };
    let declared =
        ["License-Expression", "License"].iter().find_map(|name| stanza.get(name).and_then(usable));
    match declared {
        Some(license) => vec![license],
        None => stanza
            .all("Classifier")
            .filter_map(|value| value.strip_prefix(b"License :: "))
            .map(|value| path::display(value.rsplit(|byte| *byte == b':').next().unwrap_or_default()))
            .map(|value| value.trim().to_owned())
            .filter(|value| value != "OSI Approved")
            .collect(),
    }
}

/// Major and minor number of a Python.
type Python = (u32, u32);

/// The Python that a distribution is for, by its path: `lib/python3.11/site-packages/…`. Debian's own names none.
fn python_of(marker: &[u8]) -> Option<Python> {
    let mut directories = marker.split(|byte| *byte == b'/').rev();
    directories.find_map(|name| version_of(std::str::from_utf8(name.strip_prefix(b"python")?).ok()?))
}

fn version_of(text: &str) -> Option<Python> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether a marker (PEP 508) asks for another Python than this one: one of the comparisons that must all hold does not.
fn is_for_another(marker: &str, python: Python) -> bool {
    let may_be_either = marker.contains('(') || marker.split_whitespace().any(|word| word == "or");
    !may_be_either && marker.split(" and ").any(|comparison| fails(comparison, python) == Some(true))
}

/// Of `python_version < "3.10"`; `None` for whatever else.
fn fails(comparison: &str, python: Python) -> Option<bool> {
    let rest = comparison.trim().strip_prefix("python_version")?.trim_start();
    let operator = rest.split(['"', '\'']).next()?;
    let wanted = version_of(rest[operator.len()..].trim().trim_matches(['"', '\'']))?;
    let holds = match operator.trim() {
        "<" => python < wanted,
        "<=" => python <= wanted,
        ">" => python > wanted,
        ">=" => python >= wanted,
        "==" => python == wanted,
        "!=" => python != wanted,
        _ => return None,
    };
    Some(!holds)
}

fn requires_dist(stanza: &Stanza<'_>, python: Option<Python>, left_out: &mut LeftOut) -> Vec<String> {
    let required = left_out.first(stanza.all("Requires-Dist"), MAX_DEPENDENCIES, "dependencies");
    required
        .into_iter()
        .filter_map(|value| {
            let text = String::from_utf8_lossy(value);
            let (requirement, marker) = text.split_once(';').unwrap_or((&text, ""));
            let is_left_out =
                names_extra(marker) || python.is_some_and(|python| is_for_another(marker, python));
            if is_left_out { None } else { requirement_name(requirement) }
        })
        .collect()
}

/// setuptools: lines before the first section, and of sections `[:marker]`; a section `[extra]` is optional.
fn requires_txt(text: &str, left_out: &mut LeftOut) -> Vec<String> {
    let mut is_for_extra = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_for_extra = !section.starts_with(':');
        } else if !is_for_extra && names.len() <= MAX_DEPENDENCIES {
            names.extend(requirement_name(line));
        }
    }
    left_out.keep(&mut names, MAX_DEPENDENCIES, "dependencies");
    names
}

/// Name at the beginning of a dependency specifier (PEP 508), normalised.
fn requirement_name(requirement: &str) -> Option<String> {
    let requirement = requirement.trim_start();
    let end =
        requirement.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(requirement.len());
    let name = &requirement[..end];
    is_name(name).then(|| normalize_name(name))
}

/// Whether a marker compares the variable `extra`.
fn names_extra(marker: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || "_.'\"".contains(c);
    marker.match_indices("extra").any(|(at, word)| {
        let before = marker[..at].chars().next_back();
        let after = marker[at + word.len()..].trim_start();
        !before.is_some_and(is_word) && after.starts_with("==")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (declared, normal) in
            [("PyYAML", "pyyaml"), ("zope.interface", "zope-interface"), ("a-_.b", "a-b")]
        {
            assert_eq!(normalize_name(declared), normal);
        }
    }

    #[track_caller]
    fn check(metadata: &str, licenses_expect: &[&str], dependencies: &[&str]) {
        check_of(None, metadata, licenses_expect, dependencies);
    }

    #[track_caller]
    fn check_of(python: Option<Python>, metadata: &str, licenses_expect: &[&str], dependencies: &[&str]) {
        let stanza = Stanzas::new(metadata.as_bytes(), None).next().unwrap_or_default();
        assert_eq!(licenses(&stanza), licenses_expect, "{metadata}");
        assert_eq!(requires_dist(&stanza, python, &mut LeftOut::default()), dependencies, "{metadata}");
    }

    #[test]
    fn fields() {
        check(
            "Name: Flask\nLicense-Expression: BSD-3-Clause\nLicense: ignored\nRequires-Dist: Werkzeug>=3.0.0\n\
             Requires-Dist: importlib-metadata>=3.6 ; python_version < '3.10'\nRequires-Dist: asgiref>=3.2 ; extra == 'async'\n",
            &["BSD-3-Clause"],
            &["werkzeug", "importlib-metadata"],
        );
        check(
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved\n",
            &["MIT License"],
            &[],
        );
        check("License: MIT License\n        long text\n", &[], &[]);
        check(
            "Requires-Dist: a[x] (>=1); (python_version<'3') and extra=='t'\nRequires-Dist: b @ https://e.org/b.zip\nRequires-Dist: c; sys_platform == 'extra == x'\nRequires-Dist: ;",
            &[],
            &["b", "c"],
        );
    }

    #[test]
    fn dependencies_of_another_python() {
        for (marker, counts) in [
            ("python_version < '3.10'", false),
            ("python_version<\"3.11\"", false),
            ("python_version <= '3.11'", true),
            ("python_version >= '3.8' and python_version < '3.11'", false),
            ("python_version >= '3.8' and sys_platform == 'win32'", true),
            ("python_version > '3.9'", true),
            ("python_version == '3.11'", true),
            ("python_version != '3.11'", false),
            // Not told for certain.
            ("python_version < '3.10' or sys_platform == 'linux'", true),
            ("(python_version < '3.10') and os_name == 'posix'", true),
            ("python_full_version < '3.10'", true),
            ("'3.10' > python_version", true),
            ("python_version in '3.8 3.9'", true),
            ("python_version < 'x'", true),
        ] {
            let metadata = format!("Requires-Dist: a ; {marker}\n");
            check_of(Some((3, 11)), &metadata, &[], if counts { &["a"] } else { &[] });
            check(&metadata, &[], &["a"]);
        }
        for (path, python) in [
            ("app/lib/python3.11/site-packages/a-1.dist-info/METADATA", Some((3, 11))),
            ("usr/lib/python3/dist-packages/a-1.dist-info/METADATA", None),
            ("opt/python3.9/lib/python3.12/site-packages/a-1.dist-info/METADATA", Some((3, 12))),
            ("app/pythonx.y/a-1.dist-info/METADATA", None),
        ] {
            assert_eq!(python_of(path.as_bytes()), python, "{path}");
        }
    }

    #[test]
    fn egg_requirements() {
        let text = "cffi>=1.12\n\n[:python_version < \"3\"]\nenum34\n\n[docs]\nsphinx\n";
        assert_eq!(requires_txt(text, &mut LeftOut::default()), ["cffi", "enum34"]);
    }
}
