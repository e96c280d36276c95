//! Which platforms an advisory of Go is limited to (go.dev/doc/security/vuln/database, `goos` and `goarch` of imports),
//! and whether a program was built for one of them. Never excludes what is not known.

use std::fmt;

/// An import path with the platforms that it is limited to. Written `path goos=windows,js goarch=wasm`: neither paths nor
/// names of platforms hold blanks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Import<'a> {
    path: &'a str,
    /// Empty: all of them.
    goos: Vec<&'a str>,
    goarch: Vec<&'a str>,
}

impl<'a> Import<'a> {
    /// `{"path": …, "goos": […], "goarch": […]}`; `None` without a path.
    pub fn of_json(json: &'a serde_json::Value) -> Option<Self> {
        let list = |key: &str| -> Vec<&'a str> {
            let list = json.get(key).and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
            list.iter().filter_map(serde_json::Value::as_str).filter(|name| is_name(name)).collect()
        };
        let path = json.get("path")?.as_str().filter(|path| !path.contains(' '))?;
        Some(Self { path, goos: list("goos"), goarch: list("goarch") })
    }

    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(' ');
        let mut import = Self { path: parts.next().unwrap_or_default(), ..Self::default() };
        for part in parts {
            match part.split_once('=') {
                Some(("goos", names)) => import.goos = names.split(',').collect(),
                Some(("goarch", names)) => import.goarch = names.split(',').collect(),
                _ => {}
            }
        }
        import
    }

    /// The path in a written import.
    pub fn path_of(text: &str) -> &str {
        text.split(' ').next().unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl fmt::Display for Import<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)?;
        for (key, names) in [("goos", &self.goos), ("goarch", &self.goarch)] {
            if !names.is_empty() {
                write!(f, " {key}={}", names.join(","))?;
            }
        }
        Ok(())
    }
}

/// What a program was built for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Platform<'a> {
    goos: &'a str,
    goarch: &'a str,
}

impl<'a> Platform<'a> {
    /// `linux/amd64`; `None` for anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (goos, goarch) = text.split_once('/')?;
        (is_name(goos) && is_name(goarch)).then_some(Self { goos, goarch })
    }

    /// Why none of the imports is for this platform; `None` if one is, or if there are none.
    pub fn excluded_by(&self, imports: &[&str]) -> Option<String> {
        // Most name no platform: cheap to see.
        if imports.is_empty() || !imports.iter().all(|import| import.contains(' ')) {
            return None;
        }
        let imports: Vec<Import<'_>> = imports.iter().map(|import| Import::parse(import)).collect();
        if imports.iter().any(|import| self.is_one_of(import)) {
            return None;
        }
        let mut names: Vec<&str> =
            imports.iter().flat_map(|import| import.goos.iter().chain(&import.goarch)).copied().collect();
        names.sort_unstable();
        names.dedup();
        Some(format!(
            "only for {}; this program was built for {}/{}",
            names.join(", "),
            self.goos,
            self.goarch
        ))
    }

    fn is_one_of(&self, import: &Import<'_>) -> bool {
        // Go's own rule for build constraints: android is a linux, ios a darwin.
        let also = match self.goos {
            "android" => "linux",
            "ios" => "darwin",
            "illumos" => "solaris",
            other => other,
        };
        let is_os = import.goos.is_empty() || import.goos.iter().any(|os| *os == self.goos || *os == also);
        is_os && (import.goarch.is_empty() || import.goarch.contains(&self.goarch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(platform: &str, imports: &[&str], expect: Option<&str>) {
        let found = Platform::parse(platform).and_then(|platform| platform.excluded_by(imports));
        assert_eq!(found.as_deref(), expect, "{platform} {imports:?}");
    }

    #[test]
    fn platforms() {
        let windows = "only for windows; this program was built for linux/amd64";
        check("linux/amd64", &["path/filepath goos=windows"], Some(windows));
        check("linux/amd64", &["os goos=windows", "net/http goos=windows"], Some(windows));
        check("windows/amd64", &["path/filepath goos=windows"], None);
        check("linux/amd64", &["os goos=windows", "net/http"], None);
        check("linux/amd64", &[], None);
        check("linux/amd64", &["crypto/elliptic goarch=amd64"], None);
        check(
            "linux/arm64",
            &["crypto/elliptic goarch=amd64"],
            Some("only for amd64; this program was built for linux/arm64"),
        );
        check(
            "linux/amd64",
            &["cmd/link goos=js,linux goarch=wasm"],
            Some("only for js, linux, wasm; this program was built for linux/amd64"),
        );
        check("android/arm64", &["x goos=linux"], None);
        // Not known, so not excluded.
        check("", &["x goos=windows"], None);
        check("linux", &["x goos=windows"], None);
        check("amd64", &["x goos=windows"], None);
    }
}
