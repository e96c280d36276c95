//! Answers one scan request: decodes it, scans, publishes the scan or puts the request into the dead letters.
//! It must never pass over a request without an answer, nor answer one that went to another replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, IncomingRecord, OutgoingRecord, Producer, ProducerOptions,
};
use plimsoll_kit::clock::now_ms;
use plimsoll_kit::dead_letter::{self, DeadLetter};
use plimsoll_kit::host::random_id;
use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::metrics::{ByLabels, Counter, Histogram, SECONDS_BUCKETS};
use plimsoll_kit::telemetry;
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec::Codec;
use plimsoll_schemas::event::{Event, Stamper};
use plimsoll_schemas::events::ScanRequest;
use plimsoll_schemas::identity::ArtifactKey;
use plimsoll_vulndb::Database;

use super::member::{Member, Owner};
use super::recent::RecentScans;
use crate::ScanError;
use crate::config::ScannerConfig;
use crate::publish::{encode, transact};
use crate::scan::{Scan, ScanOptions, scan_until};
use crate::target::{Target, component};

/// Wait between two looks at a scan under way.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Wait before something that is away is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for the broker to take over the transactional id.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Times in a row that another producer may take our place for one answer; more mean that it is alive.
const FENCED_MAX: u32 = 3;
/// Requests with this reason need no second scan of the same artifact.
const FIRST_SEEN_RUNNING: &str = "first-seen-running";

/// What a request gets.
enum Answer {
    Scan(Box<Scan>),
    /// The pipeline has this scan already.
    Known,
    /// It goes to the dead letters.
    Refused {
        reason: &'static str,
        detail: String,
    },
}

/// Why a request has no answer of ours.
enum Unanswered {
    /// It went to another replica, or the service ends: it will be read again.
    Left,
    Fatal(anyhow::Error),
}

/// Works on requests, one at a time.
pub struct Worker {
    config: ScannerConfig,
    broker: Arc<dyn Broker>,
    codec: Arc<Codec>,
    database: Option<Arc<Database>>,
    context: ServiceContext,
    producer_options: ProducerOptions,
    producer: Option<Box<dyn Producer>>,
    stamper: Stamper,
    recent: RecentScans,
    /// Since when the container engine does not answer.
    engine_away_since: Option<Instant>,
    requests: ByLabels<Counter>,
    scan_seconds: Histogram,
}

impl Worker {
    pub fn new(
        config: ScannerConfig,
        connections: &Connections,
        database: Option<Arc<Database>>,
        instance: String,
        context: ServiceContext,
    ) -> anyhow::Result<Self> {
        let codec = connections.codec();
        let requests = context.metrics.counter_with(
            "requests",
            "Scan requests answered: scanned, known, or the reason of the refusal.",
            &["answer"],
        );
        let scan_seconds =
            context.metrics.histogram("scan_seconds", "Duration of one scan.", &SECONDS_BUCKETS);
        Ok(Self {
            broker: connections.broker.clone(),
            recent: RecentScans::new(connections.broker.clone(), codec.clone()),
            codec,
            database,
            producer_options: ProducerOptions::transactional(instance.clone(), instance.clone()),
            producer: None,
            stamper: Stamper::new(instance, random_id()),
            engine_away_since: None,
            requests,
            scan_seconds,
            config,
            context,
        })
    }

    /// Answers a request; returns without an answer when the request went to another replica or the service ends.
    ///
    /// # Errors
    /// What trying again does not mend.
    pub fn answer(&mut self, record: &IncomingRecord, member: &mut Member) -> anyhow::Result<()> {
        let span = tracing::info_span!("scan request", partition = record.partition, offset = record.offset);
        if let Some(parent) = telemetry::extract(&record.headers) {
            telemetry::set_parent(&span, &parent);
        }
        let _entered = span.enter();
        let answered =
            self.find_answer(record, member).and_then(|answer| self.deliver(record, answer, member));
        match answered {
            Ok(()) | Err(Unanswered::Left) => Ok(()),
            Err(Unanswered::Fatal(error)) => Err(error),
        }
    }

