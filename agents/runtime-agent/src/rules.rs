//! Runtime risks as pure functions over what was observed: no I/O, no clock, no state.
//! A rule must never accuse on ignorance: what is unknown raises nothing.

use std::collections::BTreeMap;

use plimsoll_schemas::words::{drift, severity};

use crate::sweep::{base_name, is_python};

/// Name of the rule: a program was executed that is not part of the image.
pub const PROGRAM_NOT_IN_IMAGE: &str = "program-not-in-image";
/// Name of the rule: a server process started a shell.
pub const SHELL_FROM_SERVER: &str = "shell-from-server";

pub(crate) const SHELLS: &[&str] =
    &["sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "fish", "csh", "tcsh", "rbash", "yash"];

/// Programs that serve, whether or not their listening socket is theirs (workers inherit or lack it).
const SERVERS: &[&str] = &[
    "nginx",
    "apache2",
    "httpd",
    "lighttpd",
    "caddy",
    "haproxy",
    "envoy",
    "php-fpm",
    "uwsgi",
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "puma",
    "unicorn",
    "postgres",
    "mysqld",
    "mariadbd",
    "mongod",
    "redis-server",
    "memcached",
    "named",
    "vsftpd",
    "smbd",
    "sendmail",
    "exim4",
    "dovecot",
];

/// Where runtimes mount their own init (docker run --init, podman run --init).
const RUNTIME_INITS: &[&[u8]] = &[b"sbin/docker-init", b"dev/init", b"run/podman-init"];

/// What is known of an exec when a rule judges it.
#[derive(Clone, Debug, Default)]
pub struct ExecFacts<'a> {
    /// Path of the executed file, relative to the artifact's root.
    pub executable: &'a [u8],
    /// Command line.
    pub arguments: &'a [String],
    /// The file lies outside every mount of the workload (a memfd, an unmounted tree).
    pub outside: bool,
    /// The file lies on another mount than the root.
    pub other_mount: bool,
    /// The workload runs an image, so that there is something to differ from.
    pub from_image: bool,
    /// Drift as the resolver found it; empty while it is not known.
    pub drift: &'a str,
    /// Executable of the program that called exec; empty if it was not seen.
    pub parent_executable: &'a [u8],
    /// Command line of that program.
    pub parent_arguments: &'a [String],
    /// That process has a listening socket.
    pub parent_listens: bool,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// Name of the rule.
    pub rule: &'static str,
    /// One of `words::severity`.
    pub severity: &'static str,
    /// One line for people.
    pub title: String,
    /// What the rule saw, by name.
    pub evidence: BTreeMap<String, String>,
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A program that is not part of the image that the workload was started from.
pub fn program_not_in_image(facts: &ExecFacts<'_>) -> Option<Risk> {
    if !facts.from_image {
        return None;
    }
    let (why, severity) = if facts.outside {
        ("it lies in memory or on no mount of the container", severity::CRITICAL)
    } else if facts.other_mount {
        if RUNTIME_INITS.contains(&facts.executable) {
            return None;
        }
        ("it lies on a volume", severity::LOW)
    } else {
        match facts.drift {
            drift::NEW => ("its file was added after the container started", severity::HIGH),
            drift::MODIFIED => ("its file was changed after the container started", severity::MEDIUM),
            _ => return None,
        }
    };
    Some(Risk {
        rule: PROGRAM_NOT_IN_IMAGE,
        severity,
        title: format!("/{} was executed but is not part of the image: {why}", lossy(facts.executable)),
        evidence: BTreeMap::from([
            ("reason".to_owned(), why.to_owned()),
            (
                "drift".to_owned(),
                if facts.drift.is_empty() { drift::UNKNOWN } else { facts.drift }.to_owned(),
            ),
            ("parent".to_owned(), lossy(facts.parent_executable)),
        ]),
    })
}

/// A shell that a server process started.
pub fn shell_from_server(facts: &ExecFacts<'_>) -> Option<Risk> {
    if !is_shell(facts.executable, facts.arguments) || facts.parent_executable.is_empty() {
        return None;
    }
    let parent = base_name(facts.parent_executable);
    // A shell that starts a shell is no server, even where it inherited a listening socket.
    if is_shell(facts.parent_executable, facts.parent_arguments) {
        return None;
    }
    let server = if facts.parent_listens {
        "has a listening socket"
    } else if is_server(&parent, facts.parent_arguments) {
        "is known as a server"
    } else {
        return None;
    };
    Some(Risk {
        rule: SHELL_FROM_SERVER,
        severity: severity::HIGH,
        title: format!("{parent}, which {server}, started the shell /{}", lossy(facts.executable)),
        evidence: BTreeMap::from([
            ("parent".to_owned(), lossy(facts.parent_executable)),
            ("parent_command".to_owned(), facts.parent_arguments.join(" ")),
            ("command".to_owned(), facts.arguments.join(" ")),
            ("server".to_owned(), server.to_owned()),
        ]),
    })
}

/// The program is a shell; busybox by the name it was called.
pub fn is_shell(executable: &[u8], arguments: &[String]) -> bool {
    let name = base_name(executable);
    if name == "busybox" {
        let called = arguments.first().map(|first| base_name(first.as_bytes()));
        return called.is_some_and(|called| SHELLS.contains(&called.trim_start_matches('-')))
            || arguments.get(1).is_some_and(|applet| SHELLS.contains(&applet.as_str()));
    }
    SHELLS.contains(&name.as_str())
}

fn is_server(name: &str, arguments: &[String]) -> bool {
    // php-fpm8.2 is php-fpm.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if SERVERS.contains(&name) || SERVERS.contains(&bare) {
        return true;
    }
    if !is_python(name) {
        return false;
    }
    // `python -m gunicorn`, `python /venv/bin/gunicorn`.
    arguments
        .iter()
        .skip(1)
        .take(4)
        .any(|argument| SERVERS.contains(&base_name(argument.as_bytes()).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn programs_that_are_not_in_the_image() {
        let image = ExecFacts { executable: b"tmp/x", from_image: true, ..ExecFacts::default() };
        let cases = [
            ("new file", ExecFacts { drift: "new", ..image.clone() }, Some(severity::HIGH)),
            ("changed file", ExecFacts { drift: "modified", ..image.clone() }, Some(severity::MEDIUM)),
            ("of the image", ExecFacts { drift: "unchanged", ..image.clone() }, None),
            ("unknown drift", ExecFacts { drift: "unknown", ..image.clone() }, None),
            ("not asked yet", image.clone(), None),
            ("word of a later version", ExecFacts { drift: "moved", ..image.clone() }, None),
            ("memfd", ExecFacts { outside: true, ..image.clone() }, Some(severity::CRITICAL)),
            ("volume", ExecFacts { other_mount: true, ..image.clone() }, Some(severity::LOW)),
            (
                "the runtime's init",
                ExecFacts { executable: b"sbin/docker-init", other_mount: true, ..image.clone() },
                None,
            ),
            ("no image", ExecFacts { from_image: false, drift: "new", ..image.clone() }, None),
            ("memfd of a plain process", ExecFacts { from_image: false, outside: true, ..image }, None),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(program_not_in_image(&facts).map(|risk| risk.severity), expected, "{name}");
        }
    }

    #[test]
    fn shells_that_servers_start() {
        let cases = [
            ("usr/bin/dash", "sh -c id", "usr/sbin/nginx", "nginx", false, true),
            ("usr/bin/dash", "sh -c id", "usr/bin/python3.11", "python3 app.py", true, true),
            ("usr/bin/dash", "sh -c id", "usr/bin/python3.11", "python3 app.py", false, false),
            (
                "usr/bin/dash",
                "sh -c id",
                "usr/bin/python3.11",
                "python3 /venv/bin/gunicorn app:app",
                false,
                true,
            ),
            ("usr/bin/dash", "sh -c id", "usr/bin/python3.11", "python3 -m uvicorn app:app", false, true),
            ("usr/bin/bash", "bash", "usr/sbin/php-fpm8.2", "php-fpm: pool www", false, true),
            ("usr/bin/bash", "bash", "opt/java/bin/java", "java -jar app.jar", true, true),
            ("usr/bin/bash", "bash", "opt/java/bin/java", "java -jar build.jar", false, false),
            ("bin/busybox", "sh -c id", "usr/bin/node", "node server.js", true, true),
            ("bin/busybox", "busybox sh", "usr/bin/node", "node server.js", true, true),
            ("bin/busybox", "wget x", "usr/bin/node", "node server.js", true, false),
            ("usr/bin/ls", "ls", "usr/sbin/nginx", "nginx", true, false),
            // The shell of the entry point, and shells below shells.
            ("usr/bin/dash", "sh -c app", "", "", false, false),
            ("usr/bin/dash", "sh -c app", "", "", true, false),
            ("usr/bin/dash", "sh x.sh", "usr/bin/bash", "bash start.sh", true, false),
            ("bin/busybox", "sh x.sh", "bin/busybox", "sh start.sh", true, false),
            ("usr/bin/shellcheck", "shellcheck", "usr/sbin/nginx", "nginx", true, false),
        ];
        for (executable, command, parent, parent_command, listens, expected) in cases {
            let (arguments, parent_arguments) = (words(command), words(parent_command));
            let facts = ExecFacts {
                executable: executable.as_bytes(),
                arguments: &arguments,
                parent_executable: parent.as_bytes(),
                parent_arguments: &parent_arguments,
                parent_listens: listens,
                ..ExecFacts::default()
            };
            let found = shell_from_server(&facts).is_some();
            assert_eq!(found, expected, "{command} from {parent_command} (listens: {listens})");
        }
    }
}
