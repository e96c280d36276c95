//! `plimsoll run`: runs a command, observes it, and ends with its recommendation table and its exit code.
//! It must never change what the command sees of its terminal, signals, output or exit code.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use crossbeam_channel::RecvTimeoutError;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::host::{machine_id, node_name, random_id};
use plimsoll_kit::transport::Connections;
use plimsoll_runtime_agent::agent::{Agent, TreeConfig};
use plimsoll_runtime_agent::config::{AgentConfig, UseEbpf};
use plimsoll_runtime_agent::java::JavaConfig;
use plimsoll_runtime_agent::output::{BrokerOutput, producer_options};
use plimsoll_scanner::Component;
use plimsoll_scanner::scan::directory_package_hash;
use plimsoll_schemas::words::probe;

use super::{component, container, detached, report, signals};
use crate::Exit;
use crate::arguments::{self, Format};
use crate::config::CliConfig;
use crate::exit::UsageError;
use crate::local::{Local, Positions, Resolver};
use crate::output::{Policy, ResultFile, print, print_json, report_table};

/// Longest wait for broker and registry.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// What a long run observed is joined and saved at least this often.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Longest wait, once the command has ended, for the owners of what it used.
const STOP_MAX: Duration = Duration::from_secs(60);
/// What waits on disk for a broker that is away, in bytes.
const SPOOL_MAX_BYTES: u64 = 256 * 1024 * 1024;

pub fn execute(arguments: &arguments::Run, config: &CliConfig) -> anyhow::Result<Exit> {
    let policy = Policy::parse(arguments.output.fail_on.as_deref())?;
    let component = component(&arguments.names, "a run belongs to a component")?;
    if config.has_broker() && arguments.output.output_file.is_some() {
        let why =
            "--output-file: where a broker is configured the result comes by `plimsoll report`; use it there";
        return Err(UsageError(why.to_owned()).into());
    }
    let file = ResultFile::create(&arguments.output)?;
    let words = if arguments.cmd.is_empty() { &arguments.rest } else { &arguments.cmd };
    let run_id = random_id();
    let container = container::labelled(words, &component, &run_id);
    let destination = Destination::open(config)?;
    let resolver = Resolver::start(destination.connections())?;
    let mut observer =
        Observer::start(arguments, config, &run_id, container.as_ref(), &destination, &resolver)?;
    observer.explain(arguments.verbose);
    let child = observer.spawn(arguments, &component, words, container.as_ref())?;
    let signals = signals::Forwarder::start(&child)?;
    let mut saver = Saver { config, destination, positions: Positions::default() };
    let status = saver.wait(child)?;
    drop(signals);
    if let Some(container) = &container {
        let endpoint = engine(arguments, config, container);
        saver.wait_for_detached(detached::Containers::of_run(&endpoint, &run_id)?);
    }
    observer.agent.stop(false);
    resolver.stop()?;
    saver.save()?;
    let code = exit_code(status);
    finish(arguments, config, &component, policy, &file, code)
}

/// The engine that the command talks to.
fn engine(arguments: &arguments::Run, config: &CliConfig, container: &container::Labelled) -> String {
    let given = container.docker_host.clone().or_else(|| arguments.docker_host.clone());
    given.unwrap_or_else(|| config.docker_host())
}

/// Where events go: the pipeline, or a broker of this process whose content is joined into the local state.
enum Destination {
    Pipeline(Connections),
    Local { connections: Connections, broker: MemoryBroker },
}

impl Destination {
    fn open(config: &CliConfig) -> anyhow::Result<Self> {
        if config.has_broker() {
            let connections = Connections::open(&config.kafka, &config.schema_registry)?;
            connections
                .prepare_until(Instant::now() + CONNECT_MAX)
                .context("nothing could be published, so the command was not started")?;
            return Ok(Self::Pipeline(connections));
        }
        let broker = MemoryBroker::new();
        let connections = Connections::from_memory(broker.clone());
        connections.prepare_once()?;
        Ok(Self::Local { connections, broker })
    }

    fn connections(&self) -> &Connections {
        match self {
            Self::Pipeline(connections) | Self::Local { connections, .. } => connections,
        }
    }
}

struct Observer {
    agent: Agent,
}

impl Observer {
    fn start(
        arguments: &arguments::Run,
        config: &CliConfig,
        run_id: &str,
        container: Option<&container::Labelled>,
        destination: &Destination,
        resolver: &Resolver,
    ) -> anyhow::Result<Self> {
        let connections = destination.connections();
        let producer = connections.broker.producer(producer_options("plimsoll-cli-agent"))?;
        let ebpf = match (arguments.no_ebpf, container) {
            (true, Some(_)) => bail!("a container is observed by eBPF only; leave --no-ebpf out"),
            (true, None) => UseEbpf::Off,
            (false, Some(_)) => UseEbpf::Required,
            (false, None) => UseEbpf::Preferred,
        };
        let docker_endpoint = container.map(|container| engine(arguments, config, container));
        let spool = match destination {
            Destination::Pipeline(_) => {
                Some((config.state_directory().join("spool").join(run_id), SPOOL_MAX_BYTES))
            }
            Destination::Local { .. } => None,
        };
        let agent_config = AgentConfig {
            producer_id: format!("plimsoll-run/{run_id}"),
            watch_containers: container.is_some(),
            only_label: container.map(|_| (container::RUN_LABEL.to_owned(), run_id.to_owned())),
            ebpf,
            docker_endpoint,
            resolver_socket: Some(resolver.socket().to_owned()),
            spool,
            stop_timeout: STOP_MAX,
            java: JavaConfig { attach_from_21: arguments.java_attach_from_21, ..JavaConfig::default() },
            ..AgentConfig::new(machine_id()?, node_name())
        };
        let output = BrokerOutput::new(connections.codec(), producer);
        let agent = Agent::start(agent_config, Box::new(output)).map_err(|error| match container {
            Some(_) => {
                anyhow::Error::from(error).context("a container is observed by eBPF, which needs root rights")
            }
            None => error.into(),
        })?;
        Ok(Self { agent })
    }

