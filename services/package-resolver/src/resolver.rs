//! The resolver: questions to answers, from a root that may hang, with a deadline for each.
//! Never answers before what is new was queued for publication, and never waits for a broker that is away.
//!
//! What a root tells only after the deadline is published all the same: the agent has gone on, the join has not.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_catalog::tree::path as paths;
use plimsoll_catalog::{DirectoryTree, FileTree as _};
use plimsoll_kit::clock;
use plimsoll_kit::metrics::{ByLabels, Counter, Gauge, Metrics};
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{PathQuery, ResolverReply};
use plimsoll_schemas::words::{archive_elsewhere, copied_file_of, java_package_of, ownership_state};

use crate::answer::{self, Question};
use crate::config::ResolverSettings;
use crate::contents::Contents;
use crate::deadline::{Deadlines, Ticket};
use crate::index_cache::{Archives, IndexCache};
use crate::published::Published;
use crate::publisher::{Publisher, QueueFull};
use crate::roots::{Key, Root, Roots};
use crate::workers::{Job, Workers};

/// How long an answer waits for its publication where the broker is there.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

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
    workers: Arc<Workers>,
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
        let workers = metrics.gauge("workers", "Threads that look into roots, stuck ones included");
        Ok(Arc::new(Self {
            roots: Roots::new(settings.max_roots, settings.near),
            indexes: IndexCache::new(settings.index_cache_max_bytes, patience, metrics),
            contents: Contents::new(settings.compared_file_max_bytes),
            published: Published::new(settings.published_max_entries),
            publisher,
            deadlines: Deadlines::start()?,
            workers: Arc::new(Workers::new(settings.max_workers, workers)),
            meters: Meters {
                requests: metrics.counter_with("requests", "Requests answered", &["outcome"]),
                paths: metrics.counter_with("paths", "Paths answered", &["state"]),
                roots: metrics.gauge("roots", "Roots held open"),
            },
            settings,
        }))
    }

    /// Answers `query` through `reply`, exactly once, at the latest when its time is up. Returns at once.
    pub fn resolve(self: &Arc<Self>, query: Query, reply: &Reply) {
        let key = (query.artifact.clone(), query.workload_id.clone());
        let Some(root) = self.roots.get(&key) else {
            // Needs no file system: what is known is in memory.
            let entries = self.without_root(&query, "the workload's root is not open");
            self.give(&query, reply, entries, "no_root");
            return;
        };
        self.submit(query, &root, reply, false);
    }

    /// Answers the Java packages of the roots of one connection, or of all, once more: nobody will ask again.
    pub fn answer_rest(self: &Arc<Self>, connection: Option<u64>) {
        for (key, root) in self.roots.of(connection) {
            self.answer_once_more(&key, &root);
        }
    }

    /// Forgets a root, once its Java packages are on their way once more.
    pub fn close(self: &Arc<Self>, key: &Key) {
        if let Some(root) = self.roots.get(key) {
            self.answer_once_more(key, &root);
            self.roots.close(key);
        }
        self.count_roots();
    }

    /// Those with an answer, too: the agent tells one class of each, and archives that came later may have brought another.
    fn answer_once_more(self: &Arc<Self>, key: &Key, root: &Arc<Root>) {
        let mut paths = root.doubted.all();
        // Of a host it would mean walking all of it once more.
        if root.component || root.is_replica {
            paths.extend(root.asked.all());
        }
        let paths = paths.into_iter().map(|path| PathQuery { path, ..PathQuery::default() });
        let (artifact, workload_id) = key.clone();
        let query = Query { request_id: 0, artifact, workload_id, paths: paths.collect() };
        if !query.paths.is_empty() {
            let (resolver, artifact) = (self.clone(), query.artifact.clone());
            // It is published; who asked is gone.
            let nobody: Reply = Arc::new(move |reply| {
                if let ResolverReply::Failed { reason, .. } = reply {
                    resolver.meters.requests.with(&["last_failed"]).inc();
                    tracing::error!(
                        artifact,
                        reason,
                        "the last answers about Java packages and files in doubt are not published"
                    );
                }
            });
            self.submit(query, root, &nobody, true);
        }
    }

    fn submit(self: &Arc<Self>, query: Query, root: &Arc<Root>, reply: &Reply, is_last: bool) {
        let query = Arc::new(query);
        let asked_at = Instant::now();
        let ticket = self.ticket(&query, root, reply);
        let is_overdue = root.overdue.load(Ordering::Acquire);
        let job =
            Job { query: query.clone(), asked_at, is_last, reply: reply.clone(), ticket: ticket.clone() };
        let resolver = self.clone();
        let submitted = self.workers.submit(root, job, move |root, job| resolver.work(root, &job));
        match submitted {
            // Kept all the same, so that it is published once the root answers.
            Ok(()) if is_overdue && ticket.settle() => {
                let reason = "an earlier request still waits for the root's file system, or for its package \
                              databases to be read";
                self.give(&query, reply, self.without_root(&query, reason), "overdue");
            }
            Err(busy) if ticket.settle() => {
                self.meters.requests.with(&["busy"]).inc();
                reply(ResolverReply::Failed { request_id: query.request_id, reason: busy.to_string() });
            }
            _ => {}
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
                root.overdue.store(true, Ordering::Release);
                resolver.tell_late(&query, &root);
            }
            let reason = format!(
                "not answered within {timeout:?}: its file system hangs, or its databases are being read"
            );
            resolver.give(&query, &reply, resolver.without_root(&query, &reason), "deadline");
        })
    }

    fn tell_late(&self, query: &Query, root: &Root) {
        let told = root.late.lock().unwrap_or_else(PoisonError::into_inner).add(Instant::now());
        let Some(count) = told else { return };
        let timeout = self.settings.request_deadline();
        let message = format!(
            "{count} requests about a root were not answered within {timeout:?}: its file system hangs, or its package \
             databases are being read; their paths are unresolved until then. If it goes on, look whether a network or \
             FUSE file system of the workload hangs, or raise resolver.request_deadline_ms"
        );
        // Whoever runs a command is told at its end, if something is still open then.
        if self.settings.near {
            tracing::info!(artifact = query.artifact, workload_id = query.workload_id, "{message}");
        } else {
            tracing::warn!(artifact = query.artifact, workload_id = query.workload_id, "{message}");
        }
    }

    fn work(&self, root: &Root, job: &Job) {
        let Job { query, asked_at, is_last, reply, ticket } = job;
        // A parser's fault in one artifact must not take the resolver down.
        let answered =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.look(query, root, *asked_at, *is_last)));
        root.overdue.store(false, Ordering::Release);
        let is_late = !ticket.settle();
        match answered {
            Ok(entries) if is_late => {
                self.meters.requests.with(&["late"]).inc();
                if let Err(error) = self.publish(&entries, false) {
                    tracing::warn!(artifact = query.artifact, "a late answer is not published: {error}");
                }
            }
            Ok(entries) => self.give(query, reply, entries, "answered"),
            Err(_) => {
                let reason = "reading the root's package databases failed by a fault of the resolver";
                tracing::error!(artifact = query.artifact, workload_id = query.workload_id, "{reason}");
                if !is_late {
                    self.give(query, reply, self.without_root(query, reason), "fault");
                }
            }
        }
    }

    /// The answers from the root itself. May take as long as its file system does.
    fn look(&self, query: &Query, root: &Root, asked_at: Instant, is_last: bool) -> Vec<PackageOwnership> {
        let tree = match root.tree() {
            Ok(tree) => tree,
            Err(error) => {
                return self.without_root(query, &format!("the workload's root cannot be read: {error}"));
            }
        };
        let asked: Vec<&[u8]> = query.paths.iter().map(|asked| asked.path.as_slice()).collect();
        // Java packages lie near nothing: they are asked of whatever index has the archives of that time.
        let (files, java_packages): (Vec<&[u8]>, Vec<&[u8]>) =
            asked.iter().copied().partition(|path| java_package_of(path).is_none());
        // Nor do copies.
        let is_place = |path: &&[u8]| copied_file_of(path).is_none() && archive_elsewhere(path).is_none();
        let files: Vec<&[u8]> = files.into_iter().filter(is_place).collect();
        let host = root.component.then(|| self.roots.host_of(&query.workload_id)).flatten();
        if let Some(host) = &host {
            add_sites(host, &tree, &files);
        }
        let until = java_packages.iter().map(|path| root.asked.since(path, asked_at)).max();
        let archives = until.map(|until| Archives { until, is_last });
        let found = self.indexes.find(&query.artifact, root, &tree, &files, archives);
        let question = Question {
            artifact: &query.artifact,
            root,
            host: host.as_deref(),
            tree: &tree,
            found: &found,
            contents: &self.contents,
            asked_at,
            now_ms: clock::now_ms(),
        };
        let mut entries: Vec<PackageOwnership> =
            query.paths.iter().map(|asked| question.answer(asked)).collect();
        self.leave_to_component(query, &question, &mut entries);
        // What was known of them says nothing about the archives of now.
        let is_outdated = |entry: &&PackageOwnership| {
            let is_unknown = entry.state == ownership_state::UNRESOLVED && entry.owners.is_empty();
            is_unknown && java_package_of(&entry.path).is_some() && root.asked.is_new(&entry.path, asked_at)
        };
        self.published.take_back(entries.iter().filter(is_outdated));
        entries
    }

    /// What the component has unpacked to a place of the host is the component's, not a package of the host.
    fn leave_to_component(&self, query: &Query, question: &Question<'_>, entries: &mut [PackageOwnership]) {
        let mut component = None;
        for entry in entries {
            let Some((file, stat)) = question.made_on_host(entry) else { continue };
            let of_component = component.get_or_insert_with(|| {
                let (artifact, root) = self.roots.component_of(&query.workload_id)?;
                let tree = root.tree().ok()?;
                let found = self.indexes.find(&artifact, &root, &tree, &[], None);
                Some((found, tree, root))
            });
            let Some((found, tree, root)) = of_component else { return };
            let own = Question { root: &*root, tree: &*tree, found: &*found, host: None, ..*question };
            if !own.equal_members(&file, &stat).is_empty() {
                entry.owners.clear();
                ownership_state::UNOWNED.clone_into(&mut entry.state);
                "unpacked from an archive of the component".clone_into(&mut entry.reason);
            }
        }
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
        // The threads of connections and deadlines must not wait.
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

    fn publish(&self, entries: &[PackageOwnership], may_wait: bool) -> Result<(), QueueFull> {
        let new = self.published.take_new(entries.iter().filter(|entry| answer::is_publishable(entry)));
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

/// An interpreter's packages in a component's directory can name files of the host outside of it.
fn add_sites(host: &Root, component: &DirectoryTree, files: &[&[u8]]) {
    let place = paths::normalize(component.root_path());
    let Ok(tree) = host.tree() else { return };
    let Some(surroundings) = &mut *host.near() else { return };
    for file in files.iter().filter(|_| !place.is_empty()) {
        surroundings.add_site_of(&tree, &paths::join(&place, file));
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
