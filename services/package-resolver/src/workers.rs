//! Threads that look into roots: one at a time for each root, so that a file system that hangs holds one thread.
//! Never lets one root keep the others waiting while there are threads, and never drops what it took.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_kit::metrics::Gauge;

use crate::deadline::Ticket;
use crate::resolver::{Query, Reply};
use crate::roots::Root;

/// Most paths that wait for one root.
const WAITING_MAX_PATHS: usize = 50_000;
/// Questions of one root that are answered before the next root's turn.
const TURN_MAX_JOBS: usize = 16;
/// Stack of a thread, in bytes.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// A question that waits for its root.
pub struct Job {
    /// The question.
    pub query: Arc<Query>,
    /// When it arrived.
    pub asked_at: Instant,
    /// Nobody will ask again.
    pub is_last: bool,
    /// Who wants to know.
    pub reply: Reply,
    /// Its deadline.
    pub ticket: Arc<Ticket>,
}

/// What waits for one root.
#[derive(Default)]
pub struct Waiting {
    jobs: VecDeque<Job>,
    paths: usize,
    /// The root waits for a thread, or has one.
    scheduled: bool,
}

impl Waiting {
    /// The paths of all questions that wait.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.jobs.iter().flat_map(|job| &job.query.paths).map(|asked| asked.path.as_slice())
    }
}

/// Too much waits for the root.
#[derive(Debug, thiserror::Error)]
#[error("{0} paths wait for the root's file system; ask again later")]
pub struct RootBusy(usize);

#[derive(Default)]
struct Schedule {
    ready: VecDeque<Arc<Root>>,
    running: usize,
}

/// See the module's documentation.
pub struct Workers {
    schedule: Mutex<Schedule>,
    freed: Condvar,
    max: usize,
    gauge: Gauge,
}

impl Workers {
    /// At most `max` threads.
    pub fn new(max: usize, gauge: Gauge) -> Self {
        Self { schedule: Mutex::default(), freed: Condvar::new(), max: max.max(1), gauge }
    }

    /// Puts a question behind the others of its root; `work` is called for each, in order. Never waits.
    ///
    /// # Errors
    /// [`RootBusy`]: the question was not taken.
    pub fn submit(
        self: &Arc<Self>,
        root: &Arc<Root>,
        job: Job,
        work: impl Fn(&Root, Job) + Send + Clone + 'static,
    ) -> Result<(), RootBusy> {
        let count = job.query.paths.len();
        let mut waiting = lock(&root.waiting);
        if waiting.paths > 0 && waiting.paths + count > WAITING_MAX_PATHS {
            return Err(RootBusy(waiting.paths));
        }
        waiting.paths += count;
        waiting.jobs.push_back(job);
        if std::mem::replace(&mut waiting.scheduled, true) {
            return Ok(());
        }
        drop(waiting);
        let mut schedule = self.lock();
        schedule.ready.push_back(root.clone());
        if schedule.running >= self.max {
            return Ok(());
        }
        schedule.running += 1;
        self.gauge.set(schedule.running as i64);
        drop(schedule);
        let workers = self.clone();
        let builder = std::thread::Builder::new().name("resolve".into()).stack_size(STACK_BYTES);
        if let Err(error) = builder.spawn(move || workers.run(&work)) {
            // Its turn comes with the next thread; until then deadlines answer.
            tracing::error!("no thread can be started for a root: {error}; lower resolver.max_workers");
            self.give_back(self.lock());
        }
        Ok(())
    }

    /// Waits until nothing is worked on; whether that came to pass.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let waited = self.freed.wait_timeout_while(self.lock(), timeout, |schedule| schedule.running > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn run(&self, work: &impl Fn(&Root, Job)) {
        loop {
            let mut schedule = self.lock();
            let Some(root) = schedule.ready.pop_front() else {
                self.give_back(schedule);
                return;
            };
            drop(schedule);
            if turn(&root, work) {
                self.lock().ready.push_back(root);
            }
        }
    }

    fn give_back(&self, mut schedule: MutexGuard<'_, Schedule>) {
        schedule.running -= 1;
        self.gauge.set(schedule.running as i64);
        drop(schedule);
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        lock(&self.schedule)
    }
}

/// One root's turn; whether it needs another.
fn turn(root: &Root, work: &impl Fn(&Root, Job)) -> bool {
    for _ in 0..TURN_MAX_JOBS {
        let mut waiting = lock(&root.waiting);
        let Some(job) = waiting.jobs.pop_front() else {
            waiting.scheduled = false;
            return false;
        };
        drop(waiting);
        let count = job.query.paths.len();
        work(root, job);
        lock(&root.waiting).paths -= count;
    }
    true
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
