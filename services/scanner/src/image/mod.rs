//! Images, whatever holds them: a container engine, a tar file, an OCI layout.
//! It must never believe a digest that it has not computed, nor write a layer's files to disk.

mod blob;
mod docker;
mod layer;
mod layout;
mod manifest;
mod spool;
mod store;
pub mod tar;

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::AtomicBool;

use plimsoll_catalog::tree::MemoryTree;
use plimsoll_schemas::events::{Layer, Platform, Warning};
use plimsoll_schemas::identity::Sha256Digest;

use crate::target::ImageSource;
use crate::{ScanError, scan};
use blob::{
    BUFFER_BYTES, CancellableReader, Compression, DOCUMENT_MAX_BYTES, DigestReader, UNCOMPRESSED_MAX_BYTES,
    decompress,
};

pub use layout::node_architecture;

/// Most layers of one image.
pub const LAYERS_MAX: usize = 1024;
/// Most names and most aliases of one image.
pub const NAMES_MAX: usize = 200;
/// Longest name of an image, in bytes.
pub const NAME_MAX_BYTES: usize = 512;

/// What is known of an image before its layers are read.
#[derive(Debug)]
struct ImageDescription {
    config_digest: Sha256Digest,
    names: Vec<String>,
    aliases: Vec<String>,
    platform: Platform,
    layers: Vec<LayerDescription>,
}

#[derive(Debug)]
struct LayerDescription {
    /// Where the store keeps the layer.
    blob: String,
    /// Digest of the blob as stored, where a manifest names it.
    digest: Option<Sha256Digest>,
    /// Digest of the uncompressed layer, from the configuration.
    diff_id: Sha256Digest,
    created_by: String,
}

/// An image whose layers were merged in memory.
pub struct Image {
    /// Digest of the image's configuration: its identity.
    pub config_digest: Sha256Digest,
    /// References by which people know it, sorted.
    pub names: Vec<String>,
    /// Other digests of the same image, sorted.
    pub aliases: Vec<String>,
    /// Platform that it was built for.
    pub platform: Platform,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// The merged files.
    pub tree: MemoryTree,
    /// Entries that could not be taken.
    pub warnings: Vec<Warning>,
}

/// How an image is read.
pub struct Reading<'a> {
    /// The container engine's endpoint.
    pub docker_host: &'a str,
    /// Is told what goes on, for people.
    pub progress: &'a dyn Fn(&str),
    /// Ends the reading early once it is set.
    pub cancelled: &'a AtomicBool,
}

/// Reads an image.
///
/// # Errors
/// See [`ScanError`].
pub fn read(source: &ImageSource, reading: &Reading<'_>) -> Result<Image, ScanError> {
    let name = source.name();
    match source {
        ImageSource::OciLayout(path) => {
            let store = store::DirectoryStore::open(path)?;
            let description = layout::describe(&store, &name, None)?;
            merge(&store, description, &name, reading)
        }
        ImageSource::Archive(path) => {
            let store = store::open_archive(path, &name, reading.cancelled)?;
            let description = layout::describe(&store, &name, None)?;
            merge(&store, description, &name, reading)
        }
        ImageSource::Docker(reference) => {
            let engine = docker::Engine::new(reading.docker_host)?;
            let inspected = engine.inspect(reference)?;
            (reading.progress)(&format!("reading {reference} from the container engine"));
            let store = engine.save(reference, &inspected, reading)?;
            let mut description = layout::describe(&store, &name, Some(&inspected.id))?;
            description.names.extend(inspected.repository_tags.iter().cloned());
            description.aliases.extend(inspected.aliases());
            merge(&store, description, &name, reading)
        }
    }
}

fn merge(
    store: &dyn store::BlobStore,
    description: ImageDescription,
    name: &str,
    reading: &Reading<'_>,
) -> Result<Image, ScanError> {
    let mut merging = Merging {
        store,
        name,
        cancelled: reading.cancelled,
        tree: MemoryTree::new(),
        kept_bytes: 0,
        uncompressed_bytes: 0,
        warnings: Vec::new(),
    };
    let mut layers = Vec::with_capacity(description.layers.len());
    let count = description.layers.len();
    for (index, layer) in description.layers.iter().enumerate() {
        (reading.progress)(&format!("layer {} of {count}", index + 1));
        layers.push(merging.merge_layer(layer)?);
    }
    let Merging { mut tree, warnings, .. } = merging;
    tree.release_unreachable();
    let config = description.config_digest.to_string();
    let mut aliases = description.aliases;
    aliases.retain(|alias| *alias != config);
    aliases.sort();
    aliases.dedup();
    aliases.truncate(NAMES_MAX);
    let mut names = description.names;
    // The longest reference that Docker takes has 255 bytes and a tag of 128.
    names.retain(|name| name.len() <= NAME_MAX_BYTES);
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    Ok(Image {
        config_digest: description.config_digest,
        names,
        aliases,
        platform: description.platform,
        layers,
        tree,
        warnings,
    })
}

