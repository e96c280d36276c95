//! What is new goes to the resolver's questions and into batches.
//! It must never hand out a use before its workload's artifact is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::events::{PackageOwnership, RuntimeAlert, UsageItem};
use plimsoll_schemas::resolver_protocol::PathQuery;
use plimsoll_schemas::words::classes_within;
use plimsoll_schemas::words::{
    archive_elsewhere, copied_file_of, drift, java_package_of, mount, ownership_state, usage_kind,
};

use super::inspecting::Inspector;
use super::{
    ASKED_MAX, ASKED_MAX_MS, Asked, Awaiting, Engine, HOLD_MAX_MS, RESOLVE_MAX_ATTEMPTS, RESOLVE_MAX_MS,
    RESOLVE_RETRY_MS,
};
use crate::output::{Batch, RuntimeEvent};
use crate::resolver::{QUESTION_MAX_BYTES, QUESTION_MAX_PATHS, ResolverCommand};
use crate::workload::{Identity, NO_POSITION, PendingItem};

/// What to ask about items: each path once, whatever number of classes came from it; and which item asks what.
fn questions(items: &[(usize, PendingItem)]) -> (Vec<PathQuery>, Vec<usize>) {
    let mut known: HashMap<(&[u8], u64), usize> = HashMap::new();
    let mut paths = Vec::new();
    let query_of = items.iter().map(|(_, pending)| {
        *known.entry((pending.item.path.as_slice(), pending.inode)).or_insert_with(|| {
            let changed_ms = pending.origin.changed_ms;
            paths.push(PathQuery { path: pending.item.path.clone(), inode: pending.inode, changed_ms });
            paths.len() - 1
        })
    });
    let query_of = query_of.collect();
    (paths, query_of)
}

/// Whether an archive or a directory of classes may be a copy that no scan lists: made while the workload ran (nobody can
/// tell of a plain process's files), of a name that tells nothing (`cache/1.tmp`), or not found at last.
fn may_be_copied_archive(entry: &PackageOwnership, is_last: bool) -> bool {
    let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    entry.owners.is_empty()
        && match entry.state.as_str() {
            ownership_state::UNRESOLVED => is_last || entry.drift == drift::NEW,
            ownership_state::UNOWNED => entry.drift != drift::UNCHANGED || name.contains(&b'.'),
            _ => false,
        }
}

