//! Command lines of PHP (php(1)): which run an application, and which are those of Composer, checks of syntax, and
//! scripts that only fill OPcache.

use super::{Options, Reader, base_name};

/// Options that take the next word.
const OPTIONS_WITH_VALUE: &[&str] =
    &["-c", "-d", "-t", "-z", "-y", "-p", "-g", "--php-ini", "--define", "--docroot"];

/// Composer's subcommands that run nothing of the application (getcomposer.org/doc/03-cli.md). Anything else is `exec`,
/// `run-script`, or the name of a script.
const INSTALLING: &[&str] = &[
    "install",
    "i",
    "update",
    "u",
    "upgrade",
    "require",
    "r",
    "remove",
    "rm",
    "uninstall",
    "reinstall",
    "bump",
    "dump-autoload",
    "dumpautoload",
    "show",
    "info",
    "outdated",
    "browse",
    "home",
    "suggests",
    "fund",
    "depends",
    "why",
    "prohibits",
    "why-not",
    "validate",
    "status",
    "self-update",
    "selfupdate",
    "config",
    "repository",
    "create-project",
    "diagnose",
    "archive",
    "audit",
    "help",
    "about",
    "list",
    "licenses",
    "search",
    "init",
    "check-platform-reqs",
    "clear-cache",
    "clearcache",
    "cc",
    "completion",
];

/// Options of Composer before its subcommand.
const COMPOSER_OPTIONS: Options = Options {
    with_value: &["-d", "--working-dir"],
    flags: &[
        "-n",
        "--no-interaction",
        "-q",
        "--quiet",
        "-v",
        "-vv",
        "-vvv",
        "--verbose",
        "--ansi",
        "--no-ansi",
        "--profile",
        "--no-plugins",
        "--no-scripts",
        "--no-cache",
        "-h",
        "--help",
        "-V",
        "--version",
    ],
};

/// Scripts that only fill OPcache, by their whole names without `.php`.
const OPCACHE_WARMERS: &[&str] = &[
    "opcache-warm",
    "opcache_warm",
    "opcache-warmup",
    "opcache_warmup",
    "opcache-warmer",
    "opcache_warmer",
    "opcache-compile",
    "opcache_compile",
    "warm-opcache",
    "warm_opcache",
    "warmup-opcache",
    "compile-opcache",
    "compile_opcache",
];

/// Tools that read sources without running them.
const READING_TOOLS: &[&str] = &[
    "phpstan",
    "psalm",
    "phpcs",
    "phpcbf",
    "php-cs-fixer",
    "phan",
    "phpmd",
    "pdepend",
    "rector",
    "parallel-lint",
    "phploc",
    "deptrac",
    "phpdoc",
    "cachetool",
    "box",
    "pecl",
    "peclcmd.php",
    "pear",
    "pearcmd.php",
    "pickle",
    "pie",
    "local-php-security-checker",
];

/// Judges the arguments of an interpreter.
pub(super) fn judge(arguments: &[String]) -> Reader {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        match argument.as_str() {
            // A check of syntax, and the printing of sources.
            "-l" | "--syntax-check" | "-w" | "--strip" | "-s" | "--syntax-highlight" => {
                return Reader::Installer;
            }
            "-r" | "--run" => {
                let warms = arguments.get(at + 1).is_some_and(|code| code.contains("opcache_compile_file"));
                return if warms { Reader::Installer } else { Reader::Php };
            }
            "-S" | "--server" | "-a" | "-B" | "-R" | "-F" | "-E" => return Reader::Php,
            "-f" | "--file" | "--" => {
                at += 1;
                break;
            }
            option if OPTIONS_WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    match arguments.get(at) {
        Some(script) => judge_script(script, arguments.get(at + 1..).unwrap_or_default()),
        None => Reader::Php,
    }
}

fn judge_script(script: &str, rest: &[String]) -> Reader {
    let name = base_name(script.as_bytes());
    // rector.php is a file of the application, rector.phar the tool.
    let tool = name.strip_suffix(".phar").unwrap_or(&name);
    if tool == "composer" {
        return judge_composer(rest);
    }
    let warms = OPCACHE_WARMERS.contains(&name.strip_suffix(".php").unwrap_or(&name));
    if warms || READING_TOOLS.contains(&tool) { Reader::Installer } else { Reader::Php }
}

fn judge_composer(rest: &[String]) -> Reader {
    let runs = COMPOSER_OPTIONS.any_reading(rest, |rest| match rest {
        [] => false,
        [global, rest @ ..] if global == "global" => judge_composer(rest) == Reader::Php,
        [word, ..] => !INSTALLING.contains(&word.as_str()),
    });
    if runs { Reader::Php } else { Reader::Installer }
}
