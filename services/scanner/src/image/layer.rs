//! Applies one layer to the merged tree: whiteouts, opaque directories, hard links (OCI image-spec `layer.md`).
//! It must never let an entry out of the root, nor keep contents that no cataloger asked for.

use std::borrow::Cow;
use std::io::Read;

use plimsoll_catalog::digest::{self, BINARY_HEAD_BYTES};
use plimsoll_catalog::tree::{Contents, Entry, FileKind, MemoryTree, TreeError, path};
use plimsoll_catalog::{Wanted, wanted};
use plimsoll_schemas::events::Warning;

use crate::scan::shortened;

use super::spool::{SPOOL_MAX_BYTES, Spool, SpoolFull};
use super::tar::{TarEntry, TarError, TarKind, TarReader};

/// Most entries of one layer.
pub const LAYER_MAX_ENTRIES: u64 = 20_000_000;
/// Most bytes of contents kept for the catalogers over all layers.
pub const KEPT_MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// Most warnings about the entries of one layer.
const WARNINGS_MAX: usize = 100;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What one layer did to the tree.
#[derive(Debug, Default)]
pub struct LayerSummary {
    /// Entries read.
    pub entries: u64,
    /// Entries that could not be taken, at most 100 one by one.
    pub warnings: Vec<Warning>,
    /// Why the layer could not be read to its end, if so.
    pub damage: Option<String>,
}

/// Reads a layer's tar stream into `tree`. `kept_bytes` counts the contents kept over all layers.
///
/// # Errors
/// [`TreeError::Full`] if the tree cannot hold the layer. A damaged stream is told in the summary.
pub fn apply(
    stream: impl Read,
    diff_id: &str,
    tree: &mut MemoryTree,
    kept_bytes: &mut u64,
) -> Result<LayerSummary, TreeError> {
    let layer = tree.add_layer(diff_id)?;
    let mut reader = TarReader::new(stream);
    let mut spool = Spool::default();
    let mut summary = LayerSummary::default();
    let mut left_out: u64 = 0;
    let damage = loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        summary.entries += 1;
        if summary.entries > LAYER_MAX_ENTRIES {
            summary.damage = Some(format!("it has more than {LAYER_MAX_ENTRIES} entries"));
            return Ok(summary);
        }
        match apply_entry(&mut reader, entry, tree, layer, kept_bytes, &mut spool) {
            Ok(None) => {}
            Ok(Some(warning)) if summary.warnings.len() < WARNINGS_MAX => summary.warnings.push(warning),
            Ok(Some(_)) => left_out += 1,
            Err(EntryError::Tar(error)) => break Some(error),
            Err(EntryError::Tree(full @ TreeError::Full { .. })) => return Err(full),
            Err(EntryError::Tree(error)) if summary.warnings.len() < WARNINGS_MAX => {
                summary.warnings.push(entry_warning(&error));
            }
            Err(EntryError::Tree(_)) => left_out += 1,
        }
    };
    summary.damage = damage.map(|error| error.to_string());
    if left_out > 0 {
        summary.warnings.push(Warning {
            code: "more-warnings".to_owned(),
            subject: diff_id.to_owned(),
            message: format!("{left_out} more entries of this layer could not be taken"),
            remedy: "rebuild the image with a current tool".to_owned(),
        });
    }
    Ok(summary)
}

enum EntryError {
    Tar(TarError),
    Tree(TreeError),
}

impl From<TreeError> for EntryError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