impl Engine {
    /// Hands out what is new.
    pub(super) fn flush(&mut self, now: i64) {
        self.last_flush = Instant::now();
        // At the end it is waited for.
        if self.batches.is_full() && !self.finishing {
            return;
        }
        self.retry(now);
        let ids: Vec<u64> = self.workloads.keys().copied().collect();
        // Before the events that tell it are freed.
        self.note_what_was_learned();
        for id in &ids {
            self.flush_workload(*id, now);
        }
        let overdue: Vec<u64> = self
            .awaiting
            .iter()
            .filter(|(_, awaiting)| awaiting.deadline_ms <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in overdue {
            if let Some(awaiting) = self.awaiting.remove(&request) {
                self.ready(awaiting.workload, awaiting.items, Vec::new());
            }
        }
        for id in ids {
            self.retire(id);
        }
        let acknowledge = self.safe_position(now);
        if self.outgoing.is_empty() && acknowledge == self.acknowledged {
            return;
        }
        self.acknowledged = acknowledge;
        let events = std::mem::take(&mut self.outgoing);
        if self.batches.send(Batch { events, acknowledge }).is_err() {
            tracing::error!("the delivering thread is gone: events are lost");
        }
    }

    pub(super) fn flush_workload(&mut self, id: u64, now: i64) {
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        let due = now - workload.published_at_ms >= self.config.republish_interval_ms;
        if (workload.changed || due) && workload.identity != Identity::Pending {
            workload.changed = false;
            workload.published_at_ms = now;
            let moved = workload.take_move();
            for mut event in moved.into_iter().chain(workload.events()) {
                self.stamper.stamp(&mut event, now);
                self.outgoing.push(RuntimeEvent::Workload(event));
            }
        }
        if workload.identity == Identity::Pending {
            return;
        }
        let first = workload.artifacts.first().map(|artifact| artifact.key.clone()).unwrap_or_default();
        for mut alert in std::mem::take(&mut workload.alerts) {
            if alert.artifact.is_empty() {
                alert.artifact.clone_from(&first);
            }
            self.stamper.stamp(&mut alert, now);
            self.outgoing.push(RuntimeEvent::Alert(alert));
        }
        let items = workload.take_pending();
        if items.is_empty() {
            return;
        }
        let (asked, direct): (Vec<_>, Vec<_>) = match &self.resolver {
            Some(_) => items.into_iter().partition(|(_, pending)| pending.item.mount == mount::ROOT),
            None => (Vec::new(), items),
        };
        if !direct.is_empty() {
            self.ready(id, direct, Vec::new());
        }
        self.resolve(id, asked, now);
    }

    pub(super) fn resolve(&mut self, id: u64, items: Vec<(usize, PendingItem)>, now: i64) {
        let (Some(resolver), Some(workload)) = (self.resolver.clone(), self.workloads.get(&id)) else {
            return;
        };
        let (workload_id, artifacts) = (workload.id.clone(), workload.artifacts.clone());
        let mut by_artifact: BTreeMap<usize, Vec<(usize, PendingItem)>> = BTreeMap::new();
        for item in items {
            by_artifact.entry(item.0).or_default().push(item);
        }
        for (index, items) in by_artifact {
            let mut rest = items.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut chunk, mut size_bytes) = (Vec::new(), 0);
                while let Some(item) = rest.next_if(|(_, pending)| {
                    chunk.len() < QUESTION_MAX_PATHS
                        && (chunk.is_empty() || size_bytes + pending.item.path.len() <= QUESTION_MAX_BYTES)
                }) {
                    size_bytes += item.1.item.path.len();
                    chunk.push(item);
                }
                for (index, pending) in &mut chunk {
                    pending.attempts += 1;
                    let item = PendingItem { position: NO_POSITION, exec: None, ..pending.clone() };
                    self.asked.push_back(Asked { at_ms: now, workload: id, index: *index, item });
                }
                let (paths, query_of) = questions(&chunk);
                let request_id = self.next_request;
                self.next_request += 1;
                let asked = resolver.send(ResolverCommand::Resolve {
                    request_id,
                    artifact: artifacts[index].key.clone(),
                    workload_id: workload_id.clone(),
                    paths,
                });
                if asked {
                    let deadline_ms = now + RESOLVE_MAX_MS;
                    self.awaiting
                        .insert(request_id, Awaiting { workload: id, items: chunk, query_of, deadline_ms });
                } else {
                    self.ready(id, chunk, Vec::new());
                }
            }
        }
    }

    /// Asks again what could not be told, once it is time; forgets old questions.
    fn retry(&mut self, now: i64) {
        let forget = |asked: &Asked| now - asked.at_ms > ASKED_MAX_MS;
        while self.asked.front().is_some_and(forget) || self.asked.len() > ASKED_MAX {
            self.asked.pop_front();
        }
        let mut due: BTreeMap<u64, Vec<(usize, PendingItem)>> = BTreeMap::new();
        while self.unresolved.front().is_some_and(|asked| asked.at_ms <= now) {
            if let Some(asked) = self.unresolved.pop_front() {
                due.entry(asked.workload).or_default().push((asked.index, asked.item));
            }
        }
        for (id, items) in due {
            self.resolve(id, items, now);
        }
    }

    /// The resolver may have died with answers that it had not published: asks again what was asked of late.
    pub(super) fn ask_again(&mut self) {
        let mut again: BTreeMap<u64, Vec<(usize, PendingItem)>> = BTreeMap::new();
        for asked in std::mem::take(&mut self.asked) {
            again.entry(asked.workload).or_default().push((asked.index, asked.item));
        }
        let now = now_ms();
        for (id, items) in again {
            self.resolve(id, items, now);
        }
    }

    /// Items that can go out, with their owners as far as these are known.
    pub(super) fn ready(
        &mut self,
        id: u64,
        items: Vec<(usize, PendingItem)>,
        entries: Vec<PackageOwnership>,
    ) {
        let mut by_artifact: BTreeMap<usize, Vec<UsageItem>> = BTreeMap::new();
        for (position, (index, mut pending)) in items.into_iter().enumerate() {
            let answer = entries.get(position).filter(|entry| !entry.path.is_empty());
            if copied_file_of(&pending.path).is_some() && !self.take_copy(id, index, &mut pending, answer) {
                continue;
            }
            if archive_elsewhere(&pending.path).is_some()
                && !self.take_archive(id, index, &mut pending, answer)
            {
                continue;
            }
            if classes_within(&pending.path).is_some() {
                if answer.is_none_or(|answer| answer.state != ownership_state::OWNED) {
                    self.hold_back_archive(id, &pending);
                }
                continue;
            }
            self.ask_for_copies(id, index, &pending, answer);
            self.ask_for_java_package(id, index, &pending, answer);
            if pending.item.kind == usage_kind::EXECUTABLE
                && let (Some(workload), Some(entry)) = (self.workloads.get_mut(&id), entries.get(position))
            {
                let ecosystems: BTreeSet<&str> =
                    entry.owners.iter().map(|owner| owner.ecosystem.as_str()).collect();
                for ecosystem in ecosystems {
                    workload.note_program(ecosystem, &pending.item.probe, &pending.item.path);
                }
            }
            let entry = entries.get(position).filter(|entry| entry.path == pending.item.path);
            if let Some(entry) = entry {
                pending.item.file_identity.clone_from(&entry.file_identity);
            }
            let told = entry.is_some_and(|entry| {
                // With too many owners to name them all, asking again brings no more.
                entry.state != ownership_state::UNRESOLVED || !entry.owners.is_empty()
            });
            let is_last = self.finishing || pending.attempts >= RESOLVE_MAX_ATTEMPTS;
            if entry.is_some_and(|entry| may_be_copied_archive(entry, is_last)) {
                self.hold_back_archive(id, &pending);
            }
            if pending.attempts > 0 && !told {
                self.ask_later(id, index, &pending);
            }
            if pending.attempts > 1 && !told {
                // It went out when it was asked about first.
                continue;
            }
            if let Some(exec) = pending.exec.take()
                && pending.item.kind == usage_kind::EXECUTABLE
            {
                let artifact =
                    self.workloads.get(&id).and_then(|workload| workload.artifacts.get(index).cloned());
                self.judge_program(id, artifact, &pending.item.path, &exec, &pending.item.mount, entry);
            }
            by_artifact.entry(index).or_default().push(pending.item);
        }
        let now = now_ms();
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        for (index, items) in by_artifact {
            for mut event in workload.usage_events(index, items) {
                self.stamper.stamp(&mut event, now);
                self.outgoing.push(RuntimeEvent::Usage(event));
            }
        }
        let alerts: Vec<RuntimeAlert> = std::mem::take(&mut workload.alerts);
        let first = workload.artifacts.first().map(|artifact| artifact.key.clone()).unwrap_or_default();
        for mut alert in alerts {
            if alert.artifact.is_empty() {
                alert.artifact.clone_from(&first);
            }
            self.stamper.stamp(&mut alert, now);
            self.outgoing.push(RuntimeEvent::Alert(alert));
        }
    }

    /// A class may name an archive as its source that does not have it (the code that defines it says which): asks whether
    /// a listed archive has its Java package at all.
    fn ask_for_java_package(
        &mut self,
        id: u64,
        index: usize,
        pending: &PendingItem,
        answer: Option<&PackageOwnership>,
    ) {
        let is_listed = |answer: &PackageOwnership| {
            answer.state == ownership_state::OWNED
                && answer.owners.iter().any(|owner| owner.ecosystem == "maven")
        };
        if index == 0
            && pending.item.kind == usage_kind::CLASS
            && java_package_of(&pending.path).is_none()
            && answer.is_some_and(is_listed)
            && let Some(workload) = self.workloads.get_mut(&id)
        {
            let item = &pending.item;
            self.java.defined(id, &item.path, &item.name, &item.process, workload);
        }
    }

    /// Asks about a path once more, later; `false` if it was asked about often enough, or too many wait.
    pub(super) fn ask_later(&mut self, id: u64, index: usize, pending: &PendingItem) -> bool {
        if pending.attempts >= RESOLVE_MAX_ATTEMPTS || self.unresolved.len() >= ASKED_MAX {
            return false;
        }
        let item = PendingItem { position: NO_POSITION, exec: None, ..pending.clone() };
        let at_ms = now_ms() + RESOLVE_RETRY_MS;
        self.unresolved.push_back(Asked { at_ms, workload: id, index, item });
        true
    }

    /// A class's archive is in no list of packages: it may be a copy of one that is, gone before anyone could look. Or it
    /// does not have the class's Java package.
    pub(super) fn hold_back_archive(&mut self, id: u64, pending: &PendingItem) {
        if pending.item.kind == usage_kind::CLASS
            && java_package_of(&pending.path).is_none()
            && let Some(workload) = self.workloads.get_mut(&id)
        {
            if let Some(place) = archive_elsewhere(&pending.path) {
                self.java.elsewhere(id, place, &pending.item, workload);
                return;
            }
            if classes_within(&pending.path).is_some() {
                self.java.placeless(id, &pending.item.name, &pending.item.process, workload);
                return;
            }
            self.java.unlisted(id, &pending.path, &pending.item.name, &pending.item.process, workload);
        }
    }

    /// The same for all that nobody asks for again, or answers, at the end.
    pub(super) fn hold_back_unresolved(&mut self) {
        let unasked = self.unresolved.iter().map(|asked| (asked.workload, &asked.item));
        let unanswered = self
            .awaiting
            .values()
            .flat_map(|awaiting| awaiting.items.iter().map(|(_, pending)| (awaiting.workload, pending)));
        let is_class = |(_, pending): &(u64, &PendingItem)| pending.item.kind == usage_kind::CLASS;
        let classes: Vec<(u64, PendingItem)> = unasked
            .chain(unanswered)
            .filter(is_class)
            .map(|(workload, pending)| (workload, pending.clone()))
            .collect();
        for (workload, pending) in classes {
            self.hold_back_archive(workload, &pending);
        }
    }

    /// Up to where the ring buffer may be freed once what was handed out is safe.
    pub(super) fn safe_position(&self, now: i64) -> u64 {
        let held = |pending: &PendingItem| {
            (now - pending.item.last_seen_ms <= HOLD_MAX_MS).then_some(pending.position)
        };
        let waiting = self.workloads.values().flat_map(|workload| workload.pending.iter().filter_map(held));
        let asked = self
            .awaiting
            .values()
            .flat_map(|awaiting| awaiting.items.iter().filter_map(|(_, item)| held(item)));
        let scripts = self.workloads.values().flat_map(|workload| &workload.scripts);
        let scripts = scripts.chain(self.inspector.iter().flat_map(Inspector::waiting));
        let unseen =
            scripts.filter_map(|script| (now - script.seen_ms <= HOLD_MAX_MS).then_some(script.position));
        waiting.chain(asked).chain(unseen).fold(self.read_position, u64::min).max(self.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_copy() {
        for (path, state, drift, is_last, expected) in [
            ("tmp/1/x.jar", "unresolved", "new", false, true),
            // The resolver may only have been busy.
            ("tmp/1/x.jar", "unresolved", "unknown", false, false),
            ("tmp/1/x.jar", "unresolved", "unknown", true, true),
            ("tmp/jar_cache1.tmp", "unowned", "unknown", false, true),
            ("tmp/1/classes", "unowned", "new", false, true),
            // Tomcat unpacks a war beside it; the list may have been made in between.
            ("webapps/w/WEB-INF/classes", "unowned", "unknown", false, true),
            ("app/classes", "unowned", "unchanged", true, false),
            ("app/x.jar", "owned", "new", true, false),
        ] {
            let (path, state, drift) = (path.into(), state.into(), drift.into());
            let entry = PackageOwnership { path, state, drift, ..PackageOwnership::default() };
            assert_eq!(may_be_copied_archive(&entry, is_last), expected, "{entry:?} {is_last}");
        }
        let named = PackageOwnership {
            state: ownership_state::UNRESOLVED.into(),
            owners: vec![plimsoll_schemas::events::Owner::default()],
            ..PackageOwnership::default()
        };
        assert!(!may_be_copied_archive(&named, true));
    }
}
