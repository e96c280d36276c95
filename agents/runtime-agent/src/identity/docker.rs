//! The Docker Engine's API (https://docs.docker.com/reference/api/engine/): containers, images, events.
//! It must never wait without a bound, nor take an image's name for its identity while its digest is to be had.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_kit::http_unix::HttpClient;
use plimsoll_schemas::identity::{Sha256Digest, encode};
use serde_json::Value;

use super::ContainerFacts;
use super::image::{self, BLOB_MAX_BYTES};

/// Largest answer, in bytes.
const ANSWER_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Longest line of the event stream, in bytes.
const EVENT_MAX_BYTES: u64 = 256 * 1024;
/// Most images of which the configuration's digest is kept.
const IMAGES_MAX: usize = 4_096;
/// Most bytes of an exported image that are read to find its manifest.
const EXPORT_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Why Docker did not tell.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The engine cannot be reached.
    #[error(
        "docker at {endpoint} does not answer ({reason}); is it running, and may this agent use its socket?"
    )]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The engine does not know it.
    #[error("docker does not know {0}; it was removed, or belongs to another runtime")]
    NotFound(String),
    /// The answer is not understood.
    #[error("docker's answer to {path} is not understood: {reason}")]
    Answer {
        /// What was asked.
        path: String,
        /// Why.
        reason: String,
    },
    /// The image's configuration could not be found.
    #[error("image {image} could not be followed to its configuration: {reason}")]
    Image {
        /// What the runtime calls it.
        image: String,
        /// Why.
        reason: String,
    },
}

/// A container was created or started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    pub container_id: String,
    pub time_s: i64,
    /// Name and labels of the container, and its image's name.
    pub attributes: BTreeMap<String, String>,
}

/// Digest of an image's configuration, and its aliases.
type ImageNames = (String, Vec<String>);

/// A client of one engine. Clones share what they learned.
#[derive(Clone)]
pub struct Docker {
    client: HttpClient,
    images: Arc<Mutex<BTreeMap<String, ImageNames>>>,
    content: Arc<Mutex<Option<ContentStore>>>,
}

/// Where the engine keeps its content.
#[derive(Clone, Debug)]
struct ContentStore {
    /// Ids are digests of manifests or indexes.
    containerd: bool,
    /// Directories of blobs by digest.
    directories: Vec<PathBuf>,
}

impl Docker {
    /// A client of `unix:///path/to/docker.sock` or `tcp://host:port`.
    ///
    /// # Errors
    /// If the endpoint is malformed.
    pub fn new(endpoint: &str) -> Result<Self, String> {
        let client = HttpClient::new(endpoint).map_err(|error| error.to_string())?;
        Ok(Self { client, images: Arc::default(), content: Arc::default() })
    }

