//! The lower layers of an overlay: what the image had at a path, before a container changed it.
//! Never merges directories, and never answers "absent" for what it could not read.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::beneath;

/// Most layers of one image; overlayfs takes 500, container engines make at most 128.
pub const MAX_LAYERS: usize = 512;

/// Directories of the layers, the topmost first. See overlayfs.rst of the Linux documentation for whiteouts (character
/// device 0/0) and opaque directories (extended attribute `overlay.opaque`).
#[derive(Debug, Default)]
pub struct LowerLayers {
    directories: Vec<OwnedFd>,
}

/// What one layer says about a path.
enum Says {
    Here(Stat),
    Nothing,
    /// Lower layers do not count: it was deleted, or replaced on the way.
    Hidden,
}

impl LowerLayers {
    /// Layers as received, the topmost first.
    pub fn new(directories: Vec<OwnedFd>) -> Self {
        Self { directories }
    }

    /// The regular file that the image has at `path` (no links in its directories); `None` if it has none.
    ///
    /// # Errors
    /// The system's, when it cannot be told.
    pub fn open_regular(&self, path: &[u8]) -> std::io::Result<Option<File>> {
        match self.find(path)? {
            Some((layer, stat)) if beneath::is_regular(&stat) => beneath::open_regular(layer, path),
            _ => Ok(None),
        }
    }

    /// Whether the image has anything at `path` (no links in its directories).
    ///
    /// # Errors
    /// The system's, when it cannot be told.
    pub fn has(&self, path: &[u8]) -> std::io::Result<bool> {
        Ok(self.find(path)?.is_some())
    }

    /// The topmost layer with something at `path`, and what.
    fn find(&self, path: &[u8]) -> std::io::Result<Option<(&OwnedFd, Stat)>> {
        for layer in &self.directories {
            match says(layer, path)? {
                Says::Here(stat) => return Ok(Some((layer, stat))),
                Says::Hidden => return Ok(None),
                Says::Nothing => {}
            }
        }
        Ok(None)
    }
}

fn says(layer: &OwnedFd, path: &[u8]) -> Result<Says, Errno> {
    match beneath::look(layer, path) {
        Ok(Some(stat)) if is_whiteout(&stat) => return Ok(Says::Hidden),
        Ok(Some(stat)) => return Ok(Says::Here(stat)),
        Ok(None) | Err(Errno::LOOP) => {}
        Err(error) => return Err(error),
    }
    // Absent here: an ancestor tells whether lower layers count.
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for ancestor in ends.map(|end| &path[..end]) {
        match beneath::look(layer, ancestor)? {
            None => return Ok(Says::Nothing),
            Some(stat) if !beneath::is_directory(&stat) => {
                return Ok(Says::Hidden);
            }
            Some(_) if is_opaque(layer, ancestor) => return Ok(Says::Hidden),
            Some(_) => {}
        }
    }
    Ok(Says::Nothing)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Readable with CAP_SYS_ADMIN only, except for `user.`; without it an opaque directory is taken for a plain one, and a
/// new file may count as modified.
fn is_opaque(layer: &OwnedFd, directory: &[u8]) -> bool {
    let Ok(fd) = beneath::open(layer, directory, OFlags::RDONLY | OFlags::DIRECTORY) else { return false };
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(&fd, name, &mut value[..]).is_ok_and(|read| read == 1 && value[0] == b'y')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};
    use std::io::Read;
    use std::path::Path;

    fn layers(root: &Path, names: &[&str]) -> LowerLayers {
        LowerLayers::new(names.iter().map(|name| File::open(root.join(name)).unwrap().into()).collect())
    }

    #[test]
    fn the_topmost_layer_that_says_something_counts() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (path, text) in [
            ("top/a", "top"),
            ("bottom/a", "bottom"),
            ("bottom/d/b", "below"),
            ("bottom/gone/x", "hidden"),
            ("top/gone", "now a file"),
            ("bottom/lib/c", "replaced"),
        ] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("usr/lib", root.join("top/lib")).unwrap();
        let layers = layers(root, &["top", "bottom"]);
        let check = |path: &str, expect: Option<&str>| {
            let text = layers.open_regular(path.as_bytes()).unwrap().map(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            });
            assert_eq!(text.as_deref(), expect, "{path}");
        };
        check("a", Some("top"));
        check("d/b", Some("below"));
        check("gone/x", None);
        check("lib/c", None);
        check("nothing", None);
        check("d", None);
    }

    #[test]
    fn whiteouts_hide() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("top")).unwrap();
        std::fs::create_dir_all(root.join("bottom/d")).unwrap();
        std::fs::create_dir_all(root.join("bottom/e")).unwrap();
        std::fs::write(root.join("bottom/a"), "a").unwrap();
        std::fs::write(root.join("bottom/d/b"), "b").unwrap();
        let device = |name: &str| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, root.join(name), FileType::CharacterDevice, mode, 0)
        };
        if device("top/a").is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "device nodes may not be made here");
            println!("skipped: device nodes may not be made here; run as root");
            return;
        }
        device("top/d").unwrap();
        let layers = layers(root, &["top", "bottom"]);
        assert!(layers.open_regular(b"a").unwrap().is_none());
        assert!(layers.open_regular(b"d/b").unwrap().is_none());
        let has = |path: &[u8]| layers.has(path).unwrap();
        assert_eq!([has(b"d"), has(b"d/b"), has(b"none"), has(b"e")], [false, false, false, true]);
    }
}
