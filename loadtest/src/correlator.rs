//! Inputs per second and per CPU-second of the correlator, with and without transactions, and of its peer.
//! It must never compare runs whose results were not compared with the known answer.
#![allow(clippy::print_stdout)] // The figures are the output.

use std::time::{Duration, Instant};

use plimsoll_correlator::wait_until_caught_up;
use plimsoll_kit::broker::TopicPartition;
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::topics::TOPICS;

use crate::arguments::CorrelatorOptions;
use crate::child::Process;
use crate::generate::Load;
use crate::servers::Servers;
use crate::{oracle, streams};

/// Longest run.
const RUN_LIMIT: Duration = Duration::from_secs(900);

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub inputs: u64,
    pub wall: Duration,
    pub cpu: Duration,
    /// Records written to all topics, those of the state among them; 0 of the peer.
    pub written: u64,
    /// Most memory held, in bytes; 0 of the peer.
    pub resident_bytes: u64,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.inputs as f64 / self.wall.as_secs_f64()
    }

    fn per_cpu_second(&self) -> f64 {
        self.inputs as f64 / self.cpu.as_secs_f64()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ExactlyOnce,
    AtLeastOnce,
    Streams,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "plimsoll, exactly once",
            Self::AtLeastOnce => "plimsoll, at least once",
            Self::Streams => "Kafka Streams, EOS v2",
        }
    }
}

/// Runs and prints.
///
/// # Errors
/// Servers that fail, or a result that is wrong.
pub fn run(servers: &Servers, options: &CorrelatorOptions) -> anyhow::Result<()> {
    let load = options.load.load();
    let mut kinds = vec![Kind::ExactlyOnce, Kind::AtLeastOnce];
    let peer = if options.peer { Some(streams::Peer::build()?) } else { None };
    kinds.extend(peer.as_ref().map(|_| Kind::Streams));
    let mut results: Vec<(Kind, Vec<Measured>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let run_id = std::process::id();
    for round in 0..options.rounds {
        for (kind, measured) in &mut results {
            let prefix = format!("load{run_id}-{}-{round}", *kind as u8);
            let one = measure(servers, &load, *kind, &prefix, peer.as_ref())?;
            println!(
                "{:24} {:9} inputs  {:8} written  {:5} MB  {:7.2} s  {:7.2} CPU-s  {:8.0}/s  {:8.0}/CPU-s",
                kind.name(),
                one.inputs,
                one.written,
                one.resident_bytes / 1_000_000,
                one.wall.as_secs_f64(),
                one.cpu.as_secs_f64(),
                one.per_second(),
                one.per_cpu_second()
            );
            measured.push(one);
        }
    }
    let median = |kind: Kind, of: &dyn Fn(&Measured) -> f64| -> Option<f64> {
        let (_, measured) = results.iter().find(|(known, _)| *known == kind)?;
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let ratio = |a: Kind, b: Kind, of: &dyn Fn(&Measured) -> f64| Some(median(a, of)? / median(b, of)?);
    if let Some(ratio) = ratio(Kind::ExactlyOnce, Kind::AtLeastOnce, &Measured::per_second) {
        println!("exactly once / at least once, inputs per second: {ratio:.3} (target 0.95)");
    }
    if let Some(ratio) = ratio(Kind::ExactlyOnce, Kind::Streams, &Measured::per_cpu_second) {
        println!("plimsoll / Kafka Streams, inputs per CPU-second: {ratio:.1} (target 10)");
    }
    Ok(())
}

fn measure(
    servers: &Servers,
    load: &Load,
    kind: Kind,
    prefix: &str,
    peer: Option<&streams::Peer>,
) -> anyhow::Result<Measured> {
    let connections = servers.connect(prefix)?;
    connections.prepare_until(Instant::now() + Duration::from_secs(60))?;
    let inputs = load.send(&connections)?;
    let state = std::env::temp_dir().join(prefix);
    let begun = Instant::now();
    let (wall, cpu, resident_bytes) = match (kind, peer) {
        (Kind::Streams, Some(peer)) => {
            let mut process = peer.start(servers, &connections, &state)?;
            peer.wait(&connections, &mut process, RUN_LIMIT)?;
            (begun.elapsed(), process.cpu()?, 0)
        }
        _ => {
            let what = if kind == Kind::AtLeastOnce { "correlator-at-least-once" } else { "correlator" };
            let mut process = Process::serve(servers, what, prefix, Some(&state))?;
            anyhow::ensure!(
                wait_until_caught_up(&connections, Instant::now() + RUN_LIMIT)?,
                "the correlator did not catch up within {RUN_LIMIT:?}"
            );
            (begun.elapsed(), process.cpu()?, process.resident_bytes()?)
        }
    };
    if kind == Kind::Streams {
        oracle::check_topic(&connections, load, &streams::output_topic(prefix))?;
    } else {
        oracle::check(&connections, load)?;
    }
    if state.exists() {
        std::fs::remove_dir_all(&state)?;
    }
    let written = if kind == Kind::Streams { 0 } else { written(&connections)? };
    Ok(Measured { inputs, wall, cpu, written, resident_bytes })
}

/// Records in all topics that the correlator writes; markers of transactions count too.
fn written(connections: &Connections) -> anyhow::Result<u64> {
    let mut sum = 0;
    for topic in TOPICS.iter().filter(|topic| topic.producers.contains(&"correlator")) {
        for partition in 0..connections.partitions {
            let at = TopicPartition::new(topic.full_name(&connections.prefix), partition);
            sum += u64::try_from(connections.broker.watermarks(&at)?.high)?;
        }
    }
    Ok(sum)
}
