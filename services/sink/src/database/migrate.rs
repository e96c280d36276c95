//! Brings the database to this version's tables: migrations in order, each recorded with its checksum.
//! It must never apply a migration twice on purpose, nor go on with one that was changed after it was applied.
//!
//! Two sinks may start at once: every statement can be repeated (a test of plimsoll-schemas holds that), and records
//! of the same migration fall together.

use std::collections::BTreeMap;

use plimsoll_schemas::migrations::{MIGRATIONS, Migration};

use super::{Bind, Database, DatabaseError, short_digest};
use crate::rows::{Column, HistoryTable, StateTable};

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations
(
    number     UInt32,
    name       String,
    checksum   String COMMENT 'sha256:<hex> of the migration as it was applied',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3),
    applied_by String
)
ENGINE = ReplacingMergeTree
ORDER BY (number, checksum)";

/// What a start did to the database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Numbers of the migrations that were applied now.
    pub applied: Vec<u32>,
    /// Numbers that a newer version has applied, unknown to this one.
    pub newer: Vec<u32>,
}

/// Creates the database and applies what is missing, then checks the columns that the sink writes.
///
/// # Errors
/// [`DatabaseError::Schema`] if an applied migration was changed or a column is missing; else what ClickHouse said.
pub async fn migrate(database: &Database) -> Result<MigrationReport, DatabaseError> {
    migrate_to(database, MIGRATIONS).await
}

/// As [`migrate`], with other migrations: for tests.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(
    database: &Database,
    migrations: &[Migration],
) -> Result<MigrationReport, DatabaseError> {
    database.create().await?;
    database.execute("creating schema_migrations", RECORDS).await?;
    let recorded = recorded(database).await?;
    refuse_changed(database.name(), migrations, &recorded)?;
    let mut report = MigrationReport::default();
    for migration in migrations.iter().filter(|migration| !recorded.contains_key(&migration.number)) {
        apply(database, migration).await?;
        report.applied.push(migration.number);
    }
    let newest = migrations.last().map_or(0, |migration| migration.number);
    report.newer = recorded.keys().copied().filter(|number| *number > newest).collect();
    check_columns(database).await?;
    Ok(report)
}

/// Checksums of the applied migrations by number.
async fn recorded(database: &Database) -> Result<BTreeMap<u32, Vec<String>>, DatabaseError> {
    let question =
        "SELECT DISTINCT toString(number), checksum FROM schema_migrations ORDER BY number, checksum";
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for [number, checksum] in database.rows("reading schema_migrations", question, []).await? {
        found.entry(number.parse().unwrap_or(u32::MAX)).or_default().push(checksum);
    }
    Ok(found)
}

fn refuse_changed(
    database: &str,
    migrations: &[Migration],
    recorded: &BTreeMap<u32, Vec<String>>,
) -> Result<(), DatabaseError> {
    for migration in migrations {
        let Some(checksums) = recorded.get(&migration.number) else { continue };
        let own = migration.checksum();
        if let Some(other) = checksums.iter().find(|checksum| **checksum != own) {
            let (number, name) = (migration.number, migration.name);
            return Err(DatabaseError::Schema(format!(
                "migration {number:04}_{name} was changed after it had been applied to database {database} (applied: \
                 {other}, now: {own}); restore the released file and put the change into a new migration, or, if the \
                 data may go, DROP DATABASE {database} and give the sink a new group.id so that it reads everything \
                 again"
            )));
        }
    }
    Ok(())
}

async fn apply(database: &Database, migration: &Migration) -> Result<(), DatabaseError> {
    for statement in migration.statements() {
        let what =
            format!("migration {:04}_{} ({})", migration.number, migration.name, short_digest(&statement));
        database.execute(&what, &statement).await?;
    }
    let record = format!(
        "INSERT INTO schema_migrations (number, name, checksum, applied_by) VALUES ({}, '{}', '{}', 'plimsoll-sink {}')",
        migration.number,
        migration.name,
        migration.checksum(),
        env!("CARGO_PKG_VERSION")
    );
    database.execute("recording a migration", &record).await
}

/// The tables that are written and their columns, as the code has them.
fn written() -> Vec<(&'static str, Vec<Column>)> {
    let state = StateTable::ALL.iter().flat_map(|table| {
        std::iter::once(table.name())
            .chain(table.copy())
            .map(|name| (name, table.columns()))
            .collect::<Vec<_>>()
    });
    state.chain(HistoryTable::ALL.iter().map(|table| (table.name(), table.columns()))).collect()
}

async fn check_columns(database: &Database) -> Result<(), DatabaseError> {
    let question = "SELECT table, name, type FROM system.columns WHERE database = ?";
    let binds = [Bind::Text(database.name().to_owned())];
    let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
    for [table, name, type_name] in database.rows("reading the columns", question, binds).await? {
        found.insert((table, name), type_name);
    }
    let mut differences = Vec::new();
    for (table, columns) in written() {
        for column in columns {
            match found.get(&(table.to_owned(), column.name.to_owned())) {
                None => differences.push(format!("{table}.{} is missing", column.name)),
                Some(type_name) if plain_type(type_name) != column.type_name => differences
                    .push(format!("{table}.{} is {type_name}, not {}", column.name, column.type_name)),
                Some(_) => {}
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(DatabaseError::Schema(format!(
        "database {} is not as this version writes it: {}; it was altered by hand or by another version: undo that, or \
         choose another clickhouse.database",
        database.name(),
        differences.join(", ")
    )))
}

/// The type without LowCardinality, which RowBinary does not show.
fn plain_type(type_name: &str) -> String {
    let mut plain = type_name.to_owned();
    while let Some(start) = plain.find("LowCardinality(") {
        let inner = start + "LowCardinality(".len();
        let Some(length) = plain[inner..].find(')') else { break };
        plain =
            format!("{}{}{}", &plain[..start], &plain[inner..inner + length], &plain[inner + length + 1..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_cardinality_is_not_seen_on_the_wire() {
        let check = |input: &str, expected: &str| assert_eq!(plain_type(input), expected);
        check("String", "String");
        check("LowCardinality(String)", "String");
        check("Array(LowCardinality(String))", "Array(String)");
        check("DateTime64(3, 'UTC')", "DateTime64(3, 'UTC')");
    }

    #[test]
    fn a_changed_migration_is_refused_and_an_unknown_one_is_not() {
        let migration = MIGRATIONS[0];
        let check = |number: u32, checksums: &[&str]| {
            let checksums: Vec<String> = checksums.iter().map(|c| (*c).to_owned()).collect();
            refuse_changed("d", MIGRATIONS, &BTreeMap::from([(number, checksums)]))
        };
        let own = migration.checksum();
        assert!(check(1, &[&own]).is_ok());
        assert!(check(9999, &["sha256:0"]).is_ok());
        let message = check(1, &[&own, "sha256:0"]).unwrap_err().to_string();
        assert!(
            message.contains("0001_state_tables was changed") && message.contains("DROP DATABASE d"),
            "{message}"
        );
    }
}
