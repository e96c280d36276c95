//! Stands in for the eBPF side in builds without it.
//! It must never pretend to observe: opening always fails.

use super::event::KernelEvent;
use super::wire::{Tracked, WorkloadEntry};
use super::{EbpfConfig, EbpfError, MissingPart};

/// Cannot be made.
pub enum Kernel {}

/// Cannot be made.
pub enum ExecWaiter {}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Kernel {
    pub fn open(_config: &EbpfConfig) -> Result<Self, EbpfError> {
        Err(EbpfError::BuiltWithout)
    }
    pub fn was_pinned(&self) -> bool {
        match *self {}
    }
    pub fn is_pinned(&self) -> bool {
        match *self {}
    }
    pub fn attach(&mut self) -> Result<(), EbpfError> {
        match *self {}
    }
    pub fn instance_id(&self) -> &str {
        match *self {}
    }
    pub fn missing(&self) -> &[MissingPart] {
        match *self {}
    }
    pub fn unpin(&self) {
        match *self {}
    }
    pub fn drain(&self, _each: impl FnMut(Option<KernelEvent>, u64) -> bool) -> u64 {
        match *self {}
    }
    pub fn exec_waiter(&self) -> std::io::Result<ExecWaiter> {
        match *self {}
    }
    pub fn wait_for_exec(&self, _waiter: &ExecWaiter, _timeout: std::time::Duration) -> bool {
        match *self {}
    }
    pub fn acknowledge(&self, _position: u64) {
        match *self {}
    }
    pub fn workload(&self, _id: u64) -> Option<WorkloadEntry> {
        match *self {}
    }
    pub fn workloads(&self) -> Vec<(u64, WorkloadEntry)> {
        match *self {}
    }
    pub fn put_workload(&self, _id: u64, _entry: &WorkloadEntry) -> bool {
        match *self {}
    }
    pub fn note(&self, _id: u64, _text: &[u8]) {
        match *self {}
    }
    pub fn noted(&self, _id: u64) -> Option<Vec<u8>> {
        match *self {}
    }
    pub fn ignore_workload(&self, _id: u64) {
        match *self {}
    }
    pub fn remove_workload(&self, _id: u64) {
        match *self {}
    }
    pub fn track(&self, _pid: u32, _tracked: &Tracked) -> bool {
        match *self {}
    }
    pub fn tracked(&self, _pid: u32) -> Option<Tracked> {
        match *self {}
    }
    pub fn all_tracked(&self) -> std::collections::HashMap<u32, Tracked> {
        match *self {}
    }
    pub fn live_images(&self) -> std::collections::HashSet<u64> {
        match *self {}
    }
    pub fn set_clock(&self) {
        match *self {}
    }
    pub fn set_verdict(&self, _command_hash: u64, _reader: u32) {
        match *self {}
    }
    pub fn forget(&self, _workload: u64) {
        match *self {}
    }
    pub fn resync(&self) -> bool {
        match *self {}
    }
    pub fn is_drained(&self) -> bool {
        match *self {}
    }
    pub fn unassigned_losses(&self) -> u64 {
        match *self {}
    }
}
