//! Installers, compilers of bytecode and builders use nothing, whatever they read; what runs an application uses it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::kit::{HOOK, application, folders, modules, python};
use super::support;
use super::support::languages::{Way, assert_complete, measure, write};

/// Modules of packages below the root.
fn of_packages(measured: &support::languages::Measured) -> BTreeSet<String> {
    let places = ["packages/", "target/", "venv/", "project/"];
    // setuptools' line in a .pth file imports this at each start.
    let at_start = |path: &String| path.contains("/_distutils_hack/");
    let inside = |path: &String| places.iter().any(|place| path.starts_with(place)) && !at_start(path);
    modules(measured).into_iter().filter(inside).collect()
}

fn installer(root: &Path, words: &[&str]) -> Command {
    let mut command = python(root, words);
    let folders = folders().unwrap();
    command.env("PYTHONPATH", folders.join("tools")).env("PIP_NO_INDEX", "1");
    command.env("PIP_FIND_LINKS", folders.join("wheels")).env("UV_CACHE_DIR", root.join("uv-cache"));
    command
}

#[test]
fn installers_and_compilers_use_nothing() {
    let project = [
        (
            "project/setup.py",
            "import six, setuptools\nsetuptools.setup(name='project', version='1', py_modules=['a'])\n",
        ),
        ("project/a.py", ""),
    ];
    let Some(directory) = application(&project) else { return };
    let root = directory.path();
    let Some(folders) = folders() else { return };
    let wheels = folders.join("wheels");
    let wheels = wheels.to_str().unwrap();
    let uv = folders.join("tools/bin/uv");
    for way in Way::all() {
        let mut with_uv = Command::new(&uv);
        with_uv.args(["pip", "install", "--quiet", "--offline", "--no-index", "--find-links", wheels]);
        with_uv.args([
            "--compile-bytecode",
            "--target",
            "target/uv",
            "--cache-dir",
            "uv-cache",
            "six",
            "packaging",
        ]);
        with_uv.env("UV_PYTHON", support::python().get_program());
        let mut environment = Command::new(&uv);
        environment.args(["venv", "--quiet", "--offline", "--cache-dir", "uv-cache", "--python"]);
        environment.arg(support::python().get_program()).arg("venv/uv");
        let commands = vec![
            python(root, &["-m", "compileall", "-q", "-f", "packages/tabulate.py", "packages/iniconfig"]),
            python(root, &["-m", "py_compile", "packages/six.py"]),
            installer(
                root,
                &[
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--compile",
                    "--target",
                    "target/pip",
                    "six",
                    "packaging",
                ],
            ),
            installer(root, &["-m", "pip", "list", "--path", "target/pip"]),
            python(
                root,
                &[
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--no-build-isolation",
                    "--target",
                    "target/built",
                    "./project",
                ],
            ),
            with_uv,
            environment,
        ];
        let measured = measure(way, root, commands);
        assert!(root.join("target/uv/six.py").exists() && root.join("target/built/a.py").exists(), "{way:?}");
        assert_eq!(of_packages(&measured), BTreeSet::new(), "{way:?}");
        // Nor of what they carry themselves.
        let of_pip: Vec<_> = measured
            .paths("module")
            .into_iter()
            .filter(|path| path.to_str().is_some_and(|path| path.contains("/pip/")))
            .collect();
        assert_eq!(of_pip, Vec::<std::path::PathBuf>::new(), "{way:?}");
        fs::remove_dir_all(root.join("target")).unwrap();
        fs::remove_dir_all(root.join("venv")).unwrap();
    }
}

#[test]
fn what_runs_an_application_uses_it() {
    let Some(directory) = application(&[]) else { return };
    let root = directory.path();
    write(
        root,
        &[
            ("tool/__init__.py", ""),
            ("tool/__main__.py", "import six\n"),
            ("pages/index.html", "page"),
            ("script.py", "import six\n"),
        ],
    );
    let folders = folders().unwrap();
    for way in Way::all() {
        let mut with_uv = Command::new(folders.join("tools/bin/uv"));
        with_uv.args(["run", "--quiet", "--offline", "--no-project", "--python"]);
        with_uv
            .arg(support::python().get_program())
            .arg("script.py")
            .env("UV_CACHE_DIR", root.join("uv-cache"));
        with_uv.env("PYTHONPATH", fs::canonicalize(root).unwrap().join("packages"));
        for command in [python(root, &["-m", "tool"]), python(root, &["tool"]), with_uv] {
            let what = format!("{way:?} {command:?}");
            let measured = measure(way, root, vec![command]);
            let found = of_packages(&measured);
            assert_eq!(found, BTreeSet::from(["packages/six.py".to_owned()]), "{what}");
            assert_complete(way, HOOK, &measured);
        }
    }
}
