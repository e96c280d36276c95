//! The contracts between Plimsoll's services: identity, event types, topics, codec, and the agent's local protocol.
//! It must never import another crate of ours, do I/O, or hold a decision of a service.

pub mod avro;
pub mod codec;
pub mod event;
pub mod identity;
pub mod key;
pub mod migrations;
pub mod not_measurable;
pub mod partition;
pub mod resolver_protocol;
pub mod topics;
pub mod words;

/// Event types, generated from `avro/*.avsc`.
pub mod events {
    #![allow(clippy::derive_partial_eq_without_eq)]
    include!(concat!(env!("OUT_DIR"), "/events.rs"));
}
