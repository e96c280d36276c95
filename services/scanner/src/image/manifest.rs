//! The documents of an image: index, manifest, configuration (OCI image-spec 1.1), and docker save's `manifest.json`.
//! Unknown fields are passed over; it must never fail on what later versions of the specification add.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Writers in Go print what is empty as null.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub platform: Option<DescriptorPlatform>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct DescriptorPlatform {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub os: String,
}

impl Descriptor {
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// Attestations stand beside the images of an index, with an unknown platform.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }
}

#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
pub struct Configuration {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub os: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub variant: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub rootfs: RootFileSystem,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub history: Vec<History>,
}

#[derive(Debug, Default, Deserialize)]
pub struct RootFileSystem {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct History {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub created_by: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub empty_layer: bool,
}

/// One image of `manifest.json`, as `docker save` writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SavedImage {
    pub config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<String>,
}
