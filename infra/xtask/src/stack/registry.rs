//! The schema registry: Apicurio, which speaks Confluent's API below `/apis/ccompat/v7`.
//! It never registers a schema: that is for the services.

use super::probe::Probe;
use super::server::Server;
use super::{Ports, given, java, places};
use crate::cache;
use std::path::Path;

const EXPORT: &str = "PLIMSOLL_TEST_SCHEMA_REGISTRY";
const JVM: [&str; 4] = ["-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

pub fn prepare(dir: &Path, ports: &Ports) -> anyhow::Result<Vec<Server>> {
    if let Some(url) = given("PLIMSOLL_STACK_SCHEMA_REGISTRY") {
        let probe = Probe::Http { url: format!("{}/subjects", url.trim_end_matches('/')) };
        return Ok(vec![Server::given("registry", probe, EXPORT, url)]);
    }
    let java = java()?;
    let jar = cache::registry_jar()?;
    let (home, log) = places(dir, "registry")?;
    let port = ports.free()?;
    let url = format!("http://127.0.0.1:{port}/apis/ccompat/v7");
    let mut command = vec![java];
    command.extend(JVM.map(String::from));
    command.extend([
        "-Dquarkus.http.host=127.0.0.1".to_owned(),
        format!("-Dquarkus.http.port={port}"),
        // A file instead of memory, so that a restart keeps the schemas' ids.
        format!("-Dapicurio.datasource.url=jdbc:h2:file:{}", home.join("schemas").display()),
        "-jar".to_owned(),
        jar.display().to_string(),
    ]);
    Ok(vec![Server {
        name: "registry".into(),
        command: Some(command),
        environment: Vec::new(),
        process: None,
        log,
        probe: Probe::Http { url: format!("{url}/subjects") },
        exports: vec![(EXPORT.into(), url)],
        data: vec![home],
        stale: Vec::new(),
        after_previous: false,
    }])
}
