//! Whether a used path of unknown owner could be one of a package: by where the package stands.
//! It may hold back a verdict too many, but must never call a package unused whose file the path could be.

use plimsoll_schemas::events::Location;

/// Between an archive's path and the place inside of it.
const NESTED: &[u8] = b"!/";

/// Directories beside which, not below which, the files of the packages described in them lie.
const DESCRIPTIONS: &[&[u8]] = &[b"specifications/default/", b"specifications/", b"composer/"];

/// Whether `path` could belong to a package of `ecosystem` that stands at `location`.
pub(crate) fn may_hold(ecosystem: &str, location: &Location, path: &[u8]) -> bool {
    match ecosystem {
        // A module is a part of its binary and lies nowhere else.
        "golang" | "cargo" => outermost(path) == location.path,
        // Classes come from the archive itself, from one that it lies in, or from one inside of it.
        "maven" => {
            let mut whole = location.path.clone();
            if !location.nested_path.is_empty() {
                whole.extend_from_slice(NESTED);
                whole.extend_from_slice(&location.nested_path);
            }
            contains(&whole, path) || contains(path, &whole)
        }
        _ if !location.nested_path.is_empty() => outermost(path) == location.path,
        // Default gems lie among the language's own files.
        "gem" if parent(&location.path).ends_with(DESCRIPTIONS[0]) => {
            path.ends_with(b".rb") || path.ends_with(b".so")
        }
        _ => path.starts_with(installed_in(&location.path)),
    }
}

/// The file in the tree: what stands before the first step into an archive.
fn outermost(path: &[u8]) -> &[u8] {
    let end = path.windows(NESTED.len()).position(|bytes| bytes == NESTED).unwrap_or(path.len());
    &path[..end]
}

/// Whether `inner` is `outer` or lies in it, as in a directory or in an archive.
fn contains(outer: &[u8], inner: &[u8]) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || rest.starts_with(NESTED))
}

/// The directory of a path, with its slash; empty for one at the root.
fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)]
}

/// The directory below which the files of a package lie that is described at `path`.
fn installed_in(path: &[u8]) -> &[u8] {
    let parent = parent(path);
    DESCRIPTIONS.iter().find_map(|name| parent.strip_suffix(*name)).unwrap_or(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ecosystem: &str, (path, nested): (&str, &str), holds: &[&str], not: &[&str]) {
        let location = Location { path: path.into(), nested_path: nested.into(), ..Location::default() };
        for (paths, expect) in [(holds, true), (not, false)] {
            for used in paths {
                assert_eq!(
                    may_hold(ecosystem, &location, used.as_bytes()),
                    expect,
                    "{ecosystem} {path} {used}"
                );
            }
        }
    }

    #[test]
    fn archives_hold_what_lies_in_them_and_lie_in_what_holds_them() {
        check(
            "maven",
            ("app/fat.jar", "BOOT-INF/lib/log.jar"),
            &["app/fat.jar", "app/fat.jar!/BOOT-INF/lib/log.jar", "app/fat.jar!/BOOT-INF/lib/log.jar!/x.jar"],
            &["app/fat.jar!/BOOT-INF/lib/other.jar", "app/other.jar", "app/fat.jar2"],
        );
        check("maven", ("app/a.jar", ""), &["app/a.jar", "app/a.jar!/lib/b.jar"], &["app/b.jar", "lib"]);
        check(
            "maven",
            ("app/classes/META-INF/maven/g/a/pom.properties", ""),
            &["app/classes"],
            &["app/other"],
        );
        check(
            "pypi",
            ("site/x.egg", "EGG-INFO/PKG-INFO"),
            &["site/x.egg!/x/a.py", "site/x.egg"],
            &["site/y.py"],
        );
    }

    #[test]
    fn files_lie_below_where_their_package_was_installed() {
        check("pypi", ("site/x-1.dist-info", ""), &["site/x.py"], &["other/x.py"]);
        check(
            "npm",
            ("app/node_modules/x/package.json", ""),
            &["app/node_modules/x/i.js"],
            &["app/server.js"],
        );
        check(
            "gem",
            ("gems/3.1.0/specifications/x-1.gemspec", ""),
            &["gems/3.1.0/gems/x-1/lib/x.rb"],
            &["lib/y.rb"],
        );
        check(
            "gem",
            ("gems/3.1.0/specifications/default/json-2.gemspec", ""),
            &["usr/lib/ruby/3.1.0/json.rb", "usr/lib/x86/ruby/parser.so"],
            &["etc/passwd"],
        );
        check(
            "composer",
            ("vendor/composer/installed.json", ""),
            &["vendor/a/b/c.php"],
            &["public/index.php"],
        );
    }

    #[test]
    fn modules_lie_in_their_binary_only() {
        check("golang", ("usr/bin/tool", ""), &["usr/bin/tool"], &["usr/bin/other", "usr/bin"]);
    }
}
