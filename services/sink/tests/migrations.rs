//! Migrations on a real ClickHouse: repeated, at once, changed, and newer than the program.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::{ClickHouse, servers, unique};
use plimsoll_schemas::migrations::{MIGRATIONS, Migration};
use plimsoll_sink::config::ClickHouseConfig;
use plimsoll_sink::{Database, MigrationReport, migrate, migrate_to};

struct OwnDatabase {
    database: Database,
    clickhouse: ClickHouse,
    runtime: tokio::runtime::Runtime,
}

impl OwnDatabase {
    fn new(what: &str) -> Option<Self> {
        let servers = servers()?;
        let name = unique(what);
        let mut config = ClickHouseConfig::default();
        config.server.url.clone_from(&servers.clickhouse);
        config.server.database.clone_from(&name);
        Some(Self {
            database: Database::new(&config).unwrap(),
            clickhouse: ClickHouse { url: servers.clickhouse, database: name },
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap(),
        })
    }

    fn migrate(&self, migrations: &[Migration]) -> Result<MigrationReport, String> {
        self.runtime.block_on(migrate_to(&self.database, migrations)).map_err(|error| error.to_string())
    }

    fn recorded(&self) -> String {
        self.clickhouse
            .ask("SELECT number, count() FROM schema_migrations FINAL GROUP BY number ORDER BY number")
            .unwrap()
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let _ = self.clickhouse.ask(&format!("DROP DATABASE IF EXISTS {}", self.clickhouse.database));
    }
}

fn numbers() -> Vec<u32> {
    MIGRATIONS.iter().map(|migration| migration.number).collect()
}

fn recorded_once() -> String {
    numbers().iter().map(|number| format!("{number}\t1\n")).collect()
}

#[test]
fn are_applied_once_and_in_order() {
    let Some(own) = OwnDatabase::new("once") else { return };
    assert_eq!(own.migrate(MIGRATIONS).unwrap().applied, numbers());
    assert_eq!(own.migrate(MIGRATIONS).unwrap(), MigrationReport::default());
    assert_eq!(own.recorded(), recorded_once());
    // The same statements again, as a sink does that starts at the same moment.
    own.clickhouse.ask("TRUNCATE TABLE schema_migrations").unwrap();
    assert_eq!(own.migrate(MIGRATIONS).unwrap().applied, numbers());
    assert_eq!(own.recorded(), recorded_once());
}

#[test]
fn may_be_applied_by_several_at_once() {
    let Some(own) = OwnDatabase::new("atonce") else { return };
    own.runtime.block_on(async {
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let database = own.database.clone();
            starts.spawn(async move { migrate(&database).await });
        }
        while let Some(outcome) = starts.join_next().await {
            outcome.unwrap().unwrap();
        }
    });
    assert_eq!(own.recorded(), recorded_once());
}

#[test]
fn a_changed_one_is_refused_and_a_newer_one_is_not() {
    let Some(own) = OwnDatabase::new("changed") else { return };
    let mut with_newer = MIGRATIONS.to_vec();
    let newer = Migration { number: numbers().len() as u32 + 1, name: "newer", sql: "-- nothing to do;\n" };
    with_newer.push(newer);
    own.migrate(&with_newer).unwrap();
    assert_eq!(
        own.migrate(MIGRATIONS).unwrap(),
        MigrationReport { applied: vec![], newer: vec![newer.number] }
    );

    let mut changed = MIGRATIONS.to_vec();
    changed[0].sql = "CREATE TABLE IF NOT EXISTS other (x Int8) ENGINE = Memory;";
    let message = own.migrate(&changed).unwrap_err();
    assert!(message.contains("0001_state_tables was changed"), "{message}");
    assert!(message.contains("put the change into a new migration"), "{message}");

    own.clickhouse.ask("ALTER TABLE alerts DROP COLUMN title").unwrap();
    let message = own.migrate(MIGRATIONS).unwrap_err();
    assert!(message.contains("alerts.title is missing"), "{message}");
}
