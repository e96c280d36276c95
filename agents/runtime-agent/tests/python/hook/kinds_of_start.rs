//! Ways to start an interpreter: programs, modules, virtual environments, children, and the application's own start files.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fixture::{Fixture, assert_same, files, interpreters, text};

#[test]
fn main_modules_and_customizations() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let (major, minor) = interpreter.version;
        let user = format!("user/lib/python{major}.{minor}/site-packages");
        fixture.write("path/sitecustomize.py", "import site_helper\nprint('site', __name__, __file__)\n");
        fixture.write("path/site_helper.py", "");
        fixture.write(&format!("{user}/usercustomize.py"), "print('user')\n");
        fixture.write("path/tool/__init__.py", "");
        let main = fixture.write("path/tool/__main__.py", "import sys\nprint(sys.argv, __spec__.name)\n");
        let alone = fixture.write("alone.py", "print(__file__)\n");
        let broken = fixture.write("broken/sitecustomize.py", "raise ValueError('the application s own')\n");
        let base = fixture.path("");
        let check = |fixture: &mut Fixture, path: &Path, arguments: &[&str], expected: &[(&str, PathBuf)]| {
            let command = || {
                let mut command = Command::new(&interpreter.program);
                command.args(arguments).current_dir(&base).env("PYTHONPATH", path);
                command.env("PYTHONUSERBASE", base.join("user")).env_remove("PYTHONNOUSERSITE");
                command
            };
            let plain = command().output().unwrap();
            fixture.reports.clear();
            let hooked = fixture.run(&mut command());
            assert_same(&hooked, &plain, interpreter);
            for (name, path) in expected {
                let reported = fixture.modules();
                assert!(reported.contains(&((*name).to_owned(), path.clone())), "{name} in {reported:?}");
            }
            text(&plain.stdout)
        };
        let path = fixture.path("path");
        let custom = [
            ("sitecustomize", path.join("sitecustomize.py")),
            ("site_helper", path.join("site_helper.py")),
            ("usercustomize", fixture.path(&user).join("usercustomize.py")),
        ];
        let with = |more: (&'static str, PathBuf)| [custom.to_vec(), vec![more]].concat();
        let said = check(&mut fixture, &path, &["-m", "tool", "x"], &with(("tool.__main__", main.clone())));
        assert!(said.contains("site sitecustomize") && said.contains("user\n"), "{interpreter:?}: {said}");
        // No import at all happens in this program: its file is told at the end, if the interpreter lets anything be.
        check(&mut fixture, &path, &["alone.py"], &with(("__main__", alone.clone())));
        check(&mut fixture, &path, &["path/tool"], &with(("__main__", main.clone())));
        check(&mut fixture, &path, &["-c", "import sys; sys.exit(3)"], &custom);
        check(&mut fixture, &path, &["-c", "import sys; raise SystemExit('said')"], &custom);
        check(&mut fixture, &path, &["-c", "import nothing_there"], &custom);
        check(&mut fixture, &path, &["-W", "error", "-bb", "-c", "import json"], &custom);
        check(&mut fixture, broken.parent().unwrap(), &["-c", "print(1)"], &[]);
        let list = "import sys; print(sorted(sys.modules), sys.path, sys.path_importer_cache.keys())";
        check(&mut fixture, &path, &["-c", list], &custom);
        check(&mut fixture, Path::new(""), &["-c", list], &[]);
        let chained = "import sitecustomize; print(sitecustomize.__file__, sitecustomize.__spec__.origin)";
        check(&mut fixture, &path, &["-c", chained], &custom);
        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0));
    }
}

