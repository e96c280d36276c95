//! The portal against a real ClickHouse and a real browser.
//! Without servers it says so and passes; with CI set that is a failure.

mod api;
mod browser;
mod fixture;
mod openapi;
mod pages;
mod startup;
mod support;
