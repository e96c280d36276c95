//! PHP's own settings, as far as they decide whether the include hook may be put in front of scripts.
//! It must never let the hook in where PHP could not open it: the application would end with a fatal error. Settings
//! beyond the bounds below, and those that cannot be read, count as such that forbid it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Places where distributions and PHP's own images keep settings.
const PLACES: &[&str] = &[
    "/etc/php",
    "/etc/php.ini",
    "/etc/php.d",
    "/etc/php-fpm.conf",
    "/etc/php-fpm.d",
    "/usr/local/etc/php",
    "/usr/local/etc/php-fpm.conf",
    "/usr/local/etc/php-fpm.d",
];
/// `/etc/php81`, `/etc/php7` of Alpine.
const ALPINE: (&str, &str) = ("/etc", "php");
/// Files of settings that are read.
const FILES_MAX: usize = 512;
/// Entries of directories that are looked at.
const ENTRIES_MAX: usize = 16_384;
/// Most of a file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Depth of directories.
const DEPTH_MAX: usize = 4;

/// The first setting that keeps PHP, or one of FPM's pools, from files outside of its own, with its file.
pub fn what_forbids_the_hook(phprc: Option<&OsStr>, scan: Option<&OsStr>) -> Option<String> {
    let mut look = Look { files: FILES_MAX, entries: ENTRIES_MAX };
    let entries = fs::read_dir(ALPINE.0).into_iter().flatten().flatten().map(|entry| entry.path());
    let alpine = entries.filter(|path| {
        let version = path
            .file_name()
            .and_then(|name| name.as_bytes().strip_prefix(ALPINE.1.as_bytes()).map(<[u8]>::to_vec));
        version.is_some_and(|version| !version.is_empty() && version.iter().all(u8::is_ascii_digit))
    });
    let system = PLACES.iter().map(PathBuf::from).chain(alpine);
    let scanned = scan.into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b':'));
    let scanned = scanned.filter(|part| !part.is_empty()).map(|part| PathBuf::from(OsStr::from_bytes(part)));
    // Of the application's own directories PHP reads what lies in them, and nothing below.
    let own = phprc.map(PathBuf::from).into_iter().chain(scanned);
    system.map(|place| (place, true)).chain(own.map(|place| (place, false))).find_map(|(place, below)| {
        look.at(&place, if below { Below::Directories(DEPTH_MAX) } else { Below::Files })
    })
}

/// What of a directory is looked at.
#[derive(Clone, Copy)]
enum Below {
    /// Its files, and directories so deep.
    Directories(usize),
    /// Its files only.
    Files,
    /// Nothing.
    Nothing,
}

/// What may still be looked at.
struct Look {
    files: usize,
    entries: usize,
}

impl Look {
    fn at(&mut self, place: &Path, below: Below) -> Option<String> {
        if place.is_dir() {
            return self.directory(place, below);
        }
        let settings = place.extension().is_some_and(|ending| ending == "ini" || ending == "conf");
        if !settings {
            return None;
        }
        if self.files == 0 {
            return Some(format!(
                "there are more than {FILES_MAX} files of PHP's settings, up to {}",
                place.display()
            ));
        }
        self.files -= 1;
        let mut bytes = Vec::new();
        match fs::File::open(place).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)) {
            Err(error) if is_absent(&error) => return None,
            Err(error) => return Some(format!("{} cannot be read ({error})", place.display())),
            Ok(_) => {}
        }
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Some(format!("{} is longer than {FILE_MAX_BYTES} bytes", place.display()));
        }
        let setting = forbidding(&bytes)?;
        Some(format!("{setting} is set in {}", place.display()))
    }

    fn directory(&mut self, place: &Path, below: Below) -> Option<String> {
        let below = match below {
            Below::Directories(0) => {
                let reason = "PHP's settings lie more than";
                return Some(format!("{reason} {DEPTH_MAX} directories deep, in {}", place.display()));
            }
            Below::Directories(depth) => Below::Directories(depth - 1),
            Below::Files => Below::Nothing,
            Below::Nothing => return None,
        };
        let entries = match fs::read_dir(place) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return None,
            Err(error) => return Some(format!("{} cannot be read ({error})", place.display())),
        };
        let mut entries: Vec<PathBuf> =
            entries.flatten().take(self.entries + 1).map(|entry| entry.path()).collect();
        if entries.len() > self.entries {
            return Some(format!(
                "there are more than {ENTRIES_MAX} files beside PHP's settings, up to {}",
                place.display()
            ));
        }
        self.entries -= entries.len();
        entries.sort();
        entries.iter().find_map(|entry| self.at(entry, below))
    }
}

/// Not there, or not to be read by PHP either, which runs as the agent's user.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// The setting of this text that confines scripts to some directories.
fn forbidding(text: &[u8]) -> Option<&'static str> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        let name = name
            .strip_prefix("php_admin_value[")
            .or_else(|| name.strip_prefix("php_value["))
            .map_or(name, |rest| rest.trim_end_matches(']'));
        let value = value.trim().trim_matches(['"', '\'']);
        let value = value.split(';').next().unwrap_or_default().trim();
        ["open_basedir", "chroot"].into_iter().find(|setting| name == *setting && !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_confines() {
        let cases = [
            ("memory_limit = 1\n;open_basedir =\nopen_basedir =\n", None),
            ("open_basedir = \"\"\n", None),
            ("open_basedir = ; none\n", None),
            ("x\nopen_basedir = /srv:/tmp\n", Some("open_basedir")),
            ("[www]\nphp_admin_value[open_basedir] = /srv\n", Some("open_basedir")),
            ("[www]\nchroot = /srv\n", Some("chroot")),
            ("[www]\n;chroot =\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(forbidding(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn looks_at_files_of_settings() {
        let directory = tempfile::tempdir().unwrap();
        let pool = directory.path().join("fpm/pool.d");
        fs::create_dir_all(&pool).unwrap();
        let within =
            |files, entries| Look { files, entries }.at(directory.path(), Below::Directories(DEPTH_MAX));
        let found = || within(FILES_MAX, ENTRIES_MAX);
        fs::write(pool.join("www.txt"), "open_basedir = /srv\n").unwrap();
        assert_eq!(found(), None);
        fs::write(pool.join("www.conf"), "php_admin_value[open_basedir] = /srv\n").unwrap();
        assert_eq!(found().unwrap(), format!("open_basedir is set in {}", pool.join("www.conf").display()));
        fs::write(pool.join("www.conf"), "memory_limit = 1\n").unwrap();
        assert_eq!(found(), None);
        // Beyond the bounds it is not known.
        let says = |found: Option<String>, what: &str| {
            assert!(found.as_ref().is_some_and(|found| found.contains(what)), "{what}: {found:?}");
        };
        says(within(0, ENTRIES_MAX), "more than 512 files of PHP's settings");
        says(within(FILES_MAX, 2), "more than 16384 files beside PHP's settings");
        fs::write(pool.join("long.conf"), vec![b' '; 1 + FILE_MAX_BYTES as usize]).unwrap();
        says(found(), "long.conf is longer than 262144 bytes");
        fs::remove_file(pool.join("long.conf")).unwrap();
        fs::create_dir_all(pool.join("a/b/c")).unwrap();
        says(found(), "more than 4 directories deep");
        let own = |place: &Path| what_forbids_the_hook(Some(place.as_os_str()), None);
        assert_eq!(own(directory.path()), None, "PHP reads nothing below it");
        fs::write(directory.path().join("php.ini"), "open_basedir = /srv\n").unwrap();
        says(own(directory.path()), "open_basedir is set in");
    }
}
