//! Wiring of the correlator service.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_correlator::CorrelatorConfig;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};

/// Joins what is installed with what is used and what is vulnerable.
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let info = ServiceInfo::new("correlator", env!("CARGO_PKG_VERSION"));
    run_service::<CorrelatorConfig>(info, &Flags::parse().config, plimsoll_correlator::run)
}
