//! Code that no probe can tell apart once it runs: bundles, frozen programs, caches that were filled before. Pure, but for
//! `files` and `php`, which read parts of one file.
//! It must never take for unmeasurable what a probe does see: its packages would never be called unused.

mod bundle;
mod elf;
mod files;
pub mod php;
pub mod python;
mod runner;

use plimsoll_schemas::words::probe;

use crate::hooks::language::Language;

pub use files::{Found, of_file};
pub use runner::of_runner;

/// An ecosystem whose packages cannot be measured in a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmeasurable {
    /// As in `PackageRecord.ecosystem`.
    pub ecosystem: &'static str,
    /// The reason and the remedy.
    pub reason: String,
}

impl Unmeasurable {
    /// Its key among the probes that are not available.
    pub fn key(&self) -> String {
        format!("{}{}", probe::NOT_MEASURABLE_PREFIX, self.ecosystem)
    }
}

/// What a mapped file's or a module's path gives away.
pub fn of_path(path: &[u8]) -> Option<Unmeasurable> {
    if let Some(runtime) = cache_of_packages(path) {
        return Some(Unmeasurable {
            ecosystem: "npm",
            reason: format!(
                "{runtime} loaded a package from its own cache (/{}), which no scan lists; install the packages into \
                 node_modules and run the application on these",
                String::from_utf8_lossy(path)
            ),
        });
    }
    python::of_path(path)
}

/// The runtime in whose cache a package lies: `.bun/install/cache/a@1.0.0/`, `deno/npm/registry.…/a/1.0.0/`.
fn cache_of_packages(path: &[u8]) -> Option<&'static str> {
    let has = |part: &str| memchr::memmem::find(path, part.as_bytes()).is_some();
    if has("node_modules/") {
        return None;
    }
    match () {
        () if has(".bun/install/cache/") => Some("Bun"),
        () if has("/npm/registry.") => Some("Deno"),
        () => None,
    }
}

/// What a command line gives away; the program's path is with or without a leading slash.
pub fn of_command(program: &[u8], arguments: &[String]) -> Option<Unmeasurable> {
    if Language::of_program(program) != Some(Language::Node) {
        return None;
    }
    let mut options = arguments.iter().skip(1).take_while(|word| word.starts_with('-'));
    let has = |option: &str| arguments.iter().skip(1).any(|word| word == option);
    let from_snapshot = options.any(|word| word.starts_with("--snapshot-blob")) && !has("--build-snapshot");
    from_snapshot.then(|| Unmeasurable {
        ecosystem: "npm",
        reason: "Node.js started from a snapshot (--snapshot-blob): modules in it are not files any more, where no probe \
                 sees them; run the application without the snapshot under observation"
            .to_owned(),
    })
}

/// Packages of a language that a workload loaded from a volume: they hide, or stand in for, those of the image, so that
/// not seeing the image's own proves nothing.
pub fn of_volume(path: &[u8]) -> Option<Unmeasurable> {
    const DIRECTORIES: &[(&str, &str)] = &[
        ("/site-packages/", "pypi"),
        ("/dist-packages/", "pypi"),
        ("/node_modules/", "npm"),
        ("/gems/", "gem"),
        ("/vendor/composer/", "composer"),
    ];
    let rooted = [b"/", path].concat();
    let has = |part: &str| rooted.windows(part.len()).any(|window| window == part.as_bytes());
    let (_, ecosystem) = DIRECTORIES.iter().find(|(part, _)| has(part))?;
    Some(Unmeasurable {
        ecosystem,
        reason: format!(
            "packages were loaded from a volume (/{}), which is no part of the image; run it once without the volume, or \
             scan and run the volume's directory as a component",
            String::from_utf8_lossy(path)
        ),
    })
}

/// Classes that a JVM loaded from a volume: the archive or directory of the image that holds the same library is hidden by
/// it or stands unused beside it, so that not seeing it proves nothing.
pub fn of_classes_on_volume(place: &[u8], class: &[u8]) -> Option<Unmeasurable> {
    let rooted = [b"/", place].concat();
    let has = |part: &str| memchr::memmem::find(&rooted, part.as_bytes()).is_some();
    let name = place.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // The JVM's own, instruments that are mounted beside the application, and pages compiled where a container may write.
    let of_runtime = has("/jre/lib/") || place.ends_with(b"/lib/modules");
    let of_instrument =
        name == b"newrelic.jar" || memchr::memmem::find(&name.to_ascii_lowercase(), b"agent").is_some();
    if of_runtime || of_instrument || class.starts_with(b"org/apache/jsp/") {
        return None;
    }
    Some(Unmeasurable {
        ecosystem: "maven",
        reason: format!(
            "classes were loaded from a volume (/{}), which is no part of the image; run it once without the volume, or \
             scan and run the volume's directory as a component",
            String::from_utf8_lossy(place)
        ),
    })
}

