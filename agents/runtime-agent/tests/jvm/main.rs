//! JVMs: from their start and attached to, of each version and in containers, and those that refuse.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod applications;
mod cds;
mod classes;
mod container;
mod matrix;
mod refusals;
