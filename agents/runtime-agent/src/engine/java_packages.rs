//! Java packages of which classes came from nobody can tell where, or from what may be a copy of an archive: each is told
//! once, by one of its classes. Pure.
//! It must never leave one out without saying so: whoever has it would be called unused.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use plimsoll_schemas::words::CLASSES_WITHIN;
use plimsoll_schemas::words::{ANY_ARCHIVE, COPY_OF_ANY_ARCHIVE, PATH_MAX_BYTES, Rung, mount, usage_kind};

use crate::observe::{Observation, Origin};

/// Java packages of one workload of which classes without a place, or from what may be copies, are told; beyond, its JVMs are
/// not measured.
pub const JAVA_PACKAGES_MAX: usize = 4_096;
/// Pairs of an archive and a Java package of which it is asked whether the one has the other; beyond, its JVMs are not
/// measured.
const PAIRS_MAX: usize = 65_536;
/// After this long they are told again: archives that came meanwhile may have brought others of them. JVMs tell all their
/// classes as often.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
/// Digits in a row of a path that are taken for a random number or a time.
const RANDOM_DIGITS_MIN: usize = 9;

/// Those of one workload that were told, by their directories.
#[derive(Default)]
pub struct JavaPackages {
    /// A class came from nobody can tell where.
    placeless: HashSet<String>,
    /// A class came from an archive that may be a copy of a listed one.
    copied: HashSet<String>,
    /// Directories by the listed archives that classes named as their source.
    asked: HashMap<Vec<u8>, HashSet<String>>,
    pairs: usize,
    /// There was one too many.
    left_out: bool,
    /// Of the first of them.
    since: Option<Instant>,
}

/// What is to be told of a class.
#[derive(Debug, PartialEq, Eq)]
pub enum ToTell {
    /// Its Java package was told.
    Nothing,
    /// The class, for its Java package.
    Class(Observation),
    /// That Java packages are left out; once, as the JVM tells its classes again and again.
    LeftOut,
}

impl JavaPackages {
    /// A class from nobody can tell where: whoever has its Java package may have defined it.
    pub fn placeless(&mut self, class: &str, now: Instant) -> ToTell {
        self.begin_anew_after_a_while(now);
        let directory = directory_of(class);
        if self.placeless.contains(directory) {
            return ToTell::Nothing;
        }
        let told = self.tell(ANY_ARCHIVE.to_vec(), class);
        if matches!(told, ToTell::Class(_)) {
            self.placeless.insert(directory.to_owned());
        }
        told
    }

    /// A class from an archive or directory that lies outside of the component, or that no scan lists: whoever has its Java
    /// package may have been copied there (Jetty and Tomcat unpack an application to a temporary directory).
    pub fn copied(&mut self, class: &str, place: &[u8], now: Instant) -> ToTell {
        self.begin_anew_after_a_while(now);
        let directory = directory_of(class);
        if self.copied.contains(directory) {
            return ToTell::Nothing;
        }
        let told = self.tell([COPY_OF_ANY_ARCHIVE, &masked(place), b"!/"].concat(), class);
        if matches!(told, ToTell::Class(_)) {
            self.copied.insert(directory.to_owned());
        }
        told
    }

    /// A class that names a listed archive or directory as its source, which whoever defines a class can: asks whether that has
    /// the class's Java package.
    pub fn within(&mut self, class: &str, place: &[u8], now: Instant) -> ToTell {
        self.begin_anew_after_a_while(now);
        let directory = directory_of(class);
        if self.asked.get(place).is_some_and(|asked| asked.contains(directory)) {
            return ToTell::Nothing;
        }
        let path = [CLASSES_WITHIN, place, b"!/", directory.as_bytes()].concat();
        if self.pairs >= PAIRS_MAX || path.len() > PATH_MAX_BYTES {
            return self.leave_out();
        }
        self.pairs += 1;
        self.asked.entry(place.to_vec()).or_default().insert(directory.to_owned());
        ToTell::Class(observation(path, class))
    }

