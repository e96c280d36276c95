//! PHP's application under test: Debian's own builds of its packages, installed by Composer from a folder: once, into the
//! cache.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part, and may

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::languages::{below, cached, copy_of, extract, fetch, mark, program};

/// The probe where eBPF is not at work.
pub const HOOK: &str = "php-include";

const PACKAGES: &[&str] = &[
    "php-twig",
    "php-monolog",
    "php-guzzlehttp-psr7",
    "php-nikic-fast-route",
    "php-doctrine-inflector",
    "php-doctrine-lexer",
    "php-symfony-console",
    "php-symfony-string",
    "php-symfony-finder",
    "php-symfony-process",
    "php-symfony-yaml",
    "php-psr-log",
    "php-psr-container",
    "php-psr-http-message",
    "php-brick-math",
    "php-ramsey-uuid",
    "php-league-commonmark",
    "php-react-promise",
];
const ARRANGE: &str = include_str!("../applications/php/arrange.php");
const FILES: &[(&str, &str)] = &[
    ("app.php", include_str!("../applications/php/app.php")),
    ("tool.php", include_str!("../applications/php/tool.php")),
];
/// The application in a directory of its own; `None` (said why) without PHP or its packages.
pub fn application() -> Option<tempfile::TempDir> {
    program("php", "apt install php-cli")?;
    program("composer", "apt install composer")?;
    program("apt-get", "the packages are those of Debian and Ubuntu")?;
    let packages =
        cached(&format!("php-application-{}", mark(&format!("{PACKAGES:?}{ARRANGE}"))), |folder| {
            let work = tempfile::tempdir().map_err(|error| error.to_string())?;
            extract(work.path(), work.path(), PACKAGES)?;
            let arrange = work.path().join("arrange.php");
            fs::write(&arrange, ARRANGE).map_err(|error| error.to_string())?;
            fetch(Command::new("php").arg(&arrange).arg(work.path()).arg(folder))
        })?;
    let directory = copy_of(&packages);
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Some(directory)
}

pub fn of_packages(paths: BTreeSet<String>) -> BTreeSet<String> {
    paths.into_iter().filter(|path| path.contains("vendor/")).collect()
}

pub fn truth(file: &Path, root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    of_packages(below(&fs::canonicalize(root).unwrap(), text.lines().map(PathBuf::from)))
}
