//! The words of the open sets that stand as strings on the wire.
//! A reader must never take an unknown word for the lowest or the default one.

/// Probes that observe use.
pub mod probe {
    /// eBPF: execs, executable mappings and opens of files.
    pub const EBPF_FILES: &str = "ebpf-files";
    /// LD_AUDIT: shared libraries only.
    pub const LD_AUDIT: &str = "ld-audit";
    /// Python's import system.
    pub const PYTHON_IMPORT: &str = "python-import";
    /// The JVM tool interface: classes defined by a Java virtual machine, with the archive that each came from.
    pub const JVMTI: &str = "jvmti";
    /// Module loading of Node.js: CommonJS and ECMAScript modules.
    pub const NODE_MODULE: &str = "node-module";
    /// Features that Ruby required or loaded.
    pub const RUBY_FEATURE: &str = "ruby-feature";
    /// Files that PHP compiled.
    pub const PHP_INCLUDE: &str = "php-include";
    /// What already ran when watching began; only raises rungs.
    pub const RESYNC: &str = "resync";

    /// Stands before an ecosystem among a workload's unavailable probes: no probe can measure its packages there.
    pub const NOT_MEASURABLE_PREFIX: &str = "not-measurable:";
    /// The same for an ecosystem of which only tools ran there, whose loads do not count: nothing that runs an
    /// application was watched, so that its packages are not known to be unused.
    pub const NOT_MEASURED_PREFIX: &str = "not-measured:";

    /// Whether an entry of a workload's unavailable probes is about this one: about all of it or, behind a colon, about a
    /// part of it or one program.
    pub fn is_about(entry: &str, probe: &str) -> bool {
        entry.strip_prefix(probe).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// What a probe looks at, in words for people; an unknown one is named as it is.
    pub fn describe(probe: &str) -> &str {
        match probe {
            EBPF_FILES => "eBPF: files that were executed, mapped or read",
            LD_AUDIT => "dynamic linker: shared libraries that were loaded",
            PYTHON_IMPORT => "import hook in Python: modules",
            JVMTI => "JVM tool interface: classes that were defined",
            NODE_MODULE => "module hook in Node.js: CommonJS and ES modules",
            RUBY_FEATURE => "hook in Ruby: required features",
            PHP_INCLUDE => "hook in PHP: included files",
            RESYNC => "look at what already ran",
            other => other,
        }
    }
}

/// The language of an ecosystem's packages, for people; `None` for those of an operating system or unknown ones.
pub fn language(ecosystem: &str) -> Option<&'static str> {
    Some(match ecosystem {
        "maven" => "Java",
        "pypi" => "Python",
        "npm" => "Node.js",
        "gem" => "Ruby",
        "composer" | "pear" => "PHP",
        "golang" => "Go",
        "cargo" => "Rust",
        _ => return None,
    })
}

/// Strength of the evidence of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// An instance ran.
    Deployed = 1,
    /// A regular, non-documentation file was read.
    Accessed = 2,
    /// Mapped executable, class defined, module read by its interpreter, or binary executed.
    Loaded = 3,
    /// Code of the package was seen on a stack.
    Executed = 4,
    /// A vulnerable function was seen.
    SymbolExecuted = 5,
}

impl Rung {
    /// All rungs, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Deployed, Self::Accessed, Self::Loaded, Self::Executed, Self::SymbolExecuted];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Accessed => "accessed",
            Self::Loaded => "loaded",
            Self::Executed => "executed",
            Self::SymbolExecuted => "symbol_executed",
        }
    }

    /// Reads a word; `None` for an unknown one, which goes to the dead letters.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.as_str() == word)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $module:ident { $($name:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[allow(missing_docs)]
        pub mod $module {
            $(pub const $name: &str = $word;)*
            /// All known words.
            pub const ALL: &[&str] = &[$($name),*];
        }
    };
}

words!(/// Kinds of used things.
    usage_kind { EXECUTABLE = "executable", LIBRARY = "library", FILE = "file", CLASS = "class", MODULE = "module" });
words!(/// Kinds of packages.
    package_kind { OS = "os", APPLICATION = "application" });
words!(/// Whether a package is vulnerable.
    vulnerable { YES = "yes", NO = "no", NOT_ASSESSED = "not_assessed" });
