//! The service's life, and the same inside another process.
//! It must never start on topics that differ from the contracts.

use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::transport::{Connections, TransportError};

use crate::config::{CorrelatorConfig, CorrelatorSection};
use crate::engine::Engine;
use crate::error::CorrelatorError;

/// The service: runs until the context says to end.
///
/// # Errors
/// What waiting cannot mend; see [`CorrelatorError`].
pub fn run(config: CorrelatorConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    let state_directory = config.state.directory.map(|directory| directory.join("correlator"));
    let section = CorrelatorSection { state_directory, ..config.correlator };
    Correlator::run(&connections, &section, &context)?;
    Ok(())
}

/// The correlator over any broker.
pub struct Correlator;

impl Correlator {
    /// Prepares the topics and runs on this thread until `context.shutdown` says to end; what is gathered then is
    /// committed before it returns.
    ///
    /// # Errors
    /// What waiting cannot mend; see [`CorrelatorError`].
    pub fn run(
        connections: &Connections,
        section: &CorrelatorSection,
        context: &ServiceContext,
    ) -> Result<(), CorrelatorError> {
        match connections.prepare(context) {
            Ok(_) => Engine::new(connections, section, context)?.run(),
            Err(TransportError::Ended) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Correlator::run`] on a thread of its own.
    ///
    /// # Errors
    /// If there is no room for a thread.
    pub fn spawn(
        connections: Connections,
        section: CorrelatorSection,
        context: ServiceContext,
    ) -> std::io::Result<std::thread::JoinHandle<Result<(), CorrelatorError>>> {
        std::thread::Builder::new()
            .name("correlator".into())
            .spawn(move || Self::run(&connections, &section, &context))
    }
}
