//! Images of a running container engine, over the Docker Engine API.
//! It must never change anything on the engine: it inspects and saves.

use plimsoll_kit::http_unix::HttpClient;
use plimsoll_schemas::identity::{ImageAlias, encode};
use serde::Deserialize;

use super::Reading;
use super::store::{ArchiveStore, SpoolError, spool};
use crate::ScanError;

/// Largest saved image, in bytes.
pub const SAVED_MAX_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Largest answer to an inspection, in bytes.
const ANSWER_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Longest text of an engine's answer in an error, in characters.
const REASON_MAX_CHARACTERS: usize = 500;

/// A container engine.
pub struct Engine {
    client: HttpClient,
}

/// What the engine says of an image.
#[derive(Debug, Deserialize)]
pub struct InspectedImage {
    /// What the engine calls the image's id: an alias until proven.
    #[serde(rename = "Id")]
    pub id: String,
    #[serde(rename = "RepoTags", default, deserialize_with = "null_is_empty")]
    pub repository_tags: Vec<String>,
    #[serde(rename = "RepoDigests", default, deserialize_with = "null_is_empty")]
    pub repository_digests: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl InspectedImage {
    /// Digests by which the engine knows the image.
    pub fn aliases(&self) -> Vec<String> {
        std::iter::once(&self.id)
            .chain(&self.repository_digests)
            .filter_map(|text| text.parse::<ImageAlias>().ok())
            .map(|alias| alias.digest.to_string())
            .collect()
    }
}

impl Engine {
    /// An engine at `endpoint`, for example `unix:///var/run/docker.sock`.
    ///
    /// # Errors
    /// [`ScanError::BadTarget`] if the endpoint cannot be read.
    pub fn new(endpoint: &str) -> Result<Self, ScanError> {
        let client = HttpClient::new(endpoint).map_err(|error| ScanError::BadTarget(error.to_string()))?;
        Ok(Self { client })
    }

    fn failed(&self, reason: impl ToString) -> ScanError {
        ScanError::Engine { endpoint: self.client.endpoint().to_owned(), reason: reason.to_string() }
    }

    fn refused(&self, reason: impl ToString) -> ScanError {
        ScanError::EngineRefused { endpoint: self.client.endpoint().to_owned(), reason: reason.to_string() }
    }

    fn get(&self, path: &str, image: &str) -> Result<ureq::Body, ScanError> {
        let response = self.client.get(path).map_err(|error| self.failed(error))?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            404 => Err(ScanError::NoSuchImage {
                image: image.to_owned(),
                endpoint: self.client.endpoint().to_owned(),
            }),
            status => {
                let mut body = response.into_body();
                let text = body.with_config().limit(ANSWER_MAX_BYTES).read_to_string().unwrap_or_default();
                let text: String = text.trim().chars().take(REASON_MAX_CHARACTERS).collect();
                Err(self.refused(format!("it answered {status}: {text}")))
            }
        }
    }

    /// Asks for an image.
    ///
    /// # Errors
    /// [`ScanError::NoSuchImage`], [`ScanError::Engine`].
    pub fn inspect(&self, reference: &str) -> Result<InspectedImage, ScanError> {
        let mut body = self.get(&format!("/images/{}/json", path_segments(reference)), reference)?;
        let text = body
            .with_config()
            .limit(ANSWER_MAX_BYTES)
            .read_to_string()
            .map_err(|error| self.failed(error))?;
        serde_json::from_str(&text)
            .map_err(|error| self.refused(format!("its answer on {reference} does not read: {error}")))
    }

    /// Saves an image into a file without a name.
    ///
    /// # Errors
    /// As [`Engine::inspect`], [`ScanError::Spool`] if there is no room for it, and [`ScanError::DamagedImage`] if what
    /// was saved is no image.
    pub fn save(
        &self,
        reference: &str,
        inspected: &InspectedImage,
        reading: &Reading<'_>,
    ) -> Result<ArchiveStore, ScanError> {
        let body = self.get(&format!("/images/{}/get", path_segments(&inspected.id)), reference)?;
        let stream = body.into_with_config().limit(u64::MAX).reader();
        spool(stream, SAVED_MAX_BYTES, reference, reading.cancelled).map_err(|error| match error {
            SpoolError::Source(error) => self.failed(error),
            SpoolError::Scan(error) => error,
        })
    }
}

/// Encodes a reference for a path, its slashes kept.
fn path_segments(reference: &str) -> String {
    reference.split('/').map(encode).collect::<Vec<_>>().join("/")
}
