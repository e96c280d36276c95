//! One server of the stack: how to start it again, how to tell that it answers, what it exports.
//! A server given by the user has no process here and is never stopped.

use super::probe::Probe;
use crate::process::Recorded;
use crate::run;
use anyhow::{Context, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// As recorded in `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    pub name: String,
    /// Program and arguments; none for a server that the user gave.
    pub command: Option<Vec<String>>,
    /// Beside the environment of the command that starts it.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    pub process: Option<Recorded>,
    pub log: PathBuf,
    pub probe: Probe,
    /// Variables for tests.
    pub exports: Vec<(String, String)>,
    /// Directories that `down` deletes.
    pub data: Vec<PathBuf>,
    /// Left by a killed server and fatal to its next start.
    #[serde(default)]
    pub stale: Vec<PathBuf>,
    /// Must not start before the server listed before it answers.
    #[serde(default)]
    pub after_previous: bool,
}

impl Server {
    /// A server of the user's: checked and exported, never started or stopped.
    pub fn given(name: &str, probe: Probe, export: &str, address: String) -> Self {
        Self {
            name: name.into(),
            command: None,
            environment: Vec::new(),
            process: None,
            log: PathBuf::new(),
            probe,
            exports: vec![(export.into(), address)],
            data: Vec::new(),
            stale: Vec::new(),
            after_previous: false,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.command.is_none() || self.process.as_ref().is_some_and(Recorded::is_alive)
    }

    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.probe.check().is_ok()
    }

    /// Start the recorded command.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let Some([program, arguments @ ..]) = self.command.as_deref() else { return Ok(()) };
        let mut command = run::command(program);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = self.data.first() {
            std::fs::create_dir_all(directory)?;
            command.current_dir(directory);
        }
        for file in self.stale.iter().filter(|file| file.exists()) {
            std::fs::remove_file(file).with_context(|| format!("cannot delete {}", file.display()))?;
        }
        self.process = Some(Recorded::spawn(&mut command, &self.log).with_context(|| self.name.clone())?);
        Ok(())
    }

    /// Wait until it answers; fails at once when its process ends.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        const LIMIT: Duration = Duration::from_secs(120);
        const POLL: Duration = Duration::from_millis(50);
        const REPORT: Duration = Duration::from_secs(5);
        let begin = Instant::now();
        let mut reported = begin;
        loop {
            let Err(error) = self.probe.check() else { return Ok(()) };
            if !self.is_alive() {
                bail!("{} ended; {}", self.name, self.log_end());
            }
            if begin.elapsed() > LIMIT {
                bail!(
                    "{} does not answer after {} s ({error:#}); {}",
                    self.name,
                    LIMIT.as_secs(),
                    self.log_end()
                );
            }
            if self.command.is_none() && begin.elapsed() > REPORT {
                bail!("the {} that you gave does not answer: {error:#}", self.name);
            }
            if reported.elapsed() > REPORT {
                eprintln!("xtask: waiting for {} ({} s): {error:#}", self.name, begin.elapsed().as_secs());
                reported = Instant::now();
            }
            std::thread::sleep(POLL);
        }
    }

    fn log_end(&self) -> String {
        format!("see {}, which ends with:\n{}", self.log.display(), run::tail(&self.log))
    }

    pub fn stop(&self) -> anyhow::Result<()> {
        const GRACE: Duration = Duration::from_secs(15);
        let Some(process) = &self.process else { return Ok(()) };
        if process.is_alive() {
            super::docker::before_stop(self);
        }
        process.stop(GRACE).with_context(|| format!("cannot stop {}", self.name))
    }

    pub fn kill(&self) -> anyhow::Result<()> {
        match &self.process {
            Some(process) => process.kill().with_context(|| format!("cannot kill {}", self.name)),
            None => bail!("{} is a server that you gave; it is not ours to kill", self.name),
        }
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match &self.process {
            Some(process) if process.is_alive() => process.signal(signal),
            _ => bail!("{} does not run", self.name),
        }
    }

    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables = self.exports.clone();
        if let Some(process) = &self.process {
            variables.push((
                format!("PLIMSOLL_TEST_{}_PID", self.name.to_uppercase().replace('-', "_")),
                process.pid.to_string(),
            ));
        }
        variables
    }

    pub fn describe(&self) -> String {
        let state = match (&self.process, self.is_ready()) {
            (None, true) => "given, answers".into(),
            (None, false) => "given, does not answer".into(),
            (Some(process), true) => format!("ready, process {}", process.pid),
            (Some(process), false) if process.is_alive() => format!("not ready, process {}", process.pid),
            (Some(_), false) => "stopped".into(),
        };
        let mut text = format!("{}: {state}", self.name);
        for (name, value) in &self.exports {
            text.push_str(&format!("\n  {name}={value}"));
        }
        if self.command.is_some() {
            text.push_str(&format!("\n  log {}", self.log.display()));
        }
        text
    }
}
