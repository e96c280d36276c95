//! Containers that run on after the client that started them has ended (`docker run --detach`).
//! It must never stop or change a container: ending the observation leaves it running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use plimsoll_kit::http_unix::HttpClient;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::container::RUN_LABEL;

/// Wait between two looks at the engine.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// An engine that does not answer so many times in a row has ended, and its containers with it.
const FAILURES_MAX: u32 = 20;

/// The containers of one run.
pub struct Containers {
    client: HttpClient,
    /// Path of the question for those that run (Docker Engine API, ContainerList).
    path: String,
    failures: u32,
    interrupted: Arc<AtomicBool>,
}

impl Containers {
    /// Those with the label of this run. From now on what a person or supervisor sends ends the observation.
    ///
    /// # Errors
    /// If the endpoint is none, or the system refuses handlers.
    pub fn of_run(endpoint: &str, run_id: &str) -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone()).context("handling signals")?;
        }
        // {"label":["plimsoll.run=ID"]}; an id is of letters and digits.
        let path = format!("/containers/json?filters=%7B%22label%22%3A%5B%22{RUN_LABEL}%3D{run_id}%22%5D%7D");
        Ok(Self { client: HttpClient::new(endpoint)?, path, failures: 0, interrupted })
    }

    /// Whether one of them still runs and nobody asked to end the observation.
    pub fn go_on(&mut self) -> bool {
        if self.interrupted.load(Ordering::Relaxed) {
            return false;
        }
        match self.running() {
            Ok(running) => {
                self.failures = 0;
                running
            }
            Err(error) => {
                self.failures += 1;
                if self.failures == 1 {
                    tracing::warn!("asking the container engine whether the container runs: {error:#}");
                }
                self.failures < FAILURES_MAX
            }
        }
    }

    /// Whether one of them runs.
    ///
    /// # Errors
    /// If the engine does not answer, or refuses.
    pub fn running(&self) -> anyhow::Result<bool> {
        let mut answer = self.client.get(&self.path)?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string()?;
        anyhow::ensure!(status.is_success(), "{status}: {text}");
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).context("the list of containers")?;
        Ok(!list.is_empty())
    }
}