words!(/// Whether a package is used.
    usage { USED = "used", UNUSED = "unused", NOT_MEASURED = "not_measured", NOT_MEASURABLE = "not_measurable" });
words!(/// What to do with a package.
    recommendation { UPGRADE = "upgrade", REMOVE = "remove", NO_ACTION = "no_action", OBSERVE = "observe", NO_FEED = "no_feed" });
words!(/// State of an ownership.
    ownership_state { OWNED = "owned", UNOWNED = "unowned", UNRESOLVED = "unresolved" });
words!(/// What a path is within its package.
    path_role { CODE = "code", DATA = "data", METADATA = "metadata", DOCUMENTATION = "documentation" });
words!(/// A file compared with the image that it was started from.
    drift { UNCHANGED = "unchanged", MODIFIED = "modified", NEW = "new", UNKNOWN = "unknown" });
words!(/// Where a path lies.
    mount { ROOT = "root", OTHER = "other" });
words!(/// Severities, worst first.
    severity { CRITICAL = "critical", HIGH = "high", MEDIUM = "medium", LOW = "low", NONE = "none", UNKNOWN = "unknown" });
words!(/// Kinds of workloads.
    workload_kind { CONTAINER = "container", POD_CONTAINER = "pod-container", PROCESS = "process" });

/// How processes were observed.
pub mod observed {
    /// Hooked or watched from the process's start.
    pub const AT_START: &str = "at-start";
    /// Observed after it had started.
    pub const ATTACHED: &str = "attached";
    /// Could not be observed; the reason stands among the workload's unavailable probes.
    pub const REFUSED: &str = "refused";
    /// In summaries: no probe could tell what packages of the ecosystem were used.
    pub const NOT_MEASURABLE: &str = "not-measurable";
    /// All known words.
    pub const ALL: &[&str] = &[AT_START, ATTACHED, REFUSED, NOT_MEASURABLE];

    /// What else is counted of processes that were observed in one way.
    pub mod counts {
        /// Classes that were told with the place that they came from.
        pub const CLASSES_TOLD: &str = "classes-told";
        /// Classes without a code source: made at run time, as proxies are, or defined by a loader that does not name one.
        pub const CLASSES_GENERATED: &str = "classes-generated";
        /// Hidden classes (JEP 371) and those that the VM calls anonymous.
        pub const CLASSES_HIDDEN: &str = "classes-hidden";
        /// Classes that were unloaded while they were watched.
        pub const CLASSES_UNLOADED: &str = "classes-unloaded";
        /// Classes that were unloaded before the attach: which they were is not known.
        pub const CLASSES_UNLOADED_BEFORE: &str = "classes-unloaded-before";
        /// All known words.
        pub const ALL: &[&str] =
            &[CLASSES_TOLD, CLASSES_GENERATED, CLASSES_HIDDEN, CLASSES_UNLOADED, CLASSES_UNLOADED_BEFORE];
    }
}

/// File identity of a file that is unchanged since its image was built.
pub const FILE_IDENTITY_IMAGE: &str = "image";
/// Begins the path of classes that came from nobody can tell where; behind it stands the directory of their Java package
/// (`?!/org/example`): an entry of any archive. Its owners may have defined them, and nothing says that one did: state
/// `unresolved` with those owners, `unowned` where no archive has that directory, and `unresolved` without owners where not
/// all archives are known yet.
pub const ANY_ARCHIVE: &[u8] = b"?!/";
/// Begins such a path where the classes' archive is known, but may be a copy of one of the artifact's that no scan lists
/// (unpacked to a temporary directory): `?/tmp/*/log.jar!/org/example`, with `*` for what is another in each run.
pub const COPY_OF_ANY_ARCHIVE: &[u8] = b"?/";
/// Begins the path of a file that was used at a place which no scan lists, and that may be a copy of one of the artifact's.
/// In a question the used file's absolute path stands behind it (`?=/tmp/x/a.js`). The answer, and what is told of it on
/// the topics, names the packages instead, so that it is the same for all their files and in each run
/// (`?=/pkg:npm/a@1#0123456789ab`): state `unresolved` with the owners that it may be a copy of. With the path of a file, or
/// of a directory behind which stands a slash (`?=/srv/server`, `?=/srv/lib/`): what was used there hides what the image has,
/// as a volume does; in answers its drift is `modified`. Alone (`?=/`): nobody could tell of what it is a copy, if of anything.
pub const COPY_OF_ANY_FILE: &[u8] = b"?=/";
/// JSON files that package managers and compilers of Node.js look at: reading one loads nothing. Agent and catalog agree.
pub const NODE_SETTINGS: &[&[u8]] = &[
    b"package-lock.json",
    b".package-lock.json",
    b"npm-shrinkwrap.json",
    b"bower.json",
    b"tsconfig.json",
    b"jsconfig.json",
    b"lerna.json",
    b"composer.json",
];
/// Longest path in an event, in bytes.
pub const PATH_MAX_BYTES: usize = 4096;

