//! Finds the one image of a store: index → this node's platform → manifest → configuration (DESIGN, identity).
//! It must never take an attestation, or another platform's image where this node's is there.

use plimsoll_schemas::events::Platform;
use plimsoll_schemas::identity::Sha256Digest;
use serde::de::DeserializeOwned;

use super::manifest::{Configuration, Descriptor, Index, Manifest, SavedImage};
use super::store::BlobStore;
use super::{ImageDescription, LAYERS_MAX, LayerDescription, read_document};
use crate::ScanError;

/// How deep indexes may nest.
const INDEX_MAX_DEPTH: usize = 4;
/// Longest command of a layer that is kept, in bytes.
const CREATED_BY_MAX_BYTES: usize = 300;
/// Most names in an error.
const NAMED_MAX: usize = 10;
/// Names of references in an index's annotations.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// This node's architecture in the terms of the OCI image specification.
pub fn node_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

struct Search<'a> {
    store: &'a dyn BlobStore,
    image: &'a str,
    names: Vec<String>,
    aliases: Vec<String>,
}

/// Describes the image of a store. `wanted` is a digest (of an index, manifest or configuration) to choose by
/// where the store has several images.
///
/// # Errors
/// [`ScanError::DamagedImage`] if a document is missing, does not have its digest, or is not what it should be.
pub fn describe(
    store: &dyn BlobStore,
    image: &str,
    wanted: Option<&str>,
) -> Result<ImageDescription, ScanError> {
    let mut search = Search { store, image, names: Vec::new(), aliases: Vec::new() };
    let saved: Vec<SavedImage> = search.document("manifest.json")?.unwrap_or_default();
    if let Some(index) = search.document::<Index>("index.json")?
        && let Some(descriptor) = search.choose_wanted(&index, wanted)?
    {
        search.note(&descriptor);
        let tags = saved.iter().flat_map(|saved| &saved.repo_tags);
        search.names.extend(tags.cloned());
        return search.descend(&descriptor, 0);
    }
    match saved.as_slice() {
        [one] => search.describe_saved(one),
        [] => Err(search.damaged("it has neither index.json nor manifest.json with an image".to_owned())),
        several => {
            let known = several.iter().find(|saved| {
                wanted.is_some_and(|digest| saved.config.contains(digest.trim_start_matches("sha256:")))
            });
            match known {
                Some(saved) => search.describe_saved(saved),
                None => Err(search.several(several.len(), several.iter().flat_map(|saved| &saved.repo_tags))),
            }
        }
    }
}

/// The images of an index for this node's platform; where none is, those of all platforms.
fn candidates(manifests: &[Descriptor]) -> Vec<&Descriptor> {
    let images = manifests.iter().filter(|descriptor| !descriptor.is_attestation());
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == node_architecture())
    };
    let fitting: Vec<&Descriptor> = images.clone().filter(fits).collect();
    if fitting.is_empty() { images.collect() } else { fitting }
}

fn blob_path(digest: &Sha256Digest) -> String {
    digest.to_string().replacen("sha256:", "blobs/sha256/", 1)
}