    fn get(&self, path: &str) -> Result<Value, DockerError> {
        let mut response = self.client.get(path).map_err(|error| DockerError::Unreachable {
            endpoint: self.client.endpoint().to_owned(),
            reason: error.to_string(),
        })?;
        if response.status() == 404 {
            return Err(DockerError::NotFound(path.to_owned()));
        }
        let answer = |reason: String| DockerError::Answer { path: path.to_owned(), reason };
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_vec();
        let body = body.map_err(|error| answer(error.to_string()))?;
        if !status.is_success() {
            return Err(answer(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            )));
        }
        serde_json::from_slice(&body).map_err(|error| answer(error.to_string()))
    }

    /// What the engine says about a container, its image followed to the configuration.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn container(&self, id: &str) -> Result<ContainerFacts, DockerError> {
        let found = self.get(&format!("/containers/{id}/json"))?;
        let image_id = text(&found["Image"]);
        // Newer engines say which manifest of an index was chosen.
        let chosen = found["ImageManifestDescriptor"]["digest"].as_str().unwrap_or(&image_id);
        let (config_digest, aliases) = self.image(chosen)?;
        let runtime = text(&found["HostConfig"]["Runtime"]);
        Ok(ContainerFacts {
            id: text(&found["Id"]),
            name: text(&found["Name"]).trim_start_matches('/').to_owned(),
            image_name: text(&found["Config"]["Image"]),
            config_digest,
            image_id,
            aliases,
            labels: labels(&found["Config"]["Labels"]),
            sandboxed: ["runsc", "kata"].iter().any(|sandbox| runtime.contains(sandbox)),
        })
    }

    /// What an event tells of a container that was gone before it could be looked at.
    ///
    /// # Errors
    /// [`DockerError`] if its image's name means nothing to the engine.
    pub fn from_event(&self, event: &ContainerEvent) -> Result<ContainerFacts, DockerError> {
        let mut labels = event.attributes.clone();
        let image_name = labels.remove("image").unwrap_or_default();
        let name = labels.remove("name").unwrap_or_default();
        let image = self.get(&format!("/images/{}/json", encode(&image_name)))?;
        let image_id = text(&image["Id"]);
        let (config_digest, aliases) = self.image(&image_id)?;
        Ok(ContainerFacts {
            id: event.container_id.clone(),
            name,
            image_name,
            config_digest,
            image_id,
            aliases,
            labels,
            sandboxed: false,
        })
    }

    /// The configuration's digest of what the engine calls an image, and its aliases.
    fn image(&self, image_id: &str) -> Result<(String, Vec<String>), DockerError> {
        if let Some(known) = self.images.lock().unwrap_or_else(PoisonError::into_inner).get(image_id) {
            return Ok(known.clone());
        }
        let fail = |reason: String| DockerError::Image { image: image_id.to_owned(), reason };
        let digest: Sha256Digest = image_id.parse().map_err(|_| fail("it is no digest".to_owned()))?;
        let store = self.content_store()?;
        let descended = image::descend(digest, image::platform(), |digest| {
            store.directories.iter().find_map(|directory| read_blob(directory, digest))
        });
        let (config, aliases) = match descended {
            Ok((config, aliases)) => (config, aliases),
            // The classic store's ids are digests of configurations by definition; the file may just not be readable.
            Err(_) if !store.containerd => (digest, Vec::new()),
            Err(why) => match self.exported_configuration(image_id) {
                Ok(config) => (config, vec![digest]),
                Err(error) => return Err(fail(format!("{why}; exporting it: {error}"))),
            },
        };
        let mut aliases: Vec<String> = aliases.iter().map(ToString::to_string).collect();
        if let Ok(image) = self.get(&format!("/images/{image_id}/json")) {
            let digests = image["RepoDigests"].as_array().into_iter().flatten();
            aliases.extend(digests.filter_map(Value::as_str).map(str::to_owned));
        }
        let known = (config.to_string(), aliases);
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= IMAGES_MAX {
            images.clear();
        }
        images.insert(image_id.to_owned(), known.clone());
        Ok(known)
    }

    fn content_store(&self) -> Result<ContentStore, DockerError> {
        if let Some(known) = &*self.content.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(known.clone());
        }
        let info = self.get("/info")?;
        let status = info["DriverStatus"].to_string();
        let root = PathBuf::from(text(&info["DockerRootDir"]));
        let containerd = status.contains("io.containerd.snapshotter");
        let blobs = "io.containerd.content.v1.content/blobs/sha256";
        let directories = if containerd {
            vec![root.join("containerd/daemon").join(blobs), Path::new("/var/lib/containerd").join(blobs)]
        } else {
            let driver = text(&info["Driver"]);
            vec![root.join("image").join(driver).join("imagedb/content/sha256")]
        };
        let store = ContentStore { containerd, directories };
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        Ok(store)
    }

    /// The configuration's digest from the engine's own export of an image: the last resort, since it streams the
    /// whole image.
    fn exported_configuration(&self, image_id: &str) -> Result<Sha256Digest, DockerError> {
        let path = format!("/images/{image_id}/get");
        let answer = |reason: String| DockerError::Answer { path: path.clone(), reason };
        let mut response = self.client.get(&path).map_err(|error| answer(error.to_string()))?;
        if !response.status().is_success() {
            return Err(answer(response.status().to_string()));
        }
        let reader = response.body_mut().with_config().limit(EXPORT_MAX_BYTES).reader();
        let manifest = find_in_tar(reader, "manifest.json").map_err(|error| answer(error.to_string()))?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| answer(error.to_string()))?;
        let config = text(&manifest[0]["Config"]);
        let name = config.rsplit('/').next().unwrap_or_default();
        format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name))
            .parse()
            .map_err(|_| answer(format!("manifest.json names the configuration {config:?}")))
    }

    /// Gives every container that is created or started since `since_s` (seconds since the epoch) to `each`, until
    /// the stream ends.
    ///
    /// # Errors
    /// If the stream cannot be opened or breaks.
    pub fn follow(&self, since_s: i64, mut each: impl FnMut(ContainerEvent)) -> Result<(), DockerError> {
        let filters = encode(r#"{"type":["container"],"event":["create","start"]}"#);
        let path = format!("/events?since={since_s}&filters={filters}");
        let unreachable =
            |reason: String| DockerError::Unreachable { endpoint: self.client.endpoint().to_owned(), reason };
        let mut response = self.client.get(&path).map_err(|error| unreachable(error.to_string()))?;
        if !response.status().is_success() {
            return Err(DockerError::Answer { path, reason: response.status().to_string() });
        }
        let mut reader = BufReader::new(response.body_mut().with_config().limit(u64::MAX).reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(EVENT_MAX_BYTES).read_until(b'\n', &mut line);
            if read.map_err(|error| unreachable(error.to_string()))? == 0 {
                return Ok(());
            }
            if let Some(event) = parse_event(&line) {
                each(event);
            }
        }
    }
}

