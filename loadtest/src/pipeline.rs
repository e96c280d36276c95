//! Correlator and sink under one load: every row in ClickHouse against the known answer, and the sink's share of CPU.
//! It must never count rows without comparing them.
#![allow(clippy::print_stdout)] // The figures are the output.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plimsoll_correlator::wait_until_caught_up;

use crate::arguments::PipelineOptions;
use crate::child::{Process, database, process_cpu, until};
use crate::generate::{artifact, package_id};
use crate::oracle;
use crate::servers::Servers;

const RUN_LIMIT: Duration = Duration::from_secs(900);

/// Runs and prints.
///
/// # Errors
/// Servers that fail, or a row that is missing, doubled or wrong.
pub fn run(servers: &Servers, options: &PipelineOptions) -> anyhow::Result<()> {
    let load = options.load.load();
    let clickhouse = servers.clickhouse.as_deref().context("--clickhouse is needed")?;
    let prefix = format!("pipe{}", std::process::id());
    let connections = servers.connect(&prefix)?;
    connections.prepare_until(Instant::now() + Duration::from_secs(60))?;
    let inputs = load.send(&connections)?;
    let items = (load.artifacts * load.batches * load.items) as u64;
    println!("{inputs} inputs with {items} uses of {} packages", load.artifacts * load.packages);

    let begun = Instant::now();
    let mut correlator = Process::serve(servers, "correlator", &prefix, None)?;
    ensure!(wait_until_caught_up(&connections, Instant::now() + RUN_LIMIT)?, "the correlator hangs");
    println!(
        "correlator: {:.1} s, {:.1} CPU-s",
        begun.elapsed().as_secs_f64(),
        correlator.cpu()?.as_secs_f64()
    );
    let packages = oracle::check(&connections, &load)? as u64;

    let database = database(&prefix);
    let before = clickhouse_cpu(clickhouse)?;
    let begun = Instant::now();
    let mut sink = Process::serve(servers, "sink", &prefix, None)?;
    let rows = |table: &str| query(clickhouse, &format!("SELECT count() FROM {database}.{table} FINAL"));
    let history = || query(clickhouse, &format!("SELECT count() FROM {database}.usage_events"));
    until("all rows are in ClickHouse", RUN_LIMIT, || {
        ensure!(sink.runs(), "the sink ended");
        let there = |count: anyhow::Result<String>| count.ok().and_then(|text| text.parse::<u64>().ok());
        Ok(there(history()) >= Some(items)
            && there(rows("artifact_packages")) >= Some(packages)
            && there(rows("package_usage")) >= Some(packages))
    })?;
    let (wall, sink_cpu) = (begun.elapsed(), sink.cpu()?);
    let clickhouse_cpu = clickhouse_cpu(clickhouse)?.saturating_sub(before);
    ensure!(history()? == items.to_string(), "{} usage events, not {items}", history()?);
    for number in 0..load.artifacts {
        let text = query(
            clickhouse,
            &format!(
                "SELECT package_id, use, vulnerability_count FROM {database}.artifact_packages FINAL \
                 WHERE artifact = '{}' ORDER BY package_id",
                artifact(number)
            ),
        )?;
        let wanted: Vec<String> = load
            .expected(number)
            .into_iter()
            .enumerate()
            .map(|(package, expected)| {
                let usage = if expected.used { "used" } else { "unused" };
                format!("{}\t{usage}\t{}", package_id(package), expected.vulnerabilities)
            })
            .collect();
        let found: Vec<&str> = text.lines().collect();
        ensure!(found == wanted, "image {number}: the rows differ from the known answer");
    }
    println!("every row compared: {packages} packages, {items} usage events");
    println!(
        "sink: {:.1} s, {:.2} CPU-s; ClickHouse {:.2} CPU-s: {:.0} % (target 25)",
        wall.as_secs_f64(),
        sink_cpu.as_secs_f64(),
        clickhouse_cpu.as_secs_f64(),
        100.0 * sink_cpu.as_secs_f64() / clickhouse_cpu.as_secs_f64()
    );
    query(clickhouse, &format!("DROP DATABASE {database}"))?;
    Ok(())
}

/// CPU time of the server's process so far: its own counters know only queries, not merges.
fn clickhouse_cpu(url: &str) -> anyhow::Result<Duration> {
    let port = url.rsplit(':').next().context("a port")?.trim_end_matches('/');
    process_cpu(listener(port.parse()?)?)
}

/// The process that listens on a port of loopback.
fn listener(port: u16) -> anyhow::Result<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let ending = format!(":{port:04X}");
    let inode = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.len() > 9 && fields[1].ends_with(&ending) && fields[3] == "0A")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .with_context(|| format!("nobody listens on port {port}"))?;
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let is_it = files
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == inode.as_str()));
        if is_it {
            return Ok(number);
        }
    }
    anyhow::bail!("the process that listens on port {port} is not mine to see; run as root")
}

fn query(url: &str, sql: &str) -> anyhow::Result<String> {
    let mut answer = ureq::post(url).send(sql).with_context(|| format!("ClickHouse refused {sql}"))?;
    Ok(answer.body_mut().read_to_string()?.trim_end().to_owned())
}
