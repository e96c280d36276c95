//! PHP's own settings, as far as they decide whether the include hook may be put in front of scripts.
//! It must never let the hook in where PHP could not open it: the application would end with a fatal error.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
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
/// Files that are read.
const FILES_MAX: usize = 512;
/// Most of a file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Depth of directories.
const DEPTH_MAX: usize = 4;

/// The first setting that keeps PHP, or one of FPM's pools, from files outside of its own, with its file.
pub fn what_forbids_the_hook(phprc: Option<&OsStr>, scan: Option<&OsStr>) -> Option<String> {
    let mut places: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    let entries = fs::read_dir(ALPINE.0).into_iter().flatten().flatten();
    places.extend(entries.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_bytes().starts_with(ALPINE.1.as_bytes()))
    }));
    places.extend(phprc.map(PathBuf::from));
    let scanned = scan.into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b':'));
    places.extend(scanned.filter(|part| !part.is_empty()).map(|part| PathBuf::from(OsStr::from_bytes(part))));
    let mut left = FILES_MAX;
    places.iter().find_map(|place| look(place, DEPTH_MAX, &mut left))
}

fn look(place: &Path, depth: usize, left: &mut usize) -> Option<String> {
    if place.is_dir() {
        if depth == 0 {
            return None;
        }
        let mut entries: Vec<PathBuf> =
            fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        return entries.iter().find_map(|entry| look(entry, depth - 1, left));
    }
    let settings = place.extension().is_some_and(|ending| ending == "ini" || ending == "conf");
    if !settings || *left == 0 {
        return None;
    }
    *left -= 1;
    let mut bytes = Vec::new();
    fs::File::open(place).ok()?.take(FILE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let setting = forbidding(&bytes)?;
    Some(format!("{setting} is set in {}", place.display()))
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
        let found = || look(directory.path(), DEPTH_MAX, &mut FILES_MAX.clone());
        fs::write(pool.join("www.txt"), "open_basedir = /srv\n").unwrap();
        assert_eq!(found(), None);
        fs::write(pool.join("www.conf"), "php_admin_value[open_basedir] = /srv\n").unwrap();
        assert_eq!(found().unwrap(), format!("open_basedir is set in {}", pool.join("www.conf").display()));
    }
}
