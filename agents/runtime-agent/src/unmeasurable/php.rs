//! PHP's files that can fork, where only its include hook tells: what a fork included, and told nobody before it ended by
//! force or became another program, would be called unused.
//! It must never read more of a file than the bound below says, nor anything that is not regular.

use std::fs::File;
use std::io::Read as _;

use super::Unmeasurable;

/// Most that is read of a file, in bytes; of a longer one it is said that nobody looked.
const FILE_MAX_BYTES: u64 = 8 << 20;
/// What forks, in lower case.
const FORKS: &[&str] = &["pcntl_fork", "pcntl_rfork"];
const REMEDY: &str = "run it with eBPF (as root), which sees what each process reads";

/// Looks into a file that PHP included; `None` stands for one that cannot be opened (any more).
pub fn of_file(opened: Option<File>, path: &[u8]) -> Option<Unmeasurable> {
    let regular = opened.filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    let mut text = Vec::new();
    let read = regular.and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut text).ok());
    if read.is_none_or(|bytes| bytes as u64 > FILE_MAX_BYTES) {
        return Some(not_looked_at(path));
    }
    // Names of functions are the same in either case.
    text.make_ascii_lowercase();
    let name = FORKS.iter().find(|name| memchr::memmem::find(&text, name.as_bytes()).is_some())?;
    Some(unmeasurable(path, &format!("names {name}: PHP's include hook hears nothing more of forks")))
}

/// A file that nobody could look into.
pub fn not_looked_at(path: &[u8]) -> Unmeasurable {
    unmeasurable(
        path,
        "could not be looked into, and may fork (pcntl_fork): PHP's include hook hears nothing more of forks",
    )
}

fn unmeasurable(path: &[u8], what: &str) -> Unmeasurable {
    let place = String::from_utf8_lossy(path);
    // A stream, or a file without its leading slash.
    let place = if place.contains("://") { place.into_owned() } else { format!("/{place}") };
    let reason = format!("{place} {what} that are killed or become other programs; {REMEDY}");
    Unmeasurable { ecosystem: "composer", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_fork() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.php");
        let long = " ".repeat(usize::try_from(FILE_MAX_BYTES).unwrap() + 1);
        for (text, expected) in [
            ("<?php echo 1;", None),
            ("<?php if (!\\pcntl_fork()) { exit; }", Some("names pcntl_fork")),
            ("<?php call_user_func('PCNTL_Fork');", Some("names pcntl_fork")),
            ("<?php pcntl_rfork(1);", Some("names pcntl_rfork")),
            ("<?php pcntl_signal(SIGTERM, $end);", None),
            (long.as_str(), Some("could not be looked into")),
        ] {
            std::fs::write(&file, text).unwrap();
            let found = of_file(Some(File::open(&file).unwrap()), b"app/a.php");
            let says = found.as_ref().map(|found| found.reason.as_str());
            assert_eq!(says.is_some(), expected.is_some(), "{text:.60}: {says:?}");
            assert!(expected.is_none_or(|word| says.is_some_and(|says| says.contains(word))), "{says:?}");
        }
        for nothing in [None, File::open(directory.path()).ok()] {
            let found = of_file(nothing, b"app/a.php").unwrap();
            assert!(found.reason.starts_with("/app/a.php could not be looked into"), "{}", found.reason);
        }
        let found = of_file(None, b"php://stdin").unwrap();
        assert!(found.reason.starts_with("php://stdin could not be looked into"), "{}", found.reason);
    }
}
