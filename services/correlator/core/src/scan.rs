//! Generations of scans: a scan counts once its manifest and all its packages are there, the newest manifest first.
//! It must never mix two scans, and never let a scan that arrived in part replace a whole one.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::artifact::{Artifact, ScanState};
use crate::entity::{EntityKey, Manifest};
use crate::limits::STAGED_SCANS_MAX;

/// SHA-256 over the sorted package ids, joined by newlines, in lowercase hexadecimal: `ScanArtifact.package_hash`.
pub fn package_hash<'a>(sorted_ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for (index, id) in sorted_ids.into_iter().enumerate() {
        if index > 0 {
            hash.update(b"\n");
        }
        hash.update(id.as_bytes());
    }
    hex::encode(hash.finalize())
}

impl ScanState {
    /// Whether manifest and packages are there and agree.
    fn is_complete(&mut self) -> bool {
        if let Some(known) = self.complete {
            return known;
        }
        let complete = self.entity.manifest.as_ref().is_some_and(|manifest| {
            usize::try_from(manifest.record.package_count) == Ok(self.packages.len())
                && package_hash(self.packages.keys().map(String::as_str)) == manifest.record.package_hash
        });
        self.complete = Some(complete);
        complete
    }
}

/// The complete scan with the newest manifest.
pub(crate) fn newest_complete(scans: &mut BTreeMap<String, ScanState>) -> Option<String> {
    let mut newest = None;
    for (id, scan) in scans {
        if scan.entity.superseded || !scan.is_complete() {
            continue;
        }
        let order = scan.entity.manifest.as_ref().map(|manifest| manifest.order);
        if newest.as_ref().is_none_or(|(best, _)| *best < order) {
            newest = Some((order, id.clone()));
        }
    }
    newest.map(|(_, id)| id)
}

impl Artifact {
    /// Chooses the current scan and drops what it supersedes.
    pub(crate) fn settle_scans(&mut self) {
        let current = newest_complete(&mut self.scans);
        if current != self.current {
            self.current = current;
            self.cache.all_dirty = true;
        }
        let order = self.current_manifest().map(|manifest| manifest.order);
        let superseded: Vec<String> = self
            .scans
            .iter()
            .filter(|(_, scan)| {
                let manifest = scan.entity.manifest.as_ref();
                !scan.entity.superseded && manifest.is_some_and(|m| Some(m.order) < order)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in superseded {
            self.empty_scan(&id);
            if let Some(scan) = self.scans.get_mut(&id) {
                scan.entity.superseded = true;
                scan.entity.staged_since_ms = 0;
                if let Some(manifest) = &mut scan.entity.manifest {
                    manifest.record = Default::default();
                }
            }
            self.touch(EntityKey::Scan(id));
        }
        self.bound_staged();
    }

    pub(crate) fn current_manifest(&self) -> Option<&Manifest> {
        self.scans.get(self.current.as_ref()?)?.entity.manifest.as_ref()
    }

    /// Scans of which something is there, but not all.
    pub(crate) fn staged(&self) -> impl Iterator<Item = (&String, &ScanState)> {
        self.scans.iter().filter(|(id, scan)| !scan.entity.superseded && self.current.as_ref() != Some(*id))
    }

    fn bound_staged(&mut self) {
        let mut staged: Vec<(i64, String)> =
            self.staged().map(|(id, scan)| (scan.entity.staged_since_ms, id.clone())).collect();
        staged.sort();
        let surplus = staged.len().saturating_sub(STAGED_SCANS_MAX);
        for (_, id) in staged.into_iter().take(surplus) {
            self.drop_scan(&id);
        }
    }

    /// Forgets a scan altogether.
    pub(crate) fn drop_scan(&mut self, id: &str) {
        self.empty_scan(id);
        self.scans.remove(id);
        self.touch(EntityKey::Scan(id.to_owned()));
        self.cache.artifact_dirty = true;
    }

    fn empty_scan(&mut self, id: &str) {
        let Some(scan) = self.scans.get_mut(id) else { return };
        scan.complete = None;
        let packages = std::mem::take(&mut scan.packages);
        let findings = std::mem::take(&mut scan.findings);
        for package in packages.into_keys() {
            self.touch(EntityKey::Package(id.to_owned(), package));
        }
        for (package, chunks) in findings {
            for chunk in chunks.into_keys() {
                self.touch(EntityKey::Findings(id.to_owned(), package.clone(), chunk));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_over_sorted_ids_with_newlines_between() {
        assert_eq!(package_hash(["a", "b"]), hex::encode(Sha256::digest(b"a\nb")));
        assert_eq!(package_hash([]), hex::encode(Sha256::digest(b"")));
    }
}
