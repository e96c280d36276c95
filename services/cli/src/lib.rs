//! The `plimsoll` command: scan, run, report, db; with servers or without any.
//! It must never print "unused" for what was not looked at, nor swallow a warning.

// A command prints: that is its job.
#![allow(clippy::print_stdout)]

pub mod arguments;
pub mod command;
pub mod config;
pub mod exit;
pub mod local;
pub mod output;

pub use exit::Exit;
