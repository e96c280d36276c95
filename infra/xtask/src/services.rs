//! `cargo xtask up`: the development servers and all services of Plimsoll, as processes of one stack.
//! It never knows more of a service than its name, its configuration keys and its readiness page.

use crate::paths;
use crate::run;
use crate::stack::probe::Probe;
use crate::stack::server::Server;
use crate::stack::{Ports, Selection, Stack, places};
use anyhow::Context;
use std::collections::HashMap;
use std::path::Path;

/// A service of ours as `up` starts it.
struct Service {
    /// Its crate and binary, without `plimsoll-`.
    name: &'static str,
    /// Configuration keys and their values; `{NAME}` stands for a variable of the stack or one of the places below.
    settings: &'static [(&'static str, &'static str)],
    /// Only as root: it loads eBPF programs or reads other users' files.
    needs_root: bool,
}

/// Keys that every service takes (services/kit, `config/sections.rs`).
const COMMON: &[(&str, &str)] = &[
    ("kafka.brokers", "{PLIMSOLL_TEST_KAFKA}"),
    ("kafka.partitions", "4"),
    ("kafka.replication_factor", "1"),
    ("schema_registry.url", "{PLIMSOLL_TEST_SCHEMA_REGISTRY}"),
    ("admin.bind", "127.0.0.1:{ADMIN_PORT}"),
];

/// In the order in which they start. Places: `{STATE}` a folder of the service's own, `{SHARED}` one for all,
/// `{INSTANCE}` a word that no other stack has, `{ADMIN_PORT}` and `{PORT}` free ports, `{DATABASE}` the vulnerability database where one is given.
const SERVICES: &[Service] = &[
    Service { name: "correlator", settings: &[("state.directory", "{STATE}")], needs_root: false },
    Service {
        name: "sink",
        settings: &[("clickhouse.url", "{PLIMSOLL_TEST_CLICKHOUSE}")],
        needs_root: false,
    },
    Service {
        name: "portal",
        settings: &[("clickhouse.url", "{PLIMSOLL_TEST_CLICKHOUSE}"), ("portal.bind", "127.0.0.1:{PORT}")],
        needs_root: false,
    },
    Service {
        name: "scanner",
        settings: &[("docker.host", "{PLIMSOLL_TEST_DOCKER_HOST}"), ("scanner.database", "{DATABASE}")],
        needs_root: false,
    },
    Service {
        name: "package-resolver",
        settings: &[("resolver.socket", "{SHARED}/resolver.sock")],
        needs_root: true,
    },
    Service {
        name: "runtime-agent",
        settings: &[
            ("resolver.socket", "{SHARED}/resolver.sock"),
            ("docker.host", "{PLIMSOLL_TEST_DOCKER_HOST}"),
            ("state.directory", "{STATE}"),
            // Agents of several stacks on one host must not take over each other's programs.
            ("ebpf.instance", "{INSTANCE}"),
            ("ebpf.unpin_at_end", "true"),
        ],
        needs_root: true,
    },
];

/// Build everything, start the servers, then the services, and wait until each is ready.
pub fn up(dir: &Path, database: Option<&Path>) -> anyhow::Result<()> {
    let root = rustix::process::geteuid().is_root();
    build()?;
    let mut stack = Stack::open(dir)?;
    stack.up(&Selection { docker: root, ..Selection::ALL })?;
    start(&mut stack, database)?;
    print!("{}", stack.describe());
    if !root {
        println!("not root: no private dockerd, runtime-agent or package-resolver");
    }
    Ok(())
}

/// Compile the services' binaries.
pub fn build() -> anyhow::Result<()> {
    let mut cargo = run::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked"]).current_dir(paths::workspace());
    for service in SERVICES {
        cargo.args(["-p", &format!("plimsoll-{}", service.name)]);
    }
    run::streamed(cargo.args(["-p", "plimsoll-cli"]))
}

