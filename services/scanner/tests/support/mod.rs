//! Builds images for the tests, layer by layer, in every container format.
//! It must never use the reader under test.

#![allow(dead_code)]

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

pub const STATUS: &str = "\
Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u10
Description: C library

Package: openssl
Status: install ok installed
Architecture: amd64
Version: 3.0.11-1~deb12u1
Depends: libc6 (>= 2.34)
Description: toolkit
";

pub const OS_RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n";

/// One entry of a layer.
pub enum File<'a> {
    Text(&'a str),
    Directory,
    Symlink(&'a str),
    HardLink(&'a str),
    Device,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer as an uncompressed tar stream. Paths are written as they are, `..` and all.
pub fn layer(files: &[(&str, File<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, file) in files {
        let mut header = tar::Header::new_gnu();
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_mode(0o644);
        header.set_size(0);
        let mut data: &[u8] = b"";
        match file {
            File::Text(text) => {
                data = text.as_bytes();
                header.set_size(data.len() as u64);
                header.set_entry_type(tar::EntryType::Regular);
            }
            File::Directory => header.set_entry_type(tar::EntryType::Directory),
            File::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).unwrap();
            }
            File::HardLink(target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_link_name_literal(target).unwrap();
            }
            File::Device => header.set_entry_type(tar::EntryType::Char),
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The configuration of an image with these layers.
pub fn configuration(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({"created_by": "COPY . ."})).collect();
    serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history
    }))
    .unwrap()
}

/// Writes an archive as `docker save` did before it wrote OCI layouts. Returns the config digest.
pub fn docker_archive(path: &Path, layers: &[Vec<u8>]) -> String {
    let config = configuration(layers);
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let names: Vec<String> = (0..layers.len()).map(|index| format!("layer{index}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": ["demo:1"], "Layers": names}]);
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    };
    for (name, layer) in names.iter().zip(layers) {
        add(name, layer);
    }
    add(&config_name, &config);
    add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    builder.finish().unwrap();
    digest(&config)
}

/// Writes an OCI layout with gzipped layers, an index within an index and an attestation beside the image.
/// Returns the config digest.
pub fn oci_layout(directory: &Path, layers: &[Vec<u8>]) -> String {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let name = digest(bytes);
        std::fs::write(blobs.join(name.trim_start_matches("sha256:")), bytes).unwrap();
        name
    };
    let config = configuration(layers);
    let config_digest = put(&config);
    let layer_media = "application/vnd.oci.image.layer.v1.tar+gzip";
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            let packed = gzip(layer);
            json!({"mediaType": layer_media, "digest": put(&packed), "size": packed.len()})
        })
        .collect();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": descriptors
    }))
    .unwrap();
    let architecture = plimsoll_scanner::image::node_architecture();
    let media = "application/vnd.oci.image.manifest.v1+json";
    let inner = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [
        {"mediaType": media, "digest": digest(b"other platform"), "size": 1,
         "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": media, "digest": digest(b"attestation"), "size": 1,
         "platform": {"os": "unknown", "architecture": "unknown"}},
        {"mediaType": media, "digest": put(&manifest), "size": manifest.len(),
         "platform": {"os": "linux", "architecture": architecture}}
    ]}))
    .unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": put(&inner), "size": inner.len(),
        "annotations": {"io.containerd.image.name": "registry.example/demo:1"}
    }]});
    std::fs::write(directory.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    config_digest
}
