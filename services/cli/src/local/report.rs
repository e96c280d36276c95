//! A component's report from the saved state.
//! It must never show an artifact of another component.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{Bytes, ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::clock::now_ms;
use plimsoll_portal::model::{MatchReasons, Report, add_match_reasons};
use plimsoll_portal::time::rfc3339;
use plimsoll_scanner::Component;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::{CorrelationArtifact, CorrelationFinding, CorrelationUsage};

use super::schemas;
use super::state::peek;
use crate::output::{artifact, observed, package_from_usage, totals};

/// Longest time to read one partition of the saved state.
const READ_MAX: Duration = Duration::from_secs(60);

/// The report of a component; `None` if nothing is known of it.
///
/// # Errors
/// If the state cannot be read.
pub fn report(directory: &Path, component: &Component) -> anyhow::Result<Option<Report>> {
    let Some(broker) = peek(directory)? else { return Ok(None) };
    let codec = schemas::connect(directory, &broker)?.codec();
    let mut chunks: BTreeMap<(String, String), Vec<CorrelationUsage>> = BTreeMap::new();
    let mut artifacts = BTreeSet::new();
    for usage in latest::<CorrelationUsage>(&broker, &codec)? {
        let same = usage.application == component.application()
            && usage.component == component.component()
            && usage.component_version == component.version();
        if same {
            artifacts.insert(usage.artifact.clone());
            chunks.entry((usage.artifact.clone(), usage.package_id.clone())).or_default().push(usage);
        }
    }
    let mut packages: Vec<_> = chunks
        .into_values()
        .filter_map(|mut chunks| {
            chunks.sort_by_key(|chunk| chunk.chunk);
            package_from_usage(&chunks)
        })
        .collect();
    let findings = latest::<CorrelationFinding>(&broker, &codec)?;
    add_match_reasons(&mut packages, match_reasons(findings));
    let mut known = latest::<CorrelationArtifact>(&broker, &codec)?;
    known.retain(|event| {
        artifacts.contains(&event.artifact)
            || event.components.iter().any(|c| {
                c.application == component.application()
                    && c.component == component.component()
                    && c.component_version == component.version()
            })
    });
    if packages.is_empty() && known.is_empty() {
        return Ok(None);
    }
    Ok(Some(Report {
        application: component.application().to_owned(),
        component: component.component().to_owned(),
        version: component.version().to_owned(),
        generated_at: rfc3339(now_ms()).unwrap_or_default(),
        totals: totals(&packages),
        artifacts: known.iter().map(artifact).collect(),
        observed: observed(component, &known),
        packages,
    }))
}

/// Why each vulnerability matched, by what it is of.
fn match_reasons(findings: Vec<CorrelationFinding>) -> MatchReasons {
    let reason = |one: CorrelationFinding| {
        let finding = one.finding?;
        let key = (one.artifact, one.package_id, one.vulnerability_id);
        Some((key, (finding.match_reason, finding.imports)))
    };
    findings.into_iter().filter_map(reason).collect()
}

/// The newest event of each entity of a compacted topic, tombstones left out, in the order of their keys.
fn latest<E: Event>(broker: &MemoryBroker, codec: &Codec) -> anyhow::Result<Vec<E>> {
    let mut newest: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for partition in 0..codec.partition_count() {
        let place = TopicPartition::new(codec.topic::<E>(), partition);
        let deadline = Instant::now() + READ_MAX;
        read_to_end(broker, &place, 0, ReaderOptions::default(), deadline, |record| {
            newest.insert(record.key.unwrap_or_default(), record.value);
        })?;
    }
    let decode = |(key, value): (Bytes, Option<Bytes>)| value.map(|value| codec.decode(&key, &value));
    Ok(newest.into_iter().filter_map(decode).collect::<Result<_, _>>()?)
}
