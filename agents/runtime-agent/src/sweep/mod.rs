//! Whose reads are no use: package managers, compilers of bytecode, bundlers, scanners and backups touch every file
//! without needing it (DESIGN section 3, "Not use"). A pure function over a program and its command line.
//! It must never judge by the program alone where a subcommand runs an application: `pipenv run`, `npm start`.

mod carried;
mod jvm;
mod node;
mod node_words;
mod php;
mod python;
mod role;
mod ruby;

pub use carried::Carried;
pub use jvm::language_of as language_on_jvm;
pub use node::{judge_below_tool, may_start_application};
pub use python::is_python;
pub use role::{Role, is_application, role_of};

use crate::hooks::language::Language;
use crate::hooks::php_programs::is_php;

/// How a process's reads count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As accesses.
    Plain,
    /// A Python interpreter: modules are loads.
    Python,
    /// A JavaScript runtime that loads modules from files: Node.js, Bun, Deno.
    Node,
    /// A Ruby interpreter.
    Ruby,
    /// PHP: command line, FPM, CGI.
    Php,
    /// A JVM. That it opens a jar proves nothing: its classes are told by JVMTI. What JRuby and Jython read are modules.
    Java,
    /// Not at all.
    Ignored,
    /// Not at all, nor do those of the programs that it executes: scripts of packages that `npm ci` runs. Package
    /// managers of systems are none, nor are bundlers: what they execute may be a service that stays, or an application.
    Installer,
}

impl Reader {
    /// The class as the eBPF programs write it.
    pub fn class(self) -> u32 {
        use crate::ebpf::wire::reader;
        match self {
            Self::Plain => reader::PLAIN,
            Self::Python => reader::PYTHON,
            Self::Node => reader::NODE,
            Self::Ruby => reader::RUBY,
            Self::Php => reader::PHP,
            Self::Java => reader::JAVA,
            Self::Ignored => reader::IGNORED,
            Self::Installer => reader::INSTALLER,
        }
    }

    /// The language whose interpreter this is; a JVM is none.
    pub fn language(self) -> Option<Language> {
        Some(match self {
            Self::Python => Language::Python,
            Self::Node => Language::Node,
            Self::Ruby => Language::Ruby,
            Self::Php => Language::Php,
            Self::Plain | Self::Java | Self::Ignored | Self::Installer => return None,
        })
    }

    /// The reader of a class; a class that is not known yet reads as a plain program does.
    pub fn of_class(class: u32) -> Self {
        use crate::ebpf::wire::reader;
        match class {
            reader::PYTHON => Self::Python,
            reader::NODE => Self::Node,
            reader::RUBY => Self::Ruby,
            reader::PHP => Self::Php,
            reader::JAVA => Self::Java,
            reader::IGNORED => Self::Ignored,
            reader::INSTALLER => Self::Installer,
            _ => Self::Plain,
        }
    }
}

/// Programs whose reads never count, by base name.
pub const IGNORED_PROGRAMS: &[&str] = &[
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "dpkg-divert",
    "dpkg-trigger",
    "dpkg-statoverri",
    "apt",
    "apt-get",
    "apt-cache",
    "apt-config",
    "apt-mark",
    "apt-extracttemp",
    "aptitude",
    "rpm",
    "rpm2archive",
    "rpmdb",
    "rpmkeys",
    "microdnf",
    "apk",
    "pacman",
    "ldconfig",
    "updatedb",
    "updatedb.plocat",
    "mandb",
    "clamscan",
    "clamd",
    "freshclam",
    "trivy",
    "syft",
    "grype",
    "osv-scanner",
    "plimsoll",
    "restic",
    "borg",
    "rsync",
    "tripwire",
    "aide",
    "debsums",
    "prelink",
];

/// Programs whose reads count by their command line, besides those whose names begin with one of [`JUDGED_BEGINNINGS`].
pub const JUDGED_PROGRAMS: &[&str] = &[
    "platform-python",
    "java",
    "jruby",
    "truffleruby",
    "graalpy",
    "graalpython",
    "bun",
    // As npm's package of Bun calls it, on every system.
    "bun.exe",
    "bunx",
    "deno",
    "frankenphp",
    "swoole-cli",
    "zts-php",
    "perl",
    "uv",
    "uvx",
    "npm",
    "pnpm",
    "yarn",
];

/// Beginnings of the names of interpreters; versions follow. The eBPF programs have the same list.
pub const JUDGED_BEGINNINGS: &[&str] = &["python", "pypy", "ruby", "php", "lsphp", "node"];

/// Scripts of Perl that belong to package managers.
const PERL_TOOLS: &[&str] = &[
    "frontend",
    "debconf",
    "dpkg-preconfigure",
    "update-rc.d",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "cpan",
    "cpanm",
];

