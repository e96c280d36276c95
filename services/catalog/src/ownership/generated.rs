//! Files that no package lists because a maintainer script, a trigger or the package manager made them later.
//! Only what is known to be made by one package stands here; a guess would credit a use to the wrong one.

use crate::role::Role;
use crate::tree::path;

/// Who owns a generated file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The first of these OS packages that is installed.
    Packages(&'static [&'static str]),
    /// Whoever owns the file of this name in the same directory, from which it was made.
    Sibling(&'static str),
}

pub(crate) struct Rule {
    /// `*` is any one component, or any part of one; a final `/**` is everything below.
    pub pattern: &'static str,
    pub source: Source,
    /// `None`: as by the path's name.
    pub role: Option<Role>,
}

const fn of(pattern: &'static str, packages: &'static [&'static str]) -> Rule {
    Rule { pattern, source: Source::Packages(packages), role: None }
}

const fn beside(pattern: &'static str, sibling: &'static str) -> Rule {
    Rule { pattern, source: Source::Sibling(sibling), role: None }
}

const fn metadata(pattern: &'static str, packages: &'static [&'static str]) -> Rule {
    Rule { pattern, source: Source::Packages(packages), role: Some(Role::Metadata) }
}

const fn documentation(pattern: &'static str, packages: &'static [&'static str]) -> Rule {
    Rule { pattern, source: Source::Packages(packages), role: Some(Role::Documentation) }
}

/// The table; the first rule that matches decides.
pub(crate) const RULES: &[Rule] = &[
    // Certificates: update-ca-certificates.
    of("etc/ssl/certs/java/cacerts", &["ca-certificates-java"]),
    of("etc/ssl/certs/ssl-cert-snakeoil.pem", &["ssl-cert"]),
    of("etc/ssl/private/ssl-cert-snakeoil.key", &["ssl-cert"]),
    of("etc/ssl/certs/**", &["ca-certificates"]),
    of("etc/ca-certificates.conf", &["ca-certificates"]),
    // C library: ldconfig, locale-gen, iconvconfig, postinst.
    of("etc/ld.so.cache", &["libc-bin", "libc6"]),
    of("var/cache/ldconfig/aux-cache", &["libc-bin", "libc6"]),
    of("etc/nsswitch.conf", &["libc-bin", "base-files"]),
    of("usr/lib/locale/locale-archive", &["locales", "locales-all", "libc-bin"]),
    of("usr/lib/locale/**", &["locales", "locales-all", "libc-bin"]),
    of("etc/locale.gen", &["locales"]),
    of("etc/default/locale", &["locales", "libpam-runtime"]),
    of("etc/locale.conf", &["locales", "systemd"]),
    beside("usr/lib/*/gconv/gconv-modules.cache", "gconv-modules"),
    beside("usr/lib/gconv/gconv-modules.cache", "gconv-modules"),
    // Accounts and base files made by postinst scripts.
    of("etc/passwd", &["base-passwd"]),
    of("etc/group", &["base-passwd"]),
    of("etc/shadow", &["passwd", "base-passwd"]),
    of("etc/gshadow", &["passwd", "base-passwd"]),
    of("etc/profile", &["base-files"]),
    of("etc/motd", &["base-files"]),
    of("etc/shells", &["debianutils"]),
    of("etc/pam.d/common-*", &["libpam-runtime"]),
    of("etc/inputrc", &["readline-common"]),
    of("etc/localtime", &["tzdata"]),
    of("etc/timezone", &["tzdata"]),
    of("etc/apt/sources.list", &["apt"]),
    // Caches made by triggers.
    of("var/cache/fontconfig/**", &["fontconfig", "fontconfig-config"]),
    of("usr/share/fonts/**/.uuid", &["fontconfig"]),
    of("usr/share/applications/mimeinfo.cache", &["desktop-file-utils"]),
    of("usr/share/mime/**", &["shared-mime-info"]),
    beside("usr/share/icons/*/icon-theme.cache", "index.theme"),
    of("usr/lib/*/gtk-2.0/*/immodules.cache", &["libgtk2.0-0", "libgtk2.0-0t64"]),
    of("usr/lib/*/gtk-3.0/*/immodules.cache", &["libgtk-3-0", "libgtk-3-0t64"]),
    of("usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache", &["libgdk-pixbuf-2.0-0", "libgdk-pixbuf2.0-0"]),
    of("usr/lib/*/gio/modules/giomodule.cache", &["libglib2.0-0", "libglib2.0-0t64"]),
    of("usr/share/glib-2.0/schemas/gschemas.compiled", &["libglib2.0-0", "libglib2.0-0t64"]),
    beside("usr/lib/jvm/*/lib/server/classes.jsa", "libjvm.so"),
    beside("usr/lib/jvm/*/lib/server/classes_nocoops.jsa", "libjvm.so"),
    of("usr/lib/udev/hwdb.bin", &["udev"]),
    of("etc/udev/hwdb.bin", &["udev"]),
    beside("usr/lib/modules/*/modules.*", "modules.builtin"),
    beside("usr/share/vim/*/doc/tags", "help.txt"),
    of("etc/xml/**", &["xml-core"]),
    of("etc/sgml/catalog", &["sgml-base"]),
    of("var/lib/ucf/**", &["ucf"]),
    of("var/cache/debconf/**", &["debconf"]),
    documentation("usr/share/info/dir", &["install-info"]),
    documentation("usr/share/info/dir.old", &["install-info"]),
    documentation("var/cache/man/**", &["man-db"]),
    // Databases of the package managers; reading them is never use of what they list.
    metadata("var/lib/dpkg/**", &["dpkg"]),
    metadata("var/lib/apt/**", &["apt"]),
    metadata("var/cache/apt/**", &["apt"]),
    metadata("etc/dpkg/origins/default", &["base-files"]),
];

/// The rule for a path that no package lists.
pub(crate) fn rule_for(path: &[u8]) -> Option<&'static Rule> {
    RULES.iter().find(|rule| matches(rule.pattern.as_bytes(), path))
}

fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (head, rest) = next_component(pattern);
    if head == b"**" {
        // In the middle it stands for any number of directories; the paths are short.
        return match rest {
            None => !path.is_empty(),
            Some(rest) => {
                matches(rest, path) || next_component(path).1.is_some_and(|below| matches(pattern, below))
            }
        };
    }
    let (part, below) = next_component(path);
    matches_component(head, part)
        && match (rest, below) {
            (None, None) => true,
            (Some(rest), Some(below)) => matches(rest, below),
            _ => false,
        }
}

fn next_component(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'/', path) {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}

/// At most one `*` in a component.
fn matches_component(pattern: &[u8], part: &[u8]) -> bool {
    match memchr::memchr(b'*', pattern) {
        None => pattern == part,
        Some(star) => {
            let (before, after) = (&pattern[..star], &pattern[star + 1..]);
            part.len() >= before.len() + after.len() && part.starts_with(before) && part.ends_with(after)
        }
    }
}

/// The Python source that a file of bytecode was compiled from (PEP 3147, PEP 488), or that lies beside it (Python 2).
pub fn bytecode_source(bytecode: &[u8]) -> Option<Vec<u8>> {
    let (directory, name) = path::split(bytecode);
    let stem = name.strip_suffix(b".pyc").or_else(|| name.strip_suffix(b".pyo"))?;
    if path::file_name(directory) != b"__pycache__" {
        return Some([bytecode.strip_suffix(name)?, stem, b".py"].concat());
    }
    let stem = match memchr::memmem::rfind(stem, b".opt-") {
        Some(at) => &stem[..at],
        None => stem,
    };
    let module = &stem[..memchr::memrchr(b'.', stem)?];
    let mut source = path::join(path::parent(directory), module);
    source.extend_from_slice(b".py");
    Some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expect: Option<&str>) {
        let pattern = rule_for(path.as_bytes()).map(|rule| rule.pattern);
        assert_eq!(pattern, expect, "{path}");
    }

    #[test]
    fn rules() {
        check("etc/ssl/certs/ca-certificates.crt", Some("etc/ssl/certs/**"));
        check("etc/ssl/certs/java/cacerts", Some("etc/ssl/certs/java/cacerts"));
        check("etc/ssl/certs", None);
        check(
            "usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
            Some("usr/lib/*/gconv/gconv-modules.cache"),
        );
        check("usr/share/fonts/truetype/dejavu/.uuid", Some("usr/share/fonts/**/.uuid"));
        check("usr/lib/modules/6.1.0/modules.dep.bin", Some("usr/lib/modules/*/modules.*"));
        check("etc/pam.d/common-auth", Some("etc/pam.d/common-*"));
        check("opt/app/etc/passwd", None);
    }

    #[test]
    fn sources_of_bytecode() {
        for (bytecode, source) in [
            ("a/__pycache__/x.cpython-311.pyc", Some("a/x.py")),
            ("a/__pycache__/x.cpython-311.opt-2.pyc", Some("a/x.py")),
            ("__pycache__/x.pypy39.pyc", Some("x.py")),
            ("a/x.pyc", Some("a/x.py")),
            ("x.pyo", Some("x.py")),
            ("a/__pycache__/x.pyc", None),
            ("a/x.py", None),
        ] {
            let found = bytecode_source(bytecode.as_bytes());
            assert_eq!(found.as_deref(), source.map(str::as_bytes), "{bytecode}");
        }
    }
}