/// An image while its layers are merged.
struct Merging<'a> {
    store: &'a dyn store::BlobStore,
    name: &'a str,
    cancelled: &'a AtomicBool,
    tree: MemoryTree,
    kept_bytes: u64,
    uncompressed_bytes: u64,
    warnings: Vec<Warning>,
}

impl Merging<'_> {
    fn merge_layer(&mut self, layer: &LayerDescription) -> Result<Layer, ScanError> {
        let diff_id = layer.diff_id.to_string();
        let name = self.name;
        let damaged =
            |reason: &dyn std::fmt::Display| damaged(name, format!("layer {}: {reason}", layer.blob));
        let stream = self.store.open(&layer.blob).map_err(|error| damaged(&error))?;
        let stream = stream.ok_or_else(|| damaged(&"it is missing"))?;
        let stream = CancellableReader::new(stream, self.cancelled);
        let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
        let compression = Compression::of(stream.fill_buf().map_err(|error| damaged(&error))?);
        // Of an uncompressed layer the digest as stored is that of its contents.
        let needs_digest = layer.digest.is_some() && compression != Compression::None;
        let mut stored =
            if needs_digest { DigestReader::new(stream) } else { DigestReader::counting(stream) };
        let left_bytes = UNCOMPRESSED_MAX_BYTES - self.uncompressed_bytes;
        let buffered = BufReader::with_capacity(BUFFER_BYTES, &mut stored);
        let plain = decompress(buffered, compression, left_bytes).map_err(|error| damaged(&error))?;
        let mut plain = DigestReader::new(plain);
        let applied = layer::apply(&mut plain, &diff_id, &mut self.tree, &mut self.kept_bytes)?;
        if plain.size_bytes() <= left_bytes
            && let Some(damage) = &applied.damage
        {
            return Err(damaged(damage));
        }
        let (found, size_bytes) = plain.finish().map_err(|error| damaged(&error))?;
        if size_bytes > left_bytes {
            return Err(ScanError::TooLarge {
                image: self.name.to_owned(),
                what: "the size of its uncompressed layers".to_owned(),
                bound: format!("{UNCOMPRESSED_MAX_BYTES} bytes"),
            });
        }
        self.uncompressed_bytes += size_bytes;
        let (stored_digest, stored_bytes) = stored.finish().map_err(|error| damaged(&error))?;
        let differs = |what: &str, found: Option<Sha256Digest>, expected: Sha256Digest| {
            let found = found.filter(|found| *found != expected)?;
            Some(damaged(&format!("it has the {what} {found} instead of {expected}")))
        };
        if let Some(error) = differs("diff ID", found, layer.diff_id) {
            return Err(error);
        }
        if let Some(expected) = layer.digest
            && let Some(error) = differs("digest", if needs_digest { stored_digest } else { found }, expected)
        {
            return Err(error);
        }
        let room = scan::WARNINGS_MAX.saturating_sub(self.warnings.len());
        self.warnings.extend(applied.warnings.into_iter().take(room));
        Ok(Layer {
            diff_id,
            digest: layer.digest.map(|digest| digest.to_string()).unwrap_or_default(),
            size_bytes: i64::try_from(stored_bytes).unwrap_or(i64::MAX),
            created_by: layer.created_by.clone(),
        })
    }
}

fn damaged(image: &str, reason: String) -> ScanError {
    ScanError::DamagedImage { image: image.to_owned(), reason }
}

/// Reads a small document of an image.
fn read_document(
    store: &dyn store::BlobStore,
    path: &str,
    image: &str,
) -> Result<Option<Vec<u8>>, ScanError> {
    let Some(stream) = store.open(path).map_err(|error| damaged(image, format!("{path}: {error}")))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    stream
        .take(DOCUMENT_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(image, format!("{path}: {error}")))?;
    if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
        return Err(ScanError::TooLarge {
            image: image.to_owned(),
            what: path.to_owned(),
            bound: format!("{DOCUMENT_MAX_BYTES} bytes"),
        });
    }
    Ok(Some(bytes))
}
