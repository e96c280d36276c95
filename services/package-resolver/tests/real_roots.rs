//! The machine's own root against `dpkg -S`, and a virtual environment against importlib.metadata.
//! Needs dpkg, python3 and packages from an index; where they are missing the tests say so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{OpenRoot, Stage, write};
use plimsoll_schemas::events::PackageOwnership;

const HOST: &str = "host/0123456789abcdef0123456789abcdef";
const COMPONENT: &str = "component/backend/pythonapp/1.0";
/// Files compared with dpkg.
const SAMPLE: usize = 300;

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        other => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must have {program}: {other:?}"
            );
            println!("skipped: {program} {arguments:?} does not work here");
            None
        }
    }
}

fn names(entry: &PackageOwnership) -> BTreeSet<String> {
    entry.owners.iter().map(|owner| owner.name.clone()).collect()
}

/// The OS packages only: a Python package of the distribution is a second owner.
fn os_names(entry: &PackageOwnership) -> BTreeSet<String> {
    entry.owners.iter().filter(|owner| owner.kind == "os").map(|owner| owner.name.clone()).collect()
}

/// What `dpkg -S` says of these paths, in both spellings of a merged /usr. Ends with an error when one is not found.
fn dpkg_search(paths: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let both: Vec<String> = paths
        .iter()
        .flat_map(|path| [(*path).to_owned(), path.strip_prefix("/usr").unwrap_or(path).to_owned()])
        .collect();
    let output = Command::new("dpkg").arg("-S").args(&both).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with("diversion by")) {
        let (packages, path) = line.split_once(": ").unwrap();
        let path = if path.starts_with("/usr") { path.to_owned() } else { format!("/usr{path}") };
        let packages = packages.split(", ").map(|name| name.split(':').next().unwrap().to_owned());
        owners.entry(path).or_default().extend(packages);
    }
    owners
}

#[test]
fn owners_are_those_of_dpkg() {
    let Some(lists) = run("sh", &["-c", "cat /var/lib/dpkg/info/*.list"]) else { return };
    let merged = Path::new("/lib").read_link().is_ok();
    let usable = |path: &&str| {
        let is_file = Path::new(path).symlink_metadata().is_ok_and(|found| found.is_file());
        is_file && path.starts_with("/usr/") && Path::new(path).canonicalize().unwrap() == Path::new(path)
    };
    let spelled = |path: &str| match path {
        path if path.starts_with("/usr/") => path.to_owned(),
        path => format!("/usr{path}"),
    };
    let programs: BTreeSet<String> = lists
        .lines()
        .map(spelled)
        .filter(|path| path.contains("/bin/") || path.contains("/sbin/") || path.contains("/lib/"))
        .collect();
    // Of a diverted path dpkg names both packages, though the file is only the diverting one's.
    let diverted = run("dpkg-divert", &["--list"]).unwrap_or_default();
    let diverted: BTreeSet<String> =
        diverted.lines().filter_map(|line| line.split(' ').nth(2)).map(spelled).collect();
    let usable = |path: &&str| usable(path) && !diverted.contains(*path);
    let all: Vec<&str> = programs.iter().map(String::as_str).filter(usable).collect();
    let sample: Vec<&str> = all.iter().copied().step_by((all.len() / SAMPLE).max(1)).collect();
    let expect = dpkg_search(&sample);
    assert!(merged && expect.len() > 50, "{} of {} sampled", expect.len(), sample.len());

    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.open(OpenRoot { artifact: HOST, workload: "p", root: "/", ..Default::default() });
    for strip in ["/", "/usr/"] {
        let asked: Vec<&str> = expect.keys().map(|path| path.strip_prefix(strip).unwrap()).collect();
        // A spelling that leads to another file, or nowhere, proves nothing.
        let asked: Vec<&str> = asked.into_iter().filter(|path| Path::new("/").join(path).exists()).collect();
        assert!(asked.len() > 20);
        let answers: Vec<PackageOwnership> =
            asked.chunks(500).flat_map(|chunk| agent.resolve(HOST, "p", chunk)).collect();
        let wrong: Vec<String> = asked
            .iter()
            .zip(&answers)
            .filter_map(|(path, answer)| {
                let expect = &expect[&spelled(&format!("/{path}"))];
                let right = answer.state == "owned" && os_names(answer) == *expect && answer.method == "dpkg";
                (!right).then(|| format!("{path}: {expect:?}, not {:?} {}", os_names(answer), answer.reason))
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(answers.iter().all(|answer| answer.file_identity == "image" && answer.drift == "unknown"));
    }

    // Links, diversions, generated files.
    let library = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let target = path.canonicalize().ok().filter(|target| target.starts_with("/usr/lib"))?;
        let is_library = path.to_str()?.contains(".so.") && path.is_symlink() && target.is_file();
        is_library.then_some((path, target))
    };
    let links: Vec<(PathBuf, PathBuf)> = std::fs::read_dir("/usr/lib/x86_64-linux-gnu")
        .into_iter()
        .flatten()
        .filter_map(library)
        .take(40)
        .collect();
    for (link, target) in &links {
        let expect = dpkg_search(&[target.to_str().unwrap()]);
        let Some(expect) = expect.get(target.to_str().unwrap()) else { continue };
        let answer = agent.one(HOST, "p", link.to_str().unwrap().trim_start_matches('/'));
        assert_eq!(names(&answer), *expect, "{}", link.display());
    }
    let diversions = run("dpkg-divert", &["--list"]).unwrap_or_default();
    for line in diversions.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["diversion", "of", from, "to", to, "by", by] = words[..] else { continue };
        if !Path::new(to).is_file() {
            continue;
        }
        let diverted = names(&agent.one(HOST, "p", to.trim_start_matches('/')));
        assert!(!diverted.is_empty() && !diverted.contains(by), "{line}: {diverted:?}");
        if Path::new(from).symlink_metadata().is_ok_and(|found| found.is_file()) {
            assert_eq!(
                names(&agent.one(HOST, "p", from.trim_start_matches('/'))),
                [by.to_owned()].into(),
                "{line}"
            );
        }
    }
    for (path, owner) in
        [("etc/ld.so.cache", "libc-bin"), ("etc/ssl/certs/ca-certificates.crt", "ca-certificates")]
    {
        if Path::new("/").join(path).exists() {
            let answer = agent.one(HOST, "p", path);
            assert_eq!((names(&answer), answer.method.as_str()), ([owner.into()].into(), "generated-table"));
        }
    }
    assert_eq!(agent.one(HOST, "p", "etc/nobody-owns-this").state, "unowned");
    assert_eq!(
        agent.one(HOST, "p", "proc/self/status").state,
        "unresolved",
        "another mount is not looked at"
    );
}

