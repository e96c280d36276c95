//! The memory broker's producer: appends at once, ends transactions, is fenced by its successor.
//! Never reports a commit that did not take effect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OpenTransaction, PARTITION_MAX_BYTES, RECORD_MAX_BYTES, Shared, State, Unheard};
use crate::broker::types::{
    GroupMetadata, IncomingRecord, OutgoingRecord, ProducerOptions, TopicPartition, TransactionOffsets,
};
use crate::broker::{BrokerError, BrokerErrorKind, BrokerResult, Producer};
use crate::clock::now_ms;

/// What `GroupMetadata` holds for the memory broker.
pub(super) struct MemoryGroupMetadata {
    pub group: String,
    pub member: u64,
    pub generation: u64,
}

pub(super) struct MemoryProducer {
    shared: Arc<Shared>,
    options: ProducerOptions,
    epoch: Option<u64>,
}

impl MemoryProducer {
    pub fn new(shared: Arc<Shared>, options: ProducerOptions) -> Self {
        Self { shared, options, epoch: None }
    }

    fn transactional_id(&self) -> BrokerResult<&str> {
        self.options.transactional_id.as_deref().ok_or_else(|| {
            BrokerError::new(
                BrokerErrorKind::Misuse,
                "this producer has no transactional id; open it by ProducerOptions::transactional",
            )
        })
    }

    /// Refuses a producer whose id was taken over.
    fn check_epoch(&self, state: &mut State) -> BrokerResult<()> {
        state.expire_transactions(Instant::now());
        let id = self.transactional_id()?;
        if self.epoch.is_some() && state.transactional.get(id).map(|t| t.epoch) == self.epoch {
            return Ok(());
        }
        Err(BrokerError::new(
            BrokerErrorKind::Fenced,
            format_args!("memory broker: transactional id {id} was taken over or its transaction timed out"),
        ))
    }

    /// Waits for the broker to be available, at most `timeout`.
    fn available(&self, timeout: Duration) -> BrokerResult<std::sync::MutexGuard<'_, State>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match state.check_available() {
                Ok(()) => return Ok(state),
                Err(error) if left.is_zero() => return Err(error),
                Err(_) => state = self.shared.wait(state, left),
            }
        }
    }
}

