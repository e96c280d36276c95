//! The portal against a real ClickHouse and a real browser.
//! Without servers it says so and passes; with CI set that is a failure.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test may end so, and says what it skips.

mod api;
mod browser;
mod fixture;
mod openapi;
mod pages;
mod scan_requests;
mod sink_rows;
mod specs;
mod startup;
mod support;
