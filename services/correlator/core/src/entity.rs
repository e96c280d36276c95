//! The entities of the state: each has its own key and a value that merges (see `merge.rs`).
//! The order of fields in these structs is the stored format: add fields at the end only, with a zero default.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::{Owner, RuntimeAlert, ScanArtifact, ScanFindings, ScanPackage};
use serde::{Deserialize, Serialize};

use crate::observed::{FoldedObserved, ObservedByBoot, ObservedKey};

/// Version of the encoding of entity bodies, `CorrelatorState.format`.
pub const STATE_FORMAT: i32 = 1;

/// Place of an input in its own topic; the later one wins for last-writer fields. Orders of different topics are
/// never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// Generation of the topics: rises when offsets begin anew (local mode: with each run; Kafka: 0).
    pub epoch: u32,
    /// Offset in the topic's partition.
    pub offset: i64,
}

/// A path in the artifact together with the identity of the file there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathKey {
    /// Relative to the artifact's root.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// `image` or `sha256:<hex>`.
    pub identity: String,
}

/// What was used by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EvidenceKey {
    /// Path and identity first, so that a range over the map gives all evidence of a path.
    pub at: PathKey,
    /// Component path (`application/component/version`).
    pub component: String,
    /// Usage kind.
    pub kind: String,
    /// Class or module.
    pub name: String,
}

/// Classes of one Java package that a component loaded from one place. One entity for all of them: a JVM loads tens
/// of thousands of classes, which as entities of their own would be most of the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClassesKey {
    /// The archive, directory or modules image, and its identity.
    pub at: PathKey,
    /// With its trailing dot; empty for the unnamed package. Before the component, so that a range over the map gives
    /// what lies below a prefix.
    pub package: String,
    /// Component path (`application/component/version`).
    pub component: String,
}

/// Key of an entity within its artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKey {
    /// The last tick that had an effect.
    Clock,
    /// What had to be dropped because of a bound.
    Overflow,
    /// Exists while a tick may have an effect on the artifact.
    Open,
    /// A scan by its id.
    Scan(String),
    /// A package of a scan: scan id, package id.
    Package(String, String),
    /// Findings of a package: scan id, package id, chunk.
    Findings(String, String, i32),
    /// Ownership of a path.
    Ownership(PathKey),
    /// A workload by its id.
    Workload(String),
    /// A component by its path.
    Component(String),
    /// Evidence of use.
    Evidence(EvidenceKey),
    /// Evidence of the use of classes.
    Classes(ClassesKey),
    /// An alert by its id.
    Alert(String),
    /// What was emitted last for a package (`package/<id>`), an alert (`alert/<id>`) or the artifact (`artifact`).
    Emitted(String),
}

impl EntityKey {
    /// `CorrelatorState.kind` of the entities that only exist while a tick may have an effect.
    pub const OPEN_KIND: &'static str = "open";

    /// Kind and entity as in `CorrelatorState`.
    pub fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Clock => ("clock", Vec::new()),
            Self::Overflow => ("overflow", Vec::new()),
            Self::Open => (Self::OPEN_KIND, Vec::new()),
            Self::Scan(id) => ("scan", id.clone().into_bytes()),
            Self::Package(scan, package) => ("package", encode(&(scan, package))),
            Self::Findings(scan, package, chunk) => ("findings", encode(&(scan, package, chunk))),
            Self::Ownership(path) => ("ownership", encode(path)),
            Self::Workload(id) => ("workload", id.clone().into_bytes()),
            Self::Component(path) => ("component", path.clone().into_bytes()),
            Self::Evidence(key) => ("evidence", encode(key)),
            Self::Classes(key) => ("classes", encode(key)),
            Self::Alert(id) => ("alert", id.clone().into_bytes()),
            Self::Emitted(what) => ("emitted", what.clone().into_bytes()),
        }
    }

    /// The inverse of [`EntityKey::encode`]; `None` for what this version does not know.
    pub fn decode(kind: &str, entity: &[u8]) -> Option<Self> {
        let text = || String::from_utf8(entity.to_vec()).ok();
        Some(match kind {
            "clock" => Self::Clock,
            "overflow" => Self::Overflow,
            Self::OPEN_KIND => Self::Open,
            "scan" => Self::Scan(text()?),
            "package" => {
                let (scan, package) = decode(entity)?;
                Self::Package(scan, package)
            }
            "findings" => {
                let (scan, package, chunk) = decode(entity)?;
                Self::Findings(scan, package, chunk)
            }
            "ownership" => Self::Ownership(decode(entity)?),
            "workload" => Self::Workload(text()?),
            "component" => Self::Component(text()?),
            "evidence" => Self::Evidence(decode(entity)?),
            "classes" => Self::Classes(decode(entity)?),
            "alert" => Self::Alert(text()?),
            "emitted" => Self::Emitted(text()?),
            _ => return None,
        })
    }
}

