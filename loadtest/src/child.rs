//! A service in a process of its own, so that its CPU time is its own; and this program as such a service.
//! It must never outlive the run, nor stop a process that it did not start.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use plimsoll_correlator::{Correlator, CorrelatorSection};
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};

use crate::arguments::{ServeOptions, Served};
use crate::at_least_once::AtLeastOnce;
use crate::servers::Servers;

/// A process that this one started.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// This program, serving something.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn serve(
        servers: &Servers,
        what: &str,
        prefix: &str,
        state: Option<&std::path::Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--kafka", &servers.kafka, "--registry", &servers.registry]);
        if let Some(clickhouse) = &servers.clickhouse {
            command.args(["--clickhouse", clickhouse]);
        }
        command.args(["serve", what, "--prefix", prefix]);
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        Self::start(what, &mut command)
    }

    /// User and system time so far, of all its threads.
    ///
    /// # Errors
    /// If it is gone.
    pub fn cpu(&mut self) -> anyhow::Result<Duration> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}", self.name);
        }
        process_cpu(self.child.id())
    }

    /// Most memory that it held so far, in bytes.
    ///
    /// # Errors
    /// If it is gone.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("/proc/PID/status has no VmHWM")?.parse::<u64>()? * 1024)
    }

    /// Kills it without a chance to tidy up.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What the hidden `serve` command does.
///
/// # Errors
/// What ends the service.
pub fn serve(servers: &Servers, options: &ServeOptions) -> anyhow::Result<()> {
    let mut connections = servers.connect(&options.prefix)?;
    match options.what {
        Served::Correlator | Served::CorrelatorAtLeastOnce => {
            if options.what == Served::CorrelatorAtLeastOnce {
                connections.broker = Arc::new(AtLeastOnce::new(connections.broker));
            }
            let context = ServiceContext::detached(ServiceInfo::new("correlator", env!("CARGO_PKG_VERSION")));
            let section =
                CorrelatorSection { state_directory: options.state.clone(), ..CorrelatorSection::default() };
            Ok(Correlator::run(&connections, &section, &context)?)
        }
        Served::Sink => {
            let context = ServiceContext::detached(ServiceInfo::new("sink", env!("CARGO_PKG_VERSION")));
            let mut config = plimsoll_sink::SinkConfig {
                kafka: servers.kafka_config(&options.prefix),
                schema_registry: servers.registry_config(),
                ..plimsoll_sink::SinkConfig::default()
            };
            config.clickhouse.server.url = servers.clickhouse.clone().context("--clickhouse is needed")?;
            config.clickhouse.server.database = database(&options.prefix);
            plimsoll_sink::service::run(config, context)
        }
    }
}

/// The ClickHouse database of a pipeline.
pub fn database(prefix: &str) -> String {
    prefix.replace(['-', '.'], "_")
}

/// Waits until something is so.
///
/// # Errors
/// If it is not within `limit`.
pub fn until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !is_so()? {
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// User and system time of a process so far, of all its threads.
///
/// # Errors
/// If it is gone, or not to be seen.
pub fn process_cpu(process: u32) -> anyhow::Result<Duration> {
    /// USER_HZ: the same on all architectures that the agent runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold anything; behind it utime and stime are the 14th and 15th field of proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let times = fields.get(11..13).context("/proc/PID/stat is shorter than proc(5) says")?;
    let ticks: u64 = times.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}
