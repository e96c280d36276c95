//! Applications that were packed: into programs, of which nothing can be told, and into archives.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kit::{HOOK, folders, modules, not_measurable};
use super::support;
use super::support::languages::{
    Way, assert_complete, cached, compile, copy_of, mark, measure, with_python, write,
};

const PROGRAM: &str = "import six\nprint(six.__version__)\n";

/// The packed applications, in the cache, as packing them takes its time.
fn packed() -> Option<tempfile::TempDir> {
    let folders = folders()?;
    let name = folders.file_name().unwrap().to_str().unwrap().to_owned();
    let made = cached(&format!("python-packed-{}", mark(&format!("{name}{PROGRAM}2"))), |made| {
        write(made, &[("app.py", PROGRAM), ("zip/__main__.py", PROGRAM)]);
        let run = |words: &[&str]| {
            let mut command = support::python();
            let path = [folders.join("tools"), folders.join("packages")];
            command.args(words).current_dir(made).env("PYTHONPATH", std::env::join_paths(path).unwrap());
            let output =
                command.env("PEX_ROOT", made.join("pex-root")).output().map_err(|e| e.to_string())?;
            match output.status.success() {
                true => Ok(()),
                false => Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr))),
            }
        };
        let freeze = ["-m", "PyInstaller", "--log-level=ERROR", "--specpath=work"];
        run(&[&freeze[..], &["--onefile", "--distpath=one-file", "--workpath=work/1", "app.py"]].concat())?;
        run(&[&freeze[..], &["--onedir", "--distpath=one-folder", "--workpath=work/2", "app.py"]].concat())?;
        run(&["-m", "cx_Freeze", "--silent", "--script=app.py", "--target-dir=cx-freeze"])?;
        let wheels = folders.join("wheels");
        let wheels = wheels.to_str().unwrap();
        let pex = ["-m", "pex", "--no-pypi", "--no-build", "-f", wheels, "six", "packaging"];
        run(&[&pex[..], &["--exe", "app.py", "-o", "app.pex"]].concat())?;
        let site = ["-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels, "--target"];
        run(&[&site[..], &["site", "six", "packaging"]].concat())?;
        write(made, &[("site/entry.py", "import six\ndef main():\n    print(six.__version__)\n")]);
        run(&["-m", "shiv", "--site-packages", "site", "-e", "entry:main", "-o", "shiv.pyz"])?;
        run(&[&site[..], &["zip", "six", "packaging"]].concat())?;
        run(&["-m", "zipapp", "zip", "-o", "zipapp.pyz"])?;
        for rest in ["work", "pex-root", "site", "zip"] {
            fs::remove_dir_all(made.join(rest)).map_err(|error| error.to_string())?;
        }
        Ok(())
    })?;
    Some(copy_of(&made))
}

fn plain(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_remove("PYTHONPATH");
    command
}

fn interpreted(archive: &Path) -> Command {
    let mut command = support::python();
    // Where these unpack themselves.
    let home = archive.parent().unwrap().join("home");
    command
        .arg(archive)
        .env_remove("PYTHONPATH")
        .env("HOME", &home)
        .env("XDG_CACHE_HOME", home.join("cache"));
    command
}

#[test]
fn frozen_programs_are_not_measurable() {
    let Some(directory) = packed() else { return };
    let root = directory.path();
    let interpreter = || {
        let mut command = support::python();
        command.args(["-c", "import json; print(1)"]);
        command
    };
    for way in Way::all() {
        for (program, tool) in [
            ("one-file/app", "PyInstaller"),
            ("one-folder/app/app", "PyInstaller"),
            ("cx-freeze/app", "cx_Freeze"),
        ] {
            // Also beside an interpreter that reads its modules from files.
            let measured = measure(way, root, vec![interpreter(), plain(root.join(program))]);
            assert_eq!(measured.output, "1.16.0\n", "{way:?} {program}");
            let reason = not_measurable(&measured);
            assert!(reason.contains(tool) && reason.contains("run the application"), "{way:?}: {reason:?}");
        }
        // The interpreter itself is none of these.
        assert_eq!(not_measurable(&measure(way, root, vec![interpreter()])), "");
    }
}

/// As Nuitka's programs do: Python's library, and none of its modules from files.
#[test]
fn python_as_a_library_without_its_modules() {
    let Some(flags) = with_python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let build = |name: &str, body: &str| {
        let code = format!("#include <Python.h>\nint main(void) {{ {body} return 0; }}\n");
        compile(root, name, &code, &flags)
    };
    // All of Python's interface and no start of it stands for one whose modules are inside.
    let frozen = build("frozen", "puts(Py_GetVersion());");
    let embedding =
        build("embedding", "Py_Initialize(); PyRun_SimpleString(\"import json\"); Py_Finalize();");
    if Way::all().contains(&Way::Ebpf) {
        let measured = measure(Way::Ebpf, root, vec![plain(frozen.clone())]);
        let reason = not_measurable(&measured);
        assert!(reason.contains("/frozen carries Python") && reason.contains("Nuitka"), "{reason:?}");
        let measured = measure(Way::Ebpf, root, vec![plain(embedding.clone())]);
        assert_eq!(not_measurable(&measured), "");
        assert!(measured.paths("module").iter().any(|path| path.to_str().unwrap().contains("/json/")));
    }
    let measured = measure(Way::Hooks, root, vec![plain(frozen)]);
    assert!(measured.lost(HOOK) > 0 || !measured.is_watched_by(HOOK), "{:?}", measured.workload());
    let measured = measure(Way::Hooks, root, vec![plain(embedding)]);
    assert_complete(Way::Hooks, HOOK, &measured);
    assert!(measured.paths("module").iter().any(|path| path.to_str().unwrap().contains("/json/")));
}

#[test]
fn archives_are_measured_by_the_hook() {
    let Some(directory) = packed() else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    let archive = |name: &str| {
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let measured = measure(Way::Hooks, &root, vec![interpreted(&archive("zipapp.pyz"))]);
    assert_eq!(measured.output, "1.16.0\n");
    assert_complete(Way::Hooks, HOOK, &measured);
    let expected = BTreeSet::from(["zipapp.pyz/__main__.py".to_owned(), "zipapp.pyz/six.py".to_owned()]);
    assert_eq!(modules(&measured), expected);
    assert_eq!(not_measurable(&measured), "");
    // These unpack themselves first, and run from there.
    for (name, tool) in [("shiv.pyz", "shiv"), ("app.pex", "PEX")] {
        for way in Way::all() {
            let measured = measure(way, &root, vec![interpreted(&archive(name))]);
            assert_eq!(measured.output, "1.16.0\n", "{way:?} {name}");
            let reason = not_measurable(&measured);
            assert!(reason.contains(tool) && reason.contains("SHIV_ROOT"), "{way:?} {name}: {reason:?}");
            // PEX starts the application in a process of its own making, from a place that differs by its cache.
            if tool != "PEX" {
                let unpacked = modules(&measured);
                assert!(
                    unpacked.iter().any(|path| path.ends_with("/six.py")),
                    "{way:?} {name}: {unpacked:?}"
                );
            }
            fs::remove_dir_all(root.join("home")).unwrap();
        }
    }
}
