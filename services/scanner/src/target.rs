//! What to scan, in the words of the command line.
//! It must never guess between two readings of a target: a prefix decides.

use std::path::PathBuf;

use plimsoll_schemas::identity::{ComponentKey, PART_MAX_BYTES};

use crate::ScanError;

/// The user's names for what is scanned.
pub type Component = ComponentKey;

/// What to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory that belongs to a component (`-s fs`).
    Directory(PathBuf),
    /// The root of a host (`-s host`).
    Host(PathBuf),
    /// An image (`-s image`).
    Image(ImageSource),
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// An image of the running container engine, by name or id.
    Docker(String),
    /// A tar file, as written by `docker save` or holding an OCI layout.
    Archive(PathBuf),
    /// A directory with an OCI image layout.
    OciLayout(PathBuf),
}

impl Target {
    /// Reads `-s SOURCE TARGET`.
    ///
    /// # Errors
    /// [`ScanError::BadTarget`], naming what was expected.
    pub fn parse(source: &str, target: &str) -> Result<Self, ScanError> {
        if target.is_empty() && source != "host" {
            return Err(ScanError::BadTarget("the target is empty; name a directory or an image".to_owned()));
        }
        match source {
            "fs" => Ok(Self::Directory(PathBuf::from(target))),
            "host" => Ok(Self::Host(PathBuf::from(if target.is_empty() { "/" } else { target }))),
            "image" => ImageSource::parse(target).map(Self::Image),
            other => Err(ScanError::BadTarget(format!("unknown source {other:?}; use fs, image or host"))),
        }
    }
}

impl ImageSource {
    fn parse(target: &str) -> Result<Self, ScanError> {
        let (prefix, rest) = target.split_once(':').unwrap_or(("", target));
        match (prefix, rest) {
            ("docker" | "archive" | "oci", "") => Err(ScanError::BadTarget(format!(
                "{target:?} names no image; write docker:NAME, archive:FILE or oci:DIRECTORY"
            ))),
            ("docker", name) => Ok(Self::Docker(name.to_owned())),
            ("archive", path) => Ok(Self::Archive(PathBuf::from(path))),
            ("oci", path) => Ok(Self::OciLayout(PathBuf::from(path))),
            _ => Ok(Self::Docker(target.to_owned())),
        }
    }

    /// The image as the user named it, without the prefix.
    pub fn name(&self) -> String {
        match self {
            Self::Docker(name) => name.clone(),
            Self::Archive(path) | Self::OciLayout(path) => path.display().to_string(),
        }
    }
}

/// Reads the three names; all or none must be given.
///
/// # Errors
/// [`ScanError::BadTarget`] if only some are given, [`ScanError::Identity`] if one is invalid.
pub fn component(
    application: Option<&str>,
    component: Option<&str>,
    version: Option<&str>,
) -> Result<Option<Component>, ScanError> {
    match (application, component, version) {
        (None, None, None) => Ok(None),
        (Some(a), Some(c), Some(v)) => {
            for (option, name) in [("-a", a), ("-c", c), ("-V", v)] {
                if name.is_empty() || name.len() > PART_MAX_BYTES {
                    return Err(ScanError::BadTarget(format!(
                        "{option} {name:?}: give a name of 1 to {PART_MAX_BYTES} bytes"
                    )));
                }
            }
            Ok(Some(ComponentKey::new(a, c, v)?))
        }
        _ => Err(ScanError::BadTarget(
            "application, component and version belong together; give -a, -c and -V, or none of them"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_targets() {
        let docker = |name: &str| Target::Image(ImageSource::Docker(name.into()));
        let cases = [
            ("fs", "app", Target::Directory("app".into())),
            ("host", "", Target::Host("/".into())),
            ("image", "docker:web:1", docker("web:1")),
            ("image", "registry:5000/web:1", docker("registry:5000/web:1")),
            ("image", "archive:a:b.tar", Target::Image(ImageSource::Archive("a:b.tar".into()))),
            ("image", "oci:layout", Target::Image(ImageSource::OciLayout("layout".into()))),
        ];
        for (source, target, expected) in cases {
            assert_eq!(Target::parse(source, target).unwrap(), expected, "{source} {target}");
        }
        assert!(Target::parse("fs", "").is_err());
        for (source, target) in [("vm", "x"), ("image", "archive:"), ("image", "docker:")] {
            assert!(Target::parse(source, target).is_err(), "{source} {target}");
        }
    }

    #[test]
    fn names_belong_together() {
        assert!(component(None, None, None).unwrap().is_none());
        assert!(component(Some("a"), Some("b"), Some("c")).unwrap().is_some());
        assert!(component(Some("a"), None, Some("c")).is_err());
        assert!(component(Some(""), Some("b"), Some("c")).is_err());
    }
}
