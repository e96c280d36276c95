//! Why no probe could tell whether a package is used, and what to do about it: all reasons that the catalog gives.
//! Never grows by a text that stands elsewhere: a record with another reason than these is a fault (`complete`).

pub const NO_LIST: &str = "the image keeps no list of the package's files";
pub const METAPACKAGE: &str = "a metapackage: it has no files";
pub const ONLY_DOCUMENTATION: &str = "it has only documentation and package metadata";
pub const ONLY_LINKS: &str = "it has only directories, links, or files that were removed";
pub const NO_LOADABLE_FILE: &str = "it has no loadable file";
pub const ONLY_TYPES: &str = "it has no loadable file, only type declarations";
pub const NO_PYTHON_FILE: &str = "it has no Python module, shared library or script";
pub const NO_PYTHON_LIST: &str = "its installer left no list of its files";
pub const NOT_WHERE_GEMSPEC_SAYS: &str = "its files are not where its gemspec says";
pub const NO_CLASS: &str = "it has no class";
pub const JVM_SOURCES: &str =
    "it has sources of Clojure, Ruby or Python, which a JVM compiles as it uses them, without a trace";
pub const JMOD: &str = "jlink takes modules from it; no JVM loads a class of a .jmod";
pub const IN_PHAR: &str = "packed into a phar archive: PHP reads it from there without a trace";
pub const DECLARED_IN_CARGO_LOCK: &str = "declared in Cargo.lock only; build the program with cargo-auditable, so that it says which crates it contains";
pub const GO_ONLY_INLINED: &str =
    "nothing but inlined code of it can be in the program, which programs built before Go 1.16 do not list";
pub const GO_NO_FUNCTION_TABLE: &str =
    "the program's table of functions cannot be read, so what is linked into it is not known";

/// What to do, by reason.
const REMEDIES: &[(&str, &str)] = &[
    (NO_LIST, "keep the files below /var/lib/dpkg/info in the image, then scan again"),
    (METAPACKAGE, "judge it by the packages that it depends on"),
    (ONLY_DOCUMENTATION, "remove it from the image unless somebody reads it there"),
    (ONLY_LINKS, "judge it by the packages that its links lead to"),
    (NO_LOADABLE_FILE, "judge it by what the application needs: nothing of it can be loaded"),
    (ONLY_TYPES, "leave it out of production images (npm install --omit=dev)"),
    (NO_PYTHON_FILE, "judge it by what the application needs: nothing of it can be imported"),
    (NO_PYTHON_LIST, "install it by pip or uv, which leave a RECORD, then scan again"),
    (NOT_WHERE_GEMSPEC_SAYS, "install the gem again, or remove what is left of it"),
    (NO_CLASS, "judge it by what the application needs: it holds resources only"),
    (JVM_SOURCES, "ship it compiled ahead of time, or judge it by what the application needs"),
    (JMOD, "leave .jmod files out of production images; what was linked from them is listed by itself"),
    (IN_PHAR, "deploy the packages as files (composer install), or judge the archive as a whole"),
    (DECLARED_IN_CARGO_LOCK, "build the program with cargo-auditable, then scan it again"),
    (GO_ONLY_INLINED, "build the program with Go 1.16 or later, then scan again"),
    (GO_NO_FUNCTION_TABLE, "build it with `go build`, not packed or obfuscated, then scan again"),
];

/// What to do about a package that is not measurable for this reason; of a reason that is not the catalog's, what holds
/// for all.
pub fn remedy_of(reason: &str) -> &'static str {
    let known = REMEDIES.iter().find(|(known, _)| *known == reason);
    known.map_or("judge it by what the application needs; no probe can tell", |(_, remedy)| remedy)
}

/// Whether the reason is one of these, or there is none.
pub fn is_known(reason: &str) -> bool {
    reason.is_empty() || REMEDIES.iter().any(|(known, _)| *known == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text that stands in this file as a reason has exactly one remedy of its own.
    #[test]
    fn every_reason_has_a_remedy() {
        let source = include_str!("not_measurable.rs");
        let count = source.lines().filter(|line| line.starts_with("pub const ")).count();
        assert_eq!(count, REMEDIES.len());
        for (number, (reason, remedy)) in REMEDIES.iter().enumerate() {
            assert!(!remedy.is_empty() && remedy_of(reason) == *remedy, "{reason}");
            assert!(REMEDIES[..number].iter().all(|(other, _)| other != reason), "twice: {reason}");
        }
    }
}
