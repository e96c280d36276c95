//! The state of one artifact in memory: entities, what is derived from them, and which of them changed.
//! It must never hold anything that cannot be built again from the entities.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Cache;
use crate::entity::{
    self, Alert, Classes, ClassesKey, Component, Emitted, EntityKey, Evidence, EvidenceKey, Findings,
    Overflow, Ownership, Package, PathKey, STATE_FORMAT, Scan, Workload,
};
use crate::event::{Event, Refusal};
use crate::output::Output;
use crate::{Order, scan};

/// A scan with its packages and findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScanState {
    pub entity: Scan,
    pub packages: BTreeMap<String, Package>,
    /// By package, then by chunk.
    pub findings: BTreeMap<String, BTreeMap<i32, Findings>>,
    /// The package set was compared with the manifest since either changed, and this came out.
    pub complete: Option<bool>,
}

/// Everything known of one artifact.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    pub(crate) key: String,
    pub(crate) clock_ms: i64,
    pub(crate) overflow: Overflow,
    pub(crate) open: bool,
    pub(crate) scans: BTreeMap<String, ScanState>,
    pub(crate) ownership: BTreeMap<PathKey, Ownership>,
    pub(crate) workloads: BTreeMap<String, Workload>,
    pub(crate) components: BTreeMap<String, Component>,
    pub(crate) evidence: BTreeMap<EvidenceKey, Evidence>,
    pub(crate) classes: BTreeMap<ClassesKey, Classes>,
    pub(crate) alerts: BTreeMap<String, Alert>,
    pub(crate) emitted: BTreeMap<String, Emitted>,
    /// The scan that counts, derived.
    pub(crate) current: Option<String>,
    pub(crate) cache: Cache,
    pub(crate) touched: BTreeSet<EntityKey>,
}

/// A changed entity: what is to be written to `correlator.state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// `CorrelatorState.kind`.
    pub kind: &'static str,
    /// `CorrelatorState.entity`.
    pub entity: Vec<u8>,
    /// `CorrelatorState.body` in format [`STATE_FORMAT`]; `None`: the entity is gone.
    pub body: Option<Vec<u8>>,
}

/// What came of a batch of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// Each changed entity once.
    pub changes: Vec<StateChange>,
    /// Each changed output once.
    pub outputs: Vec<Output>,
}

/// A state entity that cannot be read: written by a newer version, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "state entity {kind} of {artifact} in format {format} cannot be read by this version (format {STATE_FORMAT}); \
     start the version that wrote it, or a newer one"
)]
pub struct StateError {
    /// Artifact key.
    pub artifact: String,
    /// Kind of the entity.
    pub kind: String,
    /// Its format.
    pub format: i32,
}

impl Artifact {
    /// An artifact of which nothing is known.
    pub fn new(key: impl Into<String>) -> Self {
        let mut artifact = Self { key: key.into(), ..Self::default() };
        artifact.cache.all_dirty = true;
        artifact
    }

    /// The artifact from its stored entities: (kind, entity, format, body).
    ///
    /// # Errors
    /// [`StateError`] for an entity that this version cannot read; nothing may be guessed then.
    pub fn load<'a>(
        key: impl Into<String>,
        entities: impl IntoIterator<Item = (&'a str, &'a [u8], i32, &'a [u8])>,
    ) -> Result<Self, StateError> {
        let mut artifact = Self::new(key);
        for (kind, id, format, body) in entities {
            if format != STATE_FORMAT || artifact.load_entity(kind, id, body).is_none() {
                return Err(StateError { artifact: artifact.key, kind: kind.to_owned(), format });
            }
        }
        artifact.reindex();
        Ok(artifact)
    }

    /// Artifact key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Number of entities: a measure of the memory that the artifact takes.
    pub fn entity_count(&self) -> usize {
        self.ownership.len()
            + self.evidence.len()
            + self.classes.len()
            // A class takes about a quarter of what an entity of its own would.
            + self.cache.class_count / 4
            + self.workloads.len()
            + self.components.len()
            + self.alerts.len()
            + self.emitted.len()
            + self.scans.values().map(|scan| 1 + scan.packages.len() + scan.findings.len()).sum::<usize>()
    }

    /// Whether a tick may have an effect.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes one event. Nothing comes out until [`Artifact::finish`].
    ///
    /// # Errors
    /// [`Refusal`] if the event, or a part of it, is invalid. Its valid parts were taken.
    pub fn apply(&mut self, event: Event, order: Order) -> Result<(), Refusal> {
        match event {
            Event::Manifest(record) => self.apply_manifest(record, order),
            Event::Package(record) => self.apply_package(record, order),
            Event::Findings(record) => self.apply_findings(record, order),
            Event::Ownership(record) => self.apply_ownership(record, order),
            Event::Workload(record) => self.apply_workload(record, order),
            Event::Usage(record) => self.apply_usage(record),
            Event::Alert(record) => self.apply_alert(record, order),
            Event::Tick { now_ms } => {
                self.apply_tick(now_ms);
                Ok(())
            }
        }
    }