fn apply_entry<R: Read>(
    reader: &mut TarReader<R>,
    entry: TarEntry,
    tree: &mut MemoryTree,
    layer: plimsoll_catalog::tree::Layer,
    kept_bytes: &mut u64,
    spool: &mut Spool,
) -> Result<Option<Warning>, EntryError> {
    if entry.path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(TreeError::UnsafePath { path: path::display(&entry.path) }.into());
    }
    let at = path::normalize(&entry.path);
    let (parent, name) = path::split(&at);
    if name == OPAQUE {
        tree.clear_lower(parent, layer);
        return Ok(None);
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        // They would hide the directory itself or what lies beside it: no engine takes them.
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(TreeError::UnsafePath { path: path::display(&entry.path) }.into());
        }
        // Other names of this kind are aufs's own bookkeeping.
        if !hidden.starts_with(WHITEOUT) {
            tree.remove_lower(&path::join(parent, hidden), layer);
        }
        return Ok(None);
    }
    let special = |kind| Entry::Special { kind, mode: entry.mode };
    match entry.kind {
        TarKind::Directory => tree.insert(&at, Entry::Directory { mode: entry.mode }, layer)?,
        TarKind::Symlink => tree.insert(&at, Entry::Symlink { target: &entry.link }, layer)?,
        TarKind::HardLink => {
            if entry.link.split(|byte| *byte == b'/').any(|part| part == b"..") {
                return Err(TreeError::UnsafePath { path: path::display(&entry.link) }.into());
            }
            tree.insert(&at, Entry::HardLink { target: &path::normalize(&entry.link) }, layer)?;
        }
        TarKind::CharacterDevice => tree.insert(&at, special(FileKind::CharacterDevice), layer)?,
        TarKind::BlockDevice => tree.insert(&at, special(FileKind::BlockDevice), layer)?,
        TarKind::Fifo => tree.insert(&at, special(FileKind::Fifo), layer)?,
        TarKind::Regular => {
            let wanted = wanted(&at, entry.mode);
            let contents = match wanted {
                Wanted::Content { max_bytes } if *kept_bytes < KEPT_MAX_BYTES => {
                    let (bytes, truncated) = reader.read_data(max_bytes).map_err(EntryError::Tar)?;
                    *kept_bytes += bytes.len() as u64;
                    Some(Contents { bytes: Cow::Owned(bytes), truncated })
                }
                Wanted::Content { .. } => return kept_too_much(&at),
                Wanted::Digest | Wanted::MetadataOnly => None,
            };
            let full = Entry::Regular { mode: entry.mode, size_bytes: entry.size_bytes, contents };
            tree.insert(&at, full, layer)?;
            if wanted == Wanted::Digest {
                return look_into(reader, &at, &entry, tree, kept_bytes, spool);
            }
        }
        TarKind::Sparse => {
            let sparse = Entry::Regular { mode: entry.mode, size_bytes: entry.size_bytes, contents: None };
            tree.insert(&at, sparse, layer)?;
            if matches!(wanted(&at, entry.mode), Wanted::Content { .. } | Wanted::Digest) {
                return Ok(Some(Warning {
                    code: "sparse-file".to_owned(),
                    subject: shortened(&path::display(&at)),
                    message: "a package or package database stored as a sparse file cannot be read"
                        .to_owned(),
                    remedy: "rebuild the image without sparse files (tar without -S)".to_owned(),
                }));
            }
        }
        TarKind::Other(type_flag) => {
            return Ok(Some(Warning {
                code: "unknown-tar-entry".to_owned(),
                subject: shortened(&path::display(&at)),
                message: format!("entry of unknown type {type_flag:#04x}"),
                remedy: "rebuild the image with a current tool".to_owned(),
            }));
        }
    }
    Ok(None)
}

/// Lets the catalogers look into a file while its data pass by; the tree keeps what they made of it.
fn look_into<R: Read>(
    reader: &mut TarReader<R>,
    at: &[u8],
    entry: &TarEntry,
    tree: &mut MemoryTree,
    kept_bytes: &mut u64,
    spool: &mut Spool,
) -> Result<Option<Warning>, EntryError> {
    let (head, has_more) = reader.read_data(BINARY_HEAD_BYTES).map_err(EntryError::Tar)?;
    if !digest::is_recognised(at, entry.mode, &head) {
        return Ok(None);
    }
    if entry.data_bytes > SPOOL_MAX_BYTES {
        let message = format!("it is longer than {SPOOL_MAX_BYTES} bytes");
        return Ok(Some(not_looked_into(at, message, "split it, or scan its parts")));
    }
    if *kept_bytes >= KEPT_MAX_BYTES {
        return kept_too_much(at);
    }
    let spooled = spool.begin(entry.data_bytes).and_then(|()| spool.push(&head)).map_err(LookError::Full);
    let copied = spooled.and_then(|()| {
        if has_more { reader.copy_data(|bytes| spool.push(bytes).map_err(LookError::Full)) } else { Ok(()) }
    });
    match copied {
        Ok(()) => {}
        Err(LookError::Tar(error)) => return Err(EntryError::Tar(error)),
        Err(LookError::Full(full)) => {
            let message = format!("{}: {}", full.directory.display(), full.source);
            return Ok(Some(not_looked_into(at, message, "make room, or set TMPDIR to a larger disk")));
        }
    }
    match spool.look(|file| digest::digest_file(at, entry.mode, file)) {
        Ok(digests) => {
            *kept_bytes += digests.iter().map(|digest| digest.bytes.len() as u64).sum::<u64>();
            tree.keep_digests(at, digests)?;
            Ok(None)
        }
        Err(error) => Ok(Some(not_looked_into(at, error.to_string(), "check the disk of temporary files"))),
    }
}

enum LookError {
    Tar(TarError),
    Full(SpoolFull),
}

impl From<TarError> for LookError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

fn not_looked_into(at: &[u8], reason: String, remedy: &str) -> Warning {
    Warning {
        code: "unreadable-file".to_owned(),
        subject: shortened(&path::display(at)),
        message: shortened(&format!("packages in it are missing: {reason}")),
        remedy: format!("{remedy}, then scan again"),
    }
}

/// The tree must not say that the file is there without its contents: that would be taken for a fault of ours.
fn kept_too_much(at: &[u8]) -> Result<Option<Warning>, EntryError> {
    Ok(Some(Warning {
        code: "too-many-databases".to_owned(),
        subject: shortened(&path::display(at)),
        message: format!(
            "it was left out: the image's package databases have more than {KEPT_MAX_BYTES} bytes"
        ),
        remedy: "scan an image without so many of them".to_owned(),
    }))
}

fn entry_warning(error: &TreeError) -> Warning {
    Warning {
        code: "unsafe-tar-entry".to_owned(),
        subject: shortened(error.path()),
        message: shortened(&error.to_string()),
        remedy: "rebuild the image with a current tool; the entry was left out, all others were read"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
