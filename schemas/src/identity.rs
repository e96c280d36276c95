//! Artifact keys, component keys, aliases of images, and package ids.
//! It must never give one artifact two spellings: what parses prints back byte for byte.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest part of a key, before percent-encoding, in bytes.
pub const PART_MAX_BYTES: usize = 256;

/// Why a key is not one of ours. The producer is at fault: the record goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The key starts with no known kind.
    #[error("artifact key {0:?} starts with none of image/, component/, host/, unidentified/")]
    UnknownKind(String),
    /// The number of parts is wrong.
    #[error("artifact key {0:?} has the wrong number of parts for its kind")]
    WrongParts(String),
    /// A part is empty, too long, or not UTF-8 once decoded.
    #[error("part {0:?} of a key must be UTF-8 of 1 to 256 bytes")]
    BadPart(String),
    /// The spelling is not the canonical one.
    #[error("key {0:?} is not in canonical spelling; write it as {1:?}")]
    NotCanonical(String, String),
    /// A digest is not `sha256:` and 64 lowercase hexadecimal digits.
    #[error("{0:?} is no digest: expected sha256: and 64 lowercase hexadecimal digits")]
    BadDigest(String),
}

/// A SHA-256 digest, printed as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Digest {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let digits = digest_digits(text)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| IdentityError::BadDigest(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

/// The 64 digits of a SHA-256 digest's canonical spelling.
fn digest_digits(text: &str) -> Result<&str, IdentityError> {
    let digits = text.strip_prefix("sha256:").filter(|digits| {
        digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    digits.ok_or_else(|| IdentityError::BadDigest(text.to_owned()))
}

/// One version of one component of an application, in the user's names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentKey {
    application: String,
    component: String,
    version: String,
}

impl ComponentKey {
    /// A component key.
    ///
    /// # Errors
    /// [`IdentityError::BadPart`] if a part is empty or longer than [`PART_MAX_BYTES`].
    pub fn new(application: &str, component: &str, version: &str) -> Result<Self, IdentityError> {
        for part in [application, component, version] {
            check_part(part)?;
        }
        Ok(Self { application: application.into(), component: component.into(), version: version.into() })
    }

    /// The application's name.
    pub fn application(&self) -> &str {
        &self.application
    }

    /// The component's name.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The component's version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Prints `<application>/<component>/<version>`, each part percent-encoded.
impl fmt::Display for ComponentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&component_path(&self.application, &self.component, &self.version))
    }
}

impl FromStr for ComponentKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [application, component, version] = parts[..] else {
            return Err(IdentityError::WrongParts(text.to_owned()));
        };
        let key = Self::new(&decode(application)?, &decode(component)?, &decode(version)?)?;
        canonical(text, key.to_string()).map(|()| key)
    }
}

/// `<application>/<component>/<version>`, each part percent-encoded; parts may be empty here.
pub fn component_path(application: &str, component: &str, version: &str) -> String {
    format!("{}/{}/{}", encode(application), encode(component), encode(version))
}

/// Reads what [`component_path`] printed: application, component and version, of which any may be empty.
///
/// # Errors
/// [`IdentityError`] if there are not three parts, or one is not in canonical spelling.
pub fn parse_component_path(text: &str) -> Result<[String; 3], IdentityError> {
    let parts: Vec<&str> = text.split('/').collect();
    let [application, component, version] = parts[..] else {
        return Err(IdentityError::WrongParts(text.to_owned()));
    };
    let parts = [decode(application)?, decode(component)?, decode(version)?];
    canonical(text, component_path(&parts[0], &parts[1], &parts[2])).map(|()| parts)
}

/// What is scanned and run; the key under which all events about it meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ArtifactKey {
    /// A container image, by the digest of its configuration.
    Image(Sha256Digest),
    /// A directory that belongs to one version of a component.
    Component(ComponentKey),
    /// A host, by its machine id.
    Host(String),
    /// A container whose image could not be identified (machine id, container id).
    Unidentified(String, String),
}

impl ArtifactKey {
    /// A host's key.
    ///
    /// # Errors
    /// [`IdentityError::BadPart`] if the machine id is empty or too long.
    pub fn host(machine_id: &str) -> Result<Self, IdentityError> {
        check_part(machine_id)?;
        Ok(Self::Host(machine_id.into()))
    }

    /// The key of a container that could not be identified.
    ///
    /// # Errors
    /// [`IdentityError::BadPart`] if a part is empty or too long.
    pub fn unidentified(machine_id: &str, container_id: &str) -> Result<Self, IdentityError> {
        check_part(machine_id)?;
        check_part(container_id)?;
        Ok(Self::Unidentified(machine_id.into(), container_id.into()))
    }
}

/// Whether `text` is an artifact key, at the cost of a look where it is an image's.
///
/// # Errors
/// As parsing it.
pub fn check_artifact_key(text: &str) -> Result<(), IdentityError> {
    match text.strip_prefix("image/") {
        Some(digest) => digest_digits(digest).map(|_| ()),
        None => text.parse::<ArtifactKey>().map(|_| ()),
    }
}

impl fmt::Display for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(digest) => write!(f, "image/{digest}"),
            Self::Component(key) => write!(f, "component/{key}"),
            Self::Host(machine) => write!(f, "host/{}", encode(machine)),
            Self::Unidentified(machine, container) => {
                write!(f, "unidentified/{}/{}", encode(machine), encode(container))
            }
        }
    }
}

