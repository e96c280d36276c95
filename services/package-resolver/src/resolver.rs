//! The resolver: requests to answers, each on a thread that may hang alone, with a deadline for all.
//! Never answers before what is new was queued for publication, and never waits for a broker that is away.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_kit::clock;
use plimsoll_kit::metrics::{ByLabels, Counter, Gauge, Metrics};
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{PathQuery, ResolverReply};

use crate::answer::{self, Contents, Question};
use crate::config::ResolverSettings;
use crate::deadline::{Deadlines, Ticket};
use crate::index_cache::IndexCache;
use crate::published::Published;
use crate::publisher::Publisher;
use crate::roots::{Root, Roots};

/// How long an answer waits for its publication where the broker is there.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);
/// Stack of a worker, in bytes.
const WORKER_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Takes the reply to one request.
pub type Reply = Arc<dyn Fn(ResolverReply) + Send + Sync>;

/// A question about paths.
pub struct Query {
    /// Number that the reply repeats.
    pub request_id: u64,
    /// Artifact key.
    pub artifact: String,
    /// Workload whose root is meant.
    pub workload_id: String,
    /// The paths.
    pub paths: Vec<PathQuery>,
}

struct Meters {
    requests: ByLabels<Counter>,
    paths: ByLabels<Counter>,
    roots: Gauge,
    workers: Gauge,
}

/// See the module's documentation.
pub struct Resolver {
    settings: ResolverSettings,
    /// The roots that agents announced.
    pub(crate) roots: Roots,
    indexes: IndexCache,
    contents: Contents,
    published: Published,
    publisher: Arc<Publisher>,
    deadlines: Deadlines,
    workers: Workers,
    meters: Meters,
}

