//! Reads Composer's vendor/composer/installed.json: a list (Composer 1) or an object with `packages` (Composer 2).
//! Never evaluates installed.php, and never takes what has the wrong shape: it is passed over.

use crate::bounds::{LeftOut, bound};
use crate::json::{self, Fields, Shallow};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Most packages of one installed.json.
const MAX_PACKAGES: usize = bound(100_000, 3_000);
/// Longest name or version accepted, in bytes.
const MAX_NAME_BYTES: usize = 300;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Installed {
    /// `vendor/name`.
    pub name: String,
    pub version: String,
    /// `library`, `metapackage`, `composer-plugin` and so on.
    pub package_type: String,
    pub licenses: Vec<String>,
    pub dependencies: Vec<String>,
    pub programs: Vec<String>,
    /// Relative to the directory of installed.json; `None` in Composer 1 and of metapackages.
    pub install_path: Option<String>,
    pub left_out: LeftOut,
}

/// Reads what there is, in order, and says what was wrong.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Installed>, Option<String>) {
    let mut list = List { packages: Vec::new(), unusable_count: 0, is_list: false, has_more: false };
    let mut input = serde_json::Deserializer::from_slice(json::without_mark(bytes));
    let result = Top(&mut list).deserialize(&mut input).and_then(|()| input.end());
    let problem = match result {
        Err(error) => Some(format!("is damaged or of another shape: {error}")),
        Ok(()) if !list.is_list => Some("has no list of packages".to_owned()),
        Ok(()) if list.has_more => Some(format!("has more than {MAX_PACKAGES} packages")),
        Ok(()) if list.unusable_count > 0 => {
            Some(format!("{} of its entries name no package and version", list.unusable_count))
        }
        Ok(()) => None,
    };
    (list.packages, problem)
}

struct List {
    packages: Vec<Installed>,
    unusable_count: u64,
    is_list: bool,
    has_more: bool,
}

impl List {
    fn push(&mut self, installed: Installed) {
        if installed.name.is_empty() || installed.version.is_empty() {
            self.unusable_count += 1;
        } else if self.packages.len() < MAX_PACKAGES {
            self.packages.push(installed);
        } else {
            self.has_more = true;
        }
    }
}

impl Installed {
    fn take(&mut self, key: &str, value: Shallow) {
        let what = match key {
            "require" => "dependencies",
            "license" => "licences",
            "bin" => "programs",
            _ => "",
        };
        let value = if what.is_empty() { value } else { value.bounded(what, &mut self.left_out) };
        match key {
            "name" => self.name = value.text().filter(|name| is_name(name)).unwrap_or_default(),
            "version" => {
                self.version = value.text().filter(|version| is_version(version)).unwrap_or_default()
            }
            "type" => self.package_type = value.text().unwrap_or_default(),
            "license" => self.licenses = value.texts(),
            // `php`, `ext-json`, `composer-runtime-api` are no packages.
            "require" => self.dependencies = value.keys().into_iter().filter(|name| is_name(name)).collect(),
            "bin" => self.programs = value.texts(),
            "install-path" => self.install_path = value.text(),
            _ => {}
        }
    }
}

/// `vendor/name`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.len() <= MAX_NAME_BYTES
        && name.split_once('/').is_some_and(|(vendor, name)| is_part(vendor) && is_part(name))
}

fn is_version(version: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&version.len())
        && !version.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// The whole document: a list of packages, or an object with one.
struct Top<'l>(&'l mut List);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packages, or an object with one")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "packages" {
                map.next_value_seed(Packages(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        Packages(self.0).visit_seq(list)
    }
}

/// The list of packages; an object of another shape in its place is an error that ends the reading.
struct Packages<'l>(&'l mut List);

impl<'de> DeserializeSeed<'de> for Packages<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Packages<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.is_list = true;
        loop {
            let mut installed = Installed::default();
            let mut visit = |key: &str, value| installed.take(key, value);
            let more = list.next_element_seed(Fields { visit: &mut visit, is_strict: false })?;
            if more.is_none() {
                return Ok(());
            }
            self.0.push(installed);
        }
    }

    /// PHP writes a list with gaps in its keys as an object.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.is_list = true;
        while map.next_key::<IgnoredAny>()?.is_some() {
            let mut installed = Installed::default();
            let mut visit = |key: &str, value| installed.take(key, value);
            map.next_value_seed(Fields { visit: &mut visit, is_strict: false })?;
            self.0.push(installed);
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: &[&str], is_complete: bool) {
        let (packages, problem) = parse(json.as_bytes());
        let found: Vec<String> = packages
            .iter()
            .map(|p| {
                let path = p.install_path.as_deref().unwrap_or("-");
                format!(
                    "{}@{} {} {path} {} {}",
                    p.name,
                    p.version,
                    p.package_type,
                    p.licenses.join(","),
                    p.dependencies.join(",")
                )
            })
            .collect();
        assert_eq!(found, expect, "{json}");
        assert_eq!(problem.is_none(), is_complete, "{json}: {problem:?}");
    }

    #[test]
    fn both_shapes() {
        let entry = r#"{"name":"a/b","version":"v1.0.0","type":"library","license":["MIT"],"require":{"php":">=8","ext-json":"*","c/d":"^1"},"dist":{"x":[1]}"#;
        check(&format!("[{entry}}}]"), &["a/b@v1.0.0 library - MIT c/d"], true);
        check(
            &format!(
                r#"{{"dev":true,"packages":[{entry},"install-path":"../a/b"}}],"dev-package-names":[]}}"#
            ),
            &["a/b@v1.0.0 library ../a/b MIT c/d"],
            true,
        );
        check(
            &format!(r#"{{"packages":{{"0":{entry}}},"3":{{"name":"e/f","version":"2"}}}}}}"#),
            &["a/b@v1.0.0 library - MIT c/d", "e/f@2  -  "],
            true,
        );
        check("[]", &[], true);
    }

    #[test]
    fn wrong_shapes() {
        check(
            r#"[1,"x",null,[2],{"name":"a/b","version":"1"},{"name":"../b","version":"1"}]"#,
            &["a/b@1  -  "],
            false,
        );
        check(
            r#"[{"name":"a/b","version":"1","type":[],"license":{"x":1},"require":7,"install-path":3}]"#,
            &["a/b@1  -  "],
            true,
        );
        check(r#"{"packages":5}"#, &[], false);
        check(r#"{"other":[]}"#, &[], false);
        check(r#"[{"name":"a/b","version":"1"},{"name":"#, &["a/b@1  -  "], false);
        check("", &[], false);
        check("7", &[], false);
        check(
            &format!("[{{\"name\":\"a/b\",\"version\":\"1\"}},{}", "[".repeat(1_000_000)),
            &["a/b@1  -  "],
            false,
        );
    }
}
