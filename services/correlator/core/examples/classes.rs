//! Measures what the classes of one JVM cost: size of the state, time per batch, bytes sent. Run it with --release.
//! It must never be taken for a test: it only prints.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use plimsoll_correlator_core::{Artifact, Event, Finished, Order, Output};
use plimsoll_schemas::events::{
    Owner, PackageOwnership, RuntimeUsage, RuntimeWorkload, UsageItem, WatchedInterval,
};

const KEY: &str = "component/shop/web/1.0";
/// As a large Spring Boot application: archives, the JDK's image among them.
const ARCHIVES: usize = 200;
/// Classes in all.
const CLASSES: usize = 30_000;
/// Usage items per event, as the agent sends them.
const BATCH: usize = 1_000;

fn item(number: usize, last_seen_ms: i64) -> UsageItem {
    // A tenth of all from the JDK, the rest spread.
    let archive = if number.is_multiple_of(6) { 0 } else { number % ARCHIVES };
    UsageItem {
        kind: "class".into(),
        path: format!("app/application.jar!/BOOT-INF/lib/library-number-{archive}-1.2.3.jar").into_bytes(),
        name: format!("org.example.library{archive}.part{}.internal.SomeClassName{number}", number % 37),
        mount: "root".into(),
        rung: "loaded".into(),
        probe: "jvmti".into(),
        first_seen_ms: 1_700_000_000_000 + number as i64,
        last_seen_ms,
        ..UsageItem::default()
    }
}

fn usage(items: Vec<UsageItem>) -> Event {
    Event::Usage(RuntimeUsage {
        artifact: KEY.into(),
        application: "shop".into(),
        component: "web".into(),
        component_version: "1.0".into(),
        workload_id: "w".into(),
        items,
        ..RuntimeUsage::default()
    })
}

fn sent(finished: &Finished) -> (usize, usize, usize) {
    let state = finished.changes.iter().map(|c| c.entity.len() + c.body.as_ref().map_or(0, Vec::len)).sum();
    let names = |o: &Output| match o {
        Output::Usage(usage) => usage.classes.iter().map(|c| c.path.len() + c.name.len() + 24).sum(),
        _ => 300,
    };
    (state, finished.outputs.len(), finished.outputs.iter().map(names).sum())
}

fn main() {
    let mut artifact = Artifact::new(KEY);
    let order = |offset| Order { epoch: 0, offset };
    for archive in 0..ARCHIVES {
        let ownership = PackageOwnership {
            path: format!("app/application.jar!/BOOT-INF/lib/library-number-{archive}-1.2.3.jar")
                .into_bytes(),
            state: "owned".into(),
            role: "code".into(),
            owners: vec![Owner {
                package_id: format!("id-{archive}"),
                purl: format!("pkg:maven/org.example/library-number-{archive}@1.2.3"),
                kind: "application".into(),
                ecosystem: "maven".into(),
                ..Owner::default()
            }],
            ..PackageOwnership::default()
        };
        artifact.apply(Event::Ownership(ownership), order(archive as i64)).unwrap();
    }
    let workload = RuntimeWorkload {
        workload_id: "w".into(),
        application: "shop".into(),
        component: "web".into(),
        component_version: "1.0".into(),
        watched: vec![WatchedInterval { probe: "jvmti".into(), from_first_exec: true, ..Default::default() }],
        ..RuntimeWorkload::default()
    };
    artifact.apply(Event::Workload(workload), order(0)).unwrap();
    artifact.finish();

    let mut state = std::collections::BTreeMap::new();
    let mut pass = |what: &str, artifact: &mut Artifact, numbers: Vec<usize>, batch: usize, last_ms: i64| {
        let begin = Instant::now();
        let (mut bytes, mut outputs, mut output_bytes, mut batches) = (0, 0, 0, 0);
        for part in numbers.chunks(batch) {
            artifact.apply(usage(part.iter().map(|n| item(*n, last_ms)).collect()), order(1)).unwrap();
            let finished = artifact.finish();
            let (state_bytes, count, size) = sent(&finished);
            bytes += state_bytes;
            outputs += count;
            output_bytes += size;
            batches += 1;
            for change in finished.changes {
                match change.body {
                    Some(body) => drop(state.insert((change.kind, change.entity), body)),
                    None => drop(state.remove(&(change.kind, change.entity))),
                }
            }
        }
        let took = begin.elapsed();
        println!(
            "{what}: {} classes in {batches} batches: {:.1} ms a batch, {:.1} us a class; state written {} KiB, \
             {outputs} outputs of about {} KiB",
            numbers.len(),
            took.as_secs_f64() * 1e3 / f64::from(batches),
            took.as_secs_f64() * 1e6 / numbers.len() as f64,
            bytes / 1024,
            output_bytes / 1024,
        );
    };
    pass("start", &mut artifact, (0..CLASSES).collect(), BATCH, 1_700_000_060_000);
    pass("again after an epoch", &mut artifact, (0..CLASSES).collect(), BATCH, 1_700_003_600_000);
    pass("one at a time", &mut artifact, (0..100).collect(), 1, 1_700_003_700_000);
    let of_classes = |kind: &str| -> (usize, usize) {
        let of = state.iter().filter(|((k, _), _)| *k == kind);
        (of.clone().count(), of.map(|((_, id), body)| id.len() + body.len()).sum())
    };
    for kind in ["classes", "emitted", "ownership"] {
        let (count, size) = of_classes(kind);
        println!("state {kind}: {count} records, {} KiB", size / 1024);
    }
    let entities = state.iter().map(|((kind, id), body)| (*kind, id.as_slice(), 1, body.as_slice()));
    let begin = Instant::now();
    let loaded = Artifact::load(KEY, entities).unwrap();
    println!("loaded in {:.1} ms, {} entities", begin.elapsed().as_secs_f64() * 1e3, loaded.entity_count());
}