fn parse_event(line: &[u8]) -> Option<ContainerEvent> {
    let event: Value = serde_json::from_slice(line).ok()?;
    if event["Type"] != "container" {
        return None;
    }
    Some(ContainerEvent {
        container_id: event["Actor"]["ID"].as_str()?.to_owned(),
        time_s: event["time"].as_i64().unwrap_or(0),
        attributes: labels(&event["Actor"]["Attributes"]),
    })
}

fn read_blob(directory: &Path, digest: Sha256Digest) -> Option<Vec<u8>> {
    let file = std::fs::File::open(directory.join(hex::encode(digest.0))).ok()?;
    let mut bytes = Vec::new();
    file.take(BLOB_MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= BLOB_MAX_BYTES).then_some(bytes)
}

/// Content of the regular file `name` in a tar archive (ustar), read in one pass.
fn find_in_tar(mut archive: impl Read, name: &str) -> std::io::Result<Vec<u8>> {
    const BLOCK_BYTES: usize = 512;
    let mut header = [0_u8; BLOCK_BYTES];
    loop {
        archive.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(std::io::Error::other(format!("{name} is not in the archive")));
        }
        let field = |from: usize, to: usize| {
            let bytes = &header[from..to];
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
        };
        let size = u64::from_str_radix(&field(124, 136), 8).map_err(std::io::Error::other)?;
        let padded = size.next_multiple_of(BLOCK_BYTES as u64);
        if field(0, 100) == name && size <= BLOB_MAX_BYTES {
            let mut content = Vec::new();
            archive.take(size).read_to_end(&mut content)?;
            return Ok(content);
        }
        std::io::copy(&mut (&mut archive).take(padded), &mut std::io::sink())?;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events() {
        let line = br#"{"Type":"container","Action":"create","Actor":{"ID":"abc","Attributes":{"image":"demo:1","name":"n","plimsoll.run":"7"}},"time":12}"#;
        let event = parse_event(line).unwrap();
        assert_eq!((event.container_id.as_str(), event.time_s), ("abc", 12));
        assert_eq!(event.attributes["image"], "demo:1");
        for other in [&b"{}"[..], b"", b"{\"Type\":\"image\"}", b"{\"Type\":\"container\"}"] {
            assert_eq!(parse_event(other), None);
        }
    }

    fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in entries {
            let mut header = [0_u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            let size = format!("{:011o}", content.len());
            header[124..135].copy_from_slice(size.as_bytes());
            archive.extend_from_slice(&header);
            archive.extend_from_slice(content);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        archive.resize(archive.len() + 1024, 0);
        archive
    }

    #[test]
    fn finds_a_file_in_an_archive() {
        let archive = tar(&[("blobs/sha256/ab", &[7; 700]), ("manifest.json", b"[]"), ("x", b"")]);
        assert_eq!(find_in_tar(archive.as_slice(), "manifest.json").unwrap(), b"[]");
        assert!(find_in_tar(archive.as_slice(), "absent").is_err());
        assert!(find_in_tar(&archive[..600], "manifest.json").is_err());
    }
}
