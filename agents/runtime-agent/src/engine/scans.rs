//! Images first seen running are asked to be scanned.
//! It must never ask twice for one image in one life of the agent, nor for what is no image.

use std::collections::HashSet;

use plimsoll_kit::clock::now_ms;
use plimsoll_kit::host::random_id;
use plimsoll_schemas::events::ScanRequest;

use super::Engine;
use crate::output::RuntimeEvent;

/// Images remembered; beyond it all are forgotten, and asked for once more: the scanner knows what it has scanned.
const REQUESTED_MAX: usize = 10_000;

/// Artifacts that a scan was asked for.
#[derive(Default)]
pub struct Requested(HashSet<String>);

impl Requested {
    /// Whether this is the first time.
    fn insert(&mut self, artifact: &str) -> bool {
        if self.0.contains(artifact) {
            return false;
        }
        if self.0.len() >= REQUESTED_MAX {
            self.0.clear();
        }
        self.0.insert(artifact.to_owned())
    }
}

impl Engine {
    /// Asks for a scan of an image, by what its engine calls it.
    pub(super) fn request_scan(&mut self, artifact: String, image_id: &str) {
        if !self.config.request_scans || image_id.is_empty() || !self.scans.insert(&artifact) {
            return;
        }
        let now = now_ms();
        let mut request = ScanRequest {
            artifact,
            request_id: random_id(),
            source: "image".to_owned(),
            target: format!("docker:{image_id}"),
            reason: "first-seen-running".to_owned(),
            requested_at_ms: now,
            ..ScanRequest::default()
        };
        self.stamper.stamp(&mut request, now);
        self.outgoing.push(RuntimeEvent::ScanRequest(request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_asked_for_once_within_a_bound() {
        let mut requested = Requested::default();
        assert!(requested.insert("image/a") && !requested.insert("image/a") && requested.insert("image/b"));
        for number in 0..2 * REQUESTED_MAX {
            requested.insert(&number.to_string());
            assert!(requested.0.len() <= REQUESTED_MAX);
        }
    }
}