/// What the `plimsoll` command is told about a stack whose services run, as environment variables.
pub fn client_environment(variables: &[(String, String)]) -> Vec<(String, String)> {
    let values: HashMap<String, String> = variables.iter().cloned().collect();
    let portal = [("portal.url", "{PLIMSOLL_TEST_PORTAL_URL}")];
    // Its admin port is of no use and not known, so that key stays unset.
    COMMON.iter().chain(&portal).filter_map(|(key, template)| setting(key, template, &values)).collect()
}

/// Add the services to a stack whose servers run; `database` is what `plimsoll db build` made.
pub fn start(stack: &mut Stack, database: Option<&Path>) -> anyhow::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let ports = Ports::default();
    let mut servers = Vec::new();
    for service in SERVICES.iter().filter(|service| root || !service.needs_root) {
        if !stack.has(service.name) {
            servers.push(
                prepare(service, stack, &ports, database)
                    .with_context(|| format!("cannot prepare {}", service.name))?,
            );
        }
    }
    stack.add(servers)
}

fn prepare(
    service: &Service,
    stack: &Stack,
    ports: &Ports,
    database: Option<&Path>,
) -> anyhow::Result<Server> {
    let (state, log) = places(stack.dir(), service.name)?;
    let (shared, _) = places(stack.dir(), "shared")?;
    let (admin, port) = (ports.free()?, ports.free()?);
    let mut values: HashMap<String, String> = stack.variables().into_iter().collect();
    values.insert("STATE".into(), state.display().to_string());
    values.insert("SHARED".into(), shared.display().to_string());
    values.insert("INSTANCE".into(), instance(stack.dir()));
    values.insert("ADMIN_PORT".into(), admin.to_string());
    values.insert("PORT".into(), port.to_string());
    if let Some(database) = database {
        let database =
            database.canonicalize().with_context(|| format!("no database at {}", database.display()))?;
        values.insert("DATABASE".into(), database.display().to_string());
    }

    let mut environment = Vec::new();
    for (key, template) in COMMON.iter().chain(service.settings) {
        // A server that was not selected leaves its key unset.
        environment.extend(setting(key, template, &values));
    }
    let mut exports = vec![(variable(service.name, "ADMIN"), format!("http://127.0.0.1:{admin}"))];
    if service.settings.iter().any(|(_, template)| template.contains("{PORT}")) {
        exports.push((variable(service.name, "URL"), format!("http://127.0.0.1:{port}")));
    }
    let binary = paths::target().join("debug").join(format!("plimsoll-{}", service.name));
    Ok(Server {
        name: service.name.into(),
        command: Some(vec![binary.display().to_string()]),
        environment,
        process: None,
        log,
        probe: Probe::Http { url: format!("http://127.0.0.1:{admin}/readyz") },
        exports,
        data: vec![state, shared],
        stale: Vec::new(),
        after_previous: false,
    })
}

fn instance(stack: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    stack.hash(&mut hasher);
    format!("stack-{:016x}", hasher.finish())
}

fn variable(service: &str, what: &str) -> String {
    format!("PLIMSOLL_TEST_{}_{what}", service.replace('-', "_").to_uppercase())
}

/// A configuration key as environment variable.
fn setting(key: &str, template: &str, values: &HashMap<String, String>) -> Option<(String, String)> {
    Some((format!("PLIMSOLL_{}", key.replace('.', "_").to_uppercase()), fill(template, values)?))
}

/// Replaces each `{NAME}`; nothing when one is unknown.
fn fill(template: &str, values: &HashMap<String, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(values.get(name)?);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let values = HashMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "x{y".to_owned())]);
        let check = |template: &str, expect: Option<&str>| {
            assert_eq!(fill(template, &values).as_deref(), expect, "{template}");
        };
        check("", Some(""));
        check("4", Some("4"));
        check("{A}", Some("1"));
        check("127.0.0.1:{A}/{B}", Some("127.0.0.1:1/x{y"));
        check("{MISSING}", None);
        check("{A", None);
    }

    #[test]
    fn every_service_has_a_name_of_its_own() {
        let mut names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SERVICES.len());
    }
}
