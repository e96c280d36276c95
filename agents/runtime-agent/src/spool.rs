//! Events on disk while they cannot be delivered: segments of JSON lines within a byte budget.
//! It must never grow above its budget, refuse to start because a segment is damaged, nor pass over one in silence.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::claims::{Claims, Left};
use crate::output::RuntimeEvent;

/// Tries to read a segment, at least [`crate::output`]'s wait between two deliveries apart, before it is given up.
const READ_MAX_ATTEMPTS: u32 = 300;
/// Where it stands of which workloads the spool may hold events; beside the budget, and of bounded number.
const CLAIMS: &str = "workloads";

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

#[derive(Default)]
struct Segment {
    path: PathBuf,
    size_bytes: u64,
    attempts: u32,
    /// Its loss was counted.
    is_damaged: bool,
}

/// Segments, oldest first; each holds one batch.
#[derive(Default)]
pub struct Spool {
    directory: Option<PathBuf>,
    budget_bytes: u64,
    segments: VecDeque<Segment>,
    next: u64,
    claims: Claims,
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
                let path = match entry {
                    Ok(entry) => entry.path(),
                    Err(error) => return Some(Err(error)),
                };
                let number = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.parse().ok()?;
                // One of unknown size is kept, too.
                let size_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                Some(Ok((number, Segment { path, size_bytes, ..Segment::default() })))
            })
            .collect::<Result<_, _>>()
            .map_err(disk)?;
        found.sort_by_key(|(number, _)| *number);
        let next = found.last().map_or(0, |(number, _)| number + 1);
        let segments: VecDeque<Segment> = found.into_iter().map(|(_, segment)| segment).collect();
        let (mut claims, left) = Claims::open(directory.join(CLAIMS));
        if left != Left::Whole {
            // What can be read tells most of it.
            for segment in &segments {
                let (events, _) = parse(&fs::read(&segment.path).unwrap_or_default());
                claims.note(&events);
                claims.claim(&events);
            }
        }
        if left == Left::Damaged {
            claims.lose_of_all();
        }
        Ok(Self { directory: Some(directory.to_owned()), budget_bytes, segments, next, claims })
    }

    /// Nothing is spooled, and no loss is to be told.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && !self.claims.has_losses()
    }

    /// Remembers whose events are on their way, spooled or not.
    pub fn note(&mut self, events: &[RuntimeEvent]) {
        self.claims.note(events);
    }

    /// Counts events that cannot be delivered as lost; that is told behind what is spooled, in another life if need be.
    pub fn lose(&mut self, events: &[RuntimeEvent]) {
        if self.directory.is_some() {
            self.claims.lose(events);
        }
    }

    /// Once nothing else is spooled: the losses to tell.
    pub fn losses(&self) -> Vec<RuntimeEvent> {
        self.claims.losses()
    }

    /// All that was spooled or lost was delivered.
    pub fn clear(&mut self) {
        self.claims.clear();
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
        self.claims.claim(events);
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| SpoolError::Disk { path: path.clone(), source })?;
        self.next += 1;
        self.segments.push_back(Segment { path, size_bytes, ..Segment::default() });
        Ok(())
    }

    /// The oldest batch. What of it cannot be read is lost, and told so of all workloads that it may be of, as a part of
    /// the batch.
    ///
    /// # Errors
    /// If it cannot be read now: it is to be tried again, later. After many tries it counts as unreadable.
    pub fn oldest(&mut self) -> Result<Option<Vec<RuntimeEvent>>, SpoolError> {
        let Some(segment) = self.segments.front_mut() else { return Ok(None) };
        let (mut events, damage) = match fs::read(&segment.path) {
            Ok(bytes) => parse(&bytes),
            Err(source) => {
                segment.attempts += 1;
                if source.kind() != std::io::ErrorKind::NotFound && segment.attempts < READ_MAX_ATTEMPTS {
                    return Err(SpoolError::Disk { path: segment.path.clone(), source });
                }
                (Vec::new(), Some(source.to_string()))
            }
        };
        let Some(damage) = damage else { return Ok(Some(events)) };
        if !std::mem::replace(&mut segment.is_damaged, true) {
            let path = segment.path.display();
            tracing::error!(%path, damage, "spooled events are lost: nothing that they may be of counts as unused");
            self.claims.note(&events);
            self.claims.claim(&events);
            self.claims.lose_of_all();
        }
        events.extend(self.claims.losses());
        Ok(Some(events))
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

/// The events of a segment, and what was first found wrong with it.
fn parse(bytes: &[u8]) -> (Vec<RuntimeEvent>, Option<String>) {
    let (mut events, mut damage) = (Vec::new(), None);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (number, line) in (1_usize..).zip(lines) {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(error) => {
                damage.get_or_insert_with(|| format!("line {number}: {error}"));
            }
        }
    }
    // No batch is empty.
    if events.is_empty() {
        damage.get_or_insert_with(|| "it is empty".to_owned());
    }
    (events, damage)
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
        assert_eq!(spool.oldest().unwrap(), Some(vec![event(b"a\xff")]));
        spool.remove_oldest();
        spool.append(&[event(b"d")]).unwrap();
        assert_eq!(spool.oldest().unwrap(), Some(vec![event(b"b"), event(b"c")]));
        spool.remove_oldest();
        assert_eq!(spool.oldest().unwrap(), Some(vec![event(b"d")]));
        spool.remove_oldest();
        assert!(spool.is_empty());
    }

    #[test]
    fn keeps_to_its_budget() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 600).unwrap();
        spool.append(&[event(b"a")]).unwrap();
        assert!(matches!(spool.append(&[event(&[b'x'; 600])]), Err(SpoolError::Full { .. })));
        assert!(matches!(Spool::none().append(&[event(b"a")]), Err(SpoolError::None)));
    }

    #[test]
    fn what_cannot_be_read_now_is_kept_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
        spool.append(&[event(b"a")]).unwrap();
        let (path, aside) =
            (directory.path().join(format!("{:020}.jsonl", 0)), directory.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        // Reading it fails (ELOOP).
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(matches!(spool.oldest(), Err(SpoolError::Disk { .. })));
        let mut next = Spool::open(directory.path(), 1 << 20).unwrap();
        assert!(next.oldest().is_err(), "it is not forgotten");
        fs::rename(&aside, &path).unwrap();
        assert_eq!(spool.oldest().unwrap(), Some(vec![event(b"a")]));
        // Not for ever.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        for _ in 2..READ_MAX_ATTEMPTS {
            assert!(spool.oldest().is_err());
        }
        assert_eq!(spool.oldest().unwrap(), Some(Vec::new()), "of no workload that anyone knows");
        spool.remove_oldest();
        assert!(spool.is_empty());
    }
}
