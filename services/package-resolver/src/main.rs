//! Wiring of the package-resolver: rights are given up before anything else.
//! It must never hold logic.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_kit::config::ConfigArgs;
use plimsoll_kit::lifecycle::{ServiceInfo, run_service};
use plimsoll_package_resolver::{PackageResolverConfig, rights, service};

/// Answers which package owns a path of a running workload, and publishes it.
#[derive(Parser)]
#[command(name = "plimsoll-package-resolver", version)]
struct Flags {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // Before the first thread, since capabilities belong to threads.
    let kept = rights::drop_to_least();
    rights::raise_descriptor_limit();
    let info = ServiceInfo::new("package-resolver", env!("CARGO_PKG_VERSION"));
    run_service::<PackageResolverConfig>(info, &flags.config, |config, context| {
        kept.iter().for_each(|right| tracing::warn!("a right could not be given up: {right}"));
        service::run(config, context)
    })
}
