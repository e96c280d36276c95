//! docker-compose.yml is one that compose accepts, and names only files that exist.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Compose as Docker's plugin, else as the program of its own that it used to be.
fn compose(arguments: &[&str]) -> Option<Output> {
    let forms: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    forms.iter().find_map(|form| {
        let run = |arguments: &[&str]| {
            Command::new(form[0]).args(&form[1..]).args(arguments).current_dir(workspace()).output().ok()
        };
        run(&["version"]).filter(|version| version.status.success()).and_then(|_| run(arguments))
    })
}

#[test]
fn compose_accepts_the_file() {
    let Some(output) = compose(&["-f", "docker-compose.yml", "config"]) else {
        assert!(std::env::var_os("CI").is_none(), "docker compose is missing: run `cargo xtask setup`");
        println!("skipped: docker compose is missing; `cargo xtask setup` installs it");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let services = [
        "kafka",
        "registry",
        "clickhouse",
        "scanner",
        "runtime-agent",
        "package-resolver",
        "correlator",
        "sink",
        "portal",
    ];
    for service in services {
        assert!(text.contains(&format!("\n  {service}:\n")), "{service} is missing in:\n{text}");
    }
}

#[test]
fn each_dockerfile_that_it_names_exists() {
    let text = std::fs::read_to_string(workspace().join("docker-compose.yml")).unwrap();
    let files: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("dockerfile: ")).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(workspace().join(file).is_file(), "{file} does not exist");
    }
}
