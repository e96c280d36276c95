//! Compares an environment of every form of install with what its own importlib.metadata says: wheels with bundled
//! libraries, namespace packages, editable installs, zipped and unpacked eggs, copies within pip.
//! Needs python3 with venv, and the registry for the first run; where they are missing the test says so, except with
//! CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{cached, has, owners, place, run, survey};

const WHEELS: [&str; 8] = [
    "setuptools==69.5.1",
    "wheel==0.43.0",
    "zope.interface==6.1",
    "zope.event==5.0",
    "psycopg2-binary==2.9.9",
    "PyYAML==6.0.1",
    "six==1.16.0",
    "requests==2.31.0",
];

/// `D name version` of each distribution, `F name file` of each of its files, as the interpreter finds them.
const LIST: &str = r#"
import importlib.metadata, os, re
for dist in importlib.metadata.distributions():
    name = re.sub(r"[-_.]+", "-", dist.metadata["Name"]).lower()
    print("D", name, dist.version)
    for file in dist.files or []:
        path = os.path.normpath(str(file.locate()))
        if os.path.isfile(path):
            print("F", name, path)
"#;

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// A project of setuptools with one package.
fn project(root: &Path, name: &str, layout: &str) {
    let (below, option) = if layout == "src" { ("src/", "package_dir={'': 'src'}, ") } else { ("", "") };
    let setup = format!(
        "from setuptools import setup\nsetup(name='{name}', version='1.2', {option}packages=['{name}'], zip_safe=True)\n"
    );
    write(root, &format!("{name}/setup.py"), &setup);
    let build = "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n";
    write(root, &format!("{name}/pyproject.toml"), build);
    write(root, &format!("{name}/{below}{name}/__init__.py"), "VALUE = 1\n");
}

#[test]
fn the_interpreter_says_the_same() {
    if !has("python3", "--version") {
        return;
    }
    let tag = "import sys; print('cp%d%d' % sys.version_info[:2], end='')";
    let tag = run(Command::new("python3").args(["-c", tag])).unwrap();
    let Some(wheels) = cached(&format!("catalog-wheels-1-{tag}"), |folder| {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "-d",
            ".",
        ]);
        run(pip.args(WHEELS).current_dir(folder)).map(drop)
    }) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&root)).unwrap();
    let python = |arguments: &[&str], place: &Path| {
        let mut command = Command::new(root.join("venv/bin/python"));
        run(command.args(arguments).current_dir(place).env_remove("PYTHONPATH")).unwrap()
    };
    let find_links = format!("--find-links={}", wheels.display());
    let pip =
        ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", find_links.as_str()];
    python(&[&pip[..], &WHEELS].concat(), &root);
    for (name, layout) in
        [("flat_editable", "flat"), ("src_editable", "src"), ("zipped", "flat"), ("developed", "flat")]
    {
        project(&root.join("projects"), name, layout);
    }
    for name in ["flat_editable", "src_editable"] {
        python(&[&pip[..], &["--no-build-isolation", "-e", &format!("projects/{name}")]].concat(), &root);
    }
    python(&["setup.py", "--quiet", "develop"], &root.join("projects/developed"));
    python(&["setup.py", "--quiet", "bdist_egg"], &root.join("projects/zipped"));
    let lib = fs::read_dir(root.join("venv/lib")).unwrap().next().unwrap().unwrap().path();
    let site = lib.join("site-packages");
    let egg = fs::read_dir(root.join("projects/zipped/dist")).unwrap().next().unwrap().unwrap();
    fs::copy(egg.path(), site.join(egg.file_name())).unwrap();
    fs::write(site.join("zipped.pth"), format!("./{}\n", egg.file_name().to_str().unwrap())).unwrap();

    let said = python(&["-c", LIST], &root);
    // Whatever the system has beside the environment is not on its path.
    let expect: BTreeSet<String> =
        said.lines().filter_map(|line| line.strip_prefix("D ")).map(str::to_owned).collect();
    let (outcome, index) = survey(&root);
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let site = relative(&site);
    let is_build = |path: &str| path.starts_with("projects/zipped/");
    let is_copy = |path: &str| path.contains("/_vendor/") || path.contains("/vendored/");
    let found: BTreeSet<String> = outcome
        .packages
        .iter()
        .filter(|package| !is_build(&place(package)) && !is_copy(&place(package)))
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    assert_eq!(found, expect, "{:?}", outcome.warnings);
    assert_eq!(outcome.warnings, []);

    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in said.lines().filter_map(|line| line.strip_prefix("F ")) {
        let (name, path) = line.split_once(' ').unwrap();
        let Ok(path) = Path::new(path).strip_prefix(&root) else { continue };
        let path = path.to_str().unwrap();
        // The list of sources of `setup.py develop` names what is never installed.
        if matches!(path, "projects/developed/setup.py" | "projects/developed/pyproject.toml") {
            continue;
        }
        compared += 1;
        if !owners(&index, "pypi", path).iter().any(|owner| owner.split(' ').next() == Some(name)) {
            wrong.push(format!("{path} is {name}'s"));
        }
    }
    println!("{} distributions, {compared} files", expect.len());
    assert!(
        compared > 500 && wrong.is_empty(),
        "{} of {compared}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );

    let check = |path: String, expect: &[&str]| assert_eq!(owners(&index, "pypi", &path), expect, "{path}");
    check("projects/flat_editable/flat_editable/__init__.py".into(), &["flat-editable 1.2"]);
    check("projects/src_editable/src/src_editable/__init__.py".into(), &["src-editable 1.2"]);
    check("projects/developed/developed/__init__.py".into(), &["developed 1.2"]);
    check(format!("{site}/{}/zipped/__init__.py", egg.file_name().to_str().unwrap()), &["zipped 1.2"]);
    check(format!("{site}/zope/event/__init__.py"), &["zope-event 5.0"]);
    check(format!("{site}/zope/interface/__init__.py"), &["zope-interface 6.1"]);
    let bundled =
        fs::read_dir(root.join(&site).join("psycopg2_binary.libs")).unwrap().next().unwrap().unwrap();
    check(
        format!("{site}/psycopg2_binary.libs/{}", bundled.file_name().to_str().unwrap()),
        &["psycopg2-binary 2.9.9"],
    );
    // What pip brings is pip's and a distribution of its own.
    let vendored = owners(&index, "pypi", &format!("{site}/pip/_vendor/urllib3/response.py"));
    assert_eq!(vendored.len(), 2, "{vendored:?}");
    let list = fs::read_to_string(root.join(&site).join("pip/_vendor/vendor.txt")).unwrap();
    let named = list.lines().filter(|line| line.contains("==")).count();
    let copies = outcome.packages.iter().filter(|package| place(package).contains("/pip/_vendor/")).count();
    assert_eq!(copies, named, "{list}");
}
