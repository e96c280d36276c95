//! Brings a client back whose list of brokers ran empty.
//! Never asks while records come in, and never more often than each few seconds.
//!
//! librdkafka (2.12.1) forgets every broker that a metadata answer does not list. When the only broker is fenced for a
//! moment (it was suspended for longer than its session), the answer lists none; then nobody is left to ask, and the
//! client would stay deaf for ever: the same answer also stopped its timer for beginning anew from the bootstrap servers.

use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as native;

/// After this long without a word the brokers are asked whether they are there.
const QUIET: Duration = Duration::from_secs(5);
/// Least time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How long the brokers may take to answer before they are added again, in milliseconds.
const ANSWER_TIMEOUT_MS: i32 = 500;

pub(super) struct Revival {
    servers: CString,
    times: Mutex<Times>,
}

struct Times {
    /// When the client gave something last.
    heard: Instant,
    looked: Instant,
}

impl Revival {
    pub fn new(servers: &str) -> Self {
        let now = Instant::now();
        // A list with a zero byte was refused when the client was opened.
        let servers = CString::new(servers).unwrap_or_default();
        Self { servers, times: Mutex::new(Times { heard: now, looked: now }) }
    }

    /// Notes that the client gave something.
    pub fn heard(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).heard = Instant::now();
    }

    /// Whether nothing was heard for long.
    fn is_quiet(&self) -> bool {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).heard.elapsed() >= QUIET
    }

    /// Whether to look again; says so once in a while.
    pub fn is_due(&self) -> bool {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let due = times.looked.elapsed() >= LOOK_INTERVAL;
        if due {
            times.looked = Instant::now();
        }
        due
    }

    /// Looks after a client that gave nothing for long.
    ///
    /// # Safety
    /// `client` is live.
    pub unsafe fn look_if_quiet(&self, client: *mut native::rd_kafka_t) {
        if self.is_quiet() {
            // SAFETY: as by the caller.
            unsafe { self.look(client) };
        }
    }

    /// Asks for metadata, unless that was done lately, and adds the bootstrap servers again if nobody answers.
    ///
    /// # Safety
    /// `client` is live.
    pub unsafe fn look(&self, client: *mut native::rd_kafka_t) {
        if !self.is_due() {
            return;
        }
        let mut metadata = std::ptr::null();
        // SAFETY: the client is live; the answer is freed; the list of servers is copied by the client.
        unsafe {
            let answer = native::rd_kafka_metadata(
                client,
                0,
                std::ptr::null_mut(),
                &raw mut metadata,
                ANSWER_TIMEOUT_MS,
            );
            if answer == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                native::rd_kafka_metadata_destroy(metadata);
            } else {
                self.add(client);
            }
        }
    }

    /// Adds the bootstrap servers again; those that are known already are not added twice.
    ///
    /// # Safety
    /// `client` is live.
    pub unsafe fn add(&self, client: *mut native::rd_kafka_t) {
        tracing::debug!("no broker answers; beginning anew from the bootstrap servers");
        // SAFETY: the client is live and copies the list.
        unsafe { native::rd_kafka_brokers_add(client, self.servers.as_ptr()) };
    }
}
