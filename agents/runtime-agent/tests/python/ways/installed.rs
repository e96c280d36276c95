//! How packages can lie there: namespaces, editable installations, .pth files, bytecode alone, archives, shared objects.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::kit::{HOOK, application, modules, not_measurable, python};
use super::support;
use super::support::languages::{Way, assert_complete, measure};

const FILES: &[(&str, &str)] = &[
    // Namespace packages: two portions of one name, and one of the old kind.
    ("one/shared/used.py", ""),
    ("two/shared/unused.py", ""),
    ("two/shared/also_used.py", ""),
    ("one/old/__init__.py", "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"),
    ("one/old/first.py", ""),
    ("two/old/__init__.py", "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"),
    ("two/old/second.py", ""),
    // Data of packages, and their metadata.
    ("one/with_data/__init__.py", "raise RuntimeError('was run')\n"),
    ("one/with_resource/__init__.py", ""),
    ("one/with_resource/words.txt", "words\n"),
    ("one/data_only/words.txt", "words\n"),
    ("one/packed_in_archive.txt", ""),
    // Sources of editable installations.
    ("editable/by_path/src/by_path_module.py", ""),
    ("editable/by_finder/src/by_finder_module.py", ""),
    ("editable/by_link/by_link_module.py", ""),
    ("editable/unused/src/unused_module.py", ""),
    (
        "site/__editable___by_finder_finder.py",
        "import sys\nfrom importlib.util import spec_from_file_location\nclass Finder:\n    @staticmethod\n    def \
         find_spec(name, path=None, target=None):\n        if name == 'by_finder_module':\n            return \
         spec_from_file_location(name, PLACE)\nPLACE = __file__.replace('site/__editable___by_finder_finder.py', \
         'editable/by_finder/src/by_finder_module.py')\ndef install():\n    sys.meta_path.append(Finder)\n",
    ),
    ("site/__editable__.by_finder-1.pth", "import __editable___by_finder_finder; __editable___by_finder_finder.install()\n"),
    ("site/imported_by_pth.py", ""),
    ("site/named_by_pth/never.py", "raise RuntimeError('was run')\n"),
    ("site/more.pth", "named_by_pth\nimport imported_by_pth\n"),
    ("bytecode/only_compiled.py", "value = 1\n"),
    ("bytecode/unchecked.py", "value = 1\n"),
    ("bytecode/elsewhere.py", "value = 1\n"),
    ("zipped/__init__.py", ""),
    ("zipped/inside.py", ""),
    ("hooked/by_path_hook.code", "value = 1\n"),
    (
        "app.py",
        "import importlib.metadata, importlib.resources, importlib.util, os, pkgutil, site, sys
here = os.path.dirname(os.path.abspath(__file__))
at = lambda *names: os.path.join(here, *names)
sys.path[:0] = [at('one'), at('two'), at('bytecode'), at('zipped.zip')]
site.addsitedir(at('site'))
for path in open(at('site/easy-install.pth')).read().split(): sys.path.append(path)
import shared.used, shared.also_used, old.first, old.second
import by_path_module, by_finder_module, by_link_module
import only_compiled, unchecked, elsewhere, zipped.inside
import markupsafe, zope.event
# No use: metadata, data, and what is looked for.
for name in ('tabulate', 'iniconfig'):
    importlib.metadata.version(name), list(importlib.metadata.files(name)), importlib.metadata.metadata(name)
list(importlib.metadata.distributions()), importlib.metadata.entry_points()
import pkg_resources
pkg_resources.get_distribution('tabulate').has_metadata('METADATA')
assert importlib.util.find_spec('with_data') and importlib.util.find_spec('zope.interface')
list(pkgutil.iter_modules([at('packages')]))
assert open(at('one/data_only/words.txt')).read() == 'words\\n'
if sys.version_info >= (3, 10):
    assert importlib.resources.files('data_only').joinpath('words.txt').read_text() == 'words\\n'
assert pkgutil.get_data('with_resource', 'words.txt') == b'words\\n'
def hook(path):
    class Finder:
        def find_spec(self, name, target=None):
            if name == 'by_path_hook':
                from importlib.machinery import SourceFileLoader
                place = path + '/by_path_hook.code'
                return importlib.util.spec_from_file_location(name, place, loader=SourceFileLoader(name, place))
        def invalidate_caches(self): pass
    if not path.endswith('/hooked'): raise ImportError
    return Finder()
sys.path_hooks.insert(0, hook)
sys.path.append(at('hooked'))
import by_path_hook
print('done', by_path_hook.value)
",
    ),
];

