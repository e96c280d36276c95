//! What was used at another place than the artifact's may be its own all the same, seen through a mount or in another root,
//! or a copy of it: the resolver compares. It must never let such a file go without an answer or saying that there is none.

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::events::{PackageOwnership, UsageItem};
use plimsoll_schemas::words::{
    COPY_OF_ANY_FILE, Rung, archive_elsewhere, copied_file_of, drift, mount, ownership_state, package_kind,
    usage_kind,
};

use super::{Asked, Engine, TREE_ID};
use crate::output::RuntimeEvent;
use crate::unmeasurable;
use crate::workload::{PendingItem, ToAsk, Workload};

/// Whether a used file may be one of the first artifact's, or a copy. `index` is that of the artifact in which its path lies.
fn may_be_copy(
    index: usize,
    pending: &PendingItem,
    answer: Option<&PackageOwnership>,
    is_tree: bool,
    since_ms: i64,
) -> bool {
    let kinds = [usage_kind::MODULE, usage_kind::LIBRARY, usage_kind::EXECUTABLE];
    let is_loaded = kinds.contains(&pending.item.kind.as_str()) && pending.item.rung == Rung::Loaded.as_str();
    if !is_loaded || pending.origin.of_tool || pending.path.starts_with(b"?") {
        return false;
    }
    let is_unowned = || answer.is_some_and(|answer| answer.owners.is_empty());
    if is_tree && index > 0 {
        // What the distribution installed is no copy, unless that is not the file at all.
        let of_system =
            |answer: &PackageOwnership| answer.owners.iter().any(|owner| owner.kind == package_kind::OS);
        return pending.origin.other_mounts || !answer.is_some_and(of_system);
    }
    if is_tree {
        return pending.origin.changed_ms >= since_ms && is_unowned();
    }
    if pending.item.mount == mount::OTHER {
        // Of these it is said that nothing of their language is measured.
        return unmeasurable::of_volume(&pending.path).is_none();
    }
    is_unowned() && answer.is_some_and(|answer| answer.drift == drift::NEW)
}

impl Engine {
    /// Asks whether a used file is one of the artifact's at another place, or a copy, where that may be.
    pub(super) fn ask_for_copies(
        &mut self,
        id: u64,
        index: usize,
        pending: &PendingItem,
        answer: Option<&PackageOwnership>,
    ) {
        let Some(workload) = self.workloads.get_mut(&id).filter(|_| self.resolver.is_some()) else { return };
        let since_ms = workload.base.started_at_ms.max(1);
        if !may_be_copy(index, pending, answer, id & TREE_ID != 0, since_ms) {
            return;
        }
        match workload.ask_for_copy(pending) {
            ToAsk::Asked if self.closing => self.leave_out_copies(id),
            ToAsk::LeftOut => self.leave_out_copies(id),
            ToAsk::Asked | ToAsk::Nothing => {}
        }
    }

    /// Takes the answer; whether the item is to go out, which then has the path of the answer.
    pub(super) fn take_copy(
        &mut self,
        id: u64,
        index: usize,
        pending: &mut PendingItem,
        answer: Option<&PackageOwnership>,
    ) -> bool {
        let is_unknown = |answer: &PackageOwnership| {
            answer.state == ownership_state::UNRESOLVED && answer.owners.is_empty()
        };
        let Some(answer) = answer.filter(|answer| !is_unknown(answer)) else {
            if self.closing || !self.ask_later(id, index, pending) {
                self.leave_out_copies(id);
            }
            return false;
        };
        if copied_file_of(&answer.path).is_some() && answer.drift == drift::MODIFIED {
            self.tell_hidden(id, pending);
        }
        // It is the artifact's own file.
        if copied_file_of(&answer.path).is_none() {
            pending.path.clone_from(&answer.path);
            pending.item.path.clone_from(&answer.path);
            return true;
        }
        if answer.owners.is_empty() {
            return false;
        }
        pending.item.path.clone_from(&answer.path);
        pending.item.name.clear();
        self.workloads.get_mut(&id).is_some_and(|workload| workload.tells_copy(&answer.path))
    }

    /// Takes the answer of which archive of the component's a class came from; whether its item is to go out, which then has
    /// that archive's path.
    pub(super) fn take_archive(
        &mut self,
        id: u64,
        index: usize,
        pending: &mut PendingItem,
        answer: Option<&PackageOwnership>,
    ) -> bool {
        match answer {
            Some(answer) if archive_elsewhere(&answer.path).is_none() => {
                pending.path.clone_from(&answer.path);
                pending.item.path.clone_from(&answer.path);
                return true;
            }
            Some(answer) if answer.state == ownership_state::UNOWNED => {}
            _ if !self.closing && self.resolver.is_some() && self.ask_later(id, index, pending) => {
                return false;
            }
            _ => {}
        }
        self.hold_back_archive(id, pending);
        false
    }

