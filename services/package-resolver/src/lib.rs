//! Package-resolver: who owns a path of a running workload, by the package databases in its own root.
//! Never opens a root by name, never follows a link out of one, never needs the network to answer.
//!
//! Agents send descriptors and paths over a Unix socket ([`server`]); every root has at most one thread, and every
//! request a deadline ([`resolver`], [`workers`]); indexes are shared among the containers of an image ([`index_cache`]); what is new is
//! published ([`publisher`]). [`service::InProcess`] runs the same inside another process.

pub mod answer;
mod asked;
pub mod beneath;
mod bounded;
pub mod config;
pub mod contents;
mod copies;
pub mod deadline;
pub mod drift;
pub mod index_cache;
mod java_package;
mod late;
pub mod layers;
mod pace;
mod published;
pub mod publisher;
pub mod resolver;
pub mod rights;
pub mod roots;
pub mod server;
pub mod service;
mod unpacked;
mod virtual_files;
pub mod workers;

pub use config::{PackageResolverConfig, ResolverSettings};
pub use service::InProcess;