/// Links, compiled files and archives, as installers leave them.
fn arrange(root: &Path) {
    let script = "import os, py_compile, sys, zipfile
here = os.getcwd()
write = lambda name, text: open(name, 'w').write(text)
write('site/__editable__.by_path-1.pth', here + '/editable/by_path/src\\n')
write('site/by-link.egg-link', here + '/editable/by_link\\n.')
write('site/easy-install.pth', here + '/editable/by_link\\n')
py_compile.compile('bytecode/only_compiled.py', 'bytecode/only_compiled.pyc')
os.remove('bytecode/only_compiled.py')
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
py_compile.compile('bytecode/unchecked.py', invalidation_mode=mode)
archive = zipfile.ZipFile('zipped.zip', 'w')
archive.write('zipped/__init__.py'); archive.write('zipped/inside.py'); archive.close()
";
    let done = support::python().args(["-c", script]).current_dir(root).status().unwrap();
    assert!(done.success());
    fs::remove_dir_all(root.join("zipped")).unwrap();
}

/// Paths that begin with one of these.
fn beginning<'a>(modules: &'a BTreeSet<String>, beginnings: &[&str]) -> Vec<&'a String> {
    modules.iter().filter(|path| beginnings.iter().any(|begin| path.starts_with(begin))).collect()
}

#[test]
fn every_kind_of_installation() {
    let Some(directory) = application(FILES) else { return };
    let root = directory.path();
    arrange(root);
    for way in Way::all() {
        let measured = measure(way, root, vec![python(root, &["app.py"])]);
        assert_eq!(measured.output, "done 1\n", "{way:?}");
        assert_complete(way, HOOK, &measured);
        assert_eq!(not_measurable(&measured), "", "{way:?}");
        let found = modules(&measured);
        let mut used = vec![
            "one/shared/used.py",
            "two/shared/also_used.py",
            "one/old/first.py",
            "two/old/second.py",
            "editable/by_path/src/by_path_module.py",
            "editable/by_finder/src/by_finder_module.py",
            "editable/by_link/by_link_module.py",
            "site/imported_by_pth.py",
            "bytecode/only_compiled.pyc",
            "bytecode/unchecked.py",
            "bytecode/elsewhere.py",
            "packages/markupsafe/__init__.py",
            "packages/zope/event/__init__.py",
            // pkgutil.get_data imports the package.
            "one/with_resource/__init__.py",
        ];
        if way == Way::Hooks {
            // The kernel sees the archive read, and a file that does not look like code.
            used.extend(["zipped.zip/zipped/inside.py", "hooked/by_path_hook.code"]);
        }
        for used in used {
            assert!(found.contains(used), "{way:?}: {used} in {found:?}");
        }
        let shared_object = |path: &&String| path.starts_with("packages/markupsafe/_speedups");
        assert!(found.iter().any(|path| shared_object(&path)), "{way:?}: {found:?}");
        let unused = [
            "two/shared/unused",
            "one/with_data/",
            "one/data_only/",
            "editable/unused/",
            "site/named_by_pth/",
            "packages/tabulate",
            "packages/iniconfig/",
            "packages/zope/interface/",
            "packages/gunicorn/",
        ];
        assert_eq!(beginning(&found, &unused), Vec::<&String>::new(), "{way:?}");
    }
}

