//! Packages that a run uses from another place than the one that was scanned: through a mount of its own, in another root,
//! or a copy. Needs root, Node.js, Python, Ruby, PHP and Go; else the tests say so, except with CI=true.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{has_ebpf, plimsoll, skip};

const NAMES: [&str; 6] = ["-a", "backend", "-c", "web", "-V", "1.0"];
const GO_SOURCES: &str = "../catalog/tests/go_app/app";
/// Its crates stand in it; it ends at once, by a fault.
const RUST: &[u8] = include_bytes!("../../catalog/src/rust/fixtures/audited.elf");
const SITE: &str = "lib/python3.11/site-packages";
const GEMS: &str = "vendor/bundle/ruby/3.1.0";

/// A component with a package of each name in each interpreted language.
struct World {
    directory: tempfile::TempDir,
    python: String,
}

impl World {
    fn new(names: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("mounts need root rights");
            return None;
        }
        for tool in ["node", "ruby", "php", "python3", "unshare"] {
            if Command::new(tool).arg("--version").output().is_err() {
                skip(&format!("there is no {tool} here"));
                return None;
            }
        }
        // It may be a script that finds one.
        let python =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        let python = String::from_utf8(python.stdout).unwrap().trim().to_owned();
        let world = Self { directory: tempfile::tempdir().unwrap(), python };
        let mut installed = Vec::new();
        for name in names {
            // Long enough to be told from other packages' files.
            let text = format!("the code of {name} {}", "and more of it ".repeat(16));
            let node = format!("node_modules/{name}");
            world.put(&format!("{node}/package.json"), &format!(r#"{{"name":"{name}","version":"1.0.0"}}"#));
            world.put(&format!("{node}/index.js"), &format!("// {text}\nmodule.exports = 1;\n"));
            world.put(&format!("{SITE}/{name}/__init__.py"), &format!("# {text}\n"));
            let info = format!("{SITE}/{name}-1.0.dist-info");
            world.put(
                &format!("{info}/METADATA"),
                &format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
            );
            world.put(
                &format!("{info}/RECORD"),
                &format!("{name}/__init__.py,,\n{name}-1.0.dist-info/METADATA,,\n"),
            );
            world.put(&format!("{GEMS}/gems/{name}-1.0/lib/{name}.rb"), &format!("# {text}\n"));
            let gemspec = format!(
                "Gem::Specification.new do |s|\n  s.name = \"{name}\".freeze\n  s.version = \"1.0\"\nend\n"
            );
            world.put(&format!("{GEMS}/specifications/{name}-1.0.gemspec"), &gemspec);
            world.put(&format!("vendor/acme/{name}/src/{name}.php"), &format!("<?php // {text}\n"));
            installed.push(serde_json::json!({
                "name": format!("acme/{name}"), "version": "1.0.0", "install-path": format!("../acme/{name}"),
            }));
        }
        let installed = serde_json::json!({ "packages": installed, "dev": false }).to_string();
        world.put("vendor/composer/installed.json", &installed);
        world.put("include.php", "<?php include $argv[1];\n");
        Some(world)
    }

    fn app(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.app().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A Go program with its modules in it, and one of Rust.
    fn add_programs(&self) {
        let output = Command::new("go")
            .args(["build", "-buildmode=pie", "-trimpath", "-ldflags=-s -w", "-o"])
            .args([self.app().join("tool").as_os_str(), "./small".as_ref()])
            .env("CGO_ENABLED", "1")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(GO_SOURCES))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::copy(self.app().join("tool"), self.app().join("never")).unwrap();
        // Another one by its contents.
        let bytes = [&std::fs::read(self.app().join("never")).unwrap()[..], b"never"].concat();
        std::fs::write(self.app().join("never"), bytes).unwrap();
        std::fs::write(self.app().join("crates"), RUST).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.app().join("crates"), mode).unwrap();
    }

    /// Loads the package `name` of each language below `app`; those of PHP, too, if wanted.
    fn load(&self, app: &str, name: &str, with_php: bool) -> String {
        let mut script = format!(
            "node -e 'require(\"{app}/node_modules/{name}\")'\n\
             {} -c 'import sys; sys.path.insert(0, \"{app}/{SITE}\"); import {name}'\n\
             ruby -I {app}/{GEMS}/gems/{name}-1.0/lib -e 'require \"{name}\"'\n",
            self.python
        );
        if with_php {
            writeln!(script, "php include.php {app}/vendor/acme/{name}/src/{name}.php").unwrap();
        }
        script
    }

    /// Scans, runs the script in the component's directory, and gives the report that the run ends with.
    fn run(&self, options: &[&str], script: &str) -> Value {
        let state = tempfile::tempdir().unwrap();
        let script_path = self.directory.path().join("script");
        std::fs::write(&script_path, format!("set -e\ncd {}\n{script}", self.app().display())).unwrap();
        let run = |arguments: &[&str]| {
            plimsoll(state.path()).args(arguments).current_dir(self.app()).output().unwrap()
        };
        let scanned = run(&[&["scan", "-s", "fs"][..], &NAMES, &["."]].concat());
        assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
        let command = ["-o", "json", "--", "bash", script_path.to_str().unwrap()];
        let output = run(&[&["run"][..], &NAMES, options, &command].concat());
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{errors}");
        let start = text.find("{\n").unwrap_or_else(|| panic!("no report: {text} {errors}"));
        serde_json::from_str(&text[start..]).unwrap()
    }
}

