//! Wiring of the service.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};
use plimsoll_runtime_agent::config::RuntimeAgentConfig;

/// Observes what the containers of this node execute, load and open.
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
    /// Remove the pinned eBPF programs and maps of this instance, and exit: watching ends
    #[arg(long)]
    unpin: bool,
}

fn main() -> ExitCode {
    if let Some(code) = plimsoll_runtime_agent::java::helper::run_if_asked() {
        return code;
    }
    let flags = Flags::parse();
    let info = ServiceInfo::new("runtime-agent", env!("CARGO_PKG_VERSION"));
    if flags.unpin {
        return run_service::<RuntimeAgentConfig>(
            info,
            &flags.config,
            plimsoll_runtime_agent::service::unpin,
        );
    }
    run_service::<RuntimeAgentConfig>(info, &flags.config, plimsoll_runtime_agent::service::run)
}