impl Search<'_> {
    fn damaged(&self, reason: String) -> ScanError {
        ScanError::DamagedImage { image: self.image.to_owned(), reason }
    }

    fn several<'n>(&self, count: usize, names: impl Iterator<Item = &'n String>) -> ScanError {
        let names: Vec<&str> = names.map(String::as_str).take(NAMED_MAX).collect();
        let names = names.join(", ");
        self.damaged(format!("it holds {count} images ({names}); save one at a time"))
    }

    /// The one image of the outermost index: the wanted one, or the only one. Several of one platform are several
    /// images, and any choice would be a guess.
    fn choose_wanted(&self, index: &Index, wanted: Option<&str>) -> Result<Option<Descriptor>, ScanError> {
        let images = index.manifests.iter().filter(|descriptor| !descriptor.is_attestation());
        let named =
            images.clone().find(|descriptor| wanted.is_some_and(|digest| descriptor.digest == digest));
        if let Some(named) = named {
            return Ok(Some(named.clone()));
        }
        let candidates = candidates(&index.manifests);
        let mut digests: Vec<&str> = candidates.iter().map(|descriptor| descriptor.digest.as_str()).collect();
        digests.sort_unstable();
        digests.dedup();
        if digests.len() > 1 && candidates.iter().all(|descriptor| descriptor.platform.is_none()) {
            let names = candidates.iter().flat_map(|descriptor| {
                NAME_ANNOTATIONS.iter().find_map(|annotation| descriptor.annotations.get(*annotation))
            });
            return Err(self.several(digests.len(), names));
        }
        Ok(candidates.first().copied().cloned())
    }

    fn document<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ScanError> {
        let Some(bytes) = read_document(self.store, path, self.image)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.damaged(format!("{path}: {error}")))
    }

    /// A document by its digest, which is verified.
    fn blob(&self, digest: &str) -> Result<(Sha256Digest, Vec<u8>), ScanError> {
        let digest = self.digest(digest)?;
        let path = blob_path(&digest);
        let bytes = read_document(self.store, &path, self.image)?
            .ok_or_else(|| self.damaged(format!("{path} is missing")))?;
        if Sha256Digest::of(&bytes) != digest {
            return Err(self.damaged(format!("{path} does not have the digest of its name")));
        }
        Ok((digest, bytes))
    }

    fn digest(&self, text: &str) -> Result<Sha256Digest, ScanError> {
        text.parse().map_err(|error| {
            let text: String = text.chars().take(100).collect();
            self.damaged(format!("{text:?} is no SHA-256 digest: {error}"))
        })
    }

    fn parse<T: DeserializeOwned>(&self, digest: &Sha256Digest, bytes: &[u8]) -> Result<T, ScanError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(format!("{digest}: {error}")))
    }

    fn note(&mut self, descriptor: &Descriptor) {
        self.aliases.push(descriptor.digest.clone());
        for annotation in NAME_ANNOTATIONS {
            // A bare tag ("latest") names nothing by itself.
            if let Some(name) =
                descriptor.annotations.get(annotation).filter(|name| name.contains([':', '/']))
            {
                self.names.push(name.clone());
            }
        }
    }

    fn descend(mut self, descriptor: &Descriptor, depth: usize) -> Result<ImageDescription, ScanError> {
        if depth > INDEX_MAX_DEPTH {
            return Err(self.damaged(format!("its indexes nest deeper than {INDEX_MAX_DEPTH}")));
        }
        let (digest, bytes) = self.blob(&descriptor.digest)?;
        if descriptor.is_index() {
            let index: Index = self.parse(&digest, &bytes)?;
            let child = candidates(&index.manifests)
                .first()
                .copied()
                .cloned()
                .ok_or_else(|| self.damaged(format!("index {digest} has no image")))?;
            self.note(&child);
            return self.descend(&child, depth + 1);
        }
        let manifest: Manifest = self.parse(&digest, &bytes)?;
        let (config_digest, config) = self.blob(&manifest.config.digest)?;
        let configuration: Configuration = self.parse(&config_digest, &config)?;
        let blobs = manifest
            .layers
            .iter()
            .map(|layer| self.digest(&layer.digest).map(|digest| (blob_path(&digest), Some(digest))))
            .collect::<Result<Vec<_>, _>>()?;
        self.finish(config_digest, configuration, blobs)
    }

    fn describe_saved(mut self, saved: &SavedImage) -> Result<ImageDescription, ScanError> {
        let bytes = read_document(self.store, &saved.config, self.image)?
            .ok_or_else(|| self.damaged(format!("{} is missing", saved.config)))?;
        let config_digest = Sha256Digest::of(&bytes);
        let configuration: Configuration = self.parse(&config_digest, &bytes)?;
        self.names.extend(saved.repo_tags.iter().cloned());
        let blobs = saved.layers.iter().map(|path| (path.clone(), None)).collect();
        self.finish(config_digest, configuration, blobs)
    }

    fn finish(
        self,
        config_digest: Sha256Digest,
        configuration: Configuration,
        blobs: Vec<(String, Option<Sha256Digest>)>,
    ) -> Result<ImageDescription, ScanError> {
        let diff_ids = configuration.rootfs.diff_ids;
        if diff_ids.len() != blobs.len() {
            let (found, expected) = (blobs.len(), diff_ids.len());
            return Err(self.damaged(format!("it has {found} layers, its configuration names {expected}")));
        }
        if blobs.len() > LAYERS_MAX {
            return Err(ScanError::TooLarge {
                image: self.image.to_owned(),
                what: "the number of layers".to_owned(),
                bound: format!("{LAYERS_MAX} layers"),
            });
        }
        let mut commands = configuration.history.into_iter().filter(|history| !history.empty_layer);
        let mut layers = Vec::with_capacity(blobs.len());
        for ((blob, digest), diff_id) in blobs.into_iter().zip(diff_ids) {
            let mut created_by = commands.next().map(|history| history.created_by).unwrap_or_default();
            created_by.truncate(created_by.floor_char_boundary(CREATED_BY_MAX_BYTES));
            let diff_id = self.digest(&diff_id)?;
            layers.push(LayerDescription { blob, digest, diff_id, created_by });
        }
        Ok(ImageDescription {
            config_digest,
            names: self.names,
            aliases: self.aliases,
            platform: Platform {
                os: configuration.os,
                architecture: configuration.architecture,
                variant: configuration.variant,
            },
            layers,
        })
    }
}