impl Resolver {
    /// A resolver that publishes through `publisher`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(
        settings: ResolverSettings,
        publisher: Arc<Publisher>,
        metrics: &Metrics,
    ) -> std::io::Result<Arc<Self>> {
        let patience = settings.request_deadline() / 2;
        Ok(Arc::new(Self {
            roots: Roots::new(settings.max_roots),
            indexes: IndexCache::new(settings.index_cache_max_bytes, patience, metrics),
            contents: Contents::new(settings.compared_file_max_bytes),
            published: Published::new(settings.published_max_entries),
            publisher,
            deadlines: Deadlines::start()?,
            workers: Workers::new(settings.max_workers),
            meters: Meters {
                requests: metrics.counter_with("requests", "Requests answered", &["outcome"]),
                paths: metrics.counter_with("paths", "Paths answered", &["state"]),
                roots: metrics.gauge("roots", "Roots held open"),
                workers: metrics.gauge("workers", "Requests worked on, stuck ones included"),
            },
            settings,
        }))
    }

    /// Answers `query` through `reply`, exactly once, at the latest when its time is up. Returns at once, or when a
    /// worker is free.
    pub fn resolve(self: &Arc<Self>, query: Query, reply: Reply) {
        let key = (query.artifact.clone(), query.workload_id.clone());
        let Some(root) = self.roots.get(&key) else {
            // Needs no file system: what is known is in memory.
            self.give(
                &query,
                &reply,
                self.without_root(&query, "the workload's root is not open"),
                "no_root",
            );
            return;
        };
        if root.stuck.load(Ordering::Acquire) > 0 {
            let reason =
                "an earlier request still waits for the root's file system or reads its package databases";
            self.give(&query, &reply, self.without_root(&query, reason), "stuck");
            return;
        }
        if !self.workers.take(self.settings.request_deadline()) {
            let reason = "all workers are busy or stuck in a file system";
            self.give(&query, &reply, self.without_root(&query, reason), "busy");
            return;
        }
        self.meters.workers.set(self.workers.running() as i64);
        let query = Arc::new(query);
        let ticket = self.ticket(&query, &root, &reply);
        let work = {
            let (resolver, query, reply, ticket) =
                (self.clone(), query.clone(), reply.clone(), ticket.clone());
            move || resolver.work(&query, &root, &reply, &ticket)
        };
        let builder = std::thread::Builder::new().name("resolve".into()).stack_size(WORKER_STACK_BYTES);
        if let Err(error) = builder.spawn(work) {
            self.workers.give_back();
            if ticket.settle() {
                let reason = format!("no thread can be started: {error}");
                self.give(&query, &reply, self.without_root(&query, &reason), "busy");
            }
        }
    }

    /// Waits until no request is under way; whether that came to pass.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.workers.wait_idle(timeout)
    }

    /// Keeps the gauge of open roots.
    pub(crate) fn count_roots(&self) {
        self.meters.roots.set(self.roots.count() as i64);
    }

    fn ticket(self: &Arc<Self>, query: &Arc<Query>, root: &Arc<Root>, reply: &Reply) -> Arc<Ticket> {
        let (resolver, query, root, reply) =
            (Arc::downgrade(self), query.clone(), Arc::downgrade(root), reply.clone());
        let timeout = self.settings.request_deadline();
        self.deadlines.issue(timeout, move || {
            let Some(resolver) = resolver.upgrade() else { return };
            if let Some(root) = root.upgrade() {
                root.stuck.fetch_add(1, Ordering::AcqRel);
            }
            tracing::warn!(
                artifact = query.artifact,
                workload_id = query.workload_id,
                "a request was not answered within {timeout:?}: the root's file system hangs, or its package \
                 databases take long to read"
            );
            let reason = format!(
                "not answered within {timeout:?}: its file system hangs, or its databases are being read"
            );
            resolver.give(&query, &reply, resolver.without_root(&query, &reason), "deadline");
        })
    }

    fn work(self: &Arc<Self>, query: &Query, root: &Root, reply: &Reply, ticket: &Ticket) {
        // A parser's fault in one artifact must not take the resolver down.
        let answered = std::panic::catch_unwind(AssertUnwindSafe(|| self.look(query, root)));
        let is_first = ticket.settle();
        if !is_first {
            root.stuck.fetch_sub(1, Ordering::AcqRel);
        }
        self.workers.give_back();
        self.meters.workers.set(self.workers.running() as i64);
        if !is_first {
            return;
        }
        match answered {
            Ok(entries) => self.give(query, reply, entries, "answered"),
            Err(_) => {
                let reason = "reading the root's package databases failed by a fault of the resolver";
                tracing::error!(artifact = query.artifact, workload_id = query.workload_id, "{reason}");
                self.give(query, reply, self.without_root(query, reason), "fault");
            }
        }
    }

    /// The answers from the root itself. May take as long as its file system does.
    fn look(&self, query: &Query, root: &Root) -> Vec<PackageOwnership> {
        let tree = match root.tree() {
            Ok(tree) => tree,
            Err(error) => {
                return self.without_root(query, &format!("the workload's root cannot be read: {error}"));
            }
        };
        let asked: Vec<&[u8]> = query.paths.iter().map(|asked| asked.path.as_slice()).collect();
        let found = self.indexes.find(&query.artifact, root, &tree, &asked);
        let question = Question {
            artifact: &query.artifact,
            root,
            tree: &tree,
            found: &found,
            contents: &self.contents,
            now_ms: clock::now_ms(),
        };
        asked.into_iter().map(|path| question.answer(path)).collect()
    }

    fn without_root(&self, query: &Query, reason: &str) -> Vec<PackageOwnership> {
        let known = self.indexes.known(&query.artifact);
        let now_ms = clock::now_ms();
        let answer = |asked: &PathQuery| {
            answer::without_root(&query.artifact, known.as_ref(), &asked.path, reason, now_ms)
        };
        query.paths.iter().map(answer).collect()
    }

    /// Publishes what is new of an answer, then gives it.
    fn give(&self, query: &Query, reply: &Reply, entries: Vec<PackageOwnership>, outcome: &str) {
        let may_wait = outcome == "answered";
        if let Err(error) = self.publish(&entries, may_wait) {
            self.meters.requests.with(&["queue_full"]).inc();
            tracing::warn!(artifact = query.artifact, "a request fails: {error}");
            reply(ResolverReply::Failed { request_id: query.request_id, reason: error.to_string() });
            return;
        }
        self.meters.requests.with(&[outcome]).inc();
        for entry in &entries {
            self.meters.paths.with(&[entry.state.as_str()]).inc();
        }
        reply(ResolverReply::Ownership { request_id: query.request_id, entries });
    }

    fn publish(
        &self,
        entries: &[PackageOwnership],
        may_wait: bool,
    ) -> Result<(), crate::publisher::QueueFull> {
        let mut new = self.published.take_new(entries);
        new.retain(answer::is_publishable);
        if new.is_empty() {
            return Ok(());
        }
        match self.publisher.publish(new.clone()) {
            Ok(receipt) => {
                if may_wait {
                    self.publisher.wait(receipt, PUBLISH_WAIT);
                }
                Ok(())
            }
            Err(full) => {
                self.published.take_back(&new);
                Err(full)
            }
        }
    }
}

/// Counts the requests that are worked on.
struct Workers {
    running: AtomicUsize,
    max: usize,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Workers {
    fn new(max: usize) -> Self {
        Self { running: AtomicUsize::new(0), max: max.max(1), lock: Mutex::new(()), freed: Condvar::new() }
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Waits for a free worker; `false`: there was none in time.
    fn take(&self, timeout: Duration) -> bool {
        self.wait(timeout, |running| running < self.max, true)
    }

    fn give_back(&self) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.running.fetch_sub(1, Ordering::AcqRel);
        drop(guard);
        self.freed.notify_all();
    }

    fn wait_idle(&self, timeout: Duration) -> bool {
        self.wait(timeout, |running| running == 0, false)
    }

    fn wait(&self, timeout: Duration, is_met: impl Fn(usize) -> bool, take: bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !is_met(self.running()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.freed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if take {
            self.running.fetch_add(1, Ordering::AcqRel);
        }
        true
    }
}
