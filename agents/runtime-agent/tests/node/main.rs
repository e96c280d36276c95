//! Node.js: an application, what starts it, programs that meddle with what the hook rests on, and what hides packages.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

#[path = "../support/mod.rs"]
mod support;

mod application;
mod blind;
mod bundles;
mod permission;
mod preloads;
mod programs;
mod runners;
mod tools;