    /// Waits a moment while the membership is kept.
    fn wait(&self, member: &mut Member, wait: Duration) -> Result<(), Unanswered> {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if self.context.shutdown.is_triggered() || member.stay(LOOK_INTERVAL) == Owner::Another {
                return Err(Unanswered::Left);
            }
        }
        Ok(())
    }

    fn find_answer(&mut self, record: &IncomingRecord, member: &mut Member) -> Result<Answer, Unanswered> {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        let request = loop {
            match self.codec.decode::<ScanRequest>(key, value) {
                Ok(request) => break request,
                Err(error) if error.is_retriable() => {
                    tracing::warn!("a scan request waits for the schema registry: {error}");
                    self.wait(member, RETRY_INTERVAL)?;
                }
                Err(error) => {
                    return Ok(Answer::Refused { reason: "undecodable", detail: error.to_string() });
                }
            }
        };
        if request.reason == FIRST_SEEN_RUNNING && self.is_known(&request) {
            return Ok(Answer::Known);
        }
        loop {
            let result = self.scan_as_member(&request, member)?;
            if !matches!(result, Err(ScanError::Engine { .. })) {
                self.engine_away_since = None;
            }
            let error = match result {
                Ok(scan) => return Ok(judge(scan, &request)),
                Err(error) => error,
            };
            let detail = error.to_string();
            match error {
                ScanError::Engine { .. } if !self.is_engine_given_up() => {
                    tracing::warn!("a scan request waits: {detail}");
                    self.wait(member, RETRY_INTERVAL)?;
                }
                ScanError::Engine { .. } => {
                    return Ok(Answer::Refused { reason: "engine-unavailable", detail });
                }
                ScanError::BadTarget(_) => return Ok(Answer::Refused { reason: "invalid", detail }),
                ScanError::Cancelled => return Err(Unanswered::Left),
                _ => return Ok(Answer::Refused { reason: "scan-failed", detail }),
            }
        }
    }

    fn is_known(&mut self, request: &ScanRequest) -> bool {
        let database_version = self.database.as_ref().map_or("", |database| database.version());
        self.recent.is_scanned(request.artifact(), database_version, now_ms()).unwrap_or_else(|error| {
            tracing::warn!("it is not known what was scanned, so {} is scanned: {error}", request.artifact);
            false
        })
    }

    fn is_engine_given_up(&mut self) -> bool {
        let since = *self.engine_away_since.get_or_insert_with(Instant::now);
        since.elapsed() >= Duration::from_millis(self.config.scanner.engine_patience_ms)
    }

    /// Scans on a thread of its own while the group's member stays alive.
    fn scan_as_member(
        &self,
        request: &ScanRequest,
        member: &mut Member,
    ) -> Result<Result<Scan, ScanError>, Unanswered> {
        let started = Instant::now();
        let cancelled = AtomicBool::new(false);
        let span = tracing::Span::current();
        let scanning = Scanning {
            database: self.database.clone(),
            docker_host: &self.config.docker.host,
            cancelled: &cancelled,
        };
        let outcome = std::thread::scope(|scope| {
            let scanning = scope.spawn(|| span.in_scope(|| scanning.scan(request)));
            while !scanning.is_finished() {
                let left = member.stay(LOOK_INTERVAL) == Owner::Another;
                if left || self.context.shutdown.is_triggered() {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
            scanning.join()
        });
        if cancelled.load(Ordering::Relaxed) {
            return Err(Unanswered::Left);
        }
        self.scan_seconds.observe(started.elapsed().as_secs_f64());
        // A fault of a parser costs this request, not all others.
        Ok(outcome.unwrap_or_else(|_| Err(ScanError::Panicked { target: request.target.clone() })))
    }

    /// Brings an answer and the request's offset in one transaction, however often that takes.
    fn deliver(
        &mut self,
        record: &IncomingRecord,
        mut answer: Answer,
        member: &mut Member,
    ) -> Result<(), Unanswered> {
        let mut fenced = 0;
        loop {
            let delivered = self.try_deliver(record, &answer, member);
            let Err(error) = delivered else {
                self.delivered(&answer);
                return Ok(());
            };
            match error.kind() {
                BrokerErrorKind::RecordTooLarge if matches!(answer, Answer::Scan(_)) => {
                    answer = Answer::Refused { reason: "scan-too-large", detail: error.to_string() };
                    continue;
                }
                BrokerErrorKind::Fenced => {
                    fenced += 1;
                    if fenced > FENCED_MAX {
                        return Err(Unanswered::Fatal(anyhow::Error::from(error).context(
                            "another scanner runs under the same name; give each replica its own scanner.instance",
                        )));
                    }
                }
                BrokerErrorKind::Configuration
                | BrokerErrorKind::Unauthorized
                | BrokerErrorKind::UnknownTopic => {
                    return Err(Unanswered::Fatal(error.into()));
                }
                _ => {}
            }
            tracing::warn!("the answer to a scan request is tried again: {error}");
            // Ends what the last one left open, and settles an outcome that was unknown.
            self.producer = None;
            self.wait(member, RETRY_INTERVAL)?;
            if self.settle(record, member)? {
                self.delivered(&answer);
                return Ok(());
            }
        }
    }

    fn delivered(&mut self, answer: &Answer) {
        match answer {
            Answer::Scan(scan) => {
                let manifest = &scan.manifest;
                tracing::info!(artifact = manifest.artifact, packages = manifest.package_count, "scanned");
                self.recent.remember(manifest);
                self.requests.with(&["scanned"]).inc();
            }
            Answer::Known => {
                tracing::debug!("the artifact was scanned lately; the request is done");
                self.requests.with(&["known"]).inc();
            }
            Answer::Refused { reason, detail } => {
                tracing::warn!(reason, detail, "scan request refused");
                self.requests.with(&[reason]).inc();
            }
        }
    }

    fn try_deliver(
        &mut self,
        record: &IncomingRecord,
        answer: &Answer,
        member: &mut Member,
    ) -> Result<(), BrokerError> {
        let records = match answer {
            Answer::Scan(scan) => encode(scan, &self.codec, &self.stamper).map_err(|error| {
                let kind = match error.is_retriable() {
                    true => BrokerErrorKind::Retriable,
                    false => BrokerErrorKind::RecordTooLarge,
                };
                BrokerError::new(kind, error)
            })?,
            Answer::Known => Vec::new(),
            Answer::Refused { reason, detail } => vec![self.letter(record, reason, detail)],
        };
        let offsets = member.offsets(record)?;
        tracing::debug!(records = records.len(), "publishing");
        transact(&records, self.producer()?, Some(offsets))
    }

    fn letter(&self, record: &IncomingRecord, reason: &str, detail: &str) -> OutgoingRecord {
        dead_letter::record(record, &DeadLetter { reason, detail }, self.context.info)
    }

    fn producer(&mut self) -> Result<&mut dyn Producer, BrokerError> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                let mut producer = self.broker.producer(self.producer_options.clone())?;
                producer.init_transactions(TAKE_OVER_TIMEOUT)?;
                producer
            }
        };
        Ok(self.producer.insert(producer).as_mut())
    }

    /// Takes the transactional id over, and tells whether the request was answered by the attempt before.
    fn settle(&mut self, record: &IncomingRecord, member: &mut Member) -> Result<bool, Unanswered> {
        loop {
            let answered = self.producer().map(|_| ()).and_then(|()| member.is_answered(record));
            match answered {
                Ok(answered) => return Ok(answered),
                Err(error) if error.kind() == BrokerErrorKind::Unauthorized => {
                    let error = anyhow::Error::from(error);
                    return Err(Unanswered::Fatal(error.context("taking over the transactional id")));
                }
                Err(error) => {
                    tracing::warn!("waiting for the broker: {error}");
                    self.producer = None;
                    self.wait(member, RETRY_INTERVAL)?;
                }
            }
        }
    }
}

