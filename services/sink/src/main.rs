//! Wiring of the sink.
//! It must never hold logic.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};
use plimsoll_sink::{SinkConfig, service};

/// Writes Plimsoll's results into ClickHouse.
#[derive(Parser)]
#[command(name = "plimsoll-sink", version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let info = ServiceInfo::new("sink", env!("CARGO_PKG_VERSION"));
    run_service::<SinkConfig>(info, &Flags::parse().config, service::run)
}
