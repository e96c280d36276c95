//! Observes what workloads execute, load and open, on one node or in one process tree.
//! It must never block, crash or restart what it watches, nor lose an event uncounted.

pub mod ebpf;
pub mod procfs;
pub mod sweep;