/// Judges a process by its executable's path and its command line.
pub fn judge(executable: &[u8], arguments: &[String]) -> Reader {
    let (executable, arguments) = linked(executable, arguments).unwrap_or((executable, arguments));
    let name = base_name(executable);
    let rest = arguments.get(1..).unwrap_or_default();
    if is_python(&name) {
        return python::judge(rest);
    }
    // The kernel compares the first 15 bytes, as its key holds no more.
    if IGNORED_PROGRAMS
        .iter()
        .any(|ignored| *ignored == name || (ignored.len() == 15 && name.starts_with(ignored)))
    {
        return Reader::Ignored;
    }
    match without_version(&name) {
        "node" | "nodejs" => node::judge(rest),
        "bun" | "bun.exe" | "bunx" | "deno" => {
            node::judge_other_runtime(node::runtime_of(&name, arguments), rest)
        }
        // Native programs in front of Node.js, which they start as one of their own processes.
        tool @ ("npm" | "pnpm" | "yarn") => match node::judge_tool(tool, rest) {
            Reader::Installer => Reader::Installer,
            _ => Reader::Plain,
        },
        "ruby" | "ruby.ruby" | "jruby" | "truffleruby" => ruby::judge(rest),
        _ if is_php(name.as_bytes()) => php::judge(rest),
        "java" => match language_on_jvm(rest) {
            Some((Language::Ruby, rest)) if ruby::judge(rest) == Reader::Installer => Reader::Installer,
            Some((Language::Python, rest)) if python::judge(rest) == Reader::Installer => Reader::Installer,
            _ => Reader::Java,
        },
        "uv" => python::judge_uv(rest),
        "perl" => match script(rest) {
            Some(at) if PERL_TOOLS.contains(&base_name(rest[at].as_bytes()).as_str()) => Reader::Ignored,
            _ => Reader::Plain,
        },
        _ => Reader::Plain,
    }
}

/// Beginnings of the names of dynamic linkers. The eBPF programs and the audit library have the same list.
pub const LINKER_BEGINNINGS: &[&str] = &["ld-", "ld.so", "ld64.so"];

/// Options of dynamic linkers that take the next word (ld.so(8), `ldso/dynlink.c` of musl).
const LINKER_OPTIONS_WITH_VALUE: &[&str] = &[
    "--library-path",
    "--inhibit-rpath",
    "--audit",
    "--preload",
    "--argv0",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
];

/// Options of dynamic linkers that print something, and run nothing.
const LINKER_OPTIONS_TO_PRINT: &[&str] =
    &["--list", "--verify", "--list-tunables", "--list-diagnostics", "--help", "--version"];

/// The program, and its arguments, that a dynamic linker was called to run: `/lib64/ld-linux-x86-64.so.2 /usr/bin/node x.js`.
/// `None` of all other programs, and where it only prints something.
pub fn linked<'a>(executable: &[u8], arguments: &'a [String]) -> Option<(&'a [u8], &'a [String])> {
    let name = base_name(executable);
    if !LINKER_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) || !name.contains(".so") {
        return None;
    }
    let mut at = 1;
    while let Some(word) = arguments.get(at) {
        if word == "--" {
            at += 1;
            break;
        }
        if !word.starts_with('-') {
            break;
        }
        if LINKER_OPTIONS_TO_PRINT.contains(&word.as_str()) {
            return None;
        }
        at += if LINKER_OPTIONS_WITH_VALUE.contains(&word.as_str()) { 2 } else { 1 };
    }
    let program = arguments.get(at)?;
    Some((program.as_bytes(), &arguments[at..]))
}

/// The first argument that is no option, without knowing which options take a word of their own.
fn script(arguments: &[String]) -> Option<usize> {
    arguments.iter().position(|argument| !argument.starts_with('-'))
}

/// Whether a script lies where installed programs do.
fn is_in_bin(script: &str) -> bool {
    matches!(script.rsplit('/').nth(1), Some("bin" | ".bin"))
}

/// A tool's options before its subcommand.
#[derive(Clone, Copy)]
struct Options {
    /// Those that take the next word.
    with_value: &'static [&'static str],
    /// Those that never do.
    flags: &'static [&'static str],
}

impl Options {
    /// Whether the tool runs something by any reading of its arguments. `runs` gets the subcommand and what follows, or
    /// nothing where there is none. Of an option that is not known both is tried, that it takes the next word and not:
    /// what runs must never be taken for an installer.
    fn any_reading(self, arguments: &[String], runs: impl Fn(&[String]) -> bool) -> bool {
        let mut at = 0;
        while let Some(argument) = arguments.get(at) {
            let argument = argument.as_str();
            if !argument.starts_with('-') {
                return runs(&arguments[at..]);
            }
            let flag =
                argument.contains('=') || argument.starts_with("--no-") || self.flags.contains(&argument);
            let value = arguments.get(at + 1).is_some_and(|next| !next.starts_with('-'));
            if argument == "--" {
                return runs(&arguments[at + 1..]);
            }
            if self.with_value.contains(&argument) {
                at += 2;
            } else if flag || !value {
                at += 1;
            } else if runs(&arguments[at + 1..]) {
                return true;
            } else {
                at += 2;
            }
        }
        runs(&[])
    }
}

/// `ruby3.1`, `php8.2` and `pip3.11` without their versions.
fn without_version(name: &str) -> &str {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let bare = bare.strip_suffix('-').unwrap_or(bare);
    if bare.is_empty() { name } else { bare }
}

/// The last component of a path, as text.
pub fn base_name(path: &[u8]) -> String {
    String::from_utf8_lossy(path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)).into_owned()
}

#[cfg(test)]
mod tests;
