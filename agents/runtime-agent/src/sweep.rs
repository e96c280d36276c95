//! Whose reads are no use: package managers, compilers of bytecode, scanners and backups touch every file without
//! needing it (DESIGN section 3, "Not use"). A pure function over a program and its command line.
//! It must never judge by the program alone where a subcommand runs an application: `pipenv run`, `npm start`.

/// How a process's reads count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As accesses.
    Plain,
    /// A Python interpreter: modules are loads.
    Python,
    /// Not at all.
    Ignored,
}

impl Reader {
    /// The class as the eBPF programs write it.
    pub fn class(self) -> u32 {
        use crate::ebpf::wire::reader;
        match self {
            Self::Plain => reader::PLAIN,
            Self::Python => reader::PYTHON,
            Self::Ignored => reader::IGNORED,
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

/// Programs whose reads count by their command line. Pythons are judged as well, by the begin of their name.
pub const JUDGED_PROGRAMS: &[&str] =
    &["platform-python", "node", "ruby", "php", "perl", "uv", "npm", "pnpm", "yarn"];

/// Subcommands that run an application: what they read counts.
const RUNNING: &[&str] = &["run", "exec", "start", "shell", "serve", "test", "x", "run-script", "console"];

/// Tools of Python that read packages without using them, unless told to run something.
const PYTHON_TOOLS: &[&str] = &[
    "pip",
    "pipenv",
    "pipx",
    "poetry",
    "pdm",
    "hatch",
    "conda",
    "mamba",
    "easy_install",
    "compileall",
    "py_compile",
    "ensurepip",
    "venv",
    "virtualenv",
    "build",
    "twine",
    "pipdeptree",
    "pip-audit",
    "pip_audit",
    "safety",
    "pycompile",
    "py3compile",
    "pyclean",
    "py3clean",
    "dnf",
    "dnf-3",
    "yum",
    "unattended-upgrade",
    "unattended-upgrades",
    "apt-listchanges",
    "duplicity",
    "borg",
];

/// Tools that can run an application by a subcommand; all others never do.
const RUNNERS: &[&str] = &[
    "pipenv",
    "pipx",
    "poetry",
    "pdm",
    "hatch",
    "conda",
    "mamba",
    "npm",
    "npm-cli.js",
    "npx-cli.js",
    "yarn",
    "yarn.js",
    "pnpm",
    "pnpm.cjs",
    "bundle",
    "bundler",
    "composer",
    "composer.phar",
    "uv",
];

/// Tools of other interpreters, likewise.
const OTHER_TOOLS: &[&str] = &[
    "npm",
    "npm-cli.js",
    "npx-cli.js",
    "yarn",
    "yarn.js",
    "pnpm",
    "pnpm.cjs",
    "corepack.js",
    "gem",
    "bundle",
    "bundler",
    "composer",
    "composer.phar",
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
    let name = base_name(executable);
    let rest = arguments.get(1..).unwrap_or_default();
    if is_python(&name) {
        return judge_python(rest);
    }
    // The kernel compares the first 15 bytes, as its key holds no more.
    if IGNORED_PROGRAMS
        .iter()
        .any(|ignored| *ignored == name || (ignored.len() == 15 && name.starts_with(ignored)))
    {
        return Reader::Ignored;
    }
    match name.as_str() {
        "npm" | "pnpm" | "yarn" | "uv" => by_subcommand(&name, rest, Reader::Plain),
        "node" | "ruby" | "php" | "perl" => {
            let script = rest.iter().position(|argument| !argument.starts_with('-'));
            match script.map(|index| (index, base_name(rest[index].as_bytes()))) {
                Some((index, tool)) if OTHER_TOOLS.contains(&tool.as_str()) => {
                    by_subcommand(&tool, &rest[index + 1..], Reader::Plain)
                }
                _ => Reader::Plain,
            }
        }
        _ => Reader::Plain,
    }
}

/// A Python interpreter by its name: python, python3, python3.11, pypy3, platform-python.
pub fn is_python(name: &str) -> bool {
    let bare = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || b".dmt".contains(&byte)))
    };
    bare("python") || bare("pypy") || name.starts_with("platform-python")
}

/// Reads a Python command line (https://docs.python.org/3/using/cmdline.html).
fn judge_python(arguments: &[String]) -> Reader {
    let mut rest = arguments.iter().enumerate();
    while let Some((index, argument)) = rest.next() {
        if argument == "-m" {
            let module = arguments.get(index + 1).map_or("", |module| module.split('.').next().unwrap_or(""));
            return judge_python_tool(module, arguments.get(index + 2..).unwrap_or_default());
        }
        if let Some(module) = argument.strip_prefix("-m").filter(|_| !argument.starts_with("--")) {
            return judge_python_tool(
                module.split('.').next().unwrap_or(""),
                arguments.get(index + 1..).unwrap_or_default(),
            );
        }
        if argument == "-c" || argument == "-" {
            return Reader::Python;
        }
        if argument == "-W" || argument == "-X" || argument == "--check-hash-based-pycs" {
            rest.next();
            continue;
        }
        if argument.starts_with('-') {
            // `-Im pip`: flags before a module.
            if let Some(flags) = argument.strip_prefix('-')
                && !flags.starts_with('-')
                && flags.ends_with('m')
            {
                let module =
                    arguments.get(index + 1).map_or("", |module| module.split('.').next().unwrap_or(""));
                return judge_python_tool(module, arguments.get(index + 2..).unwrap_or_default());
            }
            continue;
        }
        let script = base_name(argument.as_bytes());
        let tail = arguments.get(index + 1..).unwrap_or_default();
        // `python /usr/lib/python3/dist-packages/pip install` runs the directory as pip.
        return judge_python_tool(script.strip_suffix(".py").unwrap_or(&script), tail);
    }
    Reader::Python
}

