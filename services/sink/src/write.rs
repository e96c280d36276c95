//! Writes batches to ClickHouse, trying again until each row is in.
//! It must never give up on rows, nor write a table's copy before the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll_kit::broker::TopicPartition;
use plimsoll_kit::lifecycle::Readiness;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::batch::{Batch, PackageTombstone};
use crate::database::{Bind, Database, DatabaseError, InsertStatement};
use crate::history::Block;
use crate::journal;
use crate::metrics::SinkMetrics;
use crate::plan::Journal;
use crate::route::write_package_tombstone;
use crate::rows::{HistoryTable, RowBinary, StateTable};

/// First wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A failure that lasts is logged again after this long.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);
/// Packages asked for in one question: keeps its text below ClickHouse's max_query_size of 256 KiB.
const LOOKUP_MAX_PACKAGES: usize = 500;

/// Writes batches; shared by the tasks of one batch.
pub struct Writer {
    group: String,
    database: Database,
    state: HashMap<StateTable, (InsertStatement, Option<InsertStatement>)>,
    history: HashMap<HistoryTable, InsertStatement>,
    metrics: SinkMetrics,
    readiness: Readiness,
    /// Requests that fail at present.
    failing: AtomicUsize,
    concurrent: Semaphore,
}

/// The rows of a batch.
pub struct BatchRows {
    state: Vec<(StateTable, Bytes, usize)>,
    package_tombstones: Vec<PackageTombstone>,
    blocks: Vec<(TopicPartition, HistoryTable, Block)>,
    plans: Vec<(TopicPartition, i64, i64)>,
}

impl BatchRows {
    /// Takes the rows out of a batch.
    pub fn take(batch: &mut Batch) -> Self {
        Self {
            state: std::mem::take(&mut batch.state),
            package_tombstones: std::mem::take(&mut batch.package_tombstones),
            blocks: std::mem::take(&mut batch.blocks),
            plans: std::mem::take(&mut batch.plans),
        }
    }
}

/// The deduplication token of a history block: the same records have the same token for ever.
fn token(partition: &TopicPartition, block: &Block) -> String {
    format!("{}:{}:{}-{}", partition.topic, partition.partition, block.begin, block.end)
}

impl Writer {
    /// A writer with at most `concurrent_inserts` requests under way.
    pub fn new(
        group: &str,
        database: Database,
        concurrent_inserts: usize,
        metrics: SinkMetrics,
        readiness: Readiness,
    ) -> Self {
        let state = StateTable::ALL.iter().map(|table| (*table, InsertStatement::of_state(*table))).collect();
        let history =
            HistoryTable::ALL.iter().map(|table| (*table, InsertStatement::of_history(*table))).collect();
        Self {
            group: group.to_owned(),
            database,
            state,
            history,
            metrics,
            readiness,
            failing: AtomicUsize::new(0),
            concurrent: Semaphore::new(concurrent_inserts.max(1)),
        }
    }

