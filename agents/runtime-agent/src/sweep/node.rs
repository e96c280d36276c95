//! Command lines of Node.js, Bun and Deno (nodejs.org/api/cli.html): which run an application, and which are those of
//! installers, and of bundlers and compilers, whose reads turn modules into other files but do not run them.

use super::node_words::{
    BUN_INSTALLING, DENO_INSTALLING, FLAGS, NPM_INSTALLING, NPM_OPTIONS, PNPM_INSTALLING, PNPM_OPTIONS,
    RUNTIME_OPTIONS, YARN_INSTALLING, YARN_OPTIONS,
};
use super::{Options, Reader, base_name, is_in_bin};
use crate::hooks::language::Language;

/// Options that take the next word.
const OPTIONS_WITH_VALUE: &[&str] = &[
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--env-file",
    "--env-file-if-exists",
    "--input-type",
    "--icu-data-dir",
    "--openssl-config",
    "--redirect-warnings",
    "--title",
    "--watch-path",
    "--stack-trace-limit",
    "--max-old-space-size",
    "--test-name-pattern",
    "--test-reporter",
    "--test-reporter-destination",
];

/// Bundlers, compilers and linters that only ever read what they are given. They may start an application: `tsup
/// --onSuccess "node app.js"`.
const READING_TOOLS: &[&str] = &[
    "webpack-cli",
    "rollup",
    "esbuild",
    "tsc",
    "tsup",
    "babel",
    "swc",
    "terser",
    "uglifyjs",
    "parcel-build",
    "browserify",
    "ncc",
    "pkg",
    "nexe",
    "microbundle",
    "eslint",
    "prettier",
    "stylelint",
    "tslint",
    "standard",
    "madge",
    "typedoc",
    "jsdoc",
];

/// Tools of installation, and those that ask a package manager: what they start is theirs.
const INSTALLING_TOOLS: &[&str] = &[
    "depcheck",
    "license-checker",
    "npm-check",
    "npm-check-updates",
    "ncu",
    "patch-package",
    "node-gyp",
    "node-pre-gyp",
    "node-gyp-build",
    "prebuild-install",
    "cyclonedx-npm",
    "snyk",
];

/// Tools that serve the application unless told to build it. The words of those that only build or read.
const BUILDERS: &[(&str, &[&str])] = &[
    ("vite", &["build", "optimize"]),
    ("next", &["build", "export", "lint", "info", "telemetry", "typegen"]),
    ("nuxt", NUXT_BUILDING),
    ("nuxi", NUXT_BUILDING),
    (
        "ng",
        &[
            "build",
            "b",
            "new",
            "n",
            "generate",
            "g",
            "add",
            "update",
            "lint",
            "extract-i18n",
            "config",
            "version",
            "v",
        ],
    ),
    ("react-scripts", &["build", "eject"]),
    ("vue-cli-service", &["build", "inspect", "lint", "help"]),
    ("astro", &["build", "check", "sync", "add", "info", "telemetry", "preferences", "docs"]),
    ("gatsby", &["build", "clean", "info", "new", "plugin", "options", "telemetry"]),
    ("remix", &["build", "vite:build", "init", "routes", "reveal"]),
    ("parcel", &["build", "help"]),
];
const NUXT_BUILDING: &[&str] = &[
    "build",
    "generate",
    "prepare",
    "analyze",
    "typecheck",
    "cleanup",
    "clean",
    "info",
    "init",
    "add",
    "upgrade",
    "module",
];
/// Options of these. An option that is not known leaves open whether the tool serves, which counts as that it does.
const BUILDER_OPTIONS: Options =
    Options { with_value: &["-c", "--config", "-m", "--mode", "--base"], flags: FLAGS };
/// The only words by which webpack serves; others are its entries.
const WEBPACK_SERVING: &[&str] = &["serve", "server", "s"];

