//! Which image a container runs: from its cgroup's name to the digest of its configuration.
//! It must never take what a runtime calls an image for its identity without proof (DESIGN section 2).

pub mod container;
pub mod docker;
pub mod image;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use docker::Docker;

/// Containers of which the facts are kept after they went away.
const KNOWN_MAX: usize = 1_024;

/// What a runtime says about a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    pub id: String,
    pub name: String,
    /// Reference that the runtime was asked for.
    pub image_name: String,
    /// Digest of the image's configuration, proven.
    pub config_digest: String,
    /// What the runtime calls the image: by it the runtime finds the image again.
    pub image_id: String,
    /// Digests that are aliases of the image.
    pub aliases: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Runs where no probe can look (gVisor, Kata).
    pub sandboxed: bool,
}

/// Asks for a container's identity.
#[derive(Clone, Debug)]
pub struct IdentifyRequest {
    /// Kernel id of the workload.
    pub workload: u64,
    pub container_id: String,
}

/// The answer; the text says why not and what to do.
#[derive(Clone, Debug)]
pub struct IdentifyReply {
    pub workload: u64,
    pub facts: Result<ContainerFacts, String>,
}

/// Facts of containers that were seen, the oldest forgotten first.
#[derive(Default)]
pub struct KnownContainers {
    facts: HashMap<String, ContainerFacts>,
    order: VecDeque<String>,
}

impl KnownContainers {
    fn insert(&mut self, facts: ContainerFacts) {
        if self.facts.insert(facts.id.clone(), facts.clone()).is_none() {
            self.order.push_back(facts.id);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.facts.remove(&oldest);
            }
        }
    }
}

/// Starts the threads that identify containers: one answers requests, one follows the runtime's events so that a
/// container that lives half a second is known when its first exec is seen.
pub fn start(
    endpoint: &str,
    requests: Receiver<IdentifyRequest>,
    replies: impl Fn(IdentifyReply) + Send + 'static,
) -> std::io::Result<()> {
    let docker = Docker::new(endpoint);
    let known = Arc::new(Mutex::new(KnownContainers::default()));
    if let Ok(docker) = &docker {
        let (docker, known) = (docker.clone(), Arc::clone(&known));
        std::thread::Builder::new().name("docker-events".into()).spawn(move || follow(&docker, &known))?;
    }
    std::thread::Builder::new().name("identity".into()).spawn(move || {
        for request in requests {
            let cached = known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .facts
                .get(&request.container_id)
                .cloned();
            let facts = match (cached, &docker) {
                (Some(facts), _) => Ok(facts),
                (None, Ok(docker)) => {
                    docker.container(&request.container_id).map_err(|error| error.to_string())
                }
                (None, Err(error)) => Err(error.clone()),
            };
            if let Ok(facts) = &facts {
                known.lock().unwrap_or_else(PoisonError::into_inner).insert(facts.clone());
            }
            replies(IdentifyReply { workload: request.workload, facts });
        }
    })?;
    Ok(())
}

/// Looks at every container as soon as it is created. Ends with the process.
fn follow(docker: &Docker, known: &Mutex<KnownContainers>) {
    const RECONNECT: std::time::Duration = std::time::Duration::from_secs(1);
    let mut since = plimsoll_kit::clock::now_ms() / 1000;
    loop {
        let result = docker.follow(since, |event| {
            since = since.max(event.time_s);
            let seen = known.lock().unwrap_or_else(PoisonError::into_inner).facts.contains_key(&event.container_id);
            if seen {
                return;
            }
            match docker.container(&event.container_id).or_else(|_| docker.from_event(&event)) {
                Ok(facts) => known.lock().unwrap_or_else(PoisonError::into_inner).insert(facts),
                Err(error) => {
                    tracing::debug!(container = event.container_id, %error, "container not identified at its start");
                }
            }
        });
        if let Err(error) = result {
            tracing::debug!(%error, "docker's events ended; following them again");
        }
        std::thread::sleep(RECONNECT);
    }
}

/// Sends a request without waiting; `false` when too many are under way.
pub fn ask(requests: &Sender<IdentifyRequest>, request: IdentifyRequest) -> bool {
    requests.try_send(request).is_ok()
}
