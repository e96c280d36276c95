//! The `jvm-startup` command: wiring only.
//! It must never need a server.

use clap::Parser as _;
use plimsoll_loadtest::jvm::{Options, run};

fn main() -> anyhow::Result<()> {
    run(&Options::parse())
}
