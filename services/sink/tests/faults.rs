//! Faults of broker and registry, over the memory broker and a real ClickHouse: nothing is lost, nothing is doubled,
//! and nothing goes to the dead letters that a registry would have explained.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::load::Load;
use common::oracle::Oracle;
use common::{ClickHouse, Pipeline, servers, unique, wait_for};
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::registry::{RegistryError, SchemaRegistry};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::{CodecError, SchemaStore};
use plimsoll_sink::{Sink, SinkConfig};

/// A registry that can be away.
struct Flaky {
    inner: Arc<dyn SchemaRegistry>,
    away: AtomicBool,
}

impl Flaky {
    fn answer<T, E: From<RegistryError>>(&self, answer: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if self.away.load(Ordering::Relaxed) {
            let (url, reason) = ("flaky".to_owned(), "away".to_owned());
            return Err(RegistryError::Unreachable { url, reason }.into());
        }
        answer()
    }
}

impl SchemaStore for Flaky {
    fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        self.answer(|| self.inner.id_of(subject, schema))
    }

    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError> {
        self.answer(|| self.inner.schema_by_id(id))
    }
}

impl SchemaRegistry for Flaky {
    fn name(&self) -> String {
        "flaky".to_owned()
    }

    fn register(&self, subject: &str, schema_json: &str) -> Result<u32, RegistryError> {
        self.answer(|| self.inner.register(subject, schema_json))
    }

    fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        self.answer(|| self.inner.schema(id))
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), RegistryError> {
        self.answer(|| self.inner.set_compatibility(subject, level))
    }

    fn check(&self) -> Result<(), RegistryError> {
        self.answer(|| Ok(()))
    }
}

#[test]
fn broker_and_registry_may_be_away_and_the_group_may_go_on() {
    let Some(servers) = servers() else { return };
    let broker = MemoryBroker::new();
    let mut connections = Connections::from_memory(broker.clone());
    let registry = Arc::new(Flaky { inner: connections.registry.clone(), away: AtomicBool::new(false) });
    connections.registry = registry.clone();
    connections.prepare_once().unwrap();

    let database = unique("faults");
    let mut config = SinkConfig::default();
    config.clickhouse.server.url.clone_from(&servers.clickhouse);
    config.clickhouse.server.database.clone_from(&database);
    (config.batch.linger_ms, config.batch.interval_ms, config.batch.max_rows) = (10, 20, 300);
    let pipeline = Pipeline {
        clickhouse: ClickHouse { url: servers.clickhouse.clone(), database },
        group: format!("{}.sink", connections.prefix),
        connections: connections.clone(),
        servers,
        directory: tempfile::tempdir().unwrap(),
    };
    let mut load = Load::new(&connections, 5);
    load.transaction(400);

    registry.away.store(true, Ordering::Relaxed);
    let context = ServiceContext::detached(ServiceInfo::new("sink", "0"));
    let running = {
        let (context, connections) = (context.clone(), connections.clone());
        std::thread::spawn(move || Sink::run(&connections, &config, &context))
    };
    let unready = |what: &str| {
        wait_for(what, || {
            context.health.unready_reasons().iter().any(|reason| reason.starts_with(what)).then_some(())
        });
    };
    let ready = || wait_for("ready", || context.health.unready_reasons().is_empty().then_some(()));
    unready("schema-registry");
    assert!(context.health.unready_reasons().concat().contains("flaky"));
    registry.away.store(false, Ordering::Relaxed);
    ready();

    for round in 0..4 {
        load.transaction(300);
        broker.set_available(false);
        unready("kafka");
        broker.set_available(true);
        ready();
        load.transaction(300);
        if round % 2 == 0 {
            // Told `Lost`: whatever was not committed is read again.
            broker.expire_members(&pipeline.group);
        }
    }

    let mut oracle = Oracle::new(&pipeline);
    oracle.wait_until_caught_up();
    oracle.check();
    println!("{} records, {} rows compared, {} refused", load.records, oracle.rows, oracle.refused_count());
    context.shutdown.trigger();
    running.join().unwrap().unwrap();
}
