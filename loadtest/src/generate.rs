//! A load whose right answer is known: scans, owners, workloads and uses of many images, the same at every call.
//! Nothing in it may depend on a clock or on chance.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_kit::broker::{OutgoingRecord, ProducerOptions};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::*;
use plimsoll_schemas::identity::Sha256Digest;
use plimsoll_schemas::words::probe;

const START_MS: i64 = 1_700_000_000_000;
/// Files of each package.
pub const PATHS_PER_PACKAGE: usize = 3;
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub artifacts: usize,
    pub packages: usize,
    pub batches: usize,
    pub items: usize,
}

/// What must come out for one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub used: bool,
    pub vulnerabilities: i64,
}

/// Key of the image with this number.
pub fn artifact(number: usize) -> String {
    format!("image/sha256:{number:064x}")
}

pub fn package_id(package: usize) -> String {
    format!("id-{package:05}")
}

fn path(package: usize, file: usize) -> Vec<u8> {
    format!("usr/lib/p{package:05}/f{file}.so").into_bytes()
}

/// Every third package is never used.
fn can_be_used(package: usize) -> bool {
    !package.is_multiple_of(3)
}

fn vulnerabilities(package: usize) -> i64 {
    if package.is_multiple_of(5) { 2 } else { 0 }
}