    /// Ends a batch: what changed in the state, and the outputs that are different now.
    pub fn finish(&mut self) -> Finished {
        self.settle_scans();
        self.settle_open();
        let outputs = self.emit();
        let touched = std::mem::take(&mut self.touched);
        let changes = touched
            .iter()
            .map(|key| {
                let (kind, entity) = key.encode();
                StateChange { kind, entity, body: self.encode_entity(key) }
            })
            .collect();
        Finished { changes, outputs }
    }

    /// All outputs again, whether they changed or not; nothing of the state changes. For a subscriber that lost them.
    pub fn outputs(&self) -> Vec<Output> {
        let mut fresh = self.clone();
        fresh.emitted.clear();
        fresh.cache.all_dirty = true;
        fresh.emit()
    }

    pub(crate) fn touch(&mut self, key: EntityKey) {
        self.touched.insert(key);
    }

    fn encode_entity(&self, key: &EntityKey) -> Option<Vec<u8>> {
        match key {
            EntityKey::Clock => (self.clock_ms != 0).then(|| entity::encode(&self.clock_ms)),
            EntityKey::Overflow => {
                (self.overflow != Overflow::default()).then(|| entity::encode(&self.overflow))
            }
            EntityKey::Open => self.open.then(|| entity::encode(&true)),
            EntityKey::Scan(id) => self.scans.get(id).map(|scan| entity::encode(&scan.entity)),
            EntityKey::Package(scan, package) => {
                self.scans.get(scan)?.packages.get(package).map(entity::encode)
            }
            EntityKey::Findings(scan, package, chunk) => {
                self.scans.get(scan)?.findings.get(package)?.get(chunk).map(entity::encode)
            }
            EntityKey::Ownership(path) => self.ownership.get(path).map(entity::encode),
            EntityKey::Workload(id) => self.workloads.get(id).map(entity::encode),
            EntityKey::Component(path) => self.components.get(path).map(entity::encode),
            EntityKey::Evidence(key) => self.evidence.get(key).map(entity::encode),
            EntityKey::Classes(key) => self.classes.get(key).map(entity::encode),
            EntityKey::Alert(id) => self.alerts.get(id).map(entity::encode),
            EntityKey::Emitted(what) => self.emitted.get(what).map(entity::encode),
        }
    }

    fn load_entity(&mut self, kind: &str, id: &[u8], body: &[u8]) -> Option<()> {
        match EntityKey::decode(kind, id)? {
            EntityKey::Clock => self.clock_ms = entity::decode(body)?,
            EntityKey::Overflow => self.overflow = entity::decode(body)?,
            EntityKey::Open => self.open = entity::decode(body)?,
            EntityKey::Scan(id) => self.scans.entry(id).or_default().entity = entity::decode(body)?,
            EntityKey::Package(scan, package) => {
                self.scans.entry(scan).or_default().packages.insert(package, entity::decode(body)?);
            }
            EntityKey::Findings(scan, package, chunk) => {
                let findings = &mut self.scans.entry(scan).or_default().findings;
                findings.entry(package).or_default().insert(chunk, entity::decode(body)?);
            }
            EntityKey::Ownership(path) => drop(self.ownership.insert(path, entity::decode(body)?)),
            EntityKey::Workload(id) => drop(self.workloads.insert(id, entity::decode(body)?)),
            EntityKey::Component(path) => drop(self.components.insert(path, entity::decode(body)?)),
            EntityKey::Evidence(key) => drop(self.evidence.insert(key, entity::decode(body)?)),
            EntityKey::Classes(key) => drop(self.classes.insert(key, entity::decode(body)?)),
            EntityKey::Alert(id) => drop(self.alerts.insert(id, entity::decode(body)?)),
            EntityKey::Emitted(what) => drop(self.emitted.insert(what, entity::decode(body)?)),
        }
        Some(())
    }

    /// Builds what is derived.
    fn reindex(&mut self) {
        self.current = scan::newest_complete(&mut self.scans);
        self.cache = Cache::default();
        self.cache.all_dirty = true;
        self.cache.class_count = self.classes.values().map(|classes| classes.by_name.len()).sum();
        for (path, ownership) in &self.ownership {
            self.cache.own_path(path, &ownership.owners);
        }
        let used = self.evidence.keys().map(|key| &key.at).chain(self.classes.keys().map(|key| &key.at));
        let mut paths: Vec<PathKey> = used.cloned().collect();
        paths.dedup();
        for path in paths {
            self.cache.sort_path(&path, self.ownership.get(&path).map(|o| o.state.as_str()));
        }
    }
}
