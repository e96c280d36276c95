//! Python's command lines (https://docs.python.org/3/using/cmdline.html): which run an application, and which are those
//! of installers and compilers of bytecode.

use super::{Options, Reader, base_name, is_in_bin, without_version};

/// Tools that read packages without using them, unless told to run something.
const TOOLS: &[&str] = &[
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
    // They put packages into programs and archives.
    "PyInstaller",
    "pyinstaller",
    "cx_Freeze",
    "cxfreeze",
    "nuitka",
    "shiv",
    // They read code to judge it. pytest is none of these: it runs what it finds.
    "mypy",
    "dmypy",
    "pylint",
    "flake8",
    "black",
    "isort",
    "pyflakes",
    "pycodestyle",
    "pyright",
    "bandit",
    "vulture",
    "yapf",
    "autopep8",
    "autoflake",
    "docformatter",
    "pydocstyle",
    "pyupgrade",
    "refurb",
    "radon",
    "pytype",
    "pyre",
    "basedpyright",
    "pylsp",
    "jedi-language-server",
    "jedi_language_server",
    "pycompile",
    "py3compile",
    "pyclean",
    "py3clean",
];

/// Tools that are modules only: a script of such a name is one of the application, as are build.py and safety.py.
const MODULES_ONLY: &[&str] = &["build", "venv", "ensurepip"];

/// Package managers of systems, and backups. What they execute may be a service that stays.
const SYSTEM_TOOLS: &[&str] = &[
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
const RUNNERS: &[&str] = &["pipenv", "pipx", "poetry", "pdm", "hatch", "conda", "mamba", "uv"];

/// Their subcommands that do.
const RUNNING: &[&str] = &["run", "exec", "start", "shell", "serve", "test", "x"];

/// Groups of subcommands, one of which may: `uv tool run`, `hatch env run`.
const GROUPS: &[&str] = &["tool", "env"];

/// Those of PDM that do not; anything else is `run` or the name of a script (pdm-project.org/en/latest/reference/cli).
const PDM_INSTALLING: &[&str] = &[
    "add",
    "build",
    "cache",
    "completion",
    "config",
    "export",
    "fix",
    "import",
    "info",
    "init",
    "install",
    "list",
    "lock",
    "new",
    "outdated",
    "plugin",
    "publish",
    "py",
    "python",
    "remove",
    "search",
    "self",
    "show",
    "sync",
    "update",
    "use",
    "venv",
];

/// Options of these tools before their subcommand.
const OPTIONS: Options = Options {
    with_value: &[
        "-C",
        "--directory",
        "-P",
        "--project",
        "-p",
        "-e",
        "--env",
        "-c",
        "--config",
        "--config-file",
        "--cache-dir",
        "--data-dir",
        "--color",
        "--python",
        "--python-preference",
        "--allow-insecure-host",
    ],
    flags: &[
        "-q",
        "--quiet",
        "-v",
        "-vv",
        "-vvv",
        "--verbose",
        "-n",
        "-h",
        "--help",
        "-V",
        "--version",
        "--offline",
    ],
};

/// A Python interpreter by its name: python, python3, python3.11, python3.11-dbg, pypy3, platform-python.
pub fn is_python(name: &str) -> bool {
    let name = name.strip_suffix("-dbg").unwrap_or(name);
    let bare = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || b".dmt".contains(&byte)))
    };
    bare("python")
        || bare("pypy")
        || bare("graalpy")
        || name == "graalpython"
        || name.starts_with("platform-python")
}

/// Judges the arguments of an interpreter.
pub(super) fn judge(arguments: &[String]) -> Reader {
    tool_of(arguments).map_or(Reader::Python, |(tool, rest)| judge_tool(&tool, rest))
}

/// Whether the interpreter runs a package manager, which hands over to the application.
pub(super) fn is_front_end(arguments: &[String]) -> bool {
    tool_of(arguments).is_some_and(|(tool, _)| RUNNERS.contains(&without_version(&tool)))
}

/// What runs, as a tool would be called, and its arguments; `None` if it is certainly the application.
fn tool_of(arguments: &[String]) -> Option<(String, &[String])> {
    let after = |index: usize| arguments.get(index..).unwrap_or_default();
    let of_module = |index: usize| {
        let module = arguments.get(index).map_or("", |module| module.split('.').next().unwrap_or(""));
        Some((module.to_owned(), after(index + 1)))
    };
    let mut rest = arguments.iter().enumerate();
    while let Some((index, argument)) = rest.next() {
        if argument == "-m" {
            return of_module(index + 1);
        }
        if let Some(module) = argument.strip_prefix("-m").filter(|_| !argument.starts_with("--")) {
            return Some((module.split('.').next().unwrap_or("").to_owned(), after(index + 1)));
        }
        if argument == "-c" || argument == "-" {
            return None;
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
                return of_module(index + 1);
            }
            continue;
        }
        let script = base_name(argument.as_bytes());
        // `python /usr/lib/python3/dist-packages/pip install` runs the directory as pip. A name with `.py` is the
        // application's, unless it is installed.
        let tool = script.strip_suffix(".py").filter(|_| is_in_bin(argument)).unwrap_or(&script);
        return (!MODULES_ONLY.contains(&tool)).then(|| (tool.to_owned(), after(index + 1)));
    }
    None
}

fn judge_tool(tool: &str, rest: &[String]) -> Reader {
    // pip3.11 is pip.
    let bare = without_version(tool);
    if SYSTEM_TOOLS.contains(&tool) {
        return Reader::Ignored;
    }
    if !TOOLS.contains(&tool) && !TOOLS.contains(&bare) {
        return Reader::Python;
    }
    let runs = RUNNERS.contains(&bare) && runs_application(bare, rest);
    if runs { Reader::Python } else { Reader::Installer }
}

/// uv itself reads packages to install them; what it runs is another program.
pub(super) fn judge_uv(rest: &[String]) -> Reader {
    if runs_application("uv", rest) { Reader::Plain } else { Reader::Installer }
}

fn runs_application(tool: &str, rest: &[String]) -> bool {
    OPTIONS.any_reading(rest, |rest| match rest {
        [] => false,
        [word, ..] if tool == "pdm" => !PDM_INSTALLING.contains(&word.as_str()),
        [group, word, ..] if GROUPS.contains(&group.as_str()) => RUNNING.contains(&word.as_str()),
        [word, ..] => RUNNING.contains(&word.as_str()),
    })
}
