//! Python: what is reported of a real application is what sys.modules says.
//! The packages come from pip's own registry, once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support;
use super::support::languages::{
    Measured, Way, assert_complete, below, cached, copy_of, fetch, mark, measure,
};

/// The probe where eBPF is not at work.
const HOOK: &str = "python-import";

const PACKAGES: &[&str] = &[
    "attrs==23.2.0",
    "blinker==1.7.0",
    "certifi==2024.2.2",
    "charset-normalizer==3.3.2",
    "click==8.1.7",
    "flask==3.0.3",
    "idna==3.7",
    "itsdangerous==2.2.0",
    "jinja2==3.1.4",
    "markupsafe==2.1.5",
    "packaging==24.0",
    "pluggy==1.5.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2024.1",
    "pyyaml==6.0.1",
    "requests==2.31.0",
    "simplejson==3.19.2",
    "six==1.16.0",
    "tabulate==0.9.0",
    "toml==0.10.2",
    "urllib3==2.2.1",
    "werkzeug==3.0.3",
];
const FILES: &[(&str, &str)] = &[
    ("app.py", include_str!("../applications/python/app.py")),
    ("tool.py", include_str!("../applications/python/tool.py")),
];

/// The application in a directory of its own; `None` (said why) without its packages.
fn application() -> Option<tempfile::TempDir> {
    let version = support::python().arg("-V").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let packages =
        cached(&format!("python-application-{}", mark(&format!("{PACKAGES:?}{version}"))), |folder| {
            for (target, packages) in [("packages", PACKAGES), ("tool", &["six==1.15.0"])] {
                let mut pip = support::python();
                pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
                fetch(pip.arg(folder.join(target)).args(packages))?;
            }
            Ok(())
        })?;
    let directory = copy_of(&packages);
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Some(directory)
}

fn python(root: &Path, arguments: &[&str]) -> Command {
    let mut command = support::python();
    command.args(arguments).env("PYTHONPATH", fs::canonicalize(root).unwrap().join("packages"));
    command.env_remove("PYTHONDONTWRITEBYTECODE");
    command
}

/// Files of packages, by the names of their sources.
fn of_packages(paths: BTreeSet<String>) -> BTreeSet<String> {
    let source = |path: String| match path.split_once("__pycache__/") {
        Some((folder, name)) => format!("{folder}{}.py", name.split('.').next().unwrap()),
        None => path,
    };
    let inside = |path: &String| path.starts_with("packages/") || path.starts_with("tool/");
    paths.into_iter().filter(inside).map(source).collect()
}

#[test]
fn modules_are_those_of_sys_modules() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let mut command = python(root, &["app.py"]);
        command.env("TRUTH", &written);
        let measured = measure(way, root, vec![command]);
        assert_eq!(measured.output, "2020 1\n", "{way:?}");
        assert_complete(way, HOOK, &measured);
        let text = fs::read_to_string(&written).unwrap();
        let truth = of_packages(below(&fs::canonicalize(root).unwrap(), text.lines().map(PathBuf::from)));
        let reported = of_packages(measured.modules());
        let missing: Vec<_> = truth.difference(&reported).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{way:?}");
        // Modules that gave up while they ran are not in sys.modules, though they were read and ran.
        let gave_up = ["packages/dateutil/tz/win.py", "packages/urllib3/contrib/socks.py"];
        let invented: Vec<_> =
            reported.difference(&truth).filter(|path| !gave_up.contains(&path.as_str())).collect();
        assert_eq!(invented, Vec::<&String>::new(), "{way:?}");
        let uses =
            |package: &str| reported.iter().any(|path| path.starts_with(&format!("packages/{package}")));
        for used in [
            "flask/",
            "jinja2/",
            "markupsafe/_speedups",
            "yaml/",
            "dateutil/",
            "six.py",
            "requests/",
            "certifi/",
        ] {
            assert!(uses(used), "{way:?}: {used} was used: {reported:?}");
        }
        assert!(reported.contains("tool/six.py"), "{way:?}: the other version");
        for unused in ["attr", "pytz/", "tabulate", "toml/", "pluggy/", "packaging/"] {
            assert!(!uses(unused), "{way:?}: {unused} was not used");
        }
        if way == Way::Ebpf {
            let read = below(&fs::canonicalize(root).unwrap(), measured.paths("file"));
            assert!(read.contains("packages/pytz/zoneinfo/UTC"), "{read:?}");
        }
    }
}

#[test]
fn pip_and_compilers_use_nothing_and_modules_run() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let quiet = vec![
            python(root, &["-m", "compileall", "-q", "-f", "packages/pluggy"]),
            python(root, &["-m", "pip", "list", "--path", "packages"]),
        ];
        let quiet = measure(way, root, quiet);
        assert_eq!(of_packages(quiet.modules()), BTreeSet::new(), "{way:?}");
        let only_tools = |measured: &Measured| {
            measured.workload().unavailable_probes.get("not-measured:pypi").cloned().unwrap_or_default()
        };
        assert!(
            only_tools(&quiet).contains("only compileall and pip, whose"),
            "{way:?} {:?}",
            quiet.workload()
        );
        let both = vec![
            python(root, &["-m", "pip", "list", "--path", "packages"]),
            python(root, &["-m", "flask", "--help"]),
        ];
        let both = measure(way, root, both);
        assert_eq!(only_tools(&both), "", "{way:?} an application ran, too");
        let loud = measure(way, root, vec![python(root, &["-m", "flask", "--help"])]);
        assert_eq!(only_tools(&loud), "", "{way:?}");
        let modules = of_packages(loud.modules());
        assert!(modules.contains("packages/flask/cli.py"), "{way:?} {modules:?}");
        assert_complete(way, HOOK, &loud);
    }
}