/// A scan: staged until its manifest has come and its packages are all there, then current, then superseded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scan {
    pub manifest: Option<Manifest>,
    /// A newer scan is current: packages and findings of this one are refused room.
    pub superseded: bool,
    /// Earliest `emitted_at_ms` of its records; 0 once superseded.
    pub staged_since_ms: i64,
}

/// A manifest and its place; without its content once superseded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub order: Order,
    pub emitted_at_ms: i64,
    pub record: ScanArtifact,
}

/// A package of a scan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Package {
    pub order: Order,
    pub record: ScanPackage,
}

/// One chunk of a package's findings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    pub order: Order,
    pub record: ScanFindings,
}

/// Who owns a path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ownership {
    pub order: Order,
    pub state: String,
    pub reason: String,
    pub owners: Vec<Owner>,
    pub role: String,
    pub drift: String,
    pub resolved_at_ms: i64,
    /// Of a Java package: any archive may have it, since more was said than is kept, or a version before this one kept no
    /// producers. Stored by position: it stands where that version had the same.
    pub any_archive: bool,
    /// Of a Java package: producers that did not know all archives that may have it, by their last answers.
    pub incomplete: BTreeSet<String>,
}

/// A running or stopped instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    pub order: Order,
    pub application: String,
    pub component: String,
    pub component_version: String,
    pub image_name: String,
    pub image_aliases: Vec<String>,
    pub started_at_ms: i64,
    pub stopped_at_ms: i64,
    pub unidentified_reason: String,
    pub sandboxed: bool,
    pub unavailable_probes: BTreeMap<String, String>,
    /// Latest time at which it is known to have lived.
    pub last_seen_ms: i64,
    /// Disjoint, sorted, by probe.
    pub watched: BTreeMap<String, Vec<Interval>>,
    /// By probe, then by boot.
    pub losses: BTreeMap<String, BTreeMap<String, Loss>>,
    /// The packages below the root that it ran on; empty outside of components.
    pub root_package_hash: String,
    /// Key that it goes on under, where it was unidentified here; empty if none.
    pub moved_to: String,
    /// How the processes of each language were observed.
    pub observed: BTreeMap<ObservedKey, ObservedByBoot>,
}

/// A time without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    pub from_ms: i64,
    pub until_ms: i64,
    pub from_first_exec: bool,
}

/// Events lost in one life of an agent; a greater number replaces a smaller one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Loss {
    pub events_lost: i64,
    pub repaired: bool,
}

/// A component that a scan named, or whose stopped workloads were folded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Component {
    pub application: String,
    pub component: String,
    pub component_version: String,
    pub named_by_scan: bool,
    pub folded: Folded,
}

/// What remains of workloads that stopped long ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Folded {
    pub workload_count: i64,
    pub sandboxed_count: i64,
    pub first_seen_ms: i64,
    pub last_seen_ms: i64,
    pub probes: BTreeMap<String, FoldedProbe>,
    /// Why packages of an ecosystem could not be measured in some workload, by ecosystem.
    pub not_measurable: BTreeMap<String, String>,
    /// Of the workloads in which only tools of an ecosystem ran, by ecosystem.
    pub only_tools: BTreeMap<String, FoldedTools>,
    /// How the processes of each language were observed.
    pub observed: BTreeMap<ObservedKey, FoldedObserved>,
}

/// Workloads that prove nothing about the packages of an ecosystem: only its tools ran there, whose loads do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoldedTools {
    pub reason: String,
    /// Their part of [`Folded::probes`]; of it only the numbers of workloads are kept.
    pub probes: BTreeMap<String, FoldedProbe>,
}

/// One probe's share of [`Folded`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoldedProbe {
    pub since_ms: i64,
    pub until_ms: i64,
    pub watched_ms: i64,
    /// By the hash of the packages that they ran on, at most [`crate::limits::ROOTS_MAX`] of them: workloads on
    /// others do not count.
    pub workload_count_from_first_exec: BTreeMap<String, i64>,
    pub events_lost: i64,
    /// Workloads that it watched in any way.
    pub workload_count: i64,
}

/// First and last time per rung, and who saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// By the number of the rung.
    pub rungs: BTreeMap<u8, Span>,
    pub probes: BTreeSet<String>,
}

