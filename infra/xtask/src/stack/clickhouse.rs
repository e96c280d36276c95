//! ClickHouse: the user's `clickhouse` binary, else the same server inside chdb's library.
//! It never creates tables: that is for the migrations.

use super::probe::Probe;
use super::server::Server;
use super::{Ports, given, places};
use crate::{cache, paths};
use std::fs;
use std::path::Path;

const EXPORT: &str = "PLIMSOLL_TEST_CLICKHOUSE";

pub fn prepare(dir: &Path, ports: &Ports) -> anyhow::Result<Vec<Server>> {
    if let Some(url) = given("PLIMSOLL_STACK_CLICKHOUSE") {
        let probe = Probe::ClickHouse { url: url.clone() };
        return Ok(vec![Server::given("clickhouse", probe, EXPORT, url)]);
    }
    let (home, log) = places(dir, "clickhouse")?;
    let (http, native) = (ports.free()?, ports.free()?);
    let url = format!("http://127.0.0.1:{http}");
    let command = match paths::find_program("clickhouse") {
        Some(binary) => server_command(&binary, &home, http, native)?,
        None => library_command(&home, http, native)?,
    };
    Ok(vec![Server {
        name: "clickhouse".into(),
        command: Some(command),
        environment: Vec::new(),
        process: None,
        log,
        probe: Probe::ClickHouse { url: url.clone() },
        exports: vec![(EXPORT.into(), url), (format!("{EXPORT}_NATIVE"), format!("127.0.0.1:{native}"))],
        data: vec![home],
        stale: Vec::new(),
        after_previous: false,
    }])
}

/// `clickhouse-local` that listens, kept alive by a query that never ends.
fn library_command(home: &Path, http: u16, native: u16) -> anyhow::Result<Vec<String>> {
    const LISTEN: &str = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; \
                          SELECT sleepEachRow(3) FROM system.numbers FORMAT Null";
    Ok(vec![
        cache::clickhouse_launcher()?.display().to_string(),
        cache::chdb_library()?.display().to_string(),
        "clickhouse-local".into(),
        format!("--path={}", home.join("data").display()),
        format!("--http_port={http}"),
        format!("--tcp_port={native}"),
        "--listen_host=127.0.0.1".into(),
        "--function_sleep_max_microseconds_per_block=0".into(),
        "-q".into(),
        LISTEN.into(),
    ])
}

/// A full server with the least configuration.
fn server_command(binary: &Path, home: &Path, http: u16, native: u16) -> anyhow::Result<Vec<String>> {
    let config = home.join("config.xml");
    let data = home.join("data");
    let text = format!(
        "<clickhouse>
  <logger><level>information</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http}</http_port>
  <tcp_port>{native}</tcp_port>
  <path>{data}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <user_files_path>{data}/user_files/</user_files_path>
  <mark_cache_size>268435456</mark_cache_size>
  <users><default><password></password><profile>default</profile><quota>default</quota>
    <networks><ip>127.0.0.1</ip></networks></default></users>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
</clickhouse>
",
        data = data.display()
    );
    fs::write(&config, text)?;
    Ok(vec![binary.display().to_string(), "server".into(), format!("--config-file={}", config.display())])
}