    /// Nobody could tell of some file: it may be of any package.
    fn leave_out_copies(&mut self, id: u64) {
        if self.workloads.get_mut(&id).is_some_and(Workload::leaves_out_copies) {
            self.tell(id, COPY_OF_ANY_FILE.to_vec());
        }
    }

    /// What was used hides what the image has in its place: of a module, all of its directory.
    fn tell_hidden(&mut self, id: u64, pending: &PendingItem) {
        let mut path = [COPY_OF_ANY_FILE, copied_file_of(&pending.path).unwrap_or_default()].concat();
        if pending.item.kind != usage_kind::EXECUTABLE {
            path.truncate(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1));
        }
        if self.workloads.get_mut(&id).is_some_and(|workload| workload.tells_copy(&path)) {
            self.tell(id, path);
        }
    }

    /// Hands out what stands for packages.
    fn tell(&mut self, id: u64, path: Vec<u8>) {
        let Some(workload) = self.workloads.get(&id) else { return };
        let now = now_ms();
        let item = UsageItem {
            kind: usage_kind::MODULE.to_owned(),
            path,
            mount: mount::ROOT.to_owned(),
            rung: Rung::Loaded.as_str().to_owned(),
            first_seen_ms: now,
            last_seen_ms: now,
            ..UsageItem::default()
        };
        for mut event in workload.usage_events(0, vec![item]) {
            self.stamper.stamp(&mut event, now);
            self.outgoing.push(RuntimeEvent::Usage(event));
        }
    }

    /// Nobody asks any more about what waits to be asked again, of one workload or of all.
    pub(super) fn give_up_copies(&mut self, of: Option<u64>) {
        let is_copy = |asked: &&Asked| {
            of.is_none_or(|of| of == asked.workload) && copied_file_of(&asked.item.path).is_some()
        };
        let workloads: Vec<u64> =
            self.unresolved.iter().filter(is_copy).map(|asked| asked.workload).collect();
        workloads.into_iter().for_each(|id| self.leave_out_copies(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Origin;
    use crate::workload::NO_POSITION;
    use plimsoll_schemas::events::Owner;

    fn item(path: &str, kind: &str, mount: &str, origin: Origin) -> PendingItem {
        PendingItem {
            path: path.into(),
            item: UsageItem {
                kind: kind.into(),
                mount: mount.into(),
                rung: "loaded".into(),
                ..UsageItem::default()
            },
            inode: 1,
            origin,
            position: NO_POSITION,
            attempts: 1,
            exec: None,
        }
    }

    #[test]
    fn what_lies_elsewhere_may_be_a_copy() {
        let answer = |state: &str, drift: &str, kind: &str| {
            let owners = (!kind.is_empty()).then(|| Owner { kind: kind.into(), ..Owner::default() });
            let (state, drift) = (state.into(), drift.into());
            Some(PackageOwnership {
                state,
                drift,
                owners: owners.into_iter().collect(),
                ..PackageOwnership::default()
            })
        };
        let unowned = answer("unowned", "unknown", "");
        let (plain, since) = (Origin::default(), 1_000);
        let tree = |index: usize, kind: &str, origin: Origin, answer: &Option<PackageOwnership>| {
            let pending = item("tmp/a", kind, "root", origin);
            may_be_copy(index, &pending, answer.as_ref(), true, since)
        };
        // Of the host.
        for (kind, expected) in
            [("module", true), ("library", true), ("executable", true), ("file", false), ("class", false)]
        {
            assert_eq!(tree(1, kind, plain, &unowned), expected, "{kind}");
        }
        assert!(tree(1, "module", plain, &None));
        assert!(tree(1, "module", plain, &answer("owned", "unknown", "application")));
        let of_system = answer("owned", "unknown", "os");
        assert!(!tree(1, "module", plain, &of_system));
        assert!(tree(1, "module", Origin { other_mounts: true, ..plain }, &of_system));
        assert!(!tree(1, "module", Origin { of_tool: true, ..plain }, &unowned));
        // Of the component: what the run made.
        assert!(!tree(0, "module", Origin { changed_ms: 999, ..plain }, &unowned));
        assert!(tree(0, "module", Origin { changed_ms: 1_000, ..plain }, &unowned));
        assert!(!tree(
            0,
            "module",
            Origin { changed_ms: 1_000, ..plain },
            &answer("owned", "unknown", "application")
        ));
        // Of a container.
        let container = |path: &str, mount: &str, answer: &Option<PackageOwnership>| {
            may_be_copy(0, &item(path, "module", mount, plain), answer.as_ref(), false, since)
        };
        assert!(container("data/a.py", "other", &None));
        assert!(!container("data/node_modules/a/b.js", "other", &None), "said of all of its language");
        assert!(container("tmp/a.py", "root", &answer("unowned", "new", "")));
        assert!(!container("app/a.py", "root", &answer("unowned", "unchanged", "")));
        assert!(!container("?=/data/a.py", "root", &answer("unowned", "new", "")));
    }
}
