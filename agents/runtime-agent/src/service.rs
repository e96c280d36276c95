//! The node daemon: configuration to agent, agent to broker.
//! It must never start without eBPF: on a node there is nothing else to observe with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use plimsoll_kit::host;
use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::transport::Connections;

use crate::agent::Agent;
use crate::config::{AgentConfig, RuntimeAgentConfig, UseEbpf};
use crate::ebpf::PinConfig;
use crate::java::JavaConfig;
use crate::meters::Metered;
use crate::output::{BrokerOutput, producer_options};

/// Runs until the end is asked for. Observing begins before the broker is reachable: what is seen meanwhile is
/// spooled.
///
/// # Errors
/// If there is no eBPF, no machine id, or the configuration does not fit the broker's topics.
pub fn run(config: RuntimeAgentConfig, context: ServiceContext) -> anyhow::Result<()> {
    let node_id = host::machine_id()?;
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    let producer = connections
        .broker
        .producer(producer_options(format!("runtime-agent-{node_id}")))
        .context("opening the producer")?;
    let output = Metered::new(BrokerOutput::new(connections.codec(), producer), &context.metrics);
    let readiness = context.health.readiness("runtime-agent");
    readiness.not_ready("loading eBPF programs");
    let agent = Agent::start(agent_config(&config, node_id), Box::new(output))?;
    for (probe, reason) in &agent.probes().unavailable {
        tracing::info!(probe, reason, "not measured");
    }
    readiness.not_ready("broker and schema registry are not prepared yet");
    match connections.prepare(&context) {
        Ok(_) => readiness.ready(),
        Err(_) if context.shutdown.is_triggered() => {}
        Err(error) => return Err(error.into()),
    }
    tracing::info!(probes = agent.probes().active.join(", "), "observing this node");
    while !context.shutdown.wait(Duration::from_secs(3_600)) {}
    agent.stop(config.ebpf.unpin_at_end);
    Ok(())
}

/// Removes the pins of the configured instance.
///
/// # Errors
/// If an agent of this instance runs, or bpffs cannot be used.
pub fn unpin(config: RuntimeAgentConfig, _context: ServiceContext) -> anyhow::Result<()> {
    crate::ebpf::remove_pins(&PinConfig { root: config.ebpf.pin_root, instance: config.ebpf.instance })?;
    Ok(())
}

fn agent_config(config: &RuntimeAgentConfig, node_id: String) -> AgentConfig {
    let pins = config
        .ebpf
        .pin
        .then(|| PinConfig { root: config.ebpf.pin_root.clone(), instance: config.ebpf.instance.clone() });
    AgentConfig {
        watch_containers: true,
        ebpf: UseEbpf::Required,
        pins,
        ring_bytes: config.ebpf.ring_bytes,
        docker_endpoint: config.docker.host.clone(),
        request_scans: config.docker.request_scans,
        resolver_socket: config
            .resolver
            .socket
            .clone()
            .filter(|socket: &PathBuf| !socket.as_os_str().is_empty()),
        epoch: Duration::from_millis(config.ebpf.epoch_ms),
        java: JavaConfig {
            enabled: config.java.enabled,
            attach: config.java.attach,
            attach_from_21: config.java.attach_from_21,
            helper: None,
        },
        spool: Some((config.spool_directory(), config.spool.budget_bytes)),
        ..AgentConfig::new(node_id, host::node_name())
    }
}
