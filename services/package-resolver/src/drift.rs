//! Decides what a file is against the image that its container was started from, and by which identity it goes.
//! Pure: never looks at a file, so that every case stands in one table.

use plimsoll_schemas::words::drift;

/// What is known of the image's own file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// The layers are not known, or could not be read.
    Unknown,
    /// The image has no such file.
    Absent,
    /// It has the same contents.
    Same,
    /// It has other contents.
    Different,
}

/// What is known of the container's own layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// There is no such layer (a host, a component's directory), or it is not known.
    Unknown,
    /// The container has not touched the file.
    Untouched,
    /// The container has written the file.
    Written(Lower),
}

/// What is known of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The container's layer.
    pub upper: Upper,
    /// Package ids that own it now against those by the image's own databases; `None`: the latter are not known.
    pub same_owners_as_image: Option<bool>,
    /// A package owns it by the image's own databases.
    pub owned_in_image: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// A word of [`drift`].
    pub drift: &'static str,
    /// Its identity is the hash of its contents; else it is the image's.
    pub by_content: bool,
}

/// See the module's documentation.
pub fn decide(facts: Facts) -> Verdict {
    let other_owners = facts.same_owners_as_image == Some(false);
    match facts.upper {
        Upper::Unknown => Verdict { drift: drift::UNKNOWN, by_content: other_owners },
        Upper::Untouched | Upper::Written(Lower::Same) => {
            Verdict { drift: drift::UNCHANGED, by_content: other_owners }
        }
        Upper::Written(Lower::Absent) => Verdict { drift: drift::NEW, by_content: true },
        Upper::Written(Lower::Different) => Verdict { drift: drift::MODIFIED, by_content: true },
        // The image's package database says that there was one: written over.
        Upper::Written(Lower::Unknown) if facts.owned_in_image => {
            Verdict { drift: drift::MODIFIED, by_content: true }
        }
        Upper::Written(Lower::Unknown) => Verdict { drift: drift::UNKNOWN, by_content: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |upper, same_owners_as_image, owned_in_image, drift, by_content| {
            let facts = Facts { upper, same_owners_as_image, owned_in_image };
            assert_eq!(decide(facts), Verdict { drift, by_content }, "{facts:?}");
        };
        // A host, a component, a snapshotter without an upper directory.
        check(Upper::Unknown, None, false, "unknown", false);
        check(Upper::Unknown, Some(true), true, "unknown", false);
        // One whose package database differs from that of the image's other containers.
        check(Upper::Unknown, Some(false), true, "unknown", true);
        check(Upper::Untouched, None, false, "unchanged", false);
        check(Upper::Untouched, Some(true), true, "unchanged", false);
        // Upgraded, but this file is the same in both versions.
        check(Upper::Written(Lower::Same), Some(false), true, "unchanged", true);
        check(Upper::Written(Lower::Same), Some(true), true, "unchanged", false);
        check(Upper::Written(Lower::Same), None, false, "unchanged", false);
        check(Upper::Written(Lower::Different), Some(true), true, "modified", true);
        check(Upper::Written(Lower::Different), None, false, "modified", true);
        check(Upper::Written(Lower::Absent), Some(true), false, "new", true);
        check(Upper::Written(Lower::Absent), Some(false), false, "new", true);
        check(Upper::Written(Lower::Unknown), Some(true), true, "modified", true);
        check(Upper::Written(Lower::Unknown), None, false, "unknown", true);
    }
}
