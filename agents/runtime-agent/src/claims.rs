//! Workloads of which the spool may hold events, beside its segments: whose loss it is when a segment cannot be read or
//! written, in this life of the agent or the next. It must never forget a loss before that was told.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use plimsoll_schemas::events::{Loss, RuntimeWorkload};
use serde::{Deserialize, Serialize};

use crate::output::RuntimeEvent;

/// Most workloads whose last event is remembered; those that ended make room. Losses of more are told by the agent alone,
/// while it lives.
const KNOWN_MAX: usize = 4_096;
/// Most workloads of which the spool may hold events. Losses of more are told by the agent alone, while it lives.
const CLAIMS_MAX: usize = 16_384;

/// The last event of one workload, by artifact.
type Events = BTreeMap<String, RuntimeWorkload>;

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    workload_id: String,
    /// At least so many observations of it were lost.
    lost: u64,
    events: Events,
}

/// What an earlier life left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// No file: nothing was spooled, or an older version spooled it.
    Nothing,
    /// All of it.
    Whole,
    /// Not all of it can be read: losses may be among the rest.
    Damaged,
}

/// The claims, and the workloads that were seen on their way out.
#[derive(Debug, Default)]
pub struct Claims {
    /// JSON lines of [`Claim`]; `None`: kept in memory only.
    path: Option<PathBuf>,
    claims: BTreeMap<String, Claim>,
    known: HashMap<String, Events>,
    /// It was said that there is no room for more.
    is_full_told: bool,
}

impl Claims {
    /// Those that an earlier life left, and how much of them can be read.
    pub fn open(path: PathBuf) -> (Self, Left) {
        let (mut claims, mut damage) = (BTreeMap::new(), None);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                damage = Some(error.to_string());
                None
            }
        };
        let left = if bytes.is_some() { Left::Whole } else { Left::Nothing };
        let lines = bytes.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Claim>(line) {
                Ok(claim) => drop(claims.insert(claim.workload_id.clone(), claim)),
                Err(error) => drop(damage.get_or_insert_with(|| error.to_string())),
            }
        }
        let left = match &damage {
            None => left,
            Some(error) => {
                tracing::error!(path = %path.display(), error, "whose events the spool holds cannot be read");
                Left::Damaged
            }
        };
        (Self { path: Some(path), claims, known: HashMap::new(), is_full_told: false }, left)
    }

    /// Remembers the workloads of events on their way out.
    pub fn note(&mut self, events: &[RuntimeEvent]) {
        for event in events {
            let RuntimeEvent::Workload(event) = event else { continue };
            if !self.known.contains_key(&event.workload_id) && self.known.len() >= KNOWN_MAX {
                self.known.retain(|_, events| events.values().any(|event| event.stopped_at_ms == 0));
                if self.known.len() >= KNOWN_MAX {
                    self.tell_full(&event.workload_id);
                    continue;
                }
            }
            for known in [
                Some(self.known.entry(event.workload_id.clone()).or_default()),
                self.claims.get_mut(&event.workload_id).map(|claim| &mut claim.events),
            ] {
                known.map(|known| known.insert(event.artifact.clone(), event.clone()));
            }
        }
    }

    /// The spool is to hold these events: their workloads are written down first.
    pub fn claim(&mut self, events: &[RuntimeEvent]) {
        let new = events.iter().filter(|event| self.enter(event.workload_id())).count();
        if new > 0 {
            self.save();
        }
    }

    /// These events are lost.
    pub fn lose(&mut self, events: &[RuntimeEvent]) {
        let mut first = false;
        for event in events.iter().filter(|event| event.weight() > 0) {
            self.enter(event.workload_id());
            if let Some(claim) = self.claims.get_mut(event.workload_id()) {
                first |= claim.lost == 0;
                claim.lost += event.weight();
            }
        }
        // That something was lost matters more than how much.
        if first {
            self.save();
        }
    }

    /// What the spool held is lost, and nobody can tell of whom: of each workload one observation, at least.
    pub fn lose_of_all(&mut self) {
        self.claims.values_mut().for_each(|claim| claim.lost += 1);
        self.save();
    }

    /// There are losses to tell.
    pub fn has_losses(&self) -> bool {
        self.claims.values().any(|claim| claim.lost > 0)
    }

    /// The losses, each in its workload's last event: readers join what was watched and lost.
    pub fn losses(&self) -> Vec<RuntimeEvent> {
        let told = |claim: &Claim, event: &RuntimeWorkload| {
            let mut event = event.clone();
            let mut probes: Vec<String> = event.watched.iter().map(|watch| watch.probe.clone()).collect();
            probes.sort();
            probes.dedup();
            let events_lost = i64::try_from(claim.lost).unwrap_or(i64::MAX);
            for probe in probes {
                // As the agent itself counts it, so that it counts once.
                let boot_id = event.boot_id.clone();
                let known =
                    event.losses.iter_mut().find(|loss| loss.probe == probe && loss.boot_id == boot_id);
                match known {
                    Some(known) => {
                        known.events_lost = known.events_lost.max(events_lost);
                        known.repaired = false;
                    }
                    None => event.losses.push(Loss { probe, boot_id, events_lost, repaired: false }),
                }
            }
            RuntimeEvent::Workload(event)
        };
        let lossy = self.claims.values().filter(|claim| claim.lost > 0);
        lossy.flat_map(|claim| claim.events.values().map(|event| told(claim, event))).collect()
    }

    /// The spool is empty, and all losses were told.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.claims).is_empty() {
            return;
        }
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "what was told may be told again");
        }
    }

    /// `true` if it is new.
    fn enter(&mut self, workload_id: &str) -> bool {
        if workload_id.is_empty() || self.claims.contains_key(workload_id) {
            return false;
        }
        // Of one of which no event went out nothing is said that could be wrong.
        let Some(events) = self.known.get(workload_id) else { return false };
        if self.claims.len() < CLAIMS_MAX {
            let claim = Claim { workload_id: workload_id.to_owned(), lost: 0, events: events.clone() };
            self.claims.insert(workload_id.to_owned(), claim);
            return true;
        }
        self.tell_full(workload_id);
        false
    }

    fn tell_full(&mut self, workload_id: &str) {
        if !std::mem::replace(&mut self.is_full_told, true) {
            tracing::error!(
                workload_id,
                "too many workloads to remember: what this one and more lose is told by this agent alone, while it lives"
            );
        }
    }

    fn save(&self) {
        let Some(path) = &self.path else { return };
        let write = || {
            let mut bytes = Vec::new();
            for claim in self.claims.values() {
                serde_json::to_writer(&mut bytes, claim)?;
                bytes.push(b'\n');
            }
            let partial = path.with_extension("partial");
            fs::write(&partial, bytes)?;
            fs::File::open(&partial)?.sync_data()?;
            fs::rename(&partial, path)
        };
        if let Err(error) = write() {
            tracing::error!(path = %path.display(), %error, "losses may not outlive this agent");
        }
    }
}