    /// Says which probes observe. Without eBPF that is always said: the result depends on it.
    fn explain(&self, verbose: bool) {
        let probes = self.agent.probes();
        let fallback = !probes.active.contains(&probe::EBPF_FILES);
        if verbose || fallback {
            eprintln!("plimsoll: observed by {}", probes.active.join(", "));
        }
        for (probe, reason) in &probes.unavailable {
            if verbose || (fallback && probe == probe::EBPF_FILES) {
                eprintln!("plimsoll: not by {probe}: {reason}");
            }
        }
    }

    fn spawn(
        &mut self,
        arguments: &arguments::Run,
        component: &Component,
        words: &[String],
        container: Option<&container::Labelled>,
    ) -> anyhow::Result<Child> {
        let [program, rest @ ..] = container.map_or(words, |container| &container.words) else {
            bail!("there is no command to run");
        };
        let mut command = Command::new(program);
        command.args(rest);
        let started = if container.is_some() {
            command.spawn()
        } else {
            let root = match &arguments.root {
                Some(root) => root.clone(),
                None => std::env::current_dir().context("reading the working directory")?,
            };
            let mut tree = TreeConfig::new(component.clone(), &root, words.to_vec());
            tree.root_package_hash = directory_package_hash(&root)?;
            self.agent.watch_tree(tree)?.spawn(command)
        };
        started.with_context(|| format!("starting {program:?}; check that it exists and may be executed"))
    }
}

/// Waits for the command, and joins what was observed into the local state from time to time.
struct Saver<'a> {
    config: &'a CliConfig,
    destination: Destination,
    positions: Positions,
}

impl Saver<'_> {
    fn wait(&mut self, mut child: Child) -> anyhow::Result<ExitStatus> {
        let (done, ended) = crossbeam_channel::bounded(1);
        let waiter = std::thread::Builder::new().name("waiter".into()).spawn(move || {
            // The receiver waits for as long as this thread lives.
            let _ = done.send(child.wait());
        })?;
        let status = loop {
            match ended.recv_timeout(SAVE_INTERVAL) {
                Ok(status) => break status?,
                Err(RecvTimeoutError::Timeout) => self.save_so_far(),
                Err(RecvTimeoutError::Disconnected) => bail!("waiting for the command failed"),
            }
        };
        // It has sent its only message.
        let _ = waiter.join();
        Ok(status)
    }

    /// Goes on while a container of the run does: its client has ended, but the container is the workload.
    fn wait_for_detached(&mut self, mut containers: detached::Containers) {
        match containers.running() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(
                    "asking the container engine whether the container runs on: {error:#}; the observation ends here"
                );
                return;
            }
        }
        eprintln!(
            "plimsoll: the container runs on; it is observed until it stops, or until Ctrl-C, which leaves it running"
        );
        let mut saved = Instant::now();
        while containers.go_on() {
            std::thread::sleep(detached::LOOK_INTERVAL);
            if saved.elapsed() >= SAVE_INTERVAL {
                saved = Instant::now();
                self.save_so_far();
            }
        }
    }

    fn save_so_far(&mut self) {
        if let Err(error) = self.save() {
            tracing::warn!("saving what was observed so far: {error:#}; it is tried again");
        }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let Destination::Local { broker, .. } = &self.destination else { return Ok(()) };
        let mut local = Local::open(&self.config.state_directory())?;
        local.absorb(broker, &mut self.positions)?;
        local.close()
    }
}

/// The shell's convention: 128 and the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(1)
}

fn finish(
    arguments: &arguments::Run,
    config: &CliConfig,
    component: &Component,
    policy: Policy,
    file: &ResultFile,
    code: u8,
) -> anyhow::Result<Exit> {
    if config.has_broker() {
        eprintln!(
            "plimsoll: published; see it by: plimsoll report -a {} -c {} -V {}",
            component.application(),
            component.component(),
            component.version()
        );
        return Ok(Exit::Command(code));
    }
    let report = report::fetch(component, config)?;
    file.take_output()?;
    match arguments.output.output {
        Format::Json => print_json(&report)?,
        Format::Table => print(&report_table(&report, 0, None))?,
    }
    Ok(match (code, policy.judge(&report.packages)) {
        (0, Exit::PolicyBroken) => Exit::PolicyBroken,
        _ => Exit::Command(code),
    })
}
