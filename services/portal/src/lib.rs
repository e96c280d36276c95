//! The portal: pages and a JSON API over what the sink wrote to ClickHouse.
//! It must never compute a recommendation, write to ClickHouse, or talk to Kafka except to publish scan requests.

mod api;
pub mod config;
mod cursor;
mod error;
pub mod model;
mod pages;
mod security;
pub mod service;
mod store;
pub mod text;
pub mod time;

pub use api::{PATHS, document};
pub use service::Portal;
