//! Root directories of workloads, opened early: what ran there is looked into, and the resolver told of them.
//! It must never keep a directory of a workload that is over.

use std::path::PathBuf;

use super::{Engine, Root};
use crate::procfs;
use crate::resolver::{OpenRoot, ResolverCommand, open_directory};
use crate::workload::Workload;

impl Engine {
    pub(super) fn open_root(&mut self, id: u64, pid: u32) {
        let Some(directory) = open_directory(&PathBuf::from(format!("/proc/{pid}/root"))) else { return };
        let overlay = procfs::overlay(pid).unwrap_or_default();
        let upper = open_directory(&overlay.upper);
        self.roots.insert(id, Root { directory, upper, lowers: overlay.lowers });
        self.announce_root(id);
    }

    pub(super) fn announce_root(&mut self, id: u64) {
        let (Some(resolver), Some(workload), Some(root)) =
            (&self.resolver, self.workloads.get(&id), self.roots.get(&id))
        else {
            return;
        };
        let Some(artifact) = workload.artifacts.first() else { return };
        let Ok(directory) = root.directory.try_clone() else { return };
        resolver.send(ResolverCommand::Open(OpenRoot {
            artifact: artifact.key.clone(),
            workload_id: workload.id.clone(),
            root: directory,
            upper: root.upper.as_ref().and_then(|upper| upper.try_clone().ok()),
            lowers: root.lowers.clone(),
            component: false,
            started_at_ms: workload.base.started_at_ms,
        }));
    }

    pub(super) fn announce_tree(&self, id: u64, root: &std::path::Path) {
        let (Some(resolver), Some(workload)) = (&self.resolver, self.workloads.get(&id)) else { return };
        for (artifact, path) in workload.artifacts.iter().zip([root, std::path::Path::new("/")]) {
            let Some(directory) = open_directory(path) else { continue };
            resolver.send(ResolverCommand::Open(OpenRoot {
                artifact: artifact.key.clone(),
                workload_id: workload.id.clone(),
                root: directory,
                upper: None,
                lowers: Vec::new(),
                component: artifact.key.starts_with("component/"),
                started_at_ms: workload.base.started_at_ms,
            }));
        }
    }

    pub(super) fn close_roots(&self, workload: &Workload) {
        let Some(resolver) = &self.resolver else { return };
        for artifact in &workload.artifacts {
            resolver.send(ResolverCommand::Close {
                artifact: artifact.key.clone(),
                workload_id: workload.id.clone(),
            });
        }
    }
}
