//! Cargo.lock as Cargo writes it (versions 1 to 4): one `[[package]]` table per crate, one key per line.
//! Never parses TOML at large: other tables and keys are passed over.

use crate::bounds::{LeftOut, bound};

/// Most crates of one file.
const MAX_CRATES: usize = bound(50_000, 2_000);
/// Most dependencies of one crate.
const MAX_DEPENDENCIES: usize = bound(5_000, 500);

/// One crate that a lock file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Declared {
    pub name: String,
    pub version: String,
    /// `registry+…` or `git+…`; empty for the crates of the workspace itself.
    pub source: String,
    /// Names only.
    pub dependencies: Vec<String>,
}

/// The crates; `None` when there is none, or a crate without name or version.
pub(crate) fn parse(text: &[u8], left_out: &mut LeftOut) -> Option<Vec<Declared>> {
    let text = String::from_utf8_lossy(text);
    let mut crates: Vec<Declared> = Vec::new();
    let mut is_package = false;
    let mut is_dependencies = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_package = line == "[[package]]";
            is_dependencies = false;
            if is_package && crates.len() >= MAX_CRATES {
                left_out.beyond(MAX_CRATES, "crates");
                is_package = false;
            }
            if is_package {
                crates.push(Declared::default());
            }
            continue;
        }
        let Some(last) = crates.last_mut().filter(|_| is_package) else { continue };
        if is_dependencies {
            is_dependencies = line != "]";
            // `name`, `name version` or `name version (source)`.
            if let Some(name) = quoted(line.trim_end_matches(',')).and_then(|text| text.split(' ').next()) {
                if last.dependencies.len() < MAX_DEPENDENCIES {
                    last.dependencies.push(name.to_owned());
                } else {
                    left_out.beyond(MAX_DEPENDENCIES, "dependencies of one crate");
                }
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let field = match key {
            "name" => &mut last.name,
            "version" => &mut last.version,
            "source" => &mut last.source,
            _ => {
                is_dependencies = key == "dependencies" && value == "[";
                continue;
            }
        };
        *field = quoted(value).unwrap_or_default().to_owned();
    }
    let is_sound = |one: &Declared| !one.name.is_empty() && !one.version.is_empty();
    (!crates.is_empty() && crates.iter().all(is_sound)).then_some(crates)
}

/// Names and versions hold no escapes.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}