/// Bytecode in another directory, none at all, and switches that leave parts of Python's start out.
#[test]
fn settings_of_the_interpreter() {
    let Some(directory) = application(&[("app.py", "import six, sys\nprint(six.__version__)\n")]) else {
        return;
    };
    let root = directory.path();
    let environment =
        support::python().args(["-m", "venv", "--without-pip", "venv"]).current_dir(root).output().unwrap();
    assert!(environment.status.success(), "{environment:?}");
    let site =
        fs::read_dir(root.join("venv/lib")).unwrap().next().unwrap().unwrap().path().join("site-packages");
    fs::copy(root.join("packages/six.py"), site.join("six.py")).unwrap();
    let in_venv = format!("{}/six.py", site.strip_prefix(root).unwrap().to_str().unwrap());
    let absolute = fs::canonicalize(root).unwrap();
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = python(root, arguments);
        command.envs(variables.iter().copied());
        command
    };
    let venv = |arguments: &[&str], activated: bool| {
        let mut command = match activated {
            true => Command::new("python"),
            false => Command::new(absolute.join("venv/bin/python")),
        };
        command.args(arguments).env_remove("PYTHONPATH");
        if activated {
            let path = std::env::join_paths([absolute.join("venv/bin"), "/usr/bin".into()]).unwrap();
            command.env("PATH", path).env("VIRTUAL_ENV", absolute.join("venv"));
        }
        command
    };
    let cache = absolute.join("cache");
    let cache = cache.to_str().unwrap();
    let six = "packages/six.py";
    // Whether the hook can be there, too.
    for (what, command, path, hooked) in [
        ("prefix", with(&["app.py"], &[("PYTHONPYCACHEPREFIX", cache)]), six, true),
        ("prefix again", with(&["app.py"], &[("PYTHONPYCACHEPREFIX", cache)]), six, true),
        ("no bytecode", with(&["app.py"], &[("PYTHONDONTWRITEBYTECODE", "1")]), six, true),
        ("-B -u -O -X dev", with(&["-B", "-u", "-O", "-X", "dev", "app.py"], &[]), six, true),
        ("safe path", with(&["app.py"], &[("PYTHONSAFEPATH", "1")]), six, true),
        ("virtual environment", venv(&["app.py"], false), &in_venv, true),
        ("activated", venv(&["app.py"], true), &in_venv, true),
        ("isolated", venv(&["-I", "app.py"], false), &in_venv, false),
        ("no environment", venv(&["-E", "app.py"], false), &in_venv, false),
        ("no site", with(&["-S", "app.py"], &[]), six, false),
    ] {
        let program = (
            command.get_program().to_owned(),
            command.get_args().map(|word| word.to_owned()).collect::<Vec<_>>(),
        );
        let variables: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(|value| value.to_owned())))
            .collect();
        for way in Way::all() {
            let mut command = Command::new(&program.0);
            command.args(&program.1);
            for (name, value) in &variables {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            let measured = measure(way, root, vec![command]);
            assert_eq!(measured.output, "1.16.0\n", "{way:?} {what}");
            if what == "prefix again" && way == Way::Ebpf {
                // Only bytecode is read then, and its name does not tell where the source lies.
                assert!(not_measurable(&measured).contains("PYTHONPYCACHEPREFIX"), "{what}");
            } else if hooked || way == Way::Ebpf {
                assert!(modules(&measured).contains(path), "{way:?} {what}: {:?}", modules(&measured));
                assert_complete(way, HOOK, &measured);
                assert_eq!(not_measurable(&measured), "", "{way:?} {what}");
            } else {
                // Never a complete watch: nothing is unused by it.
                assert!(measured.lost(HOOK) > 0, "{what}: {:?}", measured.workload());
                let reasons = measured.workload().unavailable_probes;
                assert!(
                    reasons
                        .iter()
                        .any(|(probe, reason)| probe.starts_with(HOOK) && reason.contains("started with -"))
                );
            }
        }
    }
}