/// PHP was at work before it was watched.
pub fn php_before_the_watch(program: &str) -> Unmeasurable {
    Unmeasurable {
        ecosystem: "composer",
        reason: format!(
            "/{program} ran before it was watched, and OPcache does not read again what it holds; restart it while the \
             agent watches"
        ),
    }
}

/// Whether a script that Node.js loaded is to be looked at: packages by themselves are none of our matter.
pub fn may_be_bundle(path: &[u8]) -> bool {
    let script = [&b".js"[..], b".cjs", b".mjs"].iter().any(|ending| path.ends_with(ending));
    // Debian's packages, some of which its node always loads.
    let of_system = |path: &[u8]| {
        path.starts_with(b"usr/share/nodejs/")
            || path.starts_with(b"usr/lib/") && memchr::memmem::find(path, b"/nodejs/").is_some()
    };
    script
        && memchr::memmem::find(path, b"node_modules/").is_none()
        && !of_system(path)
        && !is_of_package_manager(path)
}

/// Yarn, pnpm and what they write are bundles in front of the application, where they do not lie among packages: of
/// Corepack's cache, of a project (`.yarn/releases/yarn-4.1.0.cjs`, `.pnp.cjs`), of the images of Node.js
/// (`opt/yarn-v1.22.22/lib/cli.js`).
fn is_of_package_manager(path: &[u8]) -> bool {
    let rooted = [b"/", path].concat();
    let has = |part: &str| memchr::memmem::find(&rooted, part.as_bytes()).is_some();
    has("/.yarn/releases/") || has("/.yarn/plugins/") || has("/corepack/") || has("/yarn-v") || has("/.pnp.")
}

/// A program or script that nobody could look into, for each ecosystem whose packages it may hide.
pub fn not_looked_at(path: &[u8]) -> impl Iterator<Item = Unmeasurable> {
    const SCRIPT: &[(&str, &str)] = &[("npm", "a bundle of packages")];
    const PROGRAM: &[(&str, &str)] = &[
        ("maven", "a native image"),
        ("npm", "a program with Node.js and packages in it"),
        ("pypi", "a program with Python and packages in it"),
        ("gem", "a program with Ruby and packages in it"),
        ("composer", "a program with PHP and packages in it"),
    ];
    let place = String::from_utf8_lossy(path).into_owned();
    let interpreter_of = Language::of_program(path).map(Language::ecosystem);
    let hidden = if may_be_bundle(path) { SCRIPT } else { PROGRAM };
    let hidden = hidden.iter().filter(move |(ecosystem, _)| interpreter_of != Some(*ecosystem));
    hidden.map(move |(ecosystem, what)| Unmeasurable {
        ecosystem,
        reason: format!(
            "/{place} could not be looked into in time, and may be {what}, in which no probe sees them; run it once more \
             under observation, in smaller parts if it runs thousands of programs or scripts"
        ),
    })
}

/// Whether a module of Node.js is a package's; those of package managers are not the application's.
pub fn is_package(path: &[u8]) -> bool {
    const MANAGERS: &[&str] = &["npm/", "corepack/", "pnpm/", "yarn/"];
    let at = memchr::memmem::rfind(path, b"node_modules/");
    at.is_some_and(|at| {
        let rest = &path[at + b"node_modules/".len()..];
        // npm's own packages lie below it.
        let outer =
            memchr::memmem::find(path, b"node_modules/").map(|at| &path[at + b"node_modules/".len()..]);
        let is_manager = |rest: &[u8]| MANAGERS.iter().any(|name| rest.starts_with(name.as_bytes()));
        !is_manager(rest) && !outer.is_some_and(is_manager)
    })
}

/// Whether a module is of the part of pm2 that asks its daemon to run an application, and whether of the daemon.
pub fn daemon_of(path: &[u8]) -> (bool, bool) {
    (path.ends_with(b"/pm2/lib/Client.js"), path.ends_with(b"/pm2/lib/Daemon.js"))
}

/// The application was handed to a daemon that is none of the workload's processes.
pub fn of_daemon() -> Unmeasurable {
    Unmeasurable {
        ecosystem: "npm",
        reason: "pm2 handed the application to its daemon, which ran before and is not watched; run pm2 kill first, or use \
                 pm2-runtime"
            .to_owned(),
    }
}

