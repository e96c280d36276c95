//! What all services share: configuration, telemetry, lifecycle, and the broker behind one trait.
//! Never holds domain logic.

pub mod broker;
pub mod clock;
pub mod config;
pub mod dead_letter;
pub mod host;
pub mod http_unix;
pub mod lifecycle;
pub mod metrics;
pub mod registry;
pub mod telemetry;
pub mod transport;
pub mod unix;
