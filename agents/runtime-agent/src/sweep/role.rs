//! What a process means for the question whether an application of its language ran at all. Pure.
//! It must never take a tool, nor what only starts other programs, for an application.

use super::{Reader, base_name, is_python, language_on_jvm, node, python};
use crate::hooks::language::Language;
use crate::hooks::php_programs::is_php_server;

/// What a process proves about the application of its ecosystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its loads do not count; its name, for people.
    Tool(String),
    /// An application, whose loads count.
    Application,
}

/// Options of interpreters that take the next word, which is no script.
const OPTIONS_WITH_VALUE: &[&str] =
    &["-W", "-X", "-I", "-C", "-r", "--require", "--import", "--loader", "-d"];

/// The ecosystem of which a program, judged as this reader, runs a tool or an application; `None` for other programs, for
/// package managers that run something, and for interpreters that only tell their version.
pub fn role_of(program: &[u8], arguments: &[String], reader: Reader) -> Option<(&'static str, Role)> {
    let ecosystem = ecosystem_of(program, arguments)?;
    match reader {
        Reader::Installer | Reader::Ignored => Some((ecosystem, Role::Tool(name_of(program, arguments)))),
        Reader::Python | Reader::Node | Reader::Ruby | Reader::Php | Reader::Java => {
            is_application(program, arguments).then_some((ecosystem, Role::Application))
        }
        Reader::Plain => None,
    }
}

/// Whether an interpreter with these arguments is more than a package manager's process in front of another, and loads
/// anything at all.
pub fn is_application(program: &[u8], arguments: &[String]) -> bool {
    let rest = arguments.get(1..).unwrap_or_default();
    let Some(language) = language_of(program) else { return true };
    let front_end = match language {
        Language::Python => python::is_front_end(rest),
        Language::Node => node::is_front_end(node::runtime_of(&base_name(program), arguments), rest),
        Language::Ruby | Language::Php => false,
    };
    let loads = || {
        is_php_server(base_name(program).as_bytes())
            || language.expects(program, arguments.join("\0").as_bytes()).is_some()
    };
    !front_end && loads()
}

/// Also platform-python, the system's own, which is not hooked.
fn language_of(program: &[u8]) -> Option<Language> {
    Language::of_program(program).or_else(|| is_python(&base_name(program)).then_some(Language::Python))
}

fn ecosystem_of(program: &[u8], arguments: &[String]) -> Option<&'static str> {
    if let Some(language) = language_of(program) {
        return Some(language.ecosystem());
    }
    match base_name(program).as_str() {
        "uv" => Some(Language::Python.ecosystem()),
        "npm" | "pnpm" | "yarn" | "bunx" => Some(Language::Node.ecosystem()),
        "java" => {
            let (language, _) = language_on_jvm(arguments.get(1..).unwrap_or_default())?;
            Some(language.ecosystem())
        }
        _ => None,
    }
}

