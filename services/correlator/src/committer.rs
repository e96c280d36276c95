//! The thread that owns the producer: sends and commits sealed batches, then writes them to the local store.
//! It must never write to the store what is not committed, nor go on after a commit that failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, BrokerResult, CommittedOffset, GroupMetadata, OutgoingRecord,
    Producer, ProducerOptions, TopicPartition, TransactionOffsets,
};
use plimsoll_kit::clock;

use crate::error::CorrelatorError;
use crate::store::{Position, Store, StoreError, Write, position_write};

/// How often the position of a partition is moved on in the store: bounds what a crash must read again.
const POSITION_INTERVAL: Duration = Duration::from_secs(2);
/// How long taking over the transactional id may take before it is reported and tried again.
const INIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long giving a transaction up may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the producer's queue may stay full before the transaction is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// One transaction, ready to be sent.
pub(crate) struct Sealed {
    pub records: Vec<OutgoingRecord>,
    pub offsets: Vec<CommittedOffset>,
    pub group: GroupMetadata,
    /// What goes to the store after the commit.
    pub writes: Vec<Write>,
    /// Partitions that `writes` are of.
    pub partitions: Vec<u32>,
}

enum Job {
    Commit(Sealed),
    /// A transaction that is to be aborted.
    Abandon(Vec<OutgoingRecord>),
    /// Nothing is under way: the position can move to the end.
    Checkpoint(Vec<u32>),
    NewProducer,
}

/// What came of a job.
pub(crate) enum Outcome {
    Done,
    Failed(BrokerError),
    StoreFailed(StoreError),
}

/// The handle of the thread. At most one job is under way.
pub(crate) struct Committer {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<std::thread::JoinHandle<()>>,
    busy: bool,
}

/// What the thread works with.
pub(crate) struct Setup {
    pub broker: Arc<dyn Broker>,
    pub store: Arc<dyn Store>,
    pub options: ProducerOptions,
    pub state_topic: Arc<str>,
    pub commit_timeout: Duration,
}

impl Committer {
    pub fn start(setup: Setup) -> Self {
        let (jobs, inbox) = bounded(1);
        let (outbox, outcomes) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("correlator-commit".into())
            .spawn(move || Worker { setup, producer: None, positions: Vec::new() }.run(&inbox, &outbox));
        // Without a thread the first job finds the channel closed, which ends the service with an error.
        Self { jobs: Some(jobs), outcomes, thread: thread.ok(), busy: false }
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands a batch over. Only when not busy.
    pub fn commit(&mut self, sealed: Sealed) -> Result<(), CorrelatorError> {
        self.give(Job::Commit(sealed))
    }

    /// Sends records in a transaction and aborts it. Only when not busy.
    pub fn abandon(&mut self, records: Vec<OutgoingRecord>) -> Result<Outcome, CorrelatorError> {
        self.give(Job::Abandon(records))?;
        self.wait()
    }

    /// Moves the stored positions to the ends of the state partitions, which hold nothing but what is stored.
    pub fn checkpoint(&mut self, partitions: Vec<u32>) -> Result<Outcome, CorrelatorError> {
        self.give(Job::Checkpoint(partitions))?;
        self.wait()
    }

    /// Replaces the producer and takes over the transactional id: ends whatever its predecessor left open.
    pub fn new_producer(&mut self) -> Result<Outcome, CorrelatorError> {
        self.give(Job::NewProducer)?;
        self.wait()
    }

    fn give(&mut self, job: Job) -> Result<(), CorrelatorError> {
        let jobs = self.jobs.as_ref().ok_or(CorrelatorError::CommitterGone)?;
        jobs.send(job).map_err(|_| CorrelatorError::CommitterGone)?;
        self.busy = true;
        Ok(())
    }

    /// Waits for the job under way.
    pub fn wait(&mut self) -> Result<Outcome, CorrelatorError> {
        let outcome = self.outcomes.recv().map_err(|_| CorrelatorError::CommitterGone)?;
        self.busy = false;
        Ok(outcome)
    }

    /// The outcome, if there is one within `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Option<Outcome> {
        let outcome = self.outcomes.recv_timeout(timeout).ok()?;
        self.busy = false;
        Some(outcome)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed by its hook; nothing is left to do about it.
            let _ = thread.join();
        }
    }
}