/// Files below `sys.argv[1]` by the distribution that lists them.
const LIST: &str = r#"
import importlib.metadata, os, re, sys
for dist in importlib.metadata.distributions(path=[sys.argv[1]]):
    name = re.sub(r"[-_.]+", "-", dist.metadata["Name"]).lower()
    for file in dist.files or []:
        path = os.path.normpath(os.path.join(sys.argv[1], str(file)))
        if os.path.isfile(path):
            print(name, path)
"#;

#[test]
fn a_virtual_environment_of_a_component() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let venv = root.join("venv");
    write(&root, "run.py", "import six");
    if run("python3", &["-m", "venv", venv.to_str().unwrap()]).is_none() {
        return;
    }
    let stage = Stage::new();
    let mut agent = stage.agent();
    let open = OpenRoot {
        artifact: COMPONENT,
        workload: "p",
        root: root.to_str().unwrap(),
        component: true,
        ..Default::default()
    };
    agent.open(open);
    // Asked before anything is installed, so that the index must notice what comes later.
    assert_eq!(agent.one(COMPONENT, "p", "run.py").state, "unowned");
    let pip = venv.join("bin/pip");
    let install = ["install", "-q", "--disable-pip-version-check", "six", "idna", "markupsafe"];
    if run(pip.to_str().unwrap(), &install).is_none() {
        return;
    }
    let site =
        std::fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path().join("site-packages");
    let listed = run("python3", &["-c", LIST, site.to_str().unwrap()]).unwrap();
    let files: Vec<(&str, &str)> = listed.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let prefix = format!("{}/", root.display());
    let files: Vec<(&str, &str)> =
        files.into_iter().filter_map(|(name, path)| Some((name, path.strip_prefix(&prefix)?))).collect();
    assert!(files.iter().any(|(name, _)| *name == "markupsafe"), "{listed}");
    for chunk in files.chunks(500) {
        let paths: Vec<&str> = chunk.iter().map(|(_, path)| *path).collect();
        for ((name, path), answer) in chunk.iter().zip(agent.resolve(COMPONENT, "p", &paths)) {
            // A vendored copy (pip/_vendor) has a second owner: what it is a copy of.
            let is_vendored = path.contains("/_vendor/");
            let found = names(&answer);
            assert!(found.contains(*name) && (is_vendored || found.len() == 1), "{path} {answer:?}");
            let Some(owner) = answer.owners.iter().find(|owner| owner.name == *name) else { continue };
            assert_eq!((owner.kind.as_str(), owner.ecosystem.as_str()), ("application", "pypi"));
            let is_listed = matches!(answer.method.as_str(), "dist-info" | "generated-table");
            assert!(is_listed || is_vendored, "{}", answer.method);
            assert_eq!((answer.file_identity.as_str(), answer.drift.as_str()), ("image", "unknown"));
            let is_metadata = path.contains(".dist-info/")
                || path.ends_with("/_vendor/vendor.txt")
                || Path::new(path).extension().is_some_and(|extension| extension == "pth");
            assert_eq!(answer.role == "metadata", is_metadata, "{path}");
        }
    }
    // The interpreter is a link out of the component, whose packages are another artifact's.
    assert_eq!(agent.one(COMPONENT, "p", "venv/bin/python").state, "unowned");
    // An OS package below a component's directory is not the component's.
    common::debian(&root.join("rootfs"), &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    common::debian(&root, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    assert_eq!(agent.one(COMPONENT, "p", "usr/lib/libz.so.1").state, "unowned");
}
