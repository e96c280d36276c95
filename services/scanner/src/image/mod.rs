//! Images, whatever holds them: a container engine, a tar file, an OCI layout.
//! It must never believe a digest that it has not computed, nor write a layer's files to disk.

mod blob;
mod docker;
mod layer;
mod layout;
mod manifest;
mod store;
pub mod tar;

use std::io::Read;

use plimsoll_catalog::tree::MemoryTree;
use plimsoll_schemas::events::{Layer, Platform, Warning};
use plimsoll_schemas::identity::Sha256Digest;

use crate::ScanError;
use crate::target::ImageSource;

pub use layout::node_architecture;

/// Most layers of one image.
pub const LAYERS_MAX: usize = 1024;

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

/// Reads an image. `docker_host` is the container engine's endpoint; `progress` is told what goes on.
///
/// # Errors
/// See [`ScanError`].
pub fn read(source: &ImageSource, docker_host: &str, progress: &dyn Fn(&str)) -> Result<Image, ScanError> {
    let name = source.name();
    match source {
        ImageSource::OciLayout(path) => {
            let store = store::DirectoryStore::open(path)?;
            let description = layout::describe(&store, &name, None)?;
            merge(&store, description, &name, progress)
        }
        ImageSource::Archive(path) => {
            let file =
                std::fs::File::open(path).map_err(|source| ScanError::Open { path: path.clone(), source })?;
            let store = store::ArchiveStore::index(file, &name)?;
            let description = layout::describe(&store, &name, None)?;
            merge(&store, description, &name, progress)
        }
        ImageSource::Docker(reference) => {
            let engine = docker::Engine::new(docker_host)?;
            let inspected = engine.inspect(reference)?;
            progress(&format!("reading {reference} from the container engine"));
            let store = engine.save(reference, &inspected)?;
            let mut description = layout::describe(&store, &name, Some(&inspected.id))?;
            description.names.extend(inspected.repository_tags.iter().cloned());
            description.aliases.extend(inspected.aliases());
            merge(&store, description, &name, progress)
        }
    }
}

fn merge(
    store: &dyn store::BlobStore,
    description: ImageDescription,
    name: &str,
    progress: &dyn Fn(&str),
) -> Result<Image, ScanError> {
    let mut tree = MemoryTree::new();
    let mut layers = Vec::with_capacity(description.layers.len());
    let mut warnings = Vec::new();
    let mut kept_bytes = 0;
    let count = description.layers.len();
    for (index, layer) in description.layers.iter().enumerate() {
        progress(&format!("layer {} of {count}", index + 1));
        let (layer, layer_warnings) = merge_layer(store, layer, name, &mut tree, &mut kept_bytes)?;
        layers.push(layer);
        warnings.extend(layer_warnings);
    }
    tree.release_unreachable();
    let config = description.config_digest.to_string();
    let mut aliases = description.aliases;
    aliases.retain(|alias| *alias != config);
    aliases.sort();
    aliases.dedup();
    let mut names = description.names;
    names.sort();
    names.dedup();
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

fn merge_layer(
    store: &dyn store::BlobStore,
    layer: &LayerDescription,
    name: &str,
    tree: &mut MemoryTree,
    kept_bytes: &mut u64,
) -> Result<(Layer, Vec<Warning>), ScanError> {
    let diff_id = layer.diff_id.to_string();
    let damaged = |reason: String| ScanError::DamagedImage { image: name.to_owned(), reason };
    let stream = store
        .open(&layer.blob)
        .map_err(|error| damaged(format!("layer {}: {error}", layer.blob)))?
        .ok_or_else(|| damaged(format!("layer {} is missing", layer.blob)))?;
    let mut stored = blob::DigestReader::new(stream);
    let summary;
    let contents;
    {
        let plain = blob::decompress(&mut stored)
            .map_err(|error| damaged(format!("layer {}: {error}", layer.blob)))?;
        let mut plain = blob::DigestReader::new(plain);
        summary = layer::apply(&mut plain, &diff_id, tree, kept_bytes)?;
        if let Some(damage) = summary.damage {
            return Err(damaged(format!("layer {}: {damage}", layer.blob)));
        }
        contents = plain.finish().map_err(|error| damaged(format!("layer {}: {error}", layer.blob)))?;
    }
    let (digest, size_bytes) =
        stored.finish().map_err(|error| damaged(format!("layer {}: {error}", layer.blob)))?;
    if contents.1 > blob::LAYER_MAX_BYTES {
        return Err(ScanError::TooLarge {
            image: name.to_owned(),
            what: format!("uncompressed layer {}", layer.blob),
            bound: format!("{} bytes", blob::LAYER_MAX_BYTES),
        });
    }
    if contents.0 != layer.diff_id {
        let found = contents.0;
        return Err(damaged(format!("layer {} has the diff ID {found} instead of {diff_id}", layer.blob)));
    }
    if let Some(expected) = layer.digest.filter(|expected| *expected != digest) {
        return Err(damaged(format!("layer {} has the digest {digest} instead of {expected}", layer.blob)));
    }
    let event = Layer {
        diff_id,
        digest: layer.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        size_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
        created_by: layer.created_by.clone(),
    };
    Ok((event, summary.warnings))
}

/// Reads a small document of an image.
fn read_document(
    store: &dyn store::BlobStore,
    path: &str,
    image: &str,
) -> Result<Option<Vec<u8>>, ScanError> {
    let damaged = |reason: String| ScanError::DamagedImage { image: image.to_owned(), reason };
    let Some(stream) = store.open(path).map_err(|error| damaged(format!("{path}: {error}")))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    stream
        .take(blob::DOCUMENT_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(format!("{path}: {error}")))?;
    if bytes.len() as u64 > blob::DOCUMENT_MAX_BYTES {
        return Err(ScanError::TooLarge {
            image: image.to_owned(),
            what: path.to_owned(),
            bound: format!("{} bytes", blob::DOCUMENT_MAX_BYTES),
        });
    }
    Ok(Some(bytes))
}
