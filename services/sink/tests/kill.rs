//! The real sink, killed with SIGKILL again and again under load: every row in ClickHouse against the topics.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::load::{Load, Random};
use common::oracle::Oracle;
use common::{Pipeline, servers, wait_for};

/// Small batches: many boundaries for the kills to hit.
const SETTINGS: &[&str] =
    &["batch.linger_ms=10", "batch.interval_ms=30", "batch.max_rows=400", "telemetry.log_level=info"];
const KILLS: usize = 16;

/// Writes load until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Writer {
    fn start(pipeline: &Pipeline, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut load) = (Arc::clone(&stop), Load::new(&pipeline.connections, seed));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                load.transaction(60);
                std::thread::sleep(Duration::from_millis(20));
            }
            load.records
        });
        Self { stop, thread }
    }

    /// Returns the number of committed records.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "kill");
    let writer = Writer::start(&pipeline, 42);
    let mut random = Random::new(7);
    let assignments = || pipeline.log().matches(" INFO reading ").count();
    for kill in 0..KILLS {
        let before = assignments();
        let sink = pipeline.start_sink(SETTINGS);
        if kill % 4 == 0 {
            // Somewhere in its start.
            std::thread::sleep(Duration::from_millis(random.below(600)));
        } else {
            wait_for("the sink to read", || (assignments() > before).then_some(()));
            std::thread::sleep(Duration::from_millis(random.below(400)));
        }
        sink.kill();
    }
    let planned = pipeline.log().matches("finishing what was planned").count();
    let records = writer.stop();

    let mut oracle = Oracle::new(&pipeline);
    let sink = pipeline.start_sink(SETTINGS);
    oracle.wait_until_caught_up();
    oracle.check();
    assert!(sink.terminate(), "the sink ends in order");
    println!(
        "{records} records, {} rows compared, {} refused, {KILLS} kills, {planned} planned blocks finished after one",
        oracle.rows,
        oracle.refused_count()
    );
    assert!(oracle.refused_count() > 0, "the load has garbage in it");
    assert!(planned > 0, "no kill hit between plan and commit: the test shows nothing about it");
}

/// Two sinks share the partitions; one hangs for longer than its session, so that the other takes over what the first
/// still believes to have, and finishes its plans; then one is killed and comes back.
#[test]
fn members_that_hang_or_come_and_go_lose_nothing_and_double_nothing() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "members");
    let writer = Writer::start(&pipeline, 43);
    let member = |instance: &str| {
        let instance = format!("group.instance={instance}");
        pipeline.start_sink(&[SETTINGS, &[instance.as_str()]].concat())
    };
    let assignments = || pipeline.log().matches(" INFO reading ").count();
    let (first, second) = (member("a"), member("b"));
    wait_for("both to have partitions", || pipeline.log().contains("reading 18 partitions").then_some(()));
    std::thread::sleep(Duration::from_millis(1500));

    let before = assignments();
    first.signal("STOP");
    wait_for("the second to have all partitions", || (assignments() > before).then_some(()));
    std::thread::sleep(Duration::from_millis(1500));
    let before = assignments();
    first.signal("CONT");
    wait_for("the first to be back", || (assignments() >= before + 2).then_some(()));
    second.kill();
    let second = member("b");
    std::thread::sleep(Duration::from_millis(1500));
    let records = writer.stop();

    let mut oracle = Oracle::new(&pipeline);
    oracle.wait_until_caught_up();
    oracle.check();
    println!("{records} records, {} rows compared after {} assignments", oracle.rows, assignments());
    assert!(first.terminate() && second.terminate(), "both end in order");
}