#[test]
fn bytecode_elsewhere_is_not_written_for_the_hook() {
    for interpreter in interpreters().iter().filter(|interpreter| interpreter.version >= (3, 8)) {
        let mut fixture = Fixture::new();
        fixture.write("app/module.py", "");
        let cache = fixture.path("cache");
        let mut command = fixture.command(&interpreter.program);
        command.args(["-c", "import module"]).env("PYTHONPATH", fixture.path("app"));
        let output = fixture.run(command.env("PYTHONPYCACHEPREFIX", &cache));
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let written = files(&cache);
        assert!(written.iter().any(|path| path.to_str().unwrap().contains("app/module.")), "{written:?}");
        let ours = |path: &PathBuf| path.to_str().unwrap().contains("plimsoll-hooks");
        assert!(!written.iter().any(ours), "{written:?}");
        let folder = cache.join(fixture.session.directory().strip_prefix("/").unwrap());
        assert!(!folder.parent().unwrap().exists(), "{folder:?}");
    }
}

#[test]
fn a_virtual_environment_and_its_package() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let made = fixture
            .command(&interpreter.program)
            .args(["-m", "venv", "--without-pip", "venv"])
            .output()
            .unwrap();
        if !made.status.success() {
            // Debian has venv in a package of its own.
            println!("skipped: {interpreter:?} makes no virtual environment: {}", text(&made.stdout));
            continue;
        }
        let (major, minor) = interpreter.version;
        let site = format!("venv/lib/python{major}.{minor}/site-packages");
        let code = fixture.write(&format!("{site}/dependency/__init__.py"), "from . import part\n");
        let part = fixture.write(&format!("{site}/dependency/part.py"), "");
        fixture
            .write(&format!("{site}/dependency-1.0.dist-info/METADATA"), "Name: dependency\nVersion: 1.0\n");
        fixture.write(&format!("{site}/unused/__init__.py"), "");
        let mut command = fixture.command(fixture.path("venv/bin/python"));
        let output = fixture.run(command.args(["-c", "import dependency"]));
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let modules = fixture.modules();
        for (name, path) in [("dependency", code), ("dependency.part", part)] {
            assert!(modules.contains(&(name.to_owned(), path)), "{modules:?}");
        }
        assert!(!modules.iter().any(|(name, _)| name == "unused"));
        assert_eq!(fixture.lost("python-import"), 0);
    }
}

#[test]
fn children_of_all_kinds_report() {
    let script = r"
import multiprocessing, os, subprocess, sys
def child(name):
    __import__(name)
if __name__ == '__main__':
    pid = os.fork()
    if not pid:
        import wave
        os._exit(0)
    os.waitpid(pid, 0)
    for method, name in (('fork', 'calendar'), ('spawn', 'colorsys'), ('forkserver', 'sndhdr_'[:-1] if sys.version_info < (3, 11) else 'this')):
        process = multiprocessing.get_context(method).Process(target=child, args=(name,))
        process.start()
        process.join()
        assert process.exitcode == 0, method
    subprocess.check_call([sys.executable, '-c', 'import chunk_like'])
    try:
        import _interpreters as interpreters
        number = interpreters.create('legacy')
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
            number = interpreters.create()
        except ImportError:
            interpreters = None
    if interpreters and sys.version_info >= (3, 9):
        (interpreters.run_string if hasattr(interpreters, 'run_string') else interpreters.exec)(number, 'import in_another')
        print('another')
";
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let program = fixture.write("run.py", script);
        fixture.write("chunk_like.py", "");
        fixture.write("in_another.py", "");
        let mut command = fixture.command(&interpreter.program);
        command.arg(program).env("PYTHONPATH", fixture.path("")).env("PYTHONWARNINGS", "ignore");
        let output = fixture.run(&mut command);
        assert!(output.status.success(), "{interpreter:?}: {output:?}");
        let modules = fixture.modules();
        let mut expected = vec!["wave", "calendar", "colorsys", "chunk_like"];
        expected.push(if interpreter.version < (3, 11) { "sndhdr" } else { "this" });
        if text(&output.stdout).contains("another") {
            expected.push("in_another");
        }
        for name in expected {
            assert!(modules.iter().any(|(known, _)| known == name), "{interpreter:?}: {name} in {modules:?}");
        }
        assert_eq!((fixture.failures(), fixture.lost("python-import")), (vec![], 0), "{interpreter:?}");
    }
}
