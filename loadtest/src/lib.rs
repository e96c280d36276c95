//! Load tests: a generator with a known answer, an oracle that compares, and measurements beside peers in one run.
//! It must never be what a test of correctness depends on, nor load anything but loopback.

pub mod arguments;
pub mod at_least_once;
pub mod child;
pub mod correlator;
pub mod generate;
pub mod jvm;
pub mod oracle;
pub mod pipeline;
pub mod replay;
pub mod restart;
pub mod servers;
pub mod streams;
