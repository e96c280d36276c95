//! Alerts with the packages that own what they are about.
//! An alert must never wait for its owners: it goes out at once, and again when they are known.

use plimsoll_schemas::events::CorrelationAlert;
use plimsoll_schemas::words::{ownership_state, vulnerable};

use crate::apply::identity_of;
use crate::artifact::Artifact;
use crate::entity::PathKey;
use crate::limits::{ALERT_OWNERS_MAX, ALERT_VULNERABILITIES_MAX};
use crate::output::PRODUCER_ID;
use crate::package::severity_rank;

impl Artifact {
    pub(crate) fn alert_record(&self, id: &str) -> Option<CorrelationAlert> {
        let alert = &self.alerts.get(id)?.record;
        let mut record = CorrelationAlert {
            artifact: self.key.clone(),
            producer_id: PRODUCER_ID.to_owned(),
            application: alert.application.clone(),
            component: alert.component.clone(),
            component_version: alert.component_version.clone(),
            alert_id: alert.alert_id.clone(),
            workload_id: alert.workload_id.clone(),
            rule: alert.rule.clone(),
            severity: alert.severity.clone(),
            title: alert.title.clone(),
            process: alert.process.clone(),
            path: alert.path.clone(),
            evidence: alert.evidence.clone(),
            raised_at_ms: alert.raised_at_ms,
            emitted_at_ms: alert.raised_at_ms,
            ..CorrelationAlert::default()
        };
        if alert.path.is_empty() {
            record.vulnerable = vulnerable::NOT_ASSESSED.to_owned();
            return Some(record);
        }
        let at = PathKey { path: alert.path.clone(), identity: identity_of(&alert.file_identity).to_owned() };
        let Some(ownership) = self.ownership.get(&at) else {
            record.ownership_state = ownership_state::UNRESOLVED.to_owned();
            record.vulnerable = vulnerable::NOT_ASSESSED.to_owned();
            return Some(record);
        };
        record.ownership_state.clone_from(&ownership.state);
        record.owners = ownership.owners.iter().take(ALERT_OWNERS_MAX).cloned().collect();
        record.emitted_at_ms = record.emitted_at_ms.max(ownership.resolved_at_ms);
        let all_known = ownership.state != ownership_state::UNRESOLVED && !ownership.owners.is_empty();
        let (mut yes, mut unassessed) = (false, !all_known);
        for owner in &ownership.owners {
            let Some(package) = self.known(&owner.package_id) else {
                unassessed = true;
                continue;
            };
            let assessment = self.assess(&package);
            yes |= assessment.vulnerable == vulnerable::YES;
            unassessed |= assessment.vulnerable == vulnerable::NOT_ASSESSED;
            record.emitted_at_ms = record.emitted_at_ms.max(assessment.emitted_at_ms);
            record.vulnerabilities.extend(assessment.summaries());
        }
        record.vulnerabilities.sort_by(|a, b| {
            severity_rank(&b.severity).cmp(&severity_rank(&a.severity)).then_with(|| a.id.cmp(&b.id))
        });
        record.vulnerabilities.dedup();
        record.vulnerabilities.truncate(ALERT_VULNERABILITIES_MAX);
        record.vulnerable = match (yes, unassessed) {
            (true, _) => vulnerable::YES,
            (false, true) => vulnerable::NOT_ASSESSED,
            (false, false) => vulnerable::NO,
        }
        .to_owned();
        Some(record)
    }
}
