//! ClickHouse hangs, dies and comes back: the sink says so, waits, and loses nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::load::Load;
use common::oracle::Oracle;
use common::{ClickHouse, Pipeline, servers, wait_for};

/// A ClickHouse of the test's own, which it may stop.
struct OwnClickHouse {
    xtask: PathBuf,
    directory: tempfile::TempDir,
}

impl OwnClickHouse {
    fn start() -> Self {
        let xtask = PathBuf::from(
            std::env::var("PLIMSOLL_XTASK").expect("PLIMSOLL_XTASK names cargo xtask's binary"),
        );
        let server = Self { xtask, directory: tempfile::tempdir().unwrap() };
        server.stack(&["up", "--only", "clickhouse"]);
        server
    }

    fn stack(&self, arguments: &[&str]) {
        let output = Command::new(&self.xtask)
            .arg("stack")
            .args(arguments)
            .arg("--dir")
            .arg(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "stack {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn url(&self) -> String {
        let env = std::fs::read_to_string(self.directory.path().join("env")).unwrap();
        let line = env.lines().find_map(|line| line.strip_prefix("PLIMSOLL_TEST_CLICKHOUSE="));
        line.unwrap().to_owned()
    }
}

impl Drop for OwnClickHouse {
    fn drop(&mut self) {
        let _ =
            Command::new(&self.xtask).args(["stack", "down", "--dir"]).arg(self.directory.path()).output();
    }
}

#[test]
fn an_outage_of_clickhouse_loses_nothing() {
    let Some(servers) = servers() else { return };
    let server = OwnClickHouse::start();
    let mut pipeline = Pipeline::new(servers, "outage");
    pipeline.clickhouse = ClickHouse { url: server.url(), database: "outage".to_owned() };
    let mut load = Load::new(&pipeline.connections, 11);
    load.transaction(500);

    // Down at start: it waits and says for what.
    server.stack(&["kill", "clickhouse"]);
    let sink = pipeline.start_sink(&[
        "clickhouse.request_timeout_ms=1000",
        "batch.linger_ms=20",
        "batch.interval_ms=50",
        "batch.max_rows=300",
    ]);
    let not_ready =
        || sink.page("/readyz").filter(|(status, text)| *status == 503 && text.contains("ClickHouse at"));
    let ready = || sink.page("/readyz").filter(|(status, _)| *status == 200);
    wait_for("not ready without ClickHouse", not_ready);
    server.stack(&["restart", "clickhouse"]);
    wait_for("ready with ClickHouse", ready);

    // It hangs, under more load than two batches hold: consumption pauses, memory stays bounded.
    server.stack(&["pause", "clickhouse"]);
    wait_for("the pause", || {
        load.transaction(200);
        sink.page("/metrics").filter(|(_, text)| text.lines().any(|line| line == "plimsoll_sink_paused 1"))
    });
    let (_, text) = wait_for("not ready while ClickHouse hangs", not_ready);
    assert!(text.contains("within 1000 ms"), "{text}");
    server.stack(&["resume", "clickhouse"]);
    wait_for("ready after the hang", ready);

    // It dies with inserts under way.
    load.transaction(400);
    server.stack(&["kill", "clickhouse"]);
    load.transaction(400);
    wait_for("not ready while ClickHouse is dead", not_ready);
    server.stack(&["restart", "clickhouse"]);

    let mut oracle = Oracle::new(&pipeline);
    oracle.wait_until_caught_up();
    wait_for("ready at the end", ready);
    oracle.check();
    println!("{} records, {} rows compared", load.records, oracle.rows);
    assert!(sink.terminate(), "the sink ends in order");
}
