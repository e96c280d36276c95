//! Recognises `docker run` and `podman run`, and labels the container that they start, so that it is found again.
//! It must never change what runs in the container: labels are all that it adds.

use std::path::Path;

use plimsoll_scanner::Component;

/// Label that holds the identity of one `plimsoll run`.
pub const RUN_LABEL: &str = "plimsoll.run";

/// Options before the subcommand that take a value in the next word.
const VALUE_OPTIONS: [&str; 10] = [
    "--config",
    "--context",
    "-c",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];

/// A command whose container carries our labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The command.
    pub words: Vec<String>,
    /// The engine that the command names, if it does.
    pub docker_host: Option<String>,
}

/// The command with labels, if it starts a container in the foreground of an engine.
pub fn labelled(words: &[String], component: &Component, run_id: &str) -> Option<Labelled> {
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    if !matches!(program, "docker" | "podman") {
        return None;
    }
    let mut docker_host = None;
    let mut index = 1;
    loop {
        let word = words.get(index)?;
        if let Some(host) = word.strip_prefix("--host=").or_else(|| word.strip_prefix("-H=")) {
            docker_host = Some(host.to_owned());
        } else if VALUE_OPTIONS.contains(&word.as_str()) {
            if matches!(word.as_str(), "-H" | "--host") {
                docker_host = words.get(index + 1).cloned();
            }
            index += 1;
        } else if word == "container" || word.starts_with('-') {
            // `docker container run` is `docker run`.
        } else if word == "run" {
            break;
        } else {
            return None;
        }
        index += 1;
    }
    let labels = [
        ("plimsoll.application", component.application()),
        ("plimsoll.component", component.component()),
        ("plimsoll.version", component.version()),
        (RUN_LABEL, run_id),
    ];
    let (before, after) = words.split_at(index + 1);
    let mut words = before.to_vec();
    for (name, value) in labels {
        words.push("--label".to_owned());
        words.push(format!("{name}={value}"));
    }
    words.extend_from_slice(after);
    Some(Labelled { words, docker_host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_place_for_labels() {
        let component = Component::new("a", "c", "1").unwrap();
        let labels = "--label plimsoll.application=a --label plimsoll.component=c --label plimsoll.version=1 \
                      --label plimsoll.run=id";
        let cases = [
            ("docker run --rm web", Some(("docker run LABELS --rm web", None))),
            (
                "/usr/bin/docker -H unix:///x run web run",
                Some(("/usr/bin/docker -H unix:///x run LABELS web run", Some("unix:///x"))),
            ),
            (
                "docker --host=tcp://h:1 container run web",
                Some(("docker --host=tcp://h:1 container run LABELS web", Some("tcp://h:1"))),
            ),
            ("podman --log-level debug run web", Some(("podman --log-level debug run LABELS web", None))),
            ("docker ps", None),
            ("docker exec web run", None),
            ("python run.py", None),
            ("docker", None),
        ];
        for (line, expected) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found =
                labelled(&words, &component, "id").map(|found| (found.words.join(" "), found.docker_host));
            let expected =
                expected.map(|(line, host)| (line.replace("LABELS", labels), host.map(str::to_owned)));
            assert_eq!(found, expected, "{line}");
        }
    }
}
