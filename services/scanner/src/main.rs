//! Wiring of the scanner service.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};
use plimsoll_scanner::config::ScannerConfig;

/// Scans images and directories on request, and publishes packages and findings.
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let info = ServiceInfo::new("scanner", env!("CARGO_PKG_VERSION"));
    run_service::<ScannerConfig>(info, &Flags::parse().config, plimsoll_scanner::service::run)
}