/// A step of a fixed permutation of numbers: well spread, and the same everywhere (SplitMix64).
fn spread(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Load {
    /// Package and file that an item uses.
    fn use_of(&self, artifact: usize, batch: usize, item: usize) -> (usize, usize) {
        let number = spread(((artifact * self.batches + batch) * self.items + item) as u64);
        let usable = (0..self.packages).filter(|package| can_be_used(*package)).count().max(1);
        let nth = (number % usable as u64) as usize;
        // The nth number that is no multiple of three.
        let package = nth + nth / 2 + 1;
        (package.min(self.packages.saturating_sub(1)), (number >> 32) as usize % PATHS_PER_PACKAGE)
    }

    /// What must come out for each package of an image.
    pub fn expected(&self, artifact: usize) -> Vec<Expected> {
        let mut expected: Vec<Expected> = (0..self.packages)
            .map(|package| Expected { used: false, vulnerabilities: vulnerabilities(package) })
            .collect();
        for batch in 0..self.batches {
            for item in 0..self.items {
                expected[self.use_of(artifact, batch, item).0].used = true;
            }
        }
        expected
    }

    /// Sends everything; how many records these are. First all scans, then the images' run time by turns.
    ///
    /// # Errors
    /// What the broker says.
    pub fn send(&self, connections: &Connections) -> anyhow::Result<u64> {
        let codec = connections.codec();
        let mut producer = connections.broker.producer(ProducerOptions::idempotent("loadtest"))?;
        let mut count = 0;
        let mut send = |record: OutgoingRecord| -> anyhow::Result<()> {
            count += 1;
            Ok(producer.send(&record)?)
        };
        for number in 0..self.artifacts {
            self.scan(&codec, number, &mut send)?;
        }
        let mut owners: Vec<BTreeSet<(usize, usize)>> = vec![BTreeSet::new(); self.artifacts];
        for batch in 0..self.batches {
            for (number, owned) in owners.iter_mut().enumerate() {
                self.run_time(&codec, number, batch, owned, &mut send)?;
            }
        }
        producer.flush(SEND_TIMEOUT)?;
        Ok(count)
    }

    /// Sends one image, whatever its number.
    ///
    /// # Errors
    /// What the broker says.
    pub fn send_one(&self, connections: &Connections, number: usize) -> anyhow::Result<()> {
        let codec = connections.codec();
        let mut producer = connections.broker.producer(ProducerOptions::idempotent("loadtest"))?;
        let mut send = |record: OutgoingRecord| -> anyhow::Result<()> { Ok(producer.send(&record)?) };
        self.scan(&codec, number, &mut send)?;
        let mut owned = BTreeSet::new();
        (0..self.batches)
            .try_for_each(|batch| self.run_time(&codec, number, batch, &mut owned, &mut send))?;
        Ok(producer.flush(SEND_TIMEOUT)?)
    }

    fn scan(
        &self,
        codec: &Codec,
        number: usize,
        send: &mut dyn FnMut(OutgoingRecord) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let key = artifact(number);
        let scan_id = format!("scan-{number}");
        let mut ids = Vec::with_capacity(self.packages);
        for package in 0..self.packages {
            let name = format!("p{package:05}");
            ids.push(package_id(package));
            let event = ScanPackage {
                artifact: key.clone(),
                emitted_at_ms: START_MS,
                scan_id: scan_id.clone(),
                package_id: package_id(package),
                purl: format!("pkg:deb/debian/{name}@1.2.3-4?arch=amd64"),
                name,
                version: "1.2.3-4".into(),
                kind: "os".into(),
                ecosystem: "debian".into(),
                source_name: "source".into(),
                source_version: "1.2.3-4".into(),
                architecture: "amd64".into(),
                licenses: vec!["Apache-2.0".into()],
                locations: vec![Location {
                    path: b"var/lib/dpkg/status".to_vec(),
                    layer: key["image/".len()..].to_owned(),
                    ..Location::default()
                }],
                observable_by: vec![probe::EBPF_FILES.into()],
                loadable_file_count: PATHS_PER_PACKAGE as i64,
                ..ScanPackage::default()
            };
            send(outgoing(codec, &event)?)?;
            let findings = (0..vulnerabilities(package))
                .map(|index| Finding {
                    id: format!("CVE-2020-{:05}", package * 2 + index as usize),
                    severity: "high".into(),
                    cvss_vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N".into(),
                    fixed_versions: vec!["1.2.3-5".into()],
                    source: "debian".into(),
                    ..Finding::default()
                })
                .collect();
            let event = ScanFindings {
                artifact: key.clone(),
                emitted_at_ms: START_MS,
                scan_id: scan_id.clone(),
                package_id: package_id(package),
                assessed: true,
                database_version: "1".into(),
                feeds: vec!["Debian:12".into()],
                findings,
                chunk_count: 1,
                ..ScanFindings::default()
            };
            send(outgoing(codec, &event)?)?;
        }
        ids.sort_unstable();
        let hash = Sha256Digest::of(ids.join("\n").as_bytes()).to_string();
        let manifest = ScanArtifact {
            artifact: key,
            emitted_at_ms: START_MS,
            application: "load".into(),
            component: format!("c{number}"),
            component_version: "1".into(),
            scan_id,
            source: "image".into(),
            package_count: self.packages as i64,
            package_hash: hash.trim_start_matches("sha256:").to_owned(),
            completed_at_ms: START_MS,
            ..ScanArtifact::default()
        };
        send(outgoing(codec, &manifest)?)
    }

    /// A heartbeat of the image's workload, a batch of its uses, and the owners of paths that are new in it.
    fn run_time(
        &self,
        codec: &Codec,
        number: usize,
        batch: usize,
        owned: &mut BTreeSet<(usize, usize)>,
        send: &mut dyn FnMut(OutgoingRecord) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let now_ms = START_MS + 1_000 * (batch as i64 + 1);
        let workload = RuntimeWorkload {
            artifact: artifact(number),
            emitted_at_ms: now_ms,
            application: "load".into(),
            component: format!("c{number}"),
            component_version: "1".into(),
            workload_id: format!("node/{number}"),
            node_id: "node".into(),
            kind: "container".into(),
            started_at_ms: START_MS,
            watched: vec![WatchedInterval {
                probe: probe::EBPF_FILES.into(),
                boot_id: "boot".into(),
                from_ms: START_MS,
                until_ms: now_ms,
                from_first_exec: true,
            }],
            ..RuntimeWorkload::default()
        };
        send(outgoing(codec, &workload)?)?;
        let mut items = Vec::with_capacity(self.items);
        let mut new = Vec::new();
        for item in 0..self.items {
            let (package, file) = self.use_of(number, batch, item);
            if owned.insert((package, file)) {
                new.push((package, file));
            }
            items.push(UsageItem {
                kind: "library".into(),
                path: path(package, file),
                mount: "root".into(),
                rung: "loaded".into(),
                first_seen_ms: now_ms,
                last_seen_ms: now_ms,
                probe: probe::EBPF_FILES.into(),
                process: "/usr/bin/server".into(),
                ..UsageItem::default()
            });
        }
        let usage = RuntimeUsage {
            artifact: artifact(number),
            producer_id: "agent".into(),
            boot_id: "boot".into(),
            sequence: (number * self.batches + batch + 1) as i64,
            emitted_at_ms: now_ms,
            application: "load".into(),
            component: format!("c{number}"),
            component_version: "1".into(),
            workload_id: format!("node/{number}"),
            items,
        };
        send(outgoing(codec, &usage)?)?;
        for (package, file) in new {
            let name = format!("p{package:05}");
            let ownership = PackageOwnership {
                artifact: artifact(number),
                emitted_at_ms: now_ms,
                path: path(package, file),
                file_identity: "image".into(),
                state: "owned".into(),
                owners: vec![Owner {
                    package_id: package_id(package),
                    purl: format!("pkg:deb/debian/{name}@1.2.3-4?arch=amd64"),
                    name,
                    version: "1.2.3-4".into(),
                    kind: "os".into(),
                    ecosystem: "debian".into(),
                    ..Owner::default()
                }],
                method: "dpkg".into(),
                role: "code".into(),
                drift: "unchanged".into(),
                resolved_at_ms: now_ms,
                ..PackageOwnership::default()
            };
            send(outgoing(codec, &ownership)?)?;
        }
        Ok(())
    }
}

fn outgoing<E: Event>(codec: &Codec, event: &E) -> anyhow::Result<OutgoingRecord> {
    let record = codec.encode(event)?;
    Ok(OutgoingRecord::new(record.topic, record.partition, record.key, record.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_used_is_used() {
        let load = Load { artifacts: 3, packages: 50, batches: 20, items: 20 };
        for number in 0..load.artifacts {
            let expected = load.expected(number);
            assert_eq!(expected.len(), load.packages);
            for (package, expected) in expected.iter().enumerate() {
                // 400 draws leave none of 33 out.
                assert_eq!(expected.used, can_be_used(package), "{package}");
                assert_eq!(expected.vulnerabilities > 0, package % 5 == 0);
            }
        }
    }
}
