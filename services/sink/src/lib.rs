//! The sink: correlation.*, runtime.* and scan.* into ClickHouse, state by version, history exactly once.
//! It must never compute: what a row says, its event said.
//!
//! Invariants, each with its place:
//! - A record is rows, a dead letter, or tried again; no offset is passed over (`route`).
//! - The version of a state row is its topic's generation and its offset: replays change nothing (`rows`).
//! - At most one block of a history partition is planned and not committed; the plan stands in the group's
//!   committed-offset metadata and in the journal before the block is inserted (`plan`, `journal`, `session`).
//! - The same range of offsets makes the same block with the same deduplication token (`history`, `write`).
//! - Offsets are committed behind their rows and dead letters, never before (`session`).
//! - A database is filled by one group for each topic prefix, and the other way round (`pairing`).
//! - A copy of a table is written after the table (`write`).
//!
//! Absent on purpose: deletes and mutations in ClickHouse (but for the journal of a group that begins anew), and any state on disk of its own.

mod batch;
pub mod config;
pub mod database;
mod history;
mod journal;
mod metrics;
mod pairing;
mod plan;
mod route;
pub mod rows;
pub mod service;
mod session;
mod write;

pub use config::SinkConfig;
pub use database::Database;
pub use database::migrate::{MigrationReport, migrate, migrate_to};
pub use service::Sink;
