//! PHP: applications on the command line, servers, and the hook in other people's programs.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod hook;
mod servers;
