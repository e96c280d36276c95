//! Reads package.json (npm's "package.json" documentation): name, version, licence, dependencies, programs.
//! Never believes more than it needs: what stands behind a damage is left out, what stands before it is kept.

use crate::bounds::LeftOut;
use crate::digest::{ReadAt, read_range};
use crate::json::{self, Shallow};
use serde::{Deserialize, Serialize};

/// Most of one package.json that is read, in bytes.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Most dependencies kept of one package.
const MAX_DEPENDENCIES: usize = 2_000;
/// Most programs kept of one package.
const MAX_PROGRAMS: usize = 200;
/// Longest name or version accepted, in bytes (npm allows 214 for a name, 256 for a version).
const MAX_NAME_BYTES: usize = 500;

/// What a package.json says; texts that are absent or unusable are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// With its scope: `@scope/name`.
    pub name: String,
    pub version: String,
    pub licenses: Vec<String>,
    pub dependencies: Vec<String>,
    /// Names of the programs that are linked into `.bin`.
    pub programs: Vec<String>,
    /// The files of these programs, and the main module, as written.
    pub entry_files: Vec<String>,
    /// Not meant for any registry: an application or a part of one.
    pub is_private: bool,
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
}

/// What is kept of a package.json: a tenth of the file, which in large applications is what counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ManifestDigest {
    pub manifest: Manifest,
    pub problem: Option<String>,
}

/// Reads a file of any length, within the bound.
pub(super) fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let mut digest = ManifestDigest::default();
    match read_range(file, 0, MAX_MANIFEST_BYTES) {
        Ok(bytes) => (digest.manifest, digest.problem) = parse(&bytes),
        Err(error) => digest.problem = Some(format!("cannot be read: {error}")),
    }
    if file.size() > MAX_MANIFEST_BYTES as u64 {
        digest.problem = Some(format!("is longer than the {MAX_MANIFEST_BYTES} bytes that are read of it"));
    }
    serde_json::to_vec(&digest).unwrap_or_default()
}

/// [`digest`] of a file that may be any JSON file: nothing unless it names a package and version.
pub(super) fn digest_stored(file: &dyn ReadAt) -> Vec<u8> {
    let is_manifest = read_range(file, 0, MAX_MANIFEST_BYTES).is_ok_and(|bytes| {
        let (manifest, _) = parse(&bytes);
        !manifest.name.is_empty() && !manifest.version.is_empty()
    });
    if is_manifest { digest(file) } else { Vec::new() }
}

/// Reads what there is, and says what was wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> (Manifest, Option<String>) {
    let mut manifest = Manifest::default();
    let result = json::read_fields(bytes, &mut |key, value| manifest.take(key, value));
    manifest.left_out.keep(&mut manifest.dependencies, MAX_DEPENDENCIES, "dependencies");
    manifest.left_out.keep(&mut manifest.programs, MAX_PROGRAMS, "programs");
    manifest.entry_files.truncate(MAX_PROGRAMS + 1);
    // A program given as a bare path is called like its package, without the scope.
    for program in &mut manifest.programs {
        if program.is_empty() {
            *program = manifest.name.rsplit('/').next().unwrap_or_default().to_owned();
        }
    }
    (manifest, result.err().map(|error| format!("is no JSON object: {error}")))
}

impl Manifest {
    fn take(&mut self, key: &str, value: Shallow) {
        match key {
            "name" => self.name = value.text().filter(|name| is_name(name)).unwrap_or_default(),
            "version" => self.version = value.text().and_then(|text| version(&text)).unwrap_or_default(),
            "license" | "licenses" => {
                let value = value.bounded("licences", &mut self.left_out);
                self.licenses.extend(value.texts().into_iter().filter(|l| !l.is_empty()))
            }
            "dependencies" | "optionalDependencies" | "peerDependencies" => {
                let value = value.bounded("dependencies", &mut self.left_out);
                self.dependencies.extend(value.keys().into_iter().filter(|name| is_name(name)));
            }
            "private" => self.is_private = value == Shallow::Bool(true),
            "main" => self.entry_files.extend(value.text()),
            "bin" => match value.bounded("programs", &mut self.left_out) {
                Shallow::Text(file) => {
                    self.programs.push(String::new());
                    self.entry_files.push(file);
                }
                Shallow::Map(entries) => {
                    for (name, file) in entries {
                        // npm strips a scope here too.
                        self.programs.push(name.rsplit('/').next().unwrap_or_default().to_owned());
                        self.entry_files.push(file);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// `name` or `@scope/name`, without what no registry ever took.
pub(crate) fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part != ".."
            && part != "."
            && !part.chars().any(|c| c.is_control() || c.is_whitespace() || "/\\%:@?#".contains(c))
    };
    name.len() <= MAX_NAME_BYTES
        && match name.strip_prefix('@') {
            Some(scoped) => {
                scoped.split_once('/').is_some_and(|(scope, name)| is_part(scope) && is_part(name))
            }
            None => is_part(name),
        }
}

/// As npm reads it: without blanks, `v` and `=` before it.
fn version(text: &str) -> Option<String> {
    let bare = text.trim().trim_start_matches(['v', '=', ' ']);
    let is_version = !bare.is_empty()
        && bare.len() <= MAX_NAME_BYTES
        && !bare.chars().any(|c| c.is_control() || c.is_whitespace());
    is_version.then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: &str) {
        let (m, problem) = parse(json.as_bytes());
        let out = format!(
            "{}@{} [{}] [{}] [{}] [{}]{}{}",
            m.name,
            m.version,
            m.licenses.join(","),
            m.dependencies.join(","),
            m.programs.join(","),
            m.entry_files.join(","),
            if m.is_private { " private" } else { "" },
            if problem.is_some() { " !" } else { "" }
        );
        assert_eq!(out, expect, "{json}");
    }

    #[test]
    fn manifests() {
        check(
            r#"{"name":"@s/x","version":" v1.2.3","license":"MIT","main":"./i","bin":"cli.js",
                "dependencies":{"a":"^1","../x":"*"},"peerDependencies":{"@b/c":"1"}}"#,
            "@s/x@1.2.3 [MIT] [a,@b/c] [x] [./i,cli.js]",
        );
        check(
            r#"{"name":"x","version":"1.0.0-rc.1","licenses":[{"type":"MIT"},{"type":"X"}],"bin":{"y":"b/y"},"private":true}"#,
            "x@1.0.0-rc.1 [MIT,X] [] [y] [b/y] private",
        );
        check(r#"{"name":"x","version":"1","license":{"type":"ISC"}}"#, "x@1 [ISC] [] [] []");
        check(r#"{"name":["x"],"version":{"a":1},"bin":[1],"license":5}"#, "@ [] [] [] []");
        check(r#"{"name":"a b","version":"1 2"}"#, "@ [] [] [] []");
        check(r#"{"name":"x","version":"1","readme":"cut he"#, "x@1 [] [] [] [] !");
        check("[]", "@ [] [] [] [] !");
        check("\u{0}", "@ [] [] [] [] !");
    }
}
