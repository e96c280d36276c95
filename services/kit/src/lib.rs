//! What all services share: configuration, telemetry, lifecycle, and the broker behind one trait.
//! Never holds domain logic.

pub mod broker;
pub mod clock;
