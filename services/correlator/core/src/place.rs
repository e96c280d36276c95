//! Whether a used path of unknown owner could be one of a package: by where the package stands.
//! It may hold back a verdict too many, but must never call a package unused whose file the path could be.

use std::collections::BTreeSet;
use std::ops::Bound;

use plimsoll_schemas::events::Location;

/// Between an archive's path and the place inside of it.
const NESTED: &[u8] = b"!/";

/// Directories beside which, not below which, the files of the packages described in them lie.
const DESCRIPTIONS: &[&[u8]] = &[b"specifications/default/", b"specifications/", b"composer/"];

/// Whether one of `paths` could belong to a package of `ecosystem` that stands at `location`. Costs a few look-ups,
/// however many paths there are.
pub(crate) fn may_hold_any(ecosystem: &str, location: &Location, paths: &BTreeSet<Vec<u8>>) -> bool {
    match ecosystem {
        // A module is a part of its binary and lies nowhere else.
        "golang" | "cargo" => any_within(paths, &location.path, &[NESTED]),
        // Classes come from the archive itself, from one that it lies in, or from one inside of it.
        "maven" => {
            let mut whole = location.path.clone();
            if !location.nested_path.is_empty() {
                whole.extend_from_slice(NESTED);
                whole.extend_from_slice(&location.nested_path);
            }
            any_within(paths, &whole, &[NESTED, b"/"]) || any_around(paths, &whole)
        }
        // Node.js and Python name what lies in an archive as if that were a directory.
        _ if !location.nested_path.is_empty() => any_within(paths, &location.path, &[NESTED, b"/"]),
        "npm" => any_within(paths, without_file(&location.path, b"/package.json"), &[b"/"]),
        // Default gems lie among the language's own files.
        "gem" if parent(&location.path).ends_with(DESCRIPTIONS[0]) => {
            paths.iter().any(|path| path.ends_with(b".rb") || path.ends_with(b".so"))
        }
        // PEAR's record lies apart from the files that it lists.
        "pear" => {
            let endings = [&b".php"[..], b".inc", b".so"];
            paths.iter().any(|path| endings.iter().any(|ending| path.ends_with(ending)))
        }
        _ => any_below(paths, installed_in(&location.path)),
    }
}

/// Whether a path begins with `prefix`.
fn any_below(paths: &BTreeSet<Vec<u8>>, prefix: &[u8]) -> bool {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    paths.range::<[u8], _>(from).next().is_some_and(|path| path.starts_with(prefix))
}

/// Whether a path is `place`, or lies in it behind one of the steps.
fn any_within(paths: &BTreeSet<Vec<u8>>, place: &[u8], steps: &[&[u8]]) -> bool {
    paths.contains(place) || steps.iter().any(|step| any_below(paths, &[place, step].concat()))
}

/// Whether a path is a directory or an archive that `place` lies in.
fn any_around(paths: &BTreeSet<Vec<u8>>, place: &[u8]) -> bool {
    place.iter().enumerate().filter(|(_, byte)| **byte == b'/').any(|(slash, _)| {
        let outer = &place[..slash];
        paths.contains(outer) || outer.strip_suffix(b"!").is_some_and(|archive| paths.contains(archive))
    })
}

fn without_file<'a>(path: &'a [u8], file: &[u8]) -> &'a [u8] {
    path.strip_suffix(file).unwrap_or(path)
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
                let others = ["a", "zzz/other"].map(|path| path.as_bytes().to_vec());
                let paths: BTreeSet<Vec<u8>> = others.into_iter().chain([used.as_bytes().to_vec()]).collect();
                assert_eq!(may_hold_any(ecosystem, &location, &paths), expect, "{ecosystem} {path} {used}");
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
            &["site/x.egg!/x/a.py", "site/x.egg/x/a.py", "site/x.egg"],
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
            "pear",
            ("usr/share/php/.registry/.channel.pecl.php.net/redis.reg", ""),
            &["usr/lib/php/20220829/redis.so", "usr/share/php/Archive/Tar.php"],
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