/// Package managers that start what they run as processes of their own.
const FRONT_ENDS: &[&str] = &["npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "corepack"];

/// Judges the arguments of Node.js.
pub(super) fn judge(arguments: &[String]) -> Reader {
    match script_of(arguments) {
        Ok(at) => judge_tool(&tool_of(&arguments[at]), arguments.get(at + 1..).unwrap_or_default()),
        Err(reader) => reader,
    }
}

/// Whether a runtime only starts the application in another process: Node.js with a package manager, `bun x`, a script of
/// package.json by its name.
pub(super) fn is_front_end(runtime: &str, arguments: &[String]) -> bool {
    // Of words that can be read in two ways it is not certain.
    let always =
        |starts: fn(&[String]) -> bool| !RUNTIME_OPTIONS.any_reading(arguments, |rest| !starts(rest));
    match runtime {
        "bunx" => true,
        "bun" => always(starts_by_bun),
        "deno" => always(|rest| rest.first().is_some_and(|word| word == "task")),
        _ => script_of(arguments).is_ok_and(|at| FRONT_ENDS.contains(&tool_of(&arguments[at]).as_str())),
    }
}

/// Whether Bun starts something for these words: what is no file by its name is a script of package.json, or a program of
/// a package, and its shell's commands are processes, too.
fn starts_by_bun(words: &[String]) -> bool {
    let is_name = |word: &String| !word.contains(['/', '.', ':']) && word != "-";
    match words {
        [word, ..] if word == "x" || word == "exec" => true,
        [word, ..] if word == "test" || word == "repl" => false,
        [word, rest @ ..] if word == "run" => {
            !RUNTIME_OPTIONS.any_reading(rest, |rest| !rest.first().is_some_and(is_name))
        }
        words => words.first().is_some_and(is_name),
    }
}

/// Which JavaScript runtime a program is: Bun has two names for one file.
pub(super) fn runtime_of<'p>(program: &'p str, arguments: &[String]) -> &'p str {
    let called = arguments.first().map(|word| base_name(word.as_bytes()));
    match program {
        "bun" | "bun.exe" | "bunx" if called.as_deref() == Some("bunx") => "bunx",
        "bun.exe" => "bun",
        program => program,
    }
}

