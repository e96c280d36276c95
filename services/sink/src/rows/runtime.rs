//! Rows of runtime.*: workloads as state, usage and alerts as history.
//! It must never compute: what a row says, its event said.

use plimsoll_schemas::events::{RuntimeAlert, RuntimeUsage, RuntimeWorkload};

use super::key::{self, KeyError};
use super::value::{Bytes, Json, OptionalJson, Timestamp};
use super::{HistoryEvent, HistoryTable, Position, Row, StateEvent, StateTable};

impl StateEvent for RuntimeWorkload {
    const TABLE: StateTable = StateTable::Workloads;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [workload_id] = key::parts(entity)?;
        Ok(Self { artifact: artifact.to_owned(), workload_id, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("workload_id", &self.workload_id);
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("node_id", &self.node_id);
        row.column("node_name", &self.node_name);
        row.column("kind", &self.kind);
        row.column("container_id", &self.container_id);
        row.column("container_name", &self.container_name);
        row.column("image_name", &self.image_name);
        row.column("image_aliases", &self.image_aliases);
        row.column("pod_namespace", &self.pod_namespace);
        row.column("pod_name", &self.pod_name);
        row.column("labels", &self.labels);
        row.column("command", &self.command);
        row.column("started_at_ms", &self.started_at_ms);
        row.column("stopped_at_ms", &self.stopped_at_ms);
        row.column("watched", &Json(&self.watched));
        let events_lost: i64 = self.losses.iter().fold(0, |sum, loss| sum.saturating_add(loss.events_lost));
        row.column("events_lost", &events_lost);
        row.column("losses", &Json(&self.losses));
        row.column("unavailable_probes", &self.unavailable_probes);
        row.column("observed", &Json(&self.observed));
        row.column("unidentified_reason", &self.unidentified_reason);
        row.column("formerly_artifact", &self.formerly_artifact);
        row.column("moved_to", &self.moved_to);
        row.column("sandboxed", &self.sandboxed);
        row.column("root_package_hash", &self.root_package_hash);
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

impl HistoryEvent for RuntimeUsage {
    const TABLE: HistoryTable = HistoryTable::UsageEvents;

    fn row_count(&self) -> usize {
        self.items.len()
    }

    fn emitted_at_ms(&self) -> i64 {
        self.emitted_at_ms
    }

    fn columns(&self, index: usize, position: Position, row: &mut impl Row) {
        let item = &self.items[index];
        row.column("artifact", &self.artifact);
        row.column("workload_id", &self.workload_id);
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("kind", &item.kind);
        row.column("path", &Bytes(&item.path));
        row.column("file_identity", &item.file_identity);
        row.column("mount", &item.mount);
        row.column("name", &item.name);
        row.column("rung", &item.rung);
        row.column("first_seen_ms", &item.first_seen_ms);
        row.column("last_seen_ms", &item.last_seen_ms);
        row.column("probe", &item.probe);
        row.column("process", &item.process);
        row.column("producer_id", &self.producer_id);
        row.column("boot_id", &self.boot_id);
        row.column("sequence", &self.sequence);
        row.column("item", &u32::try_from(index).unwrap_or(u32::MAX));
        row.column("emitted_at", &Timestamp(self.emitted_at_ms));
        row.column("topic_partition", &position.partition);
        row.column("topic_offset", &position.offset);
    }
}

impl HistoryEvent for RuntimeAlert {
    const TABLE: HistoryTable = HistoryTable::AlertEvents;

    fn row_count(&self) -> usize {
        1
    }

    fn emitted_at_ms(&self) -> i64 {
        self.emitted_at_ms
    }

    fn columns(&self, _: usize, position: Position, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("alert_id", &self.alert_id);
        row.column("workload_id", &self.workload_id);
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("rule", &self.rule);
        row.column("severity", &self.severity);
        row.column("title", &self.title);
        row.column("process", &OptionalJson(self.process.as_ref()));
        row.column("path", &Bytes(&self.path));
        row.column("file_identity", &self.file_identity);
        row.column("evidence", &self.evidence);
        row.column("raised_at_ms", &self.raised_at_ms);
        row.column("producer_id", &self.producer_id);
        row.column("boot_id", &self.boot_id);
        row.column("sequence", &self.sequence);
        row.column("emitted_at", &Timestamp(self.emitted_at_ms));
        row.column("topic_partition", &position.partition);
        row.column("topic_offset", &position.offset);
    }
}
