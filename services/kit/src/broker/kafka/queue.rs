//! One partition's queue of fetched records, read in batches straight from librdkafka.
//! Never outlives its consumer, and never drops an error between two records.
//!
//! rdkafka's own partition queue hands out one record a call and loses the offset of an end-of-partition event;
//! this one takes whole batches. All `unsafe` of the crate that reads records is here.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;

use crate::broker::types::{Headers, IncomingRecord, TopicPartition};

/// Records taken from librdkafka by one call.
const BATCH_MAX_RECORDS: usize = 512;

/// Wakes the thread that polls.
#[derive(Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    condvar: Condvar,
}

impl Signal {
    pub fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_one();
    }

    /// Waits until raised, at most `timeout`, and lowers it.
    pub fn wait(&self, timeout: Duration) {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.condvar.wait_timeout_while(raised, timeout, |raised| !*raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What librdkafka's threads touch when a queue gets its first record.
struct Wake {
    signal: Arc<Signal>,
    ready: AtomicBool,
}

unsafe extern "C" fn wake(_client: *mut native::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Wake` that `PartitionQueue` keeps boxed until it has taken the callback back.
    let wake = unsafe { &*opaque.cast::<Wake>() };
    wake.ready.store(true, Ordering::Release);
    wake.signal.raise();
}

/// What a queue gives.
pub(super) enum Fetched {
    Record(IncomingRecord),
    /// Everything up to this offset was given.
    End(i64),
    Failed(RDKafkaErrorCode, String),
}

/// A partition's queue. Drop it before its consumer.
pub(super) struct PartitionQueue {
    queue: NonNull<native::rd_kafka_queue_t>,
    partition: TopicPartition,
    wake: Box<Wake>,
}

// SAFETY: librdkafka's queues may be used from any thread; the raw pointer is only used through `&mut self`.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// The queue of `partition`, taken out of its consumer's common queue. Call it before the partition is assigned, so
    /// that no record goes to the common queue. `None`: the topic's name is not usable.
    ///
    /// # Safety
    /// `client` is a live consumer that outlives the queue.
    pub unsafe fn take(
        client: *mut native::rd_kafka_t,
        partition: &TopicPartition,
        signal: Arc<Signal>,
    ) -> Option<Self> {
        let topic = CString::new(&*partition.topic).ok()?;
        let number = i32::try_from(partition.partition).ok()?;
        let wake_state = Box::new(Wake { signal, ready: AtomicBool::new(true) });
        // SAFETY: the client is live (caller) and the name is a C string.
        let queue = unsafe { native::rd_kafka_queue_get_partition(client, topic.as_ptr(), number) };
        let queue = NonNull::new(queue)?;
        // SAFETY: the queue is live; the callback's state is boxed and lives until `drop` has taken the callback back.
        unsafe {
            native::rd_kafka_queue_forward(queue.as_ptr(), null_mut());
            let opaque = std::ptr::from_ref::<Wake>(&wake_state).cast_mut().cast::<c_void>();
            native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), opaque);
        }
        Some(Self { queue, partition: partition.clone(), wake: wake_state })
    }

    /// Whether something may be there.
    pub fn is_ready(&self) -> bool {
        self.wake.ready.load(Ordering::Acquire)
    }

    /// Takes what is there without waiting, at most `max_records`.
    pub fn drain(&mut self, max_records: usize, mut each: impl FnMut(Fetched)) {
        let mut left = max_records;
        let mut messages = [null_mut::<native::rd_kafka_message_t>(); BATCH_MAX_RECORDS];
        while left > 0 {
            // Lowered before looking, so that what comes after the look raises it again.
            self.wake.ready.store(false, Ordering::Release);
            let wanted = left.min(BATCH_MAX_RECORDS);
            // SAFETY: the queue is live and `messages` has room for `wanted` pointers.
            let got = unsafe {
                native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages.as_mut_ptr(), wanted)
            };
            let got = usize::try_from(got).unwrap_or(0).min(wanted);
            for message in &messages[..got] {
                // SAFETY: librdkafka gave us these messages; each is read once and then given back.
                unsafe {
                    each(self.read(*message));
                    native::rd_kafka_message_destroy(*message);
                }
            }
            left -= got;
            if got < wanted {
                return;
            }
        }
        self.wake.ready.store(true, Ordering::Release);
    }

    /// # Safety
    /// `message` is live.
    unsafe fn read(&self, message: *const native::rd_kafka_message_t) -> Fetched {
        // SAFETY: as by the caller.
        let content = unsafe { &*message };
        let code = RDKafkaErrorCode::from(content.err);
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::PartitionEOF => return Fetched::End(content.offset),
            code => {
                // SAFETY: the message is live; the text lives as long.
                let reason = unsafe {
                    let text = native::rd_kafka_message_errstr(message);
                    if text.is_null() {
                        code.to_string()
                    } else {
                        CStr::from_ptr(text).to_string_lossy().into_owned()
                    }
                };
                return Fetched::Failed(code, reason);
            }
        }
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live; key and payload are null or as long as said.
        unsafe {
            Fetched::Record(IncomingRecord {
                topic: self.partition.topic.clone(),
                partition: self.partition.partition,
                offset: content.offset,
                key: copy(content.key, content.key_len),
                value: copy(content.payload, content.len),
                headers: headers(message),
                timestamp_ms: native::rd_kafka_message_timestamp(message, &mut kind).max(0),
            })
        }
    }
}

/// # Safety
/// `data` is null or `length` bytes long.
unsafe fn copy(data: *const c_void, length: usize) -> Option<Bytes> {
    // SAFETY: as by the caller.
    (!data.is_null())
        .then(|| Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }))
}

/// # Safety
/// `message` is live.
unsafe fn headers(message: *const native::rd_kafka_message_t) -> Headers {
    let mut list = null_mut();
    let mut found = Headers::new();
    // SAFETY: the message is live and owns the list.
    if unsafe { native::rd_kafka_message_headers(message, &mut list) }
        != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    {
        return found;
    }
    loop {
        let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list is live; name and value are set when a header of that index exists.
        unsafe {
            let answer =
                native::rd_kafka_header_get_all(list, found.len(), &mut name, &mut value, &mut length);
            if answer != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            found.push((name, copy(value, length).map(Vec::from).unwrap_or_default()));
        }
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is live; after the first call no thread touches `wake` any more.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, null_mut());
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}
