//! Reads the ring buffer, and frees what was read only when told to: what an agent took but had not published when
//! it died is read again by the next one.
//! It must never free a record that was not acknowledged.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;

/// A mapped ring buffer. One reader at a time.
pub struct Ring {
    consumer: *mut u8,
    producer: *mut u8,
    producer_bytes: usize,
    page_bytes: usize,
    mask: u64,
    read: AtomicU64,
}

// SAFETY: the pointers are to shared mappings that live as long as the struct; positions are atomics.
unsafe impl Send for Ring {}
// SAFETY: as above; `drain` must be called from one thread, which `&mut` of its caller gives.
unsafe impl Sync for Ring {}

impl Ring {
    /// Maps the ring buffer `map` of `size_bytes`. Reading starts at what was acknowledged last.
    ///
    /// # Errors
    /// If mapping fails.
    pub fn new(map: BorrowedFd<'_>, size_bytes: u32) -> std::io::Result<Self> {
        let page_bytes = rustix::param::page_size();
        let size = size_bytes as usize;
        // SAFETY: new mappings at addresses that the kernel chooses; layout per the kernel's ringbuf.
        let (consumer, producer) = unsafe {
            let consumer = mmap(
                std::ptr::null_mut(),
                page_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )?;
            let producer = mmap(
                std::ptr::null_mut(),
                page_bytes + 2 * size,
                ProtFlags::READ,
                MapFlags::SHARED,
                map.as_fd(),
                page_bytes as u64,
            )?;
            (consumer.cast::<u8>(), producer.cast::<u8>())
        };
        let ring = Self {
            consumer,
            producer,
            producer_bytes: page_bytes + 2 * size,
            page_bytes,
            mask: u64::from(size_bytes) - 1,
            read: AtomicU64::new(0),
        };
        ring.read.store(ring.consumer_position().load(Ordering::Acquire), Ordering::Relaxed);
        Ok(ring)
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the first word of the consumer page, aligned, mapped as long as self.
        unsafe { &*self.consumer.cast::<AtomicU64>() }
    }

    fn producer_position(&self) -> &AtomicU64 {
        // SAFETY: the first word of the producer page, aligned, mapped as long as self.
        unsafe { &*self.producer.cast::<AtomicU64>() }
    }

    /// Gives every record that is complete to `each` until it returns `false`; returns the position behind the last.
    pub fn drain(&self, mut each: impl FnMut(&[u8], u64) -> bool) -> u64 {
        let mut position = self.read.load(Ordering::Relaxed);
        let end = self.producer_position().load(Ordering::Acquire);
        while position < end {
            let offset = (position & self.mask) as usize;
            // SAFETY: the data pages are mapped twice in a row, so that a record at the end is in one piece;
            // `offset` is below their size and records are 8-byte aligned.
            let header = unsafe { self.producer.add(self.page_bytes + offset) };
            // SAFETY: as above.
            let length = unsafe { &*header.cast::<AtomicU32>() }.load(Ordering::Acquire);
            if length & BUSY != 0 {
                break;
            }
            let bytes = u64::from(length & !(BUSY | DISCARDED));
            let next = position + (bytes + HEADER_BYTES).next_multiple_of(8);
            if length & DISCARDED == 0 {
                // SAFETY: the kernel wrote `bytes` bytes behind the header and does not touch them again before
                // the consumer position passes them.
                let record =
                    unsafe { std::slice::from_raw_parts(header.add(HEADER_BYTES as usize), bytes as usize) };
                if !each(record, next) {
                    break;
                }
            }
            position = next;
        }
        self.read.store(position, Ordering::Relaxed);
        position
    }

    /// Frees everything before `position`, which was published or counted as lost.
    pub fn acknowledge(&self, position: u64) {
        let acknowledged = self.consumer_position();
        if position > acknowledged.load(Ordering::Relaxed) {
            acknowledged.store(position, Ordering::Release);
        }
    }

    /// Everything was read and freed.
    pub fn is_empty(&self) -> bool {
        self.consumer_position().load(Ordering::Acquire) == self.producer_position().load(Ordering::Acquire)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: both were mapped by `new` and no reference into them outlives self.
        unsafe {
            let _ = munmap(self.consumer.cast(), self.page_bytes);
            let _ = munmap(self.producer.cast(), self.producer_bytes);
        }
    }
}