/// `pip`, `eslint`, `py3compile`; the program itself where it is the tool.
fn name_of(program: &[u8], arguments: &[String]) -> String {
    let own = base_name(program);
    if ["bun", "bun.exe", "bunx", "deno"].contains(&own.as_str()) {
        return node::script_of_other_runtime(arguments.get(1..).unwrap_or_default()).unwrap_or(own);
    }
    if language_of(program).is_none() {
        return own;
    }
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        if OPTIONS_WITH_VALUE.contains(&word.as_str()) {
            words.next();
        } else if let Some(module) = word.strip_prefix("-m").filter(|module| !module.is_empty()) {
            return module.to_owned();
        } else if !word.starts_with('-') {
            let name = base_name(word.as_bytes());
            let endings = ["-cli.js", ".js", ".cjs", ".mjs"];
            let bare = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
            return bare.to_owned();
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;

    #[test]
    fn tools_applications_and_what_is_neither() {
        for (program, line, expected) in [
            ("usr/bin/node", "node node_modules/.bin/eslint .", Some("npm tool eslint")),
            ("usr/bin/node", "node /usr/lib/node_modules/npm/bin/npm-cli.js ci", Some("npm tool npm")),
            ("usr/bin/node", "node -r ./x.js node_modules/webpack/bin/webpack.js", Some("npm tool webpack")),
            ("usr/bin/node", "node --check server.js", Some("npm tool server")),
            ("usr/bin/node", "node /usr/bin/npm run lint", None),
            ("usr/bin/node", "node /usr/bin/npx-cli.js eslint", None),
            ("usr/bin/node", "node .yarn/releases/yarn-4.1.0.cjs lint", None),
            ("usr/bin/node", "node --version", None),
            ("usr/bin/node", "node server.js", Some("npm application")),
            ("usr/bin/node", "node -e 1", Some("npm application")),
            ("usr/bin/bun", "bun install", Some("npm tool bun")),
            ("usr/bin/bun", "bun install -g npm:eslint", Some("npm tool bun")),
            ("usr/bin/bun", "bun x eslint .", None),
            ("usr/bin/bun", "bunx eslint .", None),
            ("opt/bun/bin/bun.exe", "/opt/bunx --bun eslint .", None),
            ("usr/bin/bun", "bun --bun x eslint .", None),
            ("usr/bin/bun", "bun run --silent lint", None),
            ("usr/bin/bun", "bun lint", None),
            // As it runs what begins with `#!/usr/bin/env node`.
            ("usr/bin/bun", "node /app/node_modules/.bin/eslint .", Some("npm tool eslint")),
            ("usr/bin/bun", "bun run node_modules/eslint/bin/eslint.js .", Some("npm tool eslint")),
            ("usr/bin/bun", "bun server.ts", Some("npm application")),
            ("usr/bin/bun", "bun run ./server", Some("npm application")),
            ("usr/bin/bun", "bun test", Some("npm application")),
            ("usr/bin/bun", "bun --unknown value lint", None),
            ("usr/bin/bun", "bun --unknown app.ts lint", Some("npm application")),
            ("usr/bin/deno", "deno run -A npm:eslint@9 .", Some("npm tool eslint")),
            ("usr/bin/deno", "deno run -A npm:cowsay", Some("npm application")),
            ("usr/bin/deno", "deno task lint", None),
            ("usr/bin/deno", "deno lint", Some("npm tool deno")),
            ("usr/bin/deno", "deno run -A main.ts", Some("npm application")),
            ("usr/bin/python3", "python3 -W ignore -m pip list", Some("pypi tool pip")),
            ("usr/bin/python3", "python3 -mpip list", Some("pypi tool pip")),
            ("usr/bin/python3", "python3 /venv/bin/poetry about", Some("pypi tool poetry")),
            ("usr/bin/python3", "python3 /venv/bin/poetry run mypy .", None),
            ("usr/bin/python3", "python3 -V", None),
            ("usr/bin/python3", "python3 -m flask run", Some("pypi application")),
            ("usr/libexec/platform-python3.6", "platform-python /usr/bin/dnf update", Some("pypi tool dnf")),
            ("usr/bin/uv", "uv sync", Some("pypi tool uv")),
            ("usr/bin/uv", "uv run app", None),
            ("usr/bin/ruby", "ruby /usr/bin/bundle exec rubocop", Some("gem tool bundle")),
            ("usr/bin/ruby", "ruby /usr/bin/bundle exec puma", Some("gem application")),
            ("usr/bin/php", "php /usr/bin/composer install", Some("composer tool composer")),
            ("usr/sbin/php-fpm8.2", "php-fpm8.2 -F", Some("composer application")),
            ("usr/bin/java", "java -jar jython.jar -m pip list", Some("pypi tool java")),
            ("usr/bin/java", "java -jar jython.jar app.py", Some("pypi application")),
            ("usr/bin/java", "java -jar app.jar", None),
            ("usr/bin/dpkg", "dpkg -i x.deb", None),
            ("usr/bin/bash", "bash -c pip", None),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let reader = judge(program.as_bytes(), &arguments);
            let role = role_of(program.as_bytes(), &arguments, reader).map(|(ecosystem, role)| match role {
                Role::Tool(name) => format!("{ecosystem} tool {name}"),
                Role::Application => format!("{ecosystem} application"),
            });
            assert_eq!(role.as_deref(), expected, "{line}");
        }
    }
}
