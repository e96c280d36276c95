//! Versions of Go's toolchain and of modules as advisories write them.
//! Never invents a version: what the build did not know stays empty.

use super::build_info::{BuildInfo, Module};

/// What a build writes for a module whose version it does not know.
const DEVELOPMENT: &str = "(devel)";

/// `1.22.1` for `go1.22.1`, `1.22.0-rc.1` for `go1.22rc1`; `None` for what is no release.
///
/// Suffixes of vendors and experiments (`go1.22.1 X:boringcrypto`, `go1.21.3-custom`) say nothing of advisories.
pub(crate) fn of_toolchain(toolchain: &str) -> Option<String> {
    let release = toolchain.strip_prefix("go")?;
    let end = release.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(release.len());
    let release = &release[..end];
    let numbers_end = release.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(release.len());
    let (numbers, rest) = release.split_at(numbers_end);
    let parts: Vec<&str> = numbers.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_number) {
        return None;
    }
    let before = ["rc", "beta"].into_iter().find_map(|word| Some((word, rest.strip_prefix(word)?)));
    match before {
        Some((word, number)) if is_number(&number) => {
            let patch = parts.get(2).unwrap_or(&"0");
            Some(format!("{}.{}.{patch}-{word}.{number}", parts[0], parts[1]))
        }
        _ => Some(numbers.to_owned()),
    }
}

/// The version of a module, empty where the build did not know it.
pub(crate) fn of_module(version: &str) -> String {
    if version == DEVELOPMENT { String::new() } else { version.to_owned() }
}

/// The version of the main module: its own, else the commit that it was built from, as package URLs of Go do.
///
/// No pseudo-version is made of the commit: which release it comes after is not known, and `v0.0.0-…` would be older
/// than every fix.
pub(crate) fn of_main(main: &Module, info: &BuildInfo) -> String {
    let own = of_module(&main.version);
    let revision = &info.vcs_revision;
    let is_commit = revision.len() >= 7 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !own.is_empty() || !is_commit {
        return own;
    }
    let dirty = if info.vcs_modified { "+dirty" } else { "" };
    format!("{revision}{dirty}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(toolchain: &str, expect: Option<&str>) {
        assert_eq!(of_toolchain(toolchain).as_deref(), expect, "{toolchain}");
    }

    #[test]
    fn toolchains() {
        check("go1.22.1", Some("1.22.1"));
        check("go1.20", Some("1.20"));
        check("go1.22rc1", Some("1.22.0-rc.1"));
        check("go1.18beta2", Some("1.18.0-beta.2"));
        check("go1.22.1 X:boringcrypto", Some("1.22.1"));
        check("go1.21.3-custom", Some("1.21.3"));
        check("go1.19.8b4", Some("1.19.8"));
        check("devel go1.23-4f21cc1 Tue Jan 2", None);
        check("devel +abcdef", None);
        check("unknown", None);
        check("go1", None);
        check("go1..2", None);
        check("", None);
    }

    #[track_caller]
    fn check_main(version: &str, revision: &str, modified: bool, expect: &str) {
        let info =
            BuildInfo { vcs_revision: revision.into(), vcs_modified: modified, ..BuildInfo::default() };
        let main = Module { version: version.into(), ..Module::default() };
        assert_eq!(of_main(&main, &info), expect);
    }

    #[test]
    fn main_modules() {
        let revision = "0123456789abcdef0123456789abcdef01234567";
        check_main("v1.2.3", revision, false, "v1.2.3");
        check_main("(devel)", revision, false, revision);
        check_main("", revision, true, &format!("{revision}+dirty"));
        check_main("(devel)", "", false, "");
        check_main("(devel)", "not a commit", false, "");
    }
}