    /// Inserts all rows; returns when all are in. Dropping the future stops trying.
    pub async fn write(self: Arc<Self>, rows: BatchRows) {
        let mut jobs = JoinSet::new();
        let mut tombstones = rows.package_tombstones;
        for (table, rows, row_count) in rows.state {
            let tombstones = if table == StateTable::ArtifactPackages {
                std::mem::take(&mut tombstones)
            } else {
                Vec::new()
            };
            let writer = Arc::clone(&self);
            jobs.spawn(async move { writer.write_table(table, rows, row_count, &tombstones).await });
        }
        if !tombstones.is_empty() {
            let writer = Arc::clone(&self);
            jobs.spawn(async move {
                writer.write_table(StateTable::ArtifactPackages, Bytes::new(), 0, &tombstones).await;
            });
        }
        // A block that is begun is known to whoever begins at its offset again.
        if !rows.plans.is_empty() {
            let statement = journal::insert(&self.group, &rows.plans);
            self.until_done(journal::TABLE, || self.database.execute("writing sink_plans", &statement)).await;
        }
        for (partition, table, block) in rows.blocks {
            let writer = Arc::clone(&self);
            jobs.spawn(async move {
                let token = token(&partition, &block);
                writer.insert(&writer.history[&table], &block.rows, block.row_count, Some(&token)).await;
            });
        }
        while let Some(job) = jobs.join_next().await {
            if let Err(panic) = job {
                // A bug of ours: the process must not go on as if the rows were in.
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    }

    /// What the journal knows of partitions from an offset on; asked once.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn journal(
        &self,
        begins: &[(TopicPartition, i64)],
    ) -> Result<HashMap<TopicPartition, Journal>, DatabaseError> {
        let outcome = journal::read(&self.database, &self.group, begins).await;
        match &outcome {
            Ok(_) => self.readiness.ready(),
            Err(error) => self.readiness.not_ready(error.to_string()),
        }
        outcome
    }

    /// The table first, its copy after: whatever stands in the copy can be looked up in the table.
    async fn write_table(
        &self,
        table: StateTable,
        mut rows: Bytes,
        mut row_count: usize,
        tombstones: &[PackageTombstone],
    ) {
        let (insert, copy) = &self.state[&table];
        if row_count > 0 {
            self.insert(insert, &rows, row_count, None).await;
        }
        if !tombstones.is_empty() {
            let purls = self.purls_of(tombstones).await;
            let (vanished, known) = encode_tombstones(tombstones, &purls);
            self.insert(insert, &Bytes::from(vanished.0), tombstones.len(), None).await;
            // A package whose purl nobody knows has no row in the copy.
            row_count += known.len();
            rows = [&rows[..], &encode_tombstones(&known, &purls).0.0].concat().into();
        }
        if let Some(copy) = copy
            && row_count > 0
        {
            self.insert(copy, &rows, row_count, None).await;
        }
    }

    /// The purls of packages, from their earlier rows. A package id is a hash of the purl, so any earlier row will do;
    /// rows of tombstones carry it on.
    async fn purls_of(&self, tombstones: &[PackageTombstone]) -> BTreeMap<(String, String), String> {
        let mut purls = BTreeMap::new();
        for chunk in tombstones.chunks(LOOKUP_MAX_PACKAGES) {
            let pairs: Vec<(String, String)> =
                chunk.iter().map(|t| (t.artifact.clone(), t.package_id.clone())).collect();
            let question = "SELECT artifact, package_id, any(purl) FROM artifact_packages \
                            WHERE (artifact, package_id) IN ? AND purl != '' GROUP BY artifact, package_id";
            let found = self
                .until_done("artifact_packages", || {
                    self.database.rows::<3>("looking up purls", question, [Bind::Pairs(pairs.clone())])
                })
                .await;
            purls
                .extend(found.into_iter().map(|[artifact, package_id, purl]| ((artifact, package_id), purl)));
        }
        purls
    }

    async fn insert(&self, insert: &InsertStatement, rows: &Bytes, row_count: usize, token: Option<&str>) {
        self.until_done(insert.table, || async {
            let start = Instant::now();
            self.database.insert(insert, rows.clone(), token).await?;
            self.metrics.insert_seconds.with(&[insert.table]).observe(start.elapsed().as_secs_f64());
            Ok(())
        })
        .await;
        self.metrics.rows.with(&[insert.table]).inc_by(row_count as u64);
        self.metrics.bytes.with(&[insert.table]).inc_by(rows.len() as u64);
    }

    /// Tries a request again until it succeeds; meanwhile the sink is not ready.
    async fn until_done<T, F>(&self, table: &str, request: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, DatabaseError>>,
    {
        let mut failure = Failure { failing: &self.failing, counted: false, last_warning: None };
        let mut backoff = BACKOFF_MIN;
        loop {
            let outcome = {
                // The semaphore is never closed; without a permit the request goes all the same.
                let _permit = self.concurrent.acquire().await;
                request().await
            };
            match outcome {
                Ok(answer) => {
                    if failure.end() {
                        tracing::info!(table, "ClickHouse takes rows again");
                        self.readiness.ready();
                    }
                    return answer;
                }
                Err(error) => {
                    self.metrics.failed_inserts.with(&[table]).inc();
                    self.readiness.not_ready(error.to_string());
                    failure.begin(&error);
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

/// One request's failing, from its first failure to its success or to its being dropped.
struct Failure<'a> {
    failing: &'a AtomicUsize,
    counted: bool,
    last_warning: Option<Instant>,
}

impl Failure<'_> {
    fn begin(&mut self, error: &DatabaseError) {
        if !self.counted {
            self.counted = true;
            self.failing.fetch_add(1, Ordering::Relaxed);
        }
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            self.last_warning = Some(Instant::now());
            tracing::warn!("{error}; the rows are kept and sent again");
        }
    }

    /// Whether with this one the last failing ended.
    fn end(&mut self) -> bool {
        std::mem::take(&mut self.counted) && self.failing.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Rows of tombstones, and those of them whose purl is known.
fn encode_tombstones(
    tombstones: &[PackageTombstone],
    purls: &BTreeMap<(String, String), String>,
) -> (RowBinary, Vec<PackageTombstone>) {
    let mut rows = RowBinary::default();
    let mut known = Vec::new();
    for tombstone in tombstones {
        let purl = purls.get(&(tombstone.artifact.clone(), tombstone.package_id.clone()));
        write_package_tombstone(tombstone, purl.map_or("", String::as_str), &mut rows);
        if purl.is_some() {
            known.push(tombstone.clone());
        }
    }
    (rows, known)
}