    fn begin_anew_after_a_while(&mut self, now: Instant) {
        if now.saturating_duration_since(*self.since.get_or_insert(now)) >= AGAIN_AFTER {
            self.placeless.clear();
            self.copied.clear();
            self.asked.clear();
            self.pairs = 0;
            self.since = Some(now);
        }
    }

    fn tell(&mut self, mut path: Vec<u8>, class: &str) -> ToTell {
        path.extend_from_slice(directory_of(class).as_bytes());
        if self.placeless.len() + self.copied.len() >= JAVA_PACKAGES_MAX || path.len() > PATH_MAX_BYTES {
            return self.leave_out();
        }
        ToTell::Class(observation(path, class))
    }

    fn leave_out(&mut self) -> ToTell {
        let was_said = std::mem::replace(&mut self.left_out, true);
        if was_said { ToTell::Nothing } else { ToTell::LeftOut }
    }
}

fn observation(path: Vec<u8>, class: &str) -> Observation {
    Observation {
        kind: usage_kind::CLASS,
        rung: Rung::Loaded,
        path,
        mount: mount::ROOT,
        inode: 0,
        name: class.replace('/', "."),
        origin: Origin::default(),
    }
}

/// The directory of a class's Java package; empty for the unnamed one.
fn directory_of(class: &str) -> &str {
    class.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A place with `*` for what a temporary directory or file has as its own in each run, so that it is the same in all.
fn masked(place: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(place.len());
    for run in place.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        let is_random = run[0].is_ascii_digit() && run.len() >= RANDOM_DIGITS_MIN;
        text.extend_from_slice(if is_random { b"*" } else { run });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_java_package_is_told_once_up_to_the_bound() {
        let (mut packages, now) = (JavaPackages::default(), Instant::now());
        let path = |told| match told {
            ToTell::Class(class) => Some((String::from_utf8(class.path).unwrap(), class.name)),
            ToTell::Nothing | ToTell::LeftOut => None,
        };
        let class = |path: &str, name: &str| Some((path.to_owned(), name.to_owned()));
        assert_eq!(path(packages.placeless("org/x/A", now)), class("?!/org/x", "org.x.A"));
        assert_eq!(packages.placeless("org/x/B", now), ToTell::Nothing);
        assert_eq!(
            path(packages.copied("org/x/A", b"tmp/a.jar", now)),
            class("?/tmp/a.jar!/org/x", "org.x.A")
        );
        assert_eq!(packages.copied("org/x/B", b"tmp/b.jar", now), ToTell::Nothing);
        for (place, expected) in [
            ("srv/a.jar", class("?@/srv/a.jar!/org/x", "org.x.A")),
            ("srv/a.jar", None),
            ("srv/b.jar!/in.jar", class("?@/srv/b.jar!/in.jar!/org/x", "org.x.A")),
        ] {
            assert_eq!(path(packages.within("org/x/A", place.as_bytes(), now)), expected);
        }
        for number in 2..JAVA_PACKAGES_MAX {
            assert!(path(packages.placeless(&format!("org/x{number}/A"), now)).is_some());
        }
        assert_eq!(packages.copied("org/y/A", b"tmp/b.jar", now), ToTell::LeftOut);
        assert_eq!(packages.placeless("org/y/A", now), ToTell::Nothing);
        let later = now + AGAIN_AFTER;
        assert!(path(packages.placeless("org/x/A", later)).is_some());
        assert_eq!(packages.placeless("org/x/B", later), ToTell::Nothing);
    }

    #[test]
    fn places_of_copies_are_the_same_in_each_run() {
        for (place, expected) in [
            (
                "tmp/jetty-0_0_0_0-8080-app_war-any-1013874983749302/webapp/x-1.2.jar",
                "tmp/jetty-0_0_0_0-8080-app_war-any-*/webapp/x-1.2.jar",
            ),
            ("tmp/jar_cache123456789.tmp", "tmp/jar_cache*.tmp"),
            ("srv/20261123/x.jar", "srv/20261123/x.jar"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&masked(place.as_bytes())), expected);
        }
    }
}
