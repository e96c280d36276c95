//! Random events of all topics that the sink reads: updates, tombstones, aborted transactions and garbage.

use std::time::Duration;

use plimsoll_kit::broker::{Bytes, OutgoingRecord, Producer, ProducerOptions};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::{Codec, EncodedRecord};
use plimsoll_schemas::event::{Event, Stamper};
use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    Coverage, Finding, Process, RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact, UsageItem,
    UsedFile,
};
use plimsoll_schemas::identity::package_id;

const ARTIFACTS: u64 = 12;
const PACKAGES: u64 = 25;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A small generator of numbers (xorshift64*): the same seed makes the same load.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn word<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// Writes events in transactions.
pub struct Load {
    codec: std::sync::Arc<Codec>,
    producer: Box<dyn Producer>,
    random: Random,
    stamper: Stamper,
    now_ms: i64,
    /// Committed records so far.
    pub records: u64,
}

impl Load {
    pub fn new(connections: &Connections, seed: u64) -> Self {
        let id = format!("{}.load", connections.prefix);
        let mut producer = connections.broker.producer(ProducerOptions::transactional(&id, &id)).unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        Self {
            codec: connections.codec(),
            producer,
            random: Random::new(seed),
            stamper: Stamper::new("load", "boot"),
            now_ms: plimsoll_kit::clock::now_ms(),
            records: 0,
        }
    }

    /// One transaction of `count` records; one in eight is aborted.
    pub fn transaction(&mut self, count: usize) {
        self.producer.begin_transaction().unwrap();
        for _ in 0..count {
            let record = self.record();
            self.producer.send(&record).unwrap();
        }
        if self.random.one_in(8) {
            // So that the log has the aborted records, which readers must pass over.
            self.producer.flush(TIMEOUT).unwrap();
            self.producer.abort_transaction(TIMEOUT).unwrap();
        } else {
            self.producer.commit_transaction(None, TIMEOUT).unwrap();
            self.records += count as u64;
        }
    }

    fn record(&mut self) -> OutgoingRecord {
        self.now_ms += self.random.below(50) as i64;
        let mut encoded = match self.random.below(16) {
            0 => {
                let event = self.artifact();
                self.live_or_gone(event, 20)
            }
            1..=4 => {
                let event = self.package();
                self.live_or_gone(event, 5)
            }
            5..=7 => {
                let event = self.finding();
                self.live_or_gone(event, 5)
            }
            8..=10 => {
                let event = self.package_usage();
                self.live_or_gone(event, 5)
            }
            11 => {
                let event = self.alert();
                self.live_or_gone(event, 10)
            }
            12 => {
                let event = self.workload();
                self.live_or_gone(event, u64::MAX)
            }
            13 => {
                let event = self.scan();
                self.live_or_gone(event, u64::MAX)
            }
            14 => {
                let event = self.usage();
                self.live_or_gone(event, u64::MAX)
            }
            _ => {
                let event = self.runtime_alert();
                self.live_or_gone(event, u64::MAX)
            }
        };
        if self.random.one_in(50) && encoded.value.is_some() {
            let garbage: [&[u8]; 4] =
                [b"", b"garbage", &[0, 0xff, 0xff, 0xff, 0xff, 1], &[0, 0, 0, 0, 1, 0xff]];
            encoded.value = Some(garbage[self.random.below(4) as usize].to_vec());
        }
        OutgoingRecord::new(encoded.topic, encoded.partition, encoded.key, encoded.value.map(Bytes::from))
    }

    fn live_or_gone<E: Event>(&mut self, mut event: E, one_gone_in: u64) -> EncodedRecord {
        self.stamper.stamp(&mut event, self.now_ms);
        if self.random.one_in(one_gone_in) {
            return self.codec.tombstone(&event);
        }
        self.codec.encode(&event).unwrap()
    }

    fn key(&mut self) -> String {
        format!("host/{:04}", self.random.below(ARTIFACTS))
    }

    fn artifact(&mut self) -> CorrelationArtifact {
        CorrelationArtifact {
            artifact: self.key(),
            scanned: self.random.one_in(2),
            names: vec![format!("name {}", self.random.below(9))],
            package_count: self.random.below(1000) as i64,
            ..Default::default()
        }
    }

    fn package(&mut self) -> CorrelationPackage {
        let purl = format!("pkg:deb/debian/p{}@1.0", self.random.below(PACKAGES));
        CorrelationPackage {
            artifact: self.key(),
            package_id: package_id(&purl, None),
            name: purl.clone(),
            purl,
            licenses: vec!["MIT".to_owned(); self.random.below(3) as usize],
            r#use: self.random.word(&["used", "unused", "not_measured"]).to_owned(),
            coverage: self.random.one_in(2).then(|| Coverage { watched_ms: 5, ..Default::default() }),
            last_used_ms: self.now_ms,
            ..Default::default()
        }
    }

    fn finding(&mut self) -> CorrelationFinding {
        let package = self.package();
        CorrelationFinding {
            artifact: package.artifact,
            package_id: package.package_id,
            purl: package.purl,
            vulnerability_id: format!("CVE-2024-{}", self.random.below(6)),
            finding: self.random.one_in(2).then(|| Finding {
                severity: "high".to_owned(),
                cvss_score: Some(7.5),
                summary: "quote ' \" \\ and é".to_owned(),
                ..Default::default()
            }),
            priority: self.random.below(100) as i32,
            ..Default::default()
        }
    }

    fn package_usage(&mut self) -> CorrelationUsage {
        let package = self.package();
        CorrelationUsage {
            artifact: package.artifact,
            application: "shop/é".to_owned(),
            component: format!("c {}", self.random.below(3)),
            component_version: "1.0".to_owned(),
            package_id: package.package_id,
            purl: package.purl,
            chunk: self.random.below(2) as i32,
            files: vec![UsedFile { path: b"usr/lib/\xffx".to_vec(), ..Default::default() }],
            last_used_ms: self.now_ms,
            ..Default::default()
        }
    }

    fn alert(&mut self) -> CorrelationAlert {
        CorrelationAlert {
            artifact: self.key(),
            alert_id: format!("a{}", self.random.below(40)),
            process: Some(Process { pid: 7, command: vec!["sh".to_owned()], ..Default::default() }),
            evidence: [("k".to_owned(), self.random.below(9).to_string())].into(),
            ..Default::default()
        }
    }

    fn workload(&mut self) -> RuntimeWorkload {
        RuntimeWorkload {
            artifact: self.key(),
            workload_id: format!("node/{}", self.random.below(20)),
            labels: [("app".to_owned(), "x".to_owned())].into(),
            stopped_at_ms: self.now_ms,
            ..Default::default()
        }
    }

    fn scan(&mut self) -> ScanArtifact {
        ScanArtifact {
            artifact: self.key(),
            scan_id: format!("s{}", self.random.below(30)),
            package_count: self.random.below(100) as i64,
            ..Default::default()
        }
    }

    fn usage(&mut self) -> RuntimeUsage {
        let count = self.random.below(12);
        RuntimeUsage {
            artifact: self.key(),
            workload_id: "node/1".to_owned(),
            items: (0..count)
                .map(|item| UsageItem {
                    kind: "library".to_owned(),
                    path: format!("usr/lib/l{item}.so").into_bytes(),
                    last_seen_ms: self.now_ms + item as i64,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn runtime_alert(&mut self) -> RuntimeAlert {
        RuntimeAlert {
            artifact: self.key(),
            alert_id: format!("a{}", self.random.below(40)),
            rule: "shell-from-server".to_owned(),
            raised_at_ms: self.now_ms,
            ..Default::default()
        }
    }
}
