//! Command lines of Node.js, Bun and Deno (nodejs.org/api/cli.html): which run an application, and which are those of
//! installers, and of bundlers and compilers, whose reads turn modules into other files but do not run them.

use super::{Reader, base_name, subcommand};

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

/// npm's subcommands that run something, abbreviations included (docs.npmjs.com/cli/commands).
const NPM_RUNNING: &[&str] = &[
    "run",
    "run-script",
    "rum",
    "urn",
    "start",
    "stop",
    "restart",
    "test",
    "tst",
    "t",
    "exec",
    "x",
    "explore",
];

/// Subcommands of Yarn and pnpm that run nothing. Anything else is the name of a script or of a program of a package.
const INSTALLING: &[&str] = &[
    "install",
    "i",
    "add",
    "remove",
    "rm",
    "uninstall",
    "un",
    "up",
    "update",
    "upgrade",
    "upgrade-interactive",
    "list",
    "ls",
    "ll",
    "why",
    "info",
    "view",
    "show",
    "outdated",
    "audit",
    "cache",
    "config",
    "c",
    "set",
    "get",
    "dedupe",
    "fetch",
    "import",
    "link",
    "unlink",
    "ln",
    "pack",
    "publish",
    "prune",
    "rebuild",
    "rb",
    "store",
    "licenses",
    "licences",
    "login",
    "logout",
    "whoami",
    "version",
    "versions",
    "init",
    "create",
    "constraints",
    "plugin",
    "patch",
    "patch-commit",
    "npm",
    "global",
    "check",
    "autoclean",
    "bin",
    "root",
    "doctor",
    "env",
    "self-update",
    "server",
    "deploy",
    "tag",
    "team",
    "owner",
    "policies",
    "import-lockfile",
    "help",
    "setup",
];

/// Bundlers, compilers and linters that only ever read what they are given.
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
    "depcheck",
    "license-checker",
    "madge",
    "typedoc",
    "jsdoc",
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

/// Tools that build by some words, and serve the application by others.
const BUILDERS: &[(&str, &[&str])] = &[
    ("webpack", &["serve", "server", "s"]),
    ("vite", &["", "dev", "serve", "preview"]),
    ("next", &["", "start", "dev"]),
    ("nuxt", &["", "start", "dev", "preview"]),
    ("nuxi", &["start", "dev", "preview"]),
    ("ng", &["serve", "s", "test", "run"]),
    ("react-scripts", &["start", "test"]),
    ("vue-cli-service", &["serve", "test:unit"]),
    ("astro", &["dev", "preview"]),
    ("gatsby", &["develop", "serve"]),
    ("remix", &["dev"]),
    ("remix-serve", &[]),
    ("parcel", &["", "serve", "watch"]),
];

/// Judges the arguments of Node.js.
pub(super) fn judge(arguments: &[String]) -> Reader {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        match argument.as_str() {
            // A check of syntax, and the preparation of a single executable, read only.
            "-c" | "--check" | "--experimental-sea-config" | "--build-sea" => return Reader::Installer,
            "-e" | "--eval" | "-p" | "--print" | "-pe" | "-" | "--run" | "--test" => return Reader::Node,
            "--" => {
                at += 1;
                break;
            }
            option if OPTIONS_WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    match arguments.get(at) {
        Some(script) => judge_tool(&tool_of(script), arguments.get(at + 1..).unwrap_or_default()),
        None => Reader::Node,
    }
}

/// Bun and Deno install and run in one program.
pub(super) fn judge_other_runtime(name: &str, arguments: &[String]) -> Reader {
    const READING: &[&str] = &[
        "build", "pm", "cache", "check", "fmt", "lint", "doc", "compile", "info", "types", "vendor", "bundle",
    ];
    match subcommand(arguments) {
        Some(word) if name != "bunx" && (INSTALLING.contains(&word) || READING.contains(&word)) => {
            Reader::Installer
        }
        _ => Reader::Node,
    }
}

/// Judges a script of a tool by its name and its arguments; scripts of no known tool are the application.
pub(super) fn judge_tool(tool: &str, rest: &[String]) -> Reader {
    let word = subcommand(rest);
    let runs = match tool {
        "npm" => word.is_some_and(|word| NPM_RUNNING.contains(&word)),
        "npx" | "pnpx" | "pnpm-dlx" => true,
        // Without a word Yarn installs, and pnpm explains itself.
        "yarn" | "yarnpkg" | "pnpm" => word.is_some_and(|word| !INSTALLING.contains(&word)),
        // corepack pnpm install
        "corepack" => {
            let at = rest.iter().position(|argument| !argument.starts_with('-'));
            return match (word, at) {
                (Some(tool @ ("npm" | "npx" | "pnpm" | "pnpx" | "yarn")), Some(at)) => {
                    judge_tool(tool, &rest[at + 1..])
                }
                _ => Reader::Installer,
            };
        }
        tool if READING_TOOLS.contains(&tool) => false,
        tool => match BUILDERS.iter().find(|(name, _)| *name == tool) {
            Some((_, serving)) => serving.contains(&word.unwrap_or_default()),
            None => true,
        },
    };
    if runs { Reader::Node } else { Reader::Installer }
}

/// The name of the tool whose script this is: `npm-cli.js`, `.yarn/releases/yarn-4.1.0.cjs`,
/// `node_modules/webpack/bin/webpack.js`.
fn tool_of(script: &str) -> String {
    let name = base_name(script.as_bytes());
    let stem = [".js", ".cjs", ".mjs"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    if stem.strip_prefix("yarn-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return "yarn".to_owned();
    }
    match stem {
        "npm-cli" => "npm",
        "npx-cli" => "npx",
        stem => stem,
    }
    .to_owned()
}
