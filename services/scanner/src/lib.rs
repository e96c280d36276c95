//! Scanner: an artifact becomes packages and findings, on the topics or in the caller's hands.
//! It must never run anything from the artifact, nor unpack an image to disk as a tree.

pub mod assess;
pub mod config;
pub mod error;
pub mod events;
pub mod image;
pub mod publish;
pub mod scan;
pub mod service;
pub mod target;

pub use error::ScanError;
pub use scan::{Scan, ScanOptions, scan};
pub use target::{Component, Target};
