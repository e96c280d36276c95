//! Ruby: an application, its servers, and the hook in other people's programs.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod application;
mod hook;
mod servers;
