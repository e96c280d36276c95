//! The `plimsoll-loadtest` command: wiring only.
//! It must never start servers: `cargo xtask stack run` does.
#![allow(clippy::print_stdout)] // The figures are its output.

use clap::Parser as _;
use plimsoll_loadtest::arguments::{Arguments, Command};
use plimsoll_loadtest::{child, correlator, pipeline, replay, restart};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Correlator(options) => correlator::run(&arguments.servers, &options),
        Command::Pipeline(options) => pipeline::run(&arguments.servers, &options),
        Command::Replay(options) => replay::run(&options),
        Command::Restart(options) => restart::run(&arguments.servers, &options),
        Command::Serve(options) => child::serve(&arguments.servers, &options),
    }
}
