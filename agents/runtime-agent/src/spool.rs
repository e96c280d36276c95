//! Events on disk while they cannot be delivered: segments of JSON lines within a byte budget.
//! It must never grow above its budget, nor refuse to start because a segment is damaged.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::output::RuntimeEvent;

/// What the spool cannot take.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The budget is used up.
    #[error(
        "the spool {path} is full ({budget_bytes} bytes); raise spool.budget_bytes or bring the broker back"
    )]
    Full {
        /// Where.
        path: PathBuf,
        /// Its bound.
        budget_bytes: u64,
    },
    /// The disk's fault.
    #[error("the spool {path} cannot be used: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is none.
    #[error("no spool is configured")]
    None,
}

struct Segment {
    path: PathBuf,
    size_bytes: u64,
}

/// Segments, oldest first; each holds one batch.
#[derive(Default)]
pub struct Spool {
    directory: Option<PathBuf>,
    budget_bytes: u64,
    segments: VecDeque<Segment>,
    next: u64,
}

impl Spool {
    /// Without a directory: takes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens the spool and what an earlier life left in it.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn open(directory: &Path, budget_bytes: u64) -> Result<Self, SpoolError> {
        let disk = |source| SpoolError::Disk { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(disk)?;
        let mut found: Vec<(u64, Segment)> = fs::read_dir(directory)
            .map_err(disk)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let path = entry.path();
                let number = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.parse().ok()?;
                Some((number, Segment { path, size_bytes: entry.metadata().ok()?.len() }))
            })
            .collect();
        found.sort_by_key(|(number, _)| *number);
        let next = found.last().map_or(0, |(number, _)| number + 1);
        let segments = found.into_iter().map(|(_, segment)| segment).collect();
        Ok(Self { directory: Some(directory.to_owned()), budget_bytes, segments, next })
    }

    /// Nothing is spooled.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes a batch, whole or not at all.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn append(&mut self, events: &[RuntimeEvent]) -> Result<(), SpoolError> {
        let directory = self.directory.as_ref().ok_or(SpoolError::None)?;
        let mut bytes = Vec::new();
        for event in events {
            serde_json::to_writer(&mut bytes, event)
                .map_err(|error| SpoolError::Disk { path: directory.clone(), source: error.into() })?;
            bytes.push(b'\n');
        }
        let used: u64 = self.segments.iter().map(|segment| segment.size_bytes).sum();
        let size_bytes = bytes.len() as u64;
        if used + size_bytes > self.budget_bytes {
            return Err(SpoolError::Full { path: directory.clone(), budget_bytes: self.budget_bytes });
        }
        let path = directory.join(format!("{:020}.jsonl", self.next));
        let partial = directory.join("partial");
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| SpoolError::Disk { path: path.clone(), source })?;
        self.next += 1;
        self.segments.push_back(Segment { path, size_bytes });
        Ok(())
    }

    /// The oldest batch; a damaged line in it is passed over, a segment that is gone is empty.
    pub fn oldest(&self) -> Option<Vec<RuntimeEvent>> {
        let segment = self.segments.front()?;
        let text = fs::read_to_string(&segment.path).unwrap_or_default();
        Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The oldest batch was delivered.
    pub fn remove_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front()
            && let Err(error) = fs::remove_file(&segment.path)
        {
            tracing::warn!(path = %segment.path.display(), %error, "a spooled batch may be delivered again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::events::{RuntimeUsage, UsageItem};

    fn event(path: &[u8]) -> RuntimeEvent {
        let item = UsageItem { path: path.to_vec(), ..UsageItem::default() };
        RuntimeEvent::Usage(RuntimeUsage { items: vec![item], ..RuntimeUsage::default() })
    }

    #[test]
    fn survives_a_restart_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
        spool.append(&[event(b"a\xff")]).unwrap();
        spool.append(&[event(b"b"), event(b"c")]).unwrap();
        drop(spool);
        let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
        assert_eq!(spool.oldest(), Some(vec![event(b"a\xff")]));
        spool.remove_oldest();
        spool.append(&[event(b"d")]).unwrap();
        assert_eq!(spool.oldest(), Some(vec![event(b"b"), event(b"c")]));
        spool.remove_oldest();
        assert_eq!(spool.oldest(), Some(vec![event(b"d")]));
        spool.remove_oldest();
        assert!(spool.is_empty());
    }

    #[test]
    fn keeps_to_its_budget_and_reads_over_damage() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 600).unwrap();
        spool.append(&[event(b"a")]).unwrap();
        assert!(matches!(spool.append(&[event(&[b'x'; 600])]), Err(SpoolError::Full { .. })));
        fs::write(directory.path().join(format!("{:020}.jsonl", 0)), b"{garbage\n").unwrap();
        assert_eq!(spool.oldest(), Some(Vec::new()));
        assert!(matches!(Spool::none().append(&[event(b"a")]), Err(SpoolError::None)));
    }
}
