//! Command lines of Ruby (ruby(1)): which run an application, and which are those of gem, bundler, and compilers of
//! instruction sequences.

use super::{Options, Reader, base_name, without_version};

/// Options that take the next word.
const OPTIONS_WITH_VALUE: &[&str] =
    &["-I", "-r", "-C", "-E", "--encoding", "--external-encoding", "--backtrace-limit"];

/// Bundler's subcommands that run something, abbreviations included (bundler.io/man/bundle.1.html).
const BUNDLER_RUNNING: &[&str] = &["exec", "exe", "ex", "e", "console"];

/// Options of Bundler before its subcommand.
const BUNDLER_OPTIONS: Options = Options {
    with_value: &["--gemfile", "-r", "--retry"],
    flags: &["--no-color", "-V", "--verbose", "--dry-run", "-h", "--help", "-v", "--version"],
};

/// Tools that only read.
const READING_TOOLS: &[&str] = &[
    "rdoc",
    "ri",
    "yard",
    "yardoc",
    "rbs",
    "steep",
    "sorbet",
    "solargraph",
    "ruby-lsp",
    "rubocop",
    "standardrb",
    "reek",
    "erblint",
    "haml-lint",
    "slim-lint",
    "brakeman",
    "license_finder",
    "bundle-audit",
    "bundler-audit",
];
/// Scripts that `gem install` runs to build an extension (guides.rubygems.org/gems-with-extensions).
const BUILD_SCRIPTS: &[&str] = &["extconf.rb", "mkrf_conf.rb"];

/// Judges the arguments of an interpreter.
pub(super) fn judge(arguments: &[String]) -> Reader {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        match argument.as_str() {
            "--" => {
                at += 1;
                break;
            }
            "-" | "-e" => return Reader::Ruby,
            option if OPTIONS_WITH_VALUE.contains(&option) => at += 2,
            option if !option.starts_with('-') => break,
            option if option.starts_with("--") => at += 1,
            option => {
                // `-wc`: the syntax is checked, nothing runs. Letters that take a value end the list.
                let letters = option[1..].chars().take_while(|letter| !"eIrCEKTWx0iF".contains(*letter));
                if letters.clone().any(|letter| letter == 'c') {
                    return Reader::Installer;
                }
                if option[1..].contains('e') && letters.count() + 2 == option.len() {
                    return Reader::Ruby;
                }
                at += 1;
            }
        }
    }
    match arguments.get(at) {
        Some(script) => {
            judge_tool(&base_name(script.as_bytes()), arguments.get(at + 1..).unwrap_or_default())
        }
        None => Reader::Ruby,
    }
}

fn judge_tool(tool: &str, rest: &[String]) -> Reader {
    // What runs in the same process: `bundle exec gem list`.
    let next = |rest: &[String]| match rest {
        [tool, rest @ ..] => judge_tool(&base_name(tool.as_bytes()), rest) == Reader::Ruby,
        [] => true,
    };
    // Names with `.rb` are those of the application's files. gem3.1, bundle3.1
    let runs = match without_version(tool) {
        "gem" => BUNDLER_OPTIONS.any_reading(rest, |rest| match rest {
            [word, rest @ ..] if word == "exec" => next(rest),
            _ => false,
        }),
        "bundle" | "bundler" => BUNDLER_OPTIONS.any_reading(rest, |rest| match rest {
            [word, ..] if word == "console" => true,
            [word, rest @ ..] if BUNDLER_RUNNING.contains(&word.as_str()) => next(rest),
            _ => false,
        }),
        "bootsnap" => false,
        _ if BUILD_SCRIPTS.contains(&tool) => false,
        tool => !READING_TOOLS.contains(&tool),
    };
    if runs { Reader::Ruby } else { Reader::Installer }
}
