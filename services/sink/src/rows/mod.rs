//! From events to rows: which table an event goes to, and which column each field of it fills.
//! It must never compute: what a row says, its event said.

mod correlation;
mod key;
mod runtime;
mod scan;
mod value;

use plimsoll_schemas::event::Event;

pub use self::key::KeyError;
pub use self::value::Value;

/// Generation of all topics (`.v1`): the upper 16 bits of a row's version.
const TOPIC_GENERATION: u64 = 1;

/// Where a record lies in its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
}

impl Position {
    /// Version of a state row: grows with the topic's generation, then with the offset. An entity's records all lie
    /// in one partition, so this orders them.
    pub fn row_version(self) -> u64 {
        (TOPIC_GENERATION << 48) + self.offset.max(0) as u64
    }
}

/// Takes the columns of one row, in the table's order.
pub trait Row {
    /// The next column.
    fn column<V: Value>(&mut self, name: &'static str, value: &V);
}

/// Events of which the latest of each entity is a row.
pub trait StateEvent: Event {
    /// Table of the rows.
    const TABLE: StateTable;

    /// The event that a tombstone's key tells of: key columns set, all else empty.
    ///
    /// # Errors
    /// If the entity id is not one of this topic.
    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError>;

    /// Writes the columns, but for the row's version and deletion mark.
    fn columns(&self, row: &mut impl Row);
}

/// Events that are rows for ever.
pub trait HistoryEvent: Event {
    /// Table of the rows.
    const TABLE: HistoryTable;

    /// Number of rows of this event.
    fn row_count(&self) -> usize;

    /// Time of the event at its producer, milliseconds since the epoch: decides ClickHouse's partition.
    fn emitted_at_ms(&self) -> i64;

    /// Writes row number `index`.
    fn columns(&self, index: usize, position: Position, row: &mut impl Row);
}

macro_rules! tables {
    ($(#[$doc:meta])* $kind:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[$variant_doc])* $variant),* }

        impl $kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Name in ClickHouse.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

tables!(
    /// Tables of latest state.
    StateTable {
        /// Artifacts with totals.
        Artifacts = "artifacts",
        /// Packages of artifacts.
        ArtifactPackages = "artifact_packages",
        /// Findings of packages.
        Findings = "findings",
        /// Packages of components, in chunks.
        PackageUsage = "package_usage",
        /// Running and stopped instances.
        Workloads = "workloads",
        /// Runtime risks with the owning packages.
        Alerts = "alerts",
        /// Manifests of scans.
        Scans = "scans",
    }
);

tables!(
    /// Tables of history.
    HistoryTable {
        /// Every observed item of use.
        UsageEvents = "usage_events",
        /// Every runtime risk as raised.
        AlertEvents = "alert_events",
    }
);

impl StateTable {
    /// The same rows in another order; written after the table itself, never before.
    pub fn copy(self) -> Option<&'static str> {
        match self {
            Self::ArtifactPackages => Some("artifact_packages_by_purl"),
            Self::Findings => Some("findings_by_vulnerability"),
            _ => None,
        }
    }

    /// Names and types of the columns that the sink writes, in order.
    pub fn columns(self) -> Vec<Column> {
        fn of<E: StateEvent>() -> Vec<Column> {
            let mut columns = Columns::default();
            write_state(&E::default(), Position::default(), false, &mut columns);
            columns.0
        }
        use plimsoll_schemas::events as e;
        match self {
            Self::Artifacts => of::<e::CorrelationArtifact>(),
            Self::ArtifactPackages => of::<e::CorrelationPackage>(),
            Self::Findings => of::<e::CorrelationFinding>(),
            Self::PackageUsage => of::<e::CorrelationUsage>(),
            Self::Workloads => of::<e::RuntimeWorkload>(),
            Self::Alerts => of::<e::CorrelationAlert>(),
            Self::Scans => of::<e::ScanArtifact>(),
        }
    }
}

impl HistoryTable {
    /// Names and types of the columns that the sink writes, in order.
    pub fn columns(self) -> Vec<Column> {
        let mut columns = Columns::default();
        let at = Position::default();
        use plimsoll_schemas::events as e;
        match self {
            Self::UsageEvents => {
                let event = e::RuntimeUsage { items: vec![e::UsageItem::default()], ..Default::default() };
                event.columns(0, at, &mut columns);
            }
            Self::AlertEvents => e::RuntimeAlert::default().columns(0, at, &mut columns),
        }
        columns.0
    }
}

/// Writes one state row.
pub fn write_state<E: StateEvent>(event: &E, position: Position, deleted: bool, row: &mut impl Row) {
    event.columns(row);
    row.column("version", &position.row_version());
    row.column("is_deleted", &u8::from(deleted));
}

/// A column as the sink writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// Type, without LowCardinality.
    pub type_name: &'static str,
}

#[derive(Default)]
struct Columns(Vec<Column>);

impl Row for Columns {
    fn column<V: Value>(&mut self, name: &'static str, _: &V) {
        self.0.push(Column { name, type_name: V::type_name() });
    }
}

/// Rows in ClickHouse's RowBinary format.
#[derive(Debug, Default)]
pub struct RowBinary(pub Vec<u8>);

impl Row for RowBinary {
    fn column<V: Value>(&mut self, _: &'static str, value: &V) {
        value.encode(&mut self.0);
    }
}

/// One row as JSON, for tests and for comparing what stands in ClickHouse with the topics.
#[derive(Debug, Default)]
pub struct Shown(pub serde_json::Map<String, serde_json::Value>);

impl Row for Shown {
    fn column<V: Value>(&mut self, name: &'static str, value: &V) {
        self.0.insert(name.to_owned(), value.show());
    }
}

#[cfg(test)]
mod tests;