/// The classes of one [`ClassesKey`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Classes {
    /// By name without the package.
    pub by_name: BTreeMap<String, ClassUse>,
    pub probes: BTreeSet<String>,
}

/// How one class was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassUse {
    /// The highest.
    pub rung: u8,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// First and last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub first_ms: i64,
    pub last_ms: i64,
}

/// An alert as received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    pub order: Order,
    pub record: RuntimeAlert,
}

/// What had to be dropped because of a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overflow {
    /// Usage items.
    pub items: i64,
    /// Alerts.
    pub alerts: i64,
}

/// The records emitted last: topic and entity → hash of the content.
pub type Emitted = BTreeMap<EmittedKey, u64>;

/// A record of an output topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EmittedKey {
    pub topic: OutputTopic,
    /// Vulnerability id for findings, component path for usage, else empty.
    pub part: String,
    /// Chunk for usage, else 0.
    pub chunk: i32,
}

/// The output topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OutputTopic {
    Artifact,
    Package,
    Usage,
    Finding,
    Alert,
}

/// Encodes a body or a compound key. These types hold nothing that could fail.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap_or_default()
}

/// As [`encode`], in place of what `out` holds.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.clear();
    if rmp_serde::encode::write(out, value).is_err() {
        out.clear();
    }
}

/// Decodes a body or a compound key.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    rmp_serde::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let at = PathKey { path: b"usr/\x1f/\xff".to_vec(), identity: "image".into() };
        let keys = [
            EntityKey::Clock,
            EntityKey::Overflow,
            EntityKey::Open,
            EntityKey::Scan("s".into()),
            EntityKey::Package("s".into(), "p".into()),
            EntityKey::Findings("s".into(), "p".into(), 3),
            EntityKey::Ownership(at.clone()),
            EntityKey::Workload("n/c".into()),
            EntityKey::Component("a/b/c".into()),
            EntityKey::Evidence(EvidenceKey {
                at,
                component: "a/b/c".into(),
                kind: "module".into(),
                name: "m".into(),
            }),
            EntityKey::Classes(ClassesKey {
                at: PathKey { path: b"app.jar!/BOOT-INF/lib/x.jar".to_vec(), identity: "image".into() },
                package: "org.example.".into(),
                component: "a/b/c".into(),
            }),
            EntityKey::Alert("x".into()),
            EntityKey::Emitted("package/p".into()),
        ];
        for key in keys {
            let (kind, entity) = key.encode();
            assert_eq!(EntityKey::decode(kind, &entity), Some(key));
        }
        assert_eq!(EntityKey::decode("new-kind", b""), None);
        assert_eq!(EntityKey::decode("package", b"\xff"), None);
    }

    /// Bodies have no names of fields: only what was added at the end leaves them readable.
    #[test]
    fn what_was_stored_before_fields_were_added_reads_back() {
        let probe = (1_i64, 2_i64, 3_i64, BTreeMap::from([("root", 4_i64)]), 5_i64);
        let no_reasons: BTreeMap<&str, &str> = BTreeMap::new();
        let folded = (6_i64, 0_i64, 7_i64, 8_i64, BTreeMap::from([("ebpf-files", probe)]), no_reasons);
        let read: Component = decode(&encode(&("a", "b", "1", true, folded))).unwrap();
        let share = FoldedProbe {
            since_ms: 1,
            until_ms: 2,
            watched_ms: 3,
            workload_count_from_first_exec: [("root".to_owned(), 4)].into(),
            events_lost: 5,
            ..FoldedProbe::default()
        };
        assert_eq!(read.folded.probes, [("ebpf-files".to_owned(), share)].into());
        assert_eq!((read.component_version.as_str(), read.folded.last_seen_ms), ("1", 8));
        let findings = (
            "",
            "",
            "",
            0_i64,
            5_i64,
            "",
            "p",
            true,
            "",
            "",
            "v",
            ["Debian:12"],
            Vec::<plimsoll_schemas::events::Finding>::new(),
            1,
            2,
        );
        let read: Findings = decode(&encode(&(Order::default(), findings))).unwrap();
        assert_eq!((read.record.chunk_count, read.record.upgrade_to.as_str()), (2, ""));
        let owners: Vec<Owner> = Vec::new();
        let stored = (Order::default(), "unresolved", "why", owners, "", "", 9_i64, true);
        let read: Ownership = decode(&encode(&stored)).unwrap();
        assert_eq!((read.resolved_at_ms, read.any_archive, read.incomplete.len()), (9, true, 0));
    }
}
