//! Files of other places than the artifact's: of which it was asked whether they are the artifact's own or copies, and which
//! packages were told. It must never leave one out without saying so: its package would be called unused.

use std::collections::HashSet;

use plimsoll_schemas::words::{COPY_OF_ANY_FILE, PATH_MAX_BYTES, mount};

use super::{PendingItem, Workload};

/// Most files of a workload that are asked about; beyond, none of the artifact's application packages is measured.
const ASKED_MAX: usize = 16_384;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    /// By path, inode and time of its last change.
    asked: HashSet<(Vec<u8>, u64, i64)>,
    told: HashSet<Vec<u8>>,
    left_out: bool,
}

/// What is to be asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToAsk {
    /// It was asked before.
    Nothing,
    /// It waits to be asked.
    Asked,
    /// There is one too many.
    LeftOut,
}

impl Workload {
    /// Asks whether a used file is one of the first artifact's, or a copy.
    pub fn ask_for_copy(&mut self, pending: &PendingItem) -> ToAsk {
        let path = [COPY_OF_ANY_FILE, &pending.path].concat();
        let key = (pending.path.clone(), pending.inode, pending.origin.changed_ms);
        if self.copies.asked.contains(&key) {
            return ToAsk::Nothing;
        }
        let is_full = self.copies.asked.len() >= ASKED_MAX || self.pending.len() >= super::HELD_MAX_ITEMS;
        if is_full || path.len() > PATH_MAX_BYTES {
            return ToAsk::LeftOut;
        }
        self.copies.asked.insert(key);
        let mut asked = PendingItem { path, attempts: 0, exec: None, ..pending.clone() };
        mount::ROOT.clone_into(&mut asked.item.mount);
        asked.item.file_identity.clear();
        self.pending.push_back(asked);
        ToAsk::Asked
    }

    /// Whether these packages were not told yet, by the path that stands for them.
    pub fn tells_copy(&mut self, path: &[u8]) -> bool {
        self.copies.told.insert(path.to_vec())
    }

    /// Whether it is said the first time that some files could not be asked about.
    pub fn leaves_out_copies(&mut self) -> bool {
        !std::mem::replace(&mut self.copies.left_out, true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ArtifactView;
    use super::super::tests::{observation, workload};
    use super::*;

    #[test]
    fn each_file_is_asked_about_once_up_to_the_bound() {
        let mut workload = workload();
        workload.identified(vec![
            ArtifactView { key: "component/a/b/1".into(), root: b"srv/app".to_vec() },
            ArtifactView { key: "host/m".into(), root: Vec::new() },
        ]);
        workload.add(observation("tmp/a.js", 1), "ebpf-files", String::new(), 1, 0, None);
        let (index, first) = workload.take_pending().remove(0);
        assert_eq!(index, 1);
        assert_eq!(workload.ask_for_copy(&first), ToAsk::Asked);
        assert_eq!(workload.ask_for_copy(&first), ToAsk::Nothing);
        // Another file of that name.
        assert_eq!(workload.ask_for_copy(&PendingItem { inode: 2, ..first.clone() }), ToAsk::Asked);
        let asked = workload.take_pending();
        assert_eq!((asked.len(), asked[0].0, asked[0].1.item.path.as_slice()), (2, 0, &b"?=/tmp/a.js"[..]));
        for inode in 3..=ASKED_MAX as u64 {
            workload.pending.clear();
            assert_eq!(workload.ask_for_copy(&PendingItem { inode, ..first.clone() }), ToAsk::Asked);
        }
        assert_eq!(workload.ask_for_copy(&PendingItem { inode: 0, ..first.clone() }), ToAsk::LeftOut);
        assert!(workload.leaves_out_copies() && !workload.leaves_out_copies());
        assert!(workload.tells_copy(b"?=/pkg:npm/a@1#0") && !workload.tells_copy(b"?=/pkg:npm/a@1#0"));
    }
}