struct Worker {
    setup: Setup,
    producer: Option<Box<dyn Producer>>,
    /// When the position of a partition was moved last.
    positions: Vec<(u32, Instant)>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Job>, outbox: &Sender<Outcome>) {
        for job in inbox {
            let outcome = match job {
                Job::Commit(sealed) => self.commit(sealed),
                Job::Abandon(records) => match self.abandon(&records) {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Failed(error),
                },
                Job::Checkpoint(partitions) => self.checkpoint(&partitions),
                Job::NewProducer => match self.new_producer() {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Failed(error),
                },
            };
            if outbox.send(outcome).is_err() {
                return;
            }
        }
    }

    fn new_producer(&mut self) -> BrokerResult<()> {
        // The old one first: two of one id would fence each other.
        self.producer = None;
        let mut producer = self.setup.broker.producer(self.setup.options.clone())?;
        producer.init_transactions(INIT_TIMEOUT)?;
        self.producer = Some(producer);
        Ok(())
    }

    fn commit(&mut self, sealed: Sealed) -> Outcome {
        let Sealed { records, offsets, group, mut writes, partitions } = sealed;
        // Read before anything of this batch is sent: all before it is committed and stored.
        writes.extend(self.due_positions(&partitions));
        if let Err(error) = self.transact(&records, TransactionOffsets { offsets, group }) {
            return Outcome::Failed(error);
        }
        match self.setup.store.write(&writes) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::StoreFailed(error),
        }
    }

    fn transact(&mut self, records: &[OutgoingRecord], offsets: TransactionOffsets) -> BrokerResult<()> {
        let Some(producer) = self.producer.as_mut() else {
            return Err(BrokerError::new(BrokerErrorKind::AbortTransaction, "there is no producer yet"));
        };
        let done = producer.begin_transaction().and_then(|()| {
            records.iter().try_for_each(|record| send(producer.as_mut(), record))?;
            producer.commit_transaction(Some(offsets), self.setup.commit_timeout)
        });
        let Err(error) = done else { return Ok(()) };
        let lost = matches!(
            error.kind(),
            BrokerErrorKind::OutcomeUnknown | BrokerErrorKind::Fenced | BrokerErrorKind::Fatal
        );
        if lost || producer.abort_transaction(ABORT_TIMEOUT).is_err() {
            self.producer = None;
        }
        Err(error)
    }

    fn abandon(&mut self, records: &[OutgoingRecord]) -> BrokerResult<()> {
        let Some(producer) = self.producer.as_mut() else {
            return Err(BrokerError::new(BrokerErrorKind::AbortTransaction, "there is no producer yet"));
        };
        producer.begin_transaction()?;
        records.iter().try_for_each(|record| send(producer.as_mut(), record))?;
        // What is not delivered yet would be dropped, and its partition would not hear of the end.
        producer.flush(self.setup.commit_timeout)?;
        producer.abort_transaction(ABORT_TIMEOUT)
    }

    /// Positions that are due to be moved on, with the ends of the state partitions as they are now.
    fn due_positions(&mut self, partitions: &[u32]) -> Vec<Write> {
        let mut writes = Vec::new();
        for partition in partitions {
            let known = self.positions.iter().position(|(number, _)| number == partition);
            if known.is_some_and(|at| self.positions[at].1.elapsed() < POSITION_INTERVAL) {
                continue;
            }
            if let Ok(write) = self.end_position(*partition) {
                writes.push(write);
                self.positions.retain(|(number, _)| number != partition);
                self.positions.push((*partition, Instant::now()));
            }
        }
        writes
    }

    fn end_position(&self, partition: u32) -> BrokerResult<Write> {
        let state = TopicPartition::new(self.setup.state_topic.clone(), partition);
        let offset = self.setup.broker.watermarks(&state)?.high;
        Ok(position_write(partition, Position { offset, written_at_ms: clock::now_ms() }))
    }

    fn checkpoint(&mut self, partitions: &[u32]) -> Outcome {
        let writes: BrokerResult<Vec<Write>> =
            partitions.iter().map(|partition| self.end_position(*partition)).collect();
        let writes = match writes {
            Ok(writes) => writes,
            Err(error) => return Outcome::Failed(error),
        };
        match self.setup.store.write(&writes).and_then(|()| self.setup.store.sync()) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::StoreFailed(error),
        }
    }
}

/// Sends, waiting for room in the bounded queue.
fn send(producer: &mut dyn Producer, record: &OutgoingRecord) -> BrokerResult<()> {
    let deadline = Instant::now() + SEND_TIMEOUT;
    loop {
        match producer.send(record) {
            Err(error) if error.kind() == BrokerErrorKind::QueueFull && Instant::now() < deadline => {}
            done => return done,
        }
    }
}
