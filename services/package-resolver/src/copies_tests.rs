//! Which of a component's files a used one is: seen through a mount, copied, renamed, of another version, or gone.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use plimsoll_catalog::DirectoryOptions;

use super::*;

/// Long enough to tell.
fn script(text: &str) -> String {
    format!("{text};{}", "/".repeat(TELLING_MIN_BYTES as usize))
}

struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    /// A component `app` on a host, with packages of Node.js, Python and Ruby.
    fn new() -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["moment", "other", "@s/scoped"] {
            let package = format!("app/node_modules/{name}");
            stage.put(
                &format!("{package}/package.json"),
                &format!(r#"{{"name":"{name}","version":"1.0.0"}}"#),
            );
            stage.put(&format!("{package}/index.js"), &script(name));
            stage.put(&format!("{package}/lib/tiny.js"), "tiny");
        }
        let site = "app/lib/python3.11/site-packages";
        stage.put(
            &format!("{site}/mark-1.0.dist-info/METADATA"),
            "Metadata-Version: 2.1\nName: mark\nVersion: 1.0\n",
        );
        let record = "mark/__init__.py,,\nmark/core.py,,\nmark-1.0.dist-info/METADATA,,\nmark-1.0.dist-info/RECORD,,\n";
        stage.put(&format!("{site}/mark-1.0.dist-info/RECORD"), record);
        stage.put(&format!("{site}/mark/__init__.py"), "");
        stage.put(&format!("{site}/mark/core.py"), &script("core"));
        stage.put(&format!("{site}/mark/__pycache__/core.cpython-311.pyc"), &script("compiled"));
        stage
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
    }

    fn judge(&self, used: &Used<'_>) -> String {
        let open = |path: &Path| File::open(path).unwrap();
        let app = open(&self.at("app"));
        let tree =
            DirectoryTree::from_fd(app.try_clone().unwrap().into(), DirectoryOptions::default()).unwrap();
        let index = OwnershipIndex::build(&tree);
        let files = Files::of(&tree, &index);
        assert!(files.size_bytes() > 0);
        let places = Places { own: &app, used: &open(self.directory.path()) };
        let text = |paths: &[Vec<u8>]| {
            let short = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
            paths
                .iter()
                .map(short)
                .collect::<Vec<_>>()
                .join(" ")
                .replace("lib/python3.11/site-packages", "site")
        };
        match places.judge(&files, used) {
            Judged::Own(path) => format!("own {}", text(&[path])),
            Judged::Copies(paths) => format!("copy {}", text(&paths)),
            Judged::Nothing => "nothing".into(),
            Judged::Unknown(reason) => reason.into(),
        }
    }

    #[track_caller]
    fn check(&self, path: &str, expected: &str) {
        assert_eq!(self.judge(&Used { path: path.as_bytes(), inode: 0, changed_ms: 0 }), expected, "{path}");
    }

    /// As a mount shows it that nobody else sees.
    #[track_caller]
    fn check_elsewhere(&self, path: &str, of: &str, expected: &str) {
        let found = std::fs::metadata(self.at(of)).unwrap();
        let changed_ms = found.ctime() * 1_000 + found.ctime_nsec() / 1_000_000;
        let used = Used { path: path.as_bytes(), inode: found.ino(), changed_ms };
        assert_eq!(self.judge(&used), expected, "{path}");
    }
}

#[test]
fn a_copy_is_known_by_what_it_holds() {
    let stage = Stage::new();
    stage.put("tmp/nm/moment/index.js", &script("moment"));
    stage.check("tmp/nm/moment/index.js", "copy node_modules/moment/index.js");
    // Whatever it is called.
    stage.put("tmp/main.js", &script("moment"));
    stage.check("tmp/main.js", "copy node_modules/moment/index.js");
    stage.put("tmp/nm/moment/index.js", &script("memont"));
    stage.check("tmp/nm/moment/index.js", "nothing");
    // What is alike in many packages is told by its directory.
    stage.put("tmp/nm/lib/tiny.js", "tiny");
    let tiny = ["@s/scoped", "moment", "other"].map(|name| format!("node_modules/{name}/lib/tiny.js"));
    stage.check("tmp/nm/lib/tiny.js", &format!("copy {}", tiny.join(" ")));
    stage.put("tmp/nm/tiny.js", "tiny");
    stage.check("tmp/nm/tiny.js", "nothing");
    stage.put("usr/lib/python3.11/json/__init__.py", "");
    stage.check("usr/lib/python3.11/json/__init__.py", "nothing");
    stage.put("opt/mark/__init__.py", "");
    stage.check("opt/mark/__init__.py", "copy site/mark/__init__.py");
}

#[test]
fn another_version_is_no_copy() {
    let stage = Stage::new();
    for (version, expected) in [("1.0.0", "copy node_modules/@s/scoped/index.js"), ("1.0.1", "nothing")] {
        let package = "usr/lib/node_modules/npm/node_modules/@s/scoped";
        stage.put(
            &format!("{package}/package.json"),
            &format!(r#"{{"name":"@s/scoped","version":"{version}"}}"#),
        );
        stage.put(&format!("{package}/index.js"), &script("@s/scoped"));
        stage.check(&format!("{package}/index.js"), expected);
    }
}

#[test]
fn bytecode_stands_for_its_source() {
    let stage = Stage::new();
    stage.put("tmp/mark/core.py", &script("core"));
    stage.put("tmp/mark/__pycache__/core.cpython-311.pyc", "compiled again");
    stage.check("tmp/mark/__pycache__/core.cpython-311.pyc", "copy site/mark/core.py");
    stage.put("tmp/mark/core.py", "another");
    stage.check("tmp/mark/__pycache__/core.cpython-311.pyc", "nothing");
    let compiled = "lib/python3.11/site-packages/mark/__pycache__/core.cpython-311.pyc";
    let expected = "own site/mark/__pycache__/core.cpython-311.pyc";
    stage.check_elsewhere("mnt/mark/__pycache__/core.cpython-311.pyc", &format!("app/{compiled}"), expected);
}

#[test]
fn the_same_file_is_the_artifacts_own_unless_it_has_several_names() {
    let stage = Stage::new();
    let file = "app/node_modules/moment/index.js";
    stage.check_elsewhere("mnt/node_modules/moment/index.js", file, "own node_modules/moment/index.js");
    // Another file stands at that path here.
    stage.put("mnt/node_modules/moment/index.js", "other");
    stage.check_elsewhere("mnt/node_modules/moment/index.js", file, "own node_modules/moment/index.js");
    std::fs::create_dir(stage.at("store")).unwrap();
    std::fs::hard_link(stage.at(file), stage.at("store/0a1b")).unwrap();
    stage.check("store/0a1b", "copy node_modules/moment/index.js");
}

#[test]
fn what_is_gone_may_be_whatever_is_called_so() {
    let stage = Stage::new();
    stage.check("mnt/moment/index.js", "copy node_modules/moment/index.js");
    stage.check("mnt/mark/__pycache__/core.cpython-311.pyc", "copy site/mark/core.py");
    let all = ["@s/scoped", "moment", "other"].map(|name| format!("node_modules/{name}/index.js"));
    stage.check("mnt/renamed/index.js", &format!("copy {}", all.join(" ")));
    stage.check("mnt/nobody.js", "nothing");
}