/// Where the script stands; without one, what Node.js does.
fn script_of(arguments: &[String]) -> Result<usize, Reader> {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        match argument.as_str() {
            // A check of syntax, and the preparation of a single executable, read only.
            "-c" | "--check" | "--experimental-sea-config" | "--build-sea" => return Err(Reader::Installer),
            "-e" | "--eval" | "-p" | "--print" | "-pe" | "-" | "--run" | "--test" => {
                return Err(Reader::Node);
            }
            "--" => {
                at += 1;
                break;
            }
            option if OPTIONS_WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    if at < arguments.len() { Ok(at) } else { Err(Reader::Node) }
}

/// Bun and Deno install and run in one program.
pub(super) fn judge_other_runtime(name: &str, arguments: &[String]) -> Reader {
    let installing = match name {
        "bunx" => return Reader::Node,
        "deno" => DENO_INSTALLING,
        _ => BUN_INSTALLING,
    };
    let runs_script = |words: &[String]| match words {
        [script, rest @ ..] => judge_tool(&tool_of(script), rest) == Reader::Node,
        [] => true,
    };
    let runs = RUNTIME_OPTIONS.any_reading(arguments, |words| match words {
        [word, ..] if has(installing, word) => false,
        [word, rest @ ..] if word == "run" || word == "x" => RUNTIME_OPTIONS.any_reading(rest, runs_script),
        words => runs_script(words),
    });
    if runs { Reader::Node } else { Reader::Installer }
}

/// The script of a tool that Bun or Deno runs in its own process, if it is one by its place.
pub(super) fn script_of_other_runtime(arguments: &[String]) -> Option<String> {
    let words = arguments.iter().filter(|word| !word.starts_with('-') && *word != "run" && *word != "x");
    words.map(|word| tool_of(word)).next().filter(|tool| !tool.is_empty())
}

/// Judges a script of a tool by its name and its arguments; scripts of no known tool are the application.
pub(super) fn judge_tool(tool: &str, rest: &[String]) -> Reader {
    // Without a word npm and pnpm explain themselves, and Yarn installs.
    let other_than = |options: Options, installing: &[&str]| {
        options.any_reading(rest, |rest| rest.first().is_some_and(|word| !has(installing, word)))
    };
    // What a package manager starts when it installs is no application.
    let mut tool_reader = Reader::Installer;
    let runs = match tool {
        "npm" => other_than(NPM_OPTIONS, NPM_INSTALLING),
        "yarn" | "yarnpkg" => other_than(YARN_OPTIONS, YARN_INSTALLING),
        "pnpm" => other_than(PNPM_OPTIONS, PNPM_INSTALLING),
        // corepack pnpm@9 install
        "corepack" => {
            let at = rest.iter().position(|argument| !argument.starts_with('-'));
            let tool = at.map(|at| rest[at].split('@').next().unwrap_or_default());
            return match (tool, at) {
                (Some(tool @ ("npm" | "npx" | "pnpm" | "pnpx" | "yarn")), Some(at)) => {
                    judge_tool(tool, &rest[at + 1..])
                }
                _ => Reader::Installer,
            };
        }
        tool if INSTALLING_TOOLS.contains(&tool) => false,
        tool => {
            tool_reader = Reader::Ignored;
            is_serving(tool, rest)
        }
    };
    if runs { Reader::Node } else { tool_reader }
}

/// Whether a bundler, compiler or linter serves the application; what is none of them is the application.
fn is_serving(tool: &str, rest: &[String]) -> bool {
    match tool {
        "webpack" => BUILDER_OPTIONS
            .any_reading(rest, |rest| rest.first().is_some_and(|word| has(WEBPACK_SERVING, word))),
        tool if READING_TOOLS.contains(&tool) => false,
        tool => match BUILDERS.iter().find(|(name, _)| *name == tool) {
            Some((_, building)) => BUILDER_OPTIONS
                .any_reading(rest, |rest| !rest.first().is_some_and(|word| has(building, word))),
            None => true,
        },
    }
}

/// Whether a program, judged as this reader, is a tool of Node.js that may start an application.
pub fn may_start_application(program: &[u8], reader: Reader) -> bool {
    reader == Reader::Ignored && Language::of_program(program) == Some(Language::Node)
}

/// Judges what such a tool starts: interpreters whose script lies in a package are its workers, others an application.
pub fn judge_below_tool(executable: &[u8], arguments: &[String]) -> Reader {
    let (program, words) = super::linked(executable, arguments).unwrap_or((executable, arguments));
    let rest = words.get(1..).unwrap_or_default();
    let script = match Language::of_program(program) {
        Some(Language::Node) => script_of(rest).ok(),
        _ => super::script(rest),
    };
    match super::judge(executable, arguments) {
        reader if reader.language().is_none() => reader,
        _ if script.is_some_and(|at| is_of_package(&rest[at])) => Reader::Ignored,
        reader => reader,
    }
}

fn is_of_package(script: &str) -> bool {
    script.split('/').any(|part| part == "node_modules")
}

fn has(words: &[&str], word: &str) -> bool {
    words.contains(&word)
}

/// The name of the tool whose script this is: `npm-cli.js`, `.yarn/releases/yarn-4.1.0.cjs`,
/// `node_modules/webpack/bin/webpack.js`, Deno's `npm:eslint@9`; empty for scripts of the application, though they be named
/// as a tool.
fn tool_of(script: &str) -> String {
    if let Some(package) = script.strip_prefix("npm:") {
        return package.split(['@', '/']).next().unwrap_or_default().to_owned();
    }
    let name = base_name(script.as_bytes());
    let stem = [".js", ".cjs", ".mjs"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    if stem.strip_prefix("yarn-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return "yarn".to_owned();
    }
    let of_package = || is_of_package(script) || is_in_bin(script);
    match stem {
        "npm-cli" => "npm",
        "npx-cli" => "npx",
        "npm" | "npx" | "yarn" | "yarnpkg" | "pnpm" | "corepack" => stem,
        stem if of_package() => stem,
        _ => "",
    }
    .to_owned()
}
