//! The agent on process trees and containers, whatever their language.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod containers;
mod docker;
mod hook_coverage;
mod hook_starts;
mod hooks;
mod readers;
mod runners;
mod trees;
