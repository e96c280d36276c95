//! The correlator on a thread of this process.
//! It must never be left running behind a finished command.

use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use plimsoll_correlator::{Correlator, CorrelatorError, CorrelatorSection};
use plimsoll_kit::lifecycle::{ServiceContext, ShutdownToken};
use plimsoll_kit::transport::Connections;

/// Local mode is over in moments: joining waits for little more than what is there.
const COMMIT_INTERVAL_MS: u64 = 5;

/// A running correlator.
pub struct Joiner {
    shutdown: ShutdownToken,
    thread: Option<JoinHandle<Result<(), CorrelatorError>>>,
}

impl Joiner {
    /// Starts the correlator over `connections`; its state lives in the broker's state topic.
    ///
    /// # Errors
    /// If there is no room for a thread.
    pub fn start(connections: Connections) -> anyhow::Result<Self> {
        let section = CorrelatorSection {
            instance: "local".to_owned(),
            commit_interval_ms: COMMIT_INTERVAL_MS,
            ..CorrelatorSection::default()
        };
        let context = ServiceContext::detached(crate::command::info());
        let shutdown = context.shutdown.clone();
        let thread = Correlator::spawn(connections, section, context).context("starting the correlator")?;
        Ok(Self { shutdown, thread: Some(thread) })
    }

    /// The error that ended it, if it has ended by itself.
    ///
    /// # Errors
    /// That error.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
            return Err(anyhow!("the correlator ended before it was asked to"));
        }
        Ok(())
    }

    /// Ends it; what it has gathered is committed first.
    ///
    /// # Errors
    /// The error that it ended with.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.shutdown.trigger();
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended.context("joining what was found"),
            Some(Err(_)) => Err(anyhow!("the correlator panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        // An earlier error is being reported already.
        let _ = self.stop();
    }
}
