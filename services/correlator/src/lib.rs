//! The correlator: joins scans, ownership, workloads and uses of each artifact, exactly once from topic to topic.
//! It must never decide anything itself: `plimsoll-correlator-core` does, and this crate moves its inputs and outputs.
//!
//! Invariants (DESIGN section 4):
//! - State changes, outputs, dead letters and input offsets of a batch stand in one Kafka transaction.
//! - Polling, decoding and joining go on while the transaction before is being committed (`committer.rs`).
//! - The local store is written after the commit and is never needed: the state topic rebuilds it (`restore.rs`).
//! - After any failure everything uncommitted is dropped and begun anew from what is committed (`engine/begin.rs`).

mod caught_up;
mod committer;
pub mod config;
mod decode;
mod engine;
mod error;
mod left_open;
mod metrics;
mod overlay;
mod restore;
pub mod service;
pub mod store;

pub use caught_up::wait_until_caught_up;
pub use config::{CorrelatorConfig, CorrelatorSection};
pub use decode::input_topics;
pub use engine::group;
pub use error::CorrelatorError;
pub use service::{Correlator, run};
