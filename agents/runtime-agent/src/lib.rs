//! Observes what workloads execute, load and open, on one node or in one process tree.
//! It must never block, crash or restart what it watches, nor lose an event uncounted.
//!
//! [`agent::Agent`] is the entry: the node daemon and the cli's `plimsoll run` start it with different
//! [`config::AgentConfig`]s.

pub mod agent;
mod alerts;
pub mod claims;
pub mod config;
pub mod ebpf;
mod engine;
pub mod hooks;
pub mod identity;
pub mod java;
mod meters;
pub mod observe;
pub mod output;
pub mod probes;
pub mod procfs;
pub mod resolver;
pub mod rules;
pub mod service;
pub mod spool;
pub mod sweep;
mod unmeasurable;
pub mod workload;