impl FromStr for ArtifactKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (kind, rest) = text.split_once('/').ok_or_else(|| IdentityError::UnknownKind(text.to_owned()))?;
        let key = match kind {
            "image" => Self::Image(rest.parse()?),
            "component" => Self::Component(rest.parse()?),
            "host" => Self::host(&decode(rest)?)?,
            "unidentified" => {
                let (machine, container) =
                    rest.split_once('/').ok_or_else(|| IdentityError::WrongParts(text.to_owned()))?;
                Self::unidentified(&decode(machine)?, &decode(container)?)?
            }
            _ => return Err(IdentityError::UnknownKind(text.to_owned())),
        };
        canonical(text, key.to_string()).map(|()| key)
    }
}

/// What a runtime calls an image: a digest that is an alias until it is proven to be the config digest,
/// and the repository it was named with, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAlias {
    /// Repository, for example `registry:5000/team/app`; empty if the runtime gave a bare digest.
    pub repository: String,
    /// The digest: of an index, a manifest or a configuration; which, the text does not tell.
    pub digest: Sha256Digest,
}

impl FromStr for ImageAlias {
    type Err = IdentityError;

    /// Reads `sha256:…`, `name@sha256:…`, `docker://sha256:…` and `docker-pullable://name@sha256:…`.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (repository, digest) = bare.rsplit_once('@').unwrap_or(("", bare));
        Ok(Self { repository: repository.to_owned(), digest: digest.parse()? })
    }
}

/// Length of a package id, in hexadecimal digits.
pub const PACKAGE_ID_DIGITS: usize = 32;

/// Stable id of a package within its artifact: a hash of its purl with all qualifiers and, for application packages,
/// its location relative to the root (a nested path appended behind `!/`). Two versions, two architectures or two
/// copies are two packages.
pub fn package_id(purl: &str, location: Option<&[u8]>) -> String {
    let mut hash = Sha256::new();
    hash.update(purl.as_bytes());
    if let Some(location) = location {
        hash.update([crate::key::SEPARATOR]);
        hash.update(location);
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(PACKAGE_ID_DIGITS);
    digits
}

fn check_part(part: &str) -> Result<(), IdentityError> {
    if part.is_empty() || part.len() > PART_MAX_BYTES {
        return Err(IdentityError::BadPart(part.chars().take(64).collect()));
    }
    Ok(())
}

fn canonical(given: &str, canonical: String) -> Result<(), IdentityError> {
    if given == canonical { Ok(()) } else { Err(IdentityError::NotCanonical(given.to_owned(), canonical)) }
}

/// Percent-encodes all but the unreserved characters of RFC 3986. A part that is only dots is encoded whole,
/// so that no path normalisation can swallow it.
pub fn encode(part: &str) -> String {
    use fmt::Write as _;
    let only_dots = part.bytes().all(|byte| byte == b'.');
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !only_dots)
        {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decode(part: &str) -> Result<String, IdentityError> {
    let bad = || IdentityError::BadPart(part.chars().take(64).collect());
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
            let mut value = [0];
            hex::decode_to_slice(digits, &mut value).map_err(|_| bad())?;
            bytes.push(value[0]);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn reads_and_prints_every_kind() {
        let keys = [
            format!("image/{DIGEST}"),
            "component/backend/python%20app/1.0".to_owned(),
            "component/a%2Fb/%C3%A9/%2E".to_owned(),
            "host/0af3".to_owned(),
            "unidentified/0af3/9b1c".to_owned(),
        ];
        for key in keys {
            assert_eq!(key.parse::<ArtifactKey>().unwrap().to_string(), key);
        }
    }

    #[test]
    fn refuses_what_is_not_a_key() {
        let long = format!("host/{}", "x".repeat(257));
        let cases = [
            "",
            "image",
            "image/sha256:12",
            "image/SHA256:0",
            "component/a/b",
            "component/a/b/c/d",
            "component//b/c",
            "component/a%2fb/b/c",
            "component/%61/b/c",
            "component/a b/b/c",
            "host/",
            "host/%FF",
            "host/%4",
            "vm/x",
            "unidentified/a",
            "host/..",
            long.as_str(),
        ];
        for key in cases {
            assert!(key.parse::<ArtifactKey>().is_err(), "{key:?} was taken");
        }
    }

    #[test]
    fn reads_what_runtimes_call_an_image() {
        let cases = [
            (DIGEST.to_owned(), ""),
            (format!("docker://{DIGEST}"), ""),
            (format!("docker-pullable://registry:5000/team/app@{DIGEST}"), "registry:5000/team/app"),
            (format!("app@{DIGEST}"), "app"),
        ];
        for (text, repository) in cases {
            let alias: ImageAlias = text.parse().unwrap();
            assert_eq!((alias.repository.as_str(), alias.digest.to_string().as_str()), (repository, DIGEST));
        }
        assert!("app:1.0".parse::<ImageAlias>().is_err());
    }

    #[test]
    fn package_ids_tell_copies_apart() {
        let a = package_id("pkg:pypi/six@1.16.0", Some(b"a/six-1.16.0.dist-info"));
        let b = package_id("pkg:pypi/six@1.16.0", Some(b"b/six-1.16.0.dist-info"));
        assert_ne!(a, b);
        assert_ne!(a, package_id("pkg:pypi/six@1.16.0", None));
        assert_eq!(a.len(), PACKAGE_ID_DIGITS);
    }

    proptest! {
        #[test]
        fn every_component_key_reads_back(a in "\\PC{1,40}", c in "\\PC{1,40}", v in "\\PC{1,40}") {
            let key = ArtifactKey::Component(ComponentKey::new(&a, &c, &v).unwrap());
            let text = key.to_string();
            prop_assert!(text.is_ascii() && !text.bytes().any(|b| b == crate::key::SEPARATOR));
            prop_assert_eq!(text.parse::<ArtifactKey>().unwrap(), key);
        }

        #[test]
        fn what_parses_prints_back(text in "(component|host|unidentified|image)/[a-zA-Z0-9%/._ ~-]{0,40}") {
            if let Ok(key) = text.parse::<ArtifactKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