/// The packages of the component: `npm moment`, and their uses.
fn uses(report: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = report["packages"].as_array().unwrap().iter();
    let of_component = packages
        .filter(|package| package["artifact"].as_str().is_some_and(|key| key.starts_with("component/")));
    let name = |package: &Value| {
        let ecosystem = text(&package["ecosystem"]);
        let name = match ecosystem.as_str() {
            // Of these the program tells.
            "golang" | "cargo" => text(&package["locations"][0]["path"]),
            _ => text(&package["name"]).replace("acme/", ""),
        };
        format!("{ecosystem} {name}")
    };
    of_component
        // Nothing of it is linked into the program.
        .filter(|package| package["name"] != "golang.org/x/exp")
        .map(|package| (name(package), text(&package["use"]), text(&package["use_reason"])))
        .collect()
}

#[track_caller]
fn check(report: &Value, name: &str, expected: &str) {
    let all = uses(report);
    let found: Vec<_> = all.iter().filter(|(of, ..)| of == name).collect();
    assert!(!found.is_empty(), "no {name}: {all:#?}");
    assert!(found.iter().all(|(_, used, _)| used == expected), "{name} is not {expected}: {all:#?}");
}

const LANGUAGES: [&str; 4] = ["npm", "pypi", "gem", "composer"];
const ALL: [&str; 6] = ["bound", "overlaid", "rooted", "copied", "renamed", "never"];

/// (a) and (b) in a mount namespace of its own, which ends with the command.
fn mounts(world: &World, with_php: bool) -> String {
    let app = world.app();
    let (app, base) = (app.display(), world.directory.path().display());
    let mut inner = format!(
        "set -e; cd {app}\nmount --bind {app} {base}/bound\n\
         mount -t tmpfs none {base}/upper\nmkdir {base}/upper/{{upper,work}}\n\
         mount -t overlay none {base}/overlaid -o lowerdir={app},upperdir={base}/upper/upper,workdir={base}/upper/work\n"
    );
    for place in ["bound", "overlaid"] {
        inner += &world.load(&format!("{base}/{place}"), place, with_php);
    }
    write!(inner, "{base}/bound/tool\n{base}/bound/crates || true\n").unwrap();
    std::fs::write(world.directory.path().join("inner"), inner).unwrap();
    format!("mkdir -p {base}/bound {base}/overlaid {base}/upper\nunshare -m bash {base}/inner\n")
}

/// (c) in another root, which shows the component at another path.
fn other_root(world: &World) -> String {
    let app = world.app();
    let (app, base) = (app.display(), world.directory.path().display());
    let loads = world.load("/mnt", "rooted", true);
    let outer = format!(
        "mount --rbind / {base}/root\nmount --bind {app} {base}/root/mnt\nchroot {base}/root bash -e {base}/loads\n"
    );
    std::fs::write(world.directory.path().join("loads"), format!("cd /mnt\n{loads}")).unwrap();
    std::fs::write(world.directory.path().join("outer"), outer).unwrap();
    format!("mkdir -p {base}/root\nunshare -m bash -e {base}/outer\n")
}

/// (d) copies, as they were called and under other names.
fn copies(world: &World) -> String {
    let base = world.directory.path().display().to_string();
    let mut script = format!("mkdir -p {base}/copy {base}/plain\n");
    writeln!(script, "cp -r node_modules lib vendor {base}/copy").unwrap();
    script += &world.load(&format!("{base}/copy"), "copied", true);
    for (of, to) in [
        ("node_modules/renamed", "node"),
        (&format!("{SITE}/renamed"), "python"),
        (&format!("{GEMS}/gems/renamed-1.0/lib"), "ruby"),
        ("vendor/acme/renamed/src", "php"),
    ] {
        writeln!(script, "cp -r {of} {base}/plain/{to}").unwrap();
    }
    write!(
        script,
        "node {base}/plain/node\n{} -c 'import sys; sys.path.insert(0, \"{base}/plain\"); import python'\n\
         ruby -I {base}/plain/ruby -e 'require \"renamed\"'\nphp include.php {base}/plain/php/renamed.php\n",
        world.python
    )
    .unwrap();
    script
}

#[test]
fn what_is_used_from_another_place_is_not_called_unused_by_ebpf() {
    let Some(world) = World::new(&ALL).filter(|_| has_ebpf()) else { return };
    world.add_programs();
    let report = world.run(&[], &(mounts(&world, true) + &other_root(&world) + &copies(&world)));
    for language in LANGUAGES {
        for (name, expected) in [
            // These are the component's own files, wherever they are seen.
            ("bound", "used"),
            ("overlaid", "used"),
            ("rooted", "used"),
            ("copied", "not_measured"),
            ("renamed", "not_measured"),
            ("never", "unused"),
        ] {
            check(&report, &format!("{language} {name}"), expected);
        }
    }
    for (program, expected) in [("golang tool", "used"), ("golang never", "unused"), ("cargo crates", "used")]
    {
        check(&report, program, expected);
    }
}

#[test]
fn what_is_used_from_another_place_is_not_called_unused_by_hooks() {
    let Some(world) = World::new(&ALL) else { return };
    world.add_programs();
    // No hook is in a program of another root, which is said; PHP's must look into what was included, and a mount that is
    // gone leaves nothing to look into, which is said, too.
    let report = world.run(&["--no-ebpf"], &(mounts(&world, false) + &copies(&world)));
    for language in LANGUAGES {
        for name in ["bound", "overlaid", "copied", "renamed"] {
            let is_loaded = language != "composer" || matches!(name, "copied" | "renamed");
            let expected = if is_loaded { "not_measured" } else { "unused" };
            check(&report, &format!("{language} {name}"), expected);
        }
        check(&report, &format!("{language} never"), "unused");
    }
    check(&report, "golang tool", "not_measured");
    check(&report, "golang never", "unused");
}
