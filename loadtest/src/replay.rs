//! The join alone, over the memory broker in this process: what counting instructions needs, since neither the load of
//! the machine nor a server has a say in it. It must never be compared with a run over Kafka.
#![allow(clippy::print_stdout)] // The figures are the output.

use std::time::{Duration, Instant};

use anyhow::ensure;
use plimsoll_correlator::{Correlator, CorrelatorSection, wait_until_caught_up};
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;

use crate::arguments::LoadOptions;
use crate::oracle;

const RUN_LIMIT: Duration = Duration::from_secs(1_800);
/// Inputs of a batch: as many as four intervals gather at ten thousand inputs in a second.
const BATCH_RECORDS: usize = 4_000;
/// Longer than a batch takes under valgrind, so that batches are cut by their number of inputs alone.
const COMMIT_INTERVAL_MS: u64 = 10_000;

/// Runs and prints.
///
/// # Errors
/// A result that is wrong.
pub fn run(options: &LoadOptions) -> anyhow::Result<()> {
    let load = options.load();
    let connections = Connections::memory();
    connections.prepare_once()?;
    let inputs = load.send(&connections)?;
    let section = CorrelatorSection {
        commit_interval_ms: COMMIT_INTERVAL_MS,
        batch_max_records: BATCH_RECORDS,
        tick_interval_ms: 0,
        ..CorrelatorSection::default()
    };
    let context = ServiceContext::detached(ServiceInfo::new("correlator", env!("CARGO_PKG_VERSION")));
    let running = Correlator::spawn(connections.clone(), section, context.clone())?;
    ensure!(wait_until_caught_up(&connections, Instant::now() + RUN_LIMIT)?, "the correlator hangs");
    context.shutdown.trigger();
    match running.join() {
        Ok(ended) => ended?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let packages = oracle::check(&connections, &load)?;
    println!("{inputs} inputs joined, {packages} packages compared with the known answer");
    Ok(())
}
