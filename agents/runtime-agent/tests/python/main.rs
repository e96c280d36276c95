//! Python: an application, all the ways in which one is started, packed and installed, and the import hook by itself.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod application;
mod hook;
mod ways;
