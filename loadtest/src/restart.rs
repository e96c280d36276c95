//! Kills a correlator that holds many keys in its local store, and times the first output of the next one.
//! It must never take an output of the first life for one of the second.
#![allow(clippy::print_stdout)] // The figures are the output.

use std::time::{Duration, Instant};

use anyhow::ensure;
use plimsoll_correlator::wait_until_caught_up;
use plimsoll_kit::broker::TopicPartition;
use plimsoll_schemas::events::{CorrelationPackage, CorrelatorState};

use crate::arguments::RestartOptions;
use crate::child::{Process, until};
use crate::generate::Load;
use crate::oracle;
use crate::servers::Servers;

const RUN_LIMIT: Duration = Duration::from_secs(3_600);
const PACKAGES: usize = 200;
/// State keys of one package: itself, its findings, owners and uses of its files, about.
const KEYS_PER_PACKAGE: usize = 5;

/// Runs and prints.
///
/// # Errors
/// Servers that fail, or a result that is wrong.
pub fn run(servers: &Servers, options: &RestartOptions) -> anyhow::Result<()> {
    let artifacts = (options.keys / (PACKAGES * KEYS_PER_PACKAGE)).max(1);
    let load = Load { artifacts, packages: PACKAGES, batches: 8, items: 50 };
    let prefix = format!("restart{}", std::process::id());
    let connections = servers.connect(&prefix)?;
    connections.prepare_until(Instant::now() + Duration::from_secs(60))?;
    let inputs = load.send(&connections)?;
    let mut first = Process::serve(servers, "correlator", &prefix, Some(&options.directory))?;
    let begun = Instant::now();
    ensure!(wait_until_caught_up(&connections, Instant::now() + RUN_LIMIT)?, "the correlator hangs");
    println!("{inputs} inputs of {artifacts} images joined in {:.0} s", begun.elapsed().as_secs_f64());
    oracle::check(&connections, &load)?;
    let records = |topic: String| -> anyhow::Result<i64> {
        let mut sum = 0;
        for partition in 0..connections.partitions {
            sum += connections.broker.watermarks(&TopicPartition::new(topic.as_str(), partition))?.high;
        }
        Ok(sum)
    };
    let codec = connections.codec();
    println!("{} records of state", records(codec.topic::<CorrelatorState>())?);
    first.kill()?;

    // One image more than before, so that there is something to put out.
    let outputs = records(codec.topic::<CorrelationPackage>())?;
    load.send_one(&connections, artifacts)?;
    let begun = Instant::now();
    let mut second = Process::serve(servers, "correlator", &prefix, Some(&options.directory))?;
    until("the first output after the restart", RUN_LIMIT, || {
        ensure!(second.runs(), "the correlator ended");
        Ok(records(codec.topic::<CorrelationPackage>())? > outputs)
    })?;
    println!(
        "first output {:.2} s after the start of the process (target: 2 s after assignment)",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
