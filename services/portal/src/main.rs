//! The portal's program: wiring only.
//! It must never hold logic of its own.

use clap::Parser;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};
use plimsoll_portal::config::PortalConfig;
use plimsoll_portal::service;

/// Shows what the pipeline found: pages and a JSON API over ClickHouse.
#[derive(Parser)]
#[command(name = "plimsoll-portal", version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> std::process::ExitCode {
    let info = ServiceInfo::new("portal", env!("CARGO_PKG_VERSION"));
    run_service::<PortalConfig>(info, &Flags::parse().config, service::run)
}
