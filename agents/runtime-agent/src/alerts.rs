//! Risks as alert events, each told once.
//! It must never give one risk two identities: what repeats is the same alert.

use std::collections::{HashSet, VecDeque};

use plimsoll_schemas::events::{Process, RuntimeAlert};
use plimsoll_schemas::identity::Sha256Digest;

use crate::rules::Risk;
use crate::workload::{ArtifactView, ExecContext, Workload};

/// Alerts that are remembered as told.
const SEEN_MAX: usize = 16_384;
/// Longest part of a command line in an alert, in bytes.
const PART_MAX_BYTES: usize = 1_024;

/// Alerts that were told.
#[derive(Default)]
pub struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether the alert was not told yet.
    pub fn is_new(&mut self, alert: &RuntimeAlert) -> bool {
        if !self.ids.insert(alert.alert_id.clone()) {
            return false;
        }
        self.order.push_back(alert.alert_id.clone());
        while self.order.len() > SEEN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        true
    }
}

/// The event of a risk. Its artifact stays empty while the workload's is not known.
pub fn build(
    workload: &Workload,
    artifact: Option<ArtifactView>,
    path: &[u8],
    exec: &ExecContext,
    risk: Risk,
    file_identity: &str,
) -> RuntimeAlert {
    // The same program started again by the same parent is the same alert.
    let identity = [
        workload.id.as_bytes(),
        risk.rule.as_bytes(),
        path,
        file_identity.as_bytes(),
        &exec.parent_executable,
    ]
    .join(&0x1f);
    let cut = |part: &String| part.chars().take(PART_MAX_BYTES / 4).collect::<String>();
    RuntimeAlert {
        artifact: artifact.map(|artifact| artifact.key).unwrap_or_default(),
        application: workload.base.application.clone(),
        component: workload.base.component.clone(),
        component_version: workload.base.component_version.clone(),
        alert_id: hex::encode(&Sha256Digest::of(&identity).0[..16]),
        workload_id: workload.id.clone(),
        rule: risk.rule.to_owned(),
        severity: risk.severity.to_owned(),
        title: risk.title,
        process: Some(Process {
            pid: i64::from(exec.pid),
            parent_pid: i64::from(exec.parent_pid),
            executable: path.to_vec(),
            command: exec.arguments.iter().take(64).map(cut).collect(),
            user_id: i64::from(exec.user_id),
            parent_executable: exec.parent_executable.clone(),
            started_at_ms: exec.started_at_ms,
        }),
        path: path.to_vec(),
        file_identity: file_identity.to_owned(),
        evidence: risk.evidence,
        raised_at_ms: exec.started_at_ms,
        ..RuntimeAlert::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;
    use plimsoll_schemas::events::RuntimeWorkload;

    #[test]
    fn the_same_risk_is_told_once() {
        let workload =
            Workload::new("m/c".into(), WorkloadKind::Container("c".into()), RuntimeWorkload::default(), 0);
        let risk = || Risk {
            rule: crate::rules::SHELL_FROM_SERVER,
            severity: "high",
            title: String::new(),
            evidence: Default::default(),
        };
        let exec =
            |parent: &str, pid| ExecContext { parent_executable: parent.into(), pid, ..Default::default() };
        let mut seen = Seen::default();
        let cases = [
            ("usr/bin/sh", "usr/sbin/nginx", 1, true),
            ("usr/bin/sh", "usr/sbin/nginx", 2, false),
            ("usr/bin/sh", "usr/bin/python3", 3, true),
            ("usr/bin/bash", "usr/bin/python3", 4, true),
        ];
        for (path, parent, pid, expected) in cases {
            let alert = build(&workload, None, path.as_bytes(), &exec(parent, pid), risk(), "");
            assert_eq!(seen.is_new(&alert), expected, "{path} from {parent}");
            assert_eq!(alert.alert_id.len(), 32);
        }
    }
}
