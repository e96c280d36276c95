//! From any digest that a runtime gives to the digest of an image's configuration: index, this platform's manifest,
//! configuration (OCI image specification), each blob proven by its own digest.
//! It must never believe a blob that does not hash to its name, nor choose a platform that is not this node's.

use plimsoll_schemas::identity::Sha256Digest;
use serde_json::Value;

/// Deepest chain of indexes.
const MAX_DEPTH: usize = 4;
/// Largest manifest or configuration, in bytes.
pub const BLOB_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why a digest could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescendError {
    /// The content is not to be had.
    #[error("blob {0} is not in the runtime's content store")]
    Missing(String),
    /// The content is not what its name says.
    #[error("blob {0} does not hash to its name")]
    Corrupt(String),
    /// The content is none of index, manifest, configuration.
    #[error("blob {0} is neither an index nor a manifest nor a configuration")]
    Unknown(String),
    /// The image is not for this node.
    #[error("index {0} has no manifest for {1}/{2}")]
    NoPlatform(String, &'static str, &'static str),
    /// Indexes of indexes.
    #[error("index {0} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep(String),
}

/// Operating system and architecture of this node, as the OCI specification names them.
pub fn platform() -> (&'static str, &'static str) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ("linux", architecture)
}

/// Follows `digest` to a configuration. Gives its digest and the aliases that were passed.
///
/// # Errors
/// [`DescendError`]: which blob stands in the way.
pub fn descend(
    digest: Sha256Digest,
    platform: (&'static str, &'static str),
    fetch: impl Fn(Sha256Digest) -> Option<Vec<u8>>,
) -> Result<(Sha256Digest, Vec<Sha256Digest>), DescendError> {
    let mut aliases = Vec::new();
    let mut at = digest;
    for _ in 0..MAX_DEPTH {
        let bytes = fetch(at).ok_or_else(|| DescendError::Missing(at.to_string()))?;
        if Sha256Digest::of(&bytes) != at {
            return Err(DescendError::Corrupt(at.to_string()));
        }
        let unknown = || DescendError::Unknown(at.to_string());
        let blob: Value = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
        let next = if let Some(manifests) = blob["manifests"].as_array() {
            let (os, architecture) = platform;
            let fits = |manifest: &&Value| {
                let wanted = &manifest["platform"];
                // No platform: an index with one image, as exported by older tools.
                wanted.is_null() && manifests.len() == 1
                    || wanted["os"] == os && wanted["architecture"] == architecture
            };
            let found = manifests.iter().find(fits);
            let found = found.ok_or_else(|| DescendError::NoPlatform(at.to_string(), os, architecture))?;
            found["digest"].as_str()
        } else if blob["layers"].is_array() {
            blob["config"]["digest"].as_str()
        } else if blob["rootfs"].is_object() {
            return Ok((at, aliases));
        } else {
            return Err(unknown());
        };
        aliases.push(at);
        at = next.and_then(|digest| digest.parse().ok()).ok_or_else(unknown)?;
    }
    Err(DescendError::TooDeep(digest.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Store(HashMap<[u8; 32], Vec<u8>>);

    impl Store {
        fn put(&mut self, value: &Value) -> Sha256Digest {
            let bytes = value.to_string().into_bytes();
            let digest = Sha256Digest::of(&bytes);
            self.0.insert(digest.0, bytes);
            digest
        }
        fn descend(&self, digest: Sha256Digest) -> Result<(Sha256Digest, Vec<Sha256Digest>), DescendError> {
            descend(digest, ("linux", "amd64"), |digest| self.0.get(&digest.0).cloned())
        }
    }

    fn manifest(config: Sha256Digest) -> Value {
        serde_json::json!({"config": {"digest": config.to_string()}, "layers": []})
    }

    fn entry(digest: Sha256Digest, os: &str, architecture: &str) -> Value {
        serde_json::json!({"digest": digest.to_string(), "platform": {"os": os, "architecture": architecture}})
    }

    #[test]
    fn descends_from_every_level() {
        let mut store = Store::default();
        let config = store.put(&serde_json::json!({"rootfs": {"diff_ids": []}}));
        let manifest_digest = store.put(&manifest(config));
        let index = store.put(&serde_json::json!({"manifests": [
            entry(Sha256Digest([1; 32]), "unknown", "unknown"),
            entry(Sha256Digest([2; 32]), "linux", "arm64"),
            entry(manifest_digest, "linux", "amd64"),
        ]}));
        assert_eq!(store.descend(config).unwrap(), (config, vec![]));
        assert_eq!(store.descend(manifest_digest).unwrap(), (config, vec![manifest_digest]));
        assert_eq!(store.descend(index).unwrap(), (config, vec![index, manifest_digest]));
    }

    #[test]
    fn says_what_stands_in_the_way() {
        let mut store = Store::default();
        let absent = Sha256Digest([9; 32]);
        assert_eq!(store.descend(absent), Err(DescendError::Missing(absent.to_string())));
        store.0.insert(absent.0, b"{}".to_vec());
        assert_eq!(store.descend(absent), Err(DescendError::Corrupt(absent.to_string())));
        let empty = store.put(&serde_json::json!({}));
        assert_eq!(store.descend(empty), Err(DescendError::Unknown(empty.to_string())));
        let foreign = store.put(&serde_json::json!({"manifests": [entry(absent, "windows", "amd64")]}));
        assert_eq!(
            store.descend(foreign),
            Err(DescendError::NoPlatform(foreign.to_string(), "linux", "amd64"))
        );
        let mut deep = store.put(&serde_json::json!({"rootfs": {}}));
        for _ in 0..MAX_DEPTH {
            deep = store.put(&serde_json::json!({"manifests": [entry(deep, "linux", "amd64")]}));
        }
        assert_eq!(store.descend(deep), Err(DescendError::TooDeep(deep.to_string())));
    }
}