/// The ecosystem under which the agent tells what hides uses: one PHP loads Composer's packages and PEAR's.
pub fn measured_as(ecosystem: &str) -> &str {
    if ecosystem == "pear" { "composer" } else { ecosystem }
}

/// The directory of the Java package in a path that begins with [`ANY_ARCHIVE`] or [`COPY_OF_ANY_ARCHIVE`]; empty for the
/// unnamed package.
pub fn java_package_of(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(ANY_ARCHIVE).or_else(|| split_copy(path).map(|(_, directory)| directory))
}

/// The copy, as an absolute path, that a path with [`COPY_OF_ANY_ARCHIVE`] names.
pub fn possible_copy_of(path: &[u8]) -> Option<&[u8]> {
    split_copy(path).map(|(copy, _)| copy)
}

/// Begins what names packages behind [`COPY_OF_ANY_FILE`].
pub const COPY_OF_PACKAGES: &[u8] = b"pkg:";

/// Begins a question whether an archive, or directory of classes, has classes of a Java package (`?@/srv/a.jar!/org/example`:
/// the archive's path within the artifact, and the Java package's directory). The answer names nobody, and is never
/// published: state `owned` if it has, or nobody can tell, and `unowned` if it has none.
pub const CLASSES_WITHIN: &[u8] = b"?@/";

/// Begins a question which of the artifact's own archives that is which classes came from (`?#/tmp/x/inner.jar`: an absolute
/// path outside of the component, `?#/vfs:/content/a.war/WEB-INF/lib/x.jar`: a place in JBoss's virtual file system). The
/// answer's path is that archive's place within the artifact, `owned`; where it is none of them, or nobody can tell, it is the
/// question, `unowned` or `unresolved`, and is never published.
pub const ARCHIVE_ELSEWHERE: &[u8] = b"?#/";
/// Begins the places of JBoss's virtual file system, as paths.
pub const VIRTUAL_FILES: &[u8] = b"vfs:/";

/// The archive, without its leading slash, that such a question names.
pub fn archive_elsewhere(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(ARCHIVE_ELSEWHERE)
}

/// The archive and the directory of the Java package that such a question names.
pub fn classes_within(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = path.strip_prefix(CLASSES_WITHIN)?;
    let end = rest.windows(2).rposition(|step| step == b"!/")?;
    Some((&rest[..end], &rest[end + 2..]))
}

/// What a path with [`COPY_OF_ANY_FILE`] names: the used file without its leading slash, or the packages; empty where
/// nobody could tell.
pub fn copied_file_of(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(COPY_OF_ANY_FILE)
}

fn split_copy(path: &[u8]) -> Option<(&[u8], &[u8])> {
    path.strip_prefix(COPY_OF_ANY_ARCHIVE)?;
    let end = path.windows(2).rposition(|step| step == b"!/")?;
    Some((&path[1..end], &path[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_packages_and_copies() {
        for (path, directory, copy) in [
            ("?!/org/x", Some("org/x"), None),
            ("?!/", Some(""), None),
            ("?/tmp/*/x.jar!/org/x", Some("org/x"), Some("/tmp/*/x.jar")),
            ("?/a.war!/WEB-INF/lib/x.jar!/", Some(""), Some("/a.war!/WEB-INF/lib/x.jar")),
            ("?/tmp/x.jar", None, None),
            ("?x!/org/x", None, None),
            ("app/x.jar!/org/x", None, None),
            ("?=/tmp/x.jar!/a.js", None, None),
        ] {
            let path = path.as_bytes();
            assert_eq!(java_package_of(path), directory.map(str::as_bytes));
            assert_eq!(possible_copy_of(path), copy.map(str::as_bytes));
        }
    }
}