fn judge_python_tool(tool: &str, rest: &[String]) -> Reader {
    // pip3.11 is pip.
    let bare = tool.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if PYTHON_TOOLS.contains(&tool) || PYTHON_TOOLS.contains(&bare) {
        return by_subcommand(tool, rest, Reader::Python);
    }
    Reader::Python
}

/// `run` and its like count as what they run, everything else does not.
fn by_subcommand(tool: &str, arguments: &[String], running: Reader) -> Reader {
    if !RUNNERS.contains(&tool) {
        return Reader::Ignored;
    }
    match arguments.iter().find(|argument| !argument.starts_with('-')) {
        Some(subcommand) if RUNNING.contains(&subcommand.as_str()) => running,
        _ => Reader::Ignored,
    }
}

/// The last component of a path, as text.
pub fn base_name(path: &[u8]) -> String {
    String::from_utf8_lossy(path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_command_lines() {
        use Reader::{Ignored, Plain, Python};
        let cases = [
            ("usr/bin/dpkg", "dpkg -i x.deb", Ignored),
            ("usr/bin/apt-get", "apt-get install -y curl", Ignored),
            ("usr/bin/dpkg-statoverride", "dpkg-statoverride --list", Ignored),
            ("usr/bin/rsync", "rsync -a / /backup", Ignored),
            ("usr/bin/bash", "bash -c pip", Plain),
            ("usr/sbin/nginx", "nginx -g daemon off;", Plain),
            ("usr/bin/python3.11", "python3 run.py", Python),
            ("usr/bin/python3.11", "python3 -u -W ignore run.py install", Python),
            ("usr/bin/python3.11", "python3", Python),
            ("usr/bin/python3.11", "python3 -c import(pip)", Python),
            ("usr/bin/python3.11", "python3 /venv/bin/pip install flask", Ignored),
            ("usr/bin/python3.11", "python3 /venv/bin/pip3.11 list", Ignored),
            ("usr/bin/python3.11", "python3 -m pip install flask", Ignored),
            ("usr/bin/python3.11", "python3 -mpip list", Ignored),
            ("usr/bin/python3.11", "python3 -Im pip list", Ignored),
            ("usr/bin/python3.11", "python3 -m pip._internal list", Ignored),
            ("usr/bin/python3.11", "python3 -m compileall -q .", Ignored),
            ("usr/bin/python3.11", "python3 -m gunicorn app:app", Python),
            ("usr/bin/python3.11", "python3 -m venv /venv", Ignored),
            ("usr/bin/python3.11", "python3 /usr/bin/py3compile -p x", Ignored),
            ("usr/bin/python3.11", "python3 /venv/bin/pipenv run gunicorn", Python),
            ("usr/bin/python3.11", "python3 /venv/bin/poetry install", Ignored),
            ("usr/bin/python3.11", "python3 /venv/bin/poetry run app", Python),
            ("usr/bin/python3.11", "python3 /venv/bin/gunicorn list", Python),
            ("opt/pypy/pypy3.10", "pypy3 app.py", Python),
            ("usr/bin/python-config", "python-config --libs", Plain),
            ("usr/libexec/platform-python3.6", "platform-python /usr/bin/dnf install x", Ignored),
            ("usr/bin/node", "node server.js", Plain),
            ("usr/bin/node", "node /usr/bin/npm-cli.js install", Ignored),
            ("usr/bin/node", "node /usr/bin/npm-cli.js start", Plain),
            ("usr/bin/node", "node --inspect /app/yarn.js add x", Ignored),
            ("usr/bin/perl", "perl -w /usr/share/debconf/frontend x", Ignored),
            ("usr/bin/perl", "perl app.pl", Plain),
            ("usr/bin/ruby", "ruby /usr/bin/bundle exec puma", Plain),
            ("usr/bin/ruby", "ruby /usr/bin/bundle install", Ignored),
            ("usr/bin/uv", "uv run app.py", Plain),
            ("usr/bin/uv", "uv pip install x", Ignored),
            ("", "", Plain),
        ];
        for (executable, command, expected) in cases {
            let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(judge(executable.as_bytes(), &arguments), expected, "{executable} {command}");
        }
    }

    #[test]
    fn names_fit_the_kernels_key() {
        for name in IGNORED_PROGRAMS.iter().chain(JUDGED_PROGRAMS) {
            assert!(name.len() <= 15, "{name} is longer than a key of the programs map");
        }
    }
}
