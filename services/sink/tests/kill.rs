//! The real sink, killed with SIGKILL again and again under load: every row in ClickHouse against the topics.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::load::{Load, Random};
use common::oracle::Oracle;
use common::{Pipeline, servers};

/// Small batches: many boundaries for the kills to hit.
const SETTINGS: &[&str] =
    &["batch.linger_ms=10", "batch.interval_ms=30", "batch.max_rows=400", "telemetry.log_level=info"];
const KILLS: usize = 20;

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let Some(servers) = servers() else { return };
    let pipeline = Pipeline::new(servers, "kill");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, mut load) = (Arc::clone(&stop), Load::new(&pipeline.connections, 42));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                load.transaction(60);
                std::thread::sleep(Duration::from_millis(20));
            }
            load.records
        })
    };
    let mut random = Random::new(7);
    let mut planned = 0;
    for _ in 0..KILLS {
        let sink = pipeline.start_sink(SETTINGS);
        // From before it joined the group to well into its work.
        std::thread::sleep(Duration::from_millis(150 + random.below(1000)));
        sink.kill();
        planned = pipeline.log().matches("finishing a block that was planned").count();
    }
    stop.store(true, Ordering::Relaxed);
    let records = writer.join().unwrap();

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