impl Producer for MemoryProducer {
    fn send(&mut self, record: &OutgoingRecord) -> BrokerResult<()> {
        let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let size_bytes = record.size_bytes();
        if size_bytes > RECORD_MAX_BYTES {
            return Err(BrokerError::new(
                BrokerErrorKind::RecordTooLarge,
                format_args!(
                    "a record for {partition} has {size_bytes} bytes, more than {RECORD_MAX_BYTES}; split it into chunks"
                ),
            ));
        }
        let mut state = self.available(self.options.max_block).map_err(|error| {
            BrokerError::new(BrokerErrorKind::QueueFull, format_args!("{partition}: {error}"))
        })?;
        if let Some(Some(kind)) = state.send_faults.pop_front() {
            return Err(BrokerError::new(kind, format_args!("{partition}: fault asked for by a test")));
        }
        let number = match &self.options.transactional_id {
            None => None,
            Some(id) => {
                self.check_epoch(&mut state)?;
                let open = state.transactional.get_mut(id).and_then(|t| t.open.as_mut());
                let open = open.ok_or_else(|| {
                    BrokerError::new(
                        BrokerErrorKind::Misuse,
                        format_args!(
                            "send to {partition} outside a transaction; call begin_transaction first"
                        ),
                    )
                })?;
                if !open.touched.contains(&partition) {
                    open.touched.push(partition.clone());
                }
                Some(open.number)
            }
        };
        let deadline = Instant::now() + self.options.max_block;
        while state.log(&partition)?.size_bytes() > PARTITION_MAX_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(BrokerError::new(
                    BrokerErrorKind::QueueFull,
                    format_args!(
                        "{partition} holds more than {PARTITION_MAX_BYTES} bytes that its readers have not taken"
                    ),
                ));
            }
            state = self.shared.wait(state, left);
        }
        let incoming = IncomingRecord {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: 0,
            key: Some(record.key.clone()),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp_ms: record.timestamp_ms.unwrap_or_else(now_ms),
        };
        state.append(&partition, incoming, number)?;
        drop(state);
        if number.is_none() {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn flush(&mut self, _timeout: Duration) -> BrokerResult<()> {
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn init_transactions(&mut self, timeout: Duration) -> BrokerResult<()> {
        let id = self.transactional_id()?.to_owned();
        let mut state = self.available(timeout)?;
        state.end_transaction(&id, false);
        let entry = state.transactional.entry(id).or_default();
        entry.epoch += 1;
        let epoch = entry.epoch;
        drop(state);
        self.epoch = Some(epoch);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn begin_transaction(&mut self) -> BrokerResult<()> {
        let id = self.transactional_id()?.to_owned();
        if self.epoch.is_none() {
            self.init_transactions(self.options.transaction_timeout)?;
        }
        let mut state = self.shared.lock();
        self.check_epoch(&mut state)?;
        let number = state.next_number();
        let expires = Instant::now() + self.options.transaction_timeout;
        let entry = state.transactional.entry(id).or_default();
        if entry.open.is_some() {
            return Err(BrokerError::new(
                BrokerErrorKind::Misuse,
                "a transaction is open already; commit or abort it before the next begin",
            ));
        }
        entry.open = Some(OpenTransaction { number, touched: Vec::new(), expires });
        Ok(())
    }

    fn commit_transaction(
        &mut self,
        offsets: Option<TransactionOffsets>,
        timeout: Duration,
    ) -> BrokerResult<()> {
        let id = self.transactional_id()?.to_owned();
        let mut state = self.available(timeout).map_err(|error| {
            BrokerError::new(
                BrokerErrorKind::OutcomeUnknown,
                format_args!("commit of transactional id {id}: {error}; open a new producer and read the committed offsets"),
            )
        })?;
        self.check_epoch(&mut state)?;
        if state.transactional.get(&id).is_none_or(|t| t.open.is_none()) {
            return Err(BrokerError::new(BrokerErrorKind::Misuse, "commit without begin_transaction"));
        }
        let fault = state.commit_faults.pop_front();
        if let Some(fault) = &fault
            && !fault.applied
        {
            return Err(BrokerError::new(
                fault.kind,
                format_args!("commit of {id}: fault asked for by a test"),
            ));
        }
        let forgotten = state.forget_next_end.take();
        if let Some(TransactionOffsets { offsets, group }) = offsets {
            let metadata = memory_metadata(&group)?;
            let found = state.groups.get_mut(&metadata.group);
            match found.filter(|group| group.accepts(metadata.member, metadata.generation)) {
                Some(group) if matches!(forgotten, Some(Unheard::Everywhere)) => {
                    group.unsettled.extend(offsets);
                }
                Some(group) => {
                    // The end of this transaction is that of the forgotten one too.
                    let ended = std::mem::take(&mut group.unsettled).into_iter().chain(offsets);
                    group.committed.extend(ended.map(|offset| (offset.partition.clone(), offset)));
                }
                None => {
                    return Err(BrokerError::new(
                        BrokerErrorKind::AbortTransaction,
                        format_args!(
                            "group {} has gone on without this member; abort, and read on after the next assignment",
                            metadata.group
                        ),
                    ));
                }
            }
        }
        match forgotten {
            Some(unheard) => state.forget_transaction(&id, &unheard, true),
            None => state.end_transaction(&id, true),
        }
        drop(state);
        self.shared.changed.notify_all();
        match fault {
            Some(fault) => {
                Err(BrokerError::new(fault.kind, format_args!("commit of {id}: fault asked for by a test")))
            }
            None => Ok(()),
        }
    }

    fn abort_transaction(&mut self, timeout: Duration) -> BrokerResult<()> {
        let id = self.transactional_id()?.to_owned();
        let mut state = self.available(timeout)?;
        self.check_epoch(&mut state)?;
        match state.forget_next_end.take() {
            Some(unheard) => state.forget_transaction(&id, &unheard, false),
            None => state.end_transaction(&id, false),
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

fn memory_metadata(group: &GroupMetadata) -> BrokerResult<&MemoryGroupMetadata> {
    group.inner.downcast_ref::<MemoryGroupMetadata>().ok_or_else(|| {
        BrokerError::new(BrokerErrorKind::Misuse, "this group metadata belongs to another broker")
    })
}
