//! One OSV record (OSV schema 1.7, <https://ossf.github.io/osv-schema/>): the fields that matching and
//! display need. Never rejects a record for a field it does not use, nor for a `null` in place of a list.

use crate::platform::Import;
use serde::{Deserialize, Deserializer};

/// Longest summary that is kept, in bytes.
const MAX_SUMMARY_BYTES: usize = 240;
/// Most import paths that are kept of one package entry; a list beyond that stands for the whole module. Real ones
/// stay below 100.
const MAX_IMPORTS: usize = 1000;

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    input: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvRecord {
    #[serde(deserialize_with = "null_is_default")]
    pub id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub modified: String,
    #[serde(deserialize_with = "null_is_default")]
    pub published: String,
    pub withdrawn: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub aliases: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub upstream: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub related: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    summary: String,
    #[serde(deserialize_with = "null_is_default")]
    details: String,
    #[serde(deserialize_with = "null_is_default")]
    pub severity: Vec<OsvSeverity>,
    #[serde(deserialize_with = "null_is_default")]
    pub affected: Vec<OsvAffected>,
    pub database_specific: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvSeverity {
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub score: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvAffected {
    pub package: Option<OsvPackage>,
    #[serde(deserialize_with = "null_is_default")]
    pub severity: Vec<OsvSeverity>,
    #[serde(deserialize_with = "null_is_default")]
    pub ranges: Vec<OsvRange>,
    #[serde(deserialize_with = "null_is_default")]
    pub versions: Vec<String>,
    pub ecosystem_specific: Option<serde_json::Value>,
    pub database_specific: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvPackage {
    #[serde(deserialize_with = "null_is_default")]
    pub ecosystem: String,
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvRange {
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub events: Vec<OsvEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OsvEvent {
    pub introduced: Option<String>,
    pub fixed: Option<String>,
    pub last_affected: Option<String>,
    pub limit: Option<String>,
}

impl OsvRecord {
    /// The summary, or the first sentence of the details, on one line and cut at a named bound.
    pub fn summary_line(&self) -> String {
        let text = if self.summary.trim().is_empty() { &self.details } else { &self.summary };
        let text = text.trim_start_matches(['#', ' ', '\n', '\r', '\t']);
        let line = text.lines().next().unwrap_or("").trim();
        let sentence_end =
            if self.summary.trim().is_empty() { line.find(". ").map(|at| at + 1) } else { None };
        let line = &line[..sentence_end.unwrap_or(line.len())];
        if line.len() <= MAX_SUMMARY_BYTES {
            return line.to_owned();
        }
        let end = (0..=MAX_SUMMARY_BYTES).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        format!("{}…", line[..end].trim_end())
    }

    /// `database_specific.severity`, where it is a word.
    pub fn severity_word(&self) -> Option<&str> {
        self.database_specific.as_ref()?.get("severity")?.as_str()
    }

    /// `database_specific.source`, where it is a word.
    pub fn source(&self) -> Option<&str> {
        self.database_specific.as_ref()?.get("source")?.as_str()
    }
}

impl OsvAffected {
    /// Debian's urgency (`unimportant`, `low`, `end-of-life`, …).
    pub fn urgency(&self) -> Option<&str> {
        self.ecosystem_specific.as_ref()?.get("urgency")?.as_str()
    }

    /// RustSec's word for a record that is no vulnerability (`unmaintained`, `unsound`, `notice`).
    pub fn informational(&self) -> Option<&str> {
        self.database_specific.as_ref()?.get("informational")?.as_str()
    }

    /// Go: import paths of the packages that hold the vulnerability (go.dev/doc/security/vuln/database), each with the
    /// platforms that it is limited to, as [`crate::platform::Import`] writes them.
    pub fn imports(&self) -> impl Iterator<Item = String> {
        let imports = self.ecosystem_specific.as_ref().and_then(|specific| specific.get("imports"));
        let list = imports.and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
        let list = if list.len() > MAX_IMPORTS { &[] } else { list };
        list.iter().filter_map(Import::of_json).map(|import| import.to_string())
    }
}

/// Whether an id is a CVE id.
pub(crate) fn is_cve(id: &str) -> bool {
    id.starts_with("CVE-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_one_bounded_line() {
        let record = |summary: &str, details: &str| {
            OsvRecord { summary: summary.into(), details: details.into(), ..OsvRecord::default() }
                .summary_line()
        };
        assert_eq!(record("A bug", "Long text."), "A bug");
        assert_eq!(record("", "## In PyYAML 5.1. Then more.\nMore"), "In PyYAML 5.1.");
        assert!(record(&"é".repeat(300), "").len() <= MAX_SUMMARY_BYTES + "…".len());
    }

    #[test]
    fn imports_of_any_shape() {
        let imports = |json: String| -> Vec<String> {
            let affected: OsvAffected =
                serde_json::from_str(&format!(r#"{{"ecosystem_specific":{{"imports":{json}}}}}"#)).unwrap();
            affected.imports().collect()
        };
        assert_eq!(
            imports(r#"[{"path":"a/b","symbols":["X"]},{"path":7},"c",null,{"goos":[]}]"#.into()),
            ["a/b"]
        );
        assert_eq!(
            imports(r#"[{"path":"a","goos":["windows","js"],"goarch":["wasm"]},{"path":"b","goos":7,"goarch":[]}]"#.into()),
            ["a goos=windows,js goarch=wasm", "b"]
        );
        for json in ["null", "7", "{}", r#""a""#, "[[]]"] {
            assert!(imports(json.into()).is_empty(), "{json}");
        }
        assert!(imports(format!("[{}]", vec![r#"{"path":"a"}"#; MAX_IMPORTS + 1].join(","))).is_empty());
    }

    #[test]
    fn nulls_are_empty() {
        let record: OsvRecord =
            serde_json::from_str(r#"{"id":"A","aliases":null,"affected":[{"package":null,"ranges":null}]}"#)
                .unwrap();
        assert!(record.aliases.is_empty() && record.affected[0].package.is_none());
    }
}