/// The source whose compiled form OPcache keeps in a file: `<directory>/<32 digits>/<path of the source>.bin`.
pub fn source_of_opcache_file(path: &[u8]) -> Option<&[u8]> {
    let source = path.strip_suffix(b".bin").filter(|source| source.ends_with(b".php"))?;
    let mut at = 0;
    for part in source.split(|byte| *byte == b'/') {
        at += part.len() + 1;
        if part.len() == 32 && part.iter().all(u8::is_ascii_hexdigit) {
            return source.get(at..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_with_packages() {
        for (path, expected) in [
            ("app/node_modules/a/index.js", Some("npm")),
            ("node_modules/a/index.js", Some("npm")),
            ("opt/venv/lib/python3.11/site-packages/yaml/__init__.py", Some("pypi")),
            ("var/lib/gems/3.1.0/gems/rack-2.0.0/lib/rack.rb", Some("gem")),
            ("var/www/html/vendor/composer/ClassLoader.php", Some("composer")),
            ("app/main.py", None),
            ("srv/my_node_modules/x.js", None),
        ] {
            let found = of_volume(path.as_bytes()).map(|found| found.ecosystem);
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn volumes_with_classes() {
        for (place, class, expected) in [
            ("app/libs/log4j-core-2.14.1.jar", "org/apache/logging/log4j/core/Logger", true),
            ("tmp/jetty/webapp/WEB-INF/lib/a.jar", "a/A", true),
            ("app/app.jar!/BOOT-INF/lib/a.jar", "a/A", true),
            ("app/classes", "com/acme/Main", true),
            ("opt/java/lib/modules", "java/lang/String", false),
            ("opt/java/jre/lib/rt.jar", "java/lang/String", false),
            ("otel-auto-instrumentation/javaagent.jar", "io/opentelemetry/A", false),
            ("opt/agents/app.jar", "a/A", true),
            ("tomcat/work/Catalina/localhost/ROOT", "org/apache/jsp/index_jsp", false),
        ] {
            let found = of_classes_on_volume(place.as_bytes(), class.as_bytes());
            assert_eq!(found.map(|found| found.ecosystem), expected.then_some("maven"), "{place}");
        }
    }

    #[test]
    fn scripts_that_are_looked_at() {
        for (path, expected) in [
            ("app/dist/main.js", true),
            ("app/server.mjs", true),
            ("app/node_modules/a/dist/a.js", false),
            ("app/data.json", false),
            ("usr/share/nodejs/undici/undici-fetch.js", false),
            ("usr/lib/x86_64-linux-gnu/nodejs/x/x.js", false),
            ("srv/nodejs/server.js", true),
            ("opt/yarn-v1.22.22/lib/cli.js", false),
            ("app/.yarn/releases/yarn-4.1.0.cjs", false),
            ("app/.pnp.cjs", false),
            ("root/.cache/node/corepack/v1/pnpm/9.0.0/dist/pnpm.cjs", false),
            ("app/yarn/main.js", true),
        ] {
            assert_eq!(may_be_bundle(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn what_nobody_looked_into_may_hide() {
        for (path, expected) in [
            ("app/server", "maven npm pypi gem composer"),
            ("usr/bin/python3.11", "maven npm gem composer"),
            ("usr/bin/node", "maven pypi gem composer"),
            ("app/main.js", "npm"),
        ] {
            let ecosystems: Vec<_> = not_looked_at(path.as_bytes()).map(|found| found.ecosystem).collect();
            assert_eq!(ecosystems.join(" "), expected, "{path}");
        }
    }

    #[test]
    fn what_command_lines_give_away() {
        for (command, expected) in [
            ("node --snapshot-blob app.blob main.js", true),
            ("node --snapshot-blob=app.blob", true),
            ("node --snapshot-blob app.blob --build-snapshot entry.js", false),
            ("node main.js --snapshot-blob", false),
            ("node", false),
        ] {
            let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(of_command(b"usr/bin/node", &arguments).is_some(), expected, "{command}");
        }
        assert_eq!(of_command(b"usr/bin/x", &["x".into(), "--snapshot-blob".into()]), None);
    }

    #[test]
    fn caches_and_packages() {
        for (path, cached, package) in [
            ("root/.bun/install/cache/chalk@5.3.0@@@1/source/index.js", true, false),
            ("root/.cache/deno/npm/registry.example.org/chalk/5.3.0/index.js", true, false),
            ("app/node_modules/chalk/index.js", false, true),
            ("app/node_modules/.deno/chalk@5.3.0/node_modules/chalk/index.js", false, true),
            ("usr/lib/node_modules/npm/lib/cli.js", false, false),
            ("usr/lib/node_modules/npm/node_modules/chalk/index.js", false, false),
            ("app/server.js", false, false),
        ] {
            assert_eq!(of_path(path.as_bytes()).is_some(), cached, "{path}");
            assert_eq!(is_package(path.as_bytes()), package, "{path}");
        }
    }

    #[test]
    fn files_of_opcache_name_their_sources() {
        let id = "0123456789abcdef0123456789abcdef";
        for (path, expected) in [
            (format!("var/cache/{id}/srv/app/a.php.bin"), Some("srv/app/a.php")),
            (format!("var/cache/{id}/srv/app/a.php"), None),
            ("var/cache/srv/app/a.php.bin".to_owned(), None),
            (format!("{id}/a.php.bin"), Some("a.php")),
        ] {
            let found = source_of_opcache_file(path.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{path}");
        }
    }
}