/// A scan answers a request if it is of the artifact that was asked for. Who asks by an image's name does not know its
/// digest, so such requests carry the component's key.
fn judge(scan: Scan, request: &ScanRequest) -> Answer {
    let asked = request.artifact();
    let manifest = &scan.manifest;
    let by_name =
        manifest.source == "image" && matches!(asked.parse::<ArtifactKey>(), Ok(ArtifactKey::Component(_)));
    let by_alias =
        asked.strip_prefix("image/").is_some_and(|digest| manifest.aliases.iter().any(|a| a == digest));
    if manifest.artifact == asked || by_name || by_alias {
        return Answer::Scan(Box::new(scan));
    }
    let detail = format!(
        "{} is {}, not {asked}: the name points elsewhere now; ask for what it points to",
        request.target, manifest.artifact
    );
    Answer::Refused { reason: "other-artifact", detail }
}

/// What a scan needs of the service.
struct Scanning<'a> {
    database: Option<Arc<Database>>,
    docker_host: &'a str,
    cancelled: &'a AtomicBool,
}

impl Scanning<'_> {
    fn scan(&self, request: &ScanRequest) -> Result<Scan, ScanError> {
        let target = Target::parse(&request.source, &request.target)?;
        let given = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let names =
            [&request.application, &request.component, &request.component_version].map(|name| given(name));
        let component = component(names[0].as_deref(), names[1].as_deref(), names[2].as_deref())
            .map_err(|error| ScanError::BadTarget(error.to_string()))?;
        let options = ScanOptions {
            database: self.database.clone(),
            docker_host: self.docker_host,
            progress: &|message| tracing::debug!("{message}"),
        };
        scan_until(&target, component.as_ref(), &options, self.cancelled)
    }
}
