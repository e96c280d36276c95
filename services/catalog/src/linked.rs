//! Symbolic links in place of directories that hold packages: where each leads, and a warning if that is not in the tree.
//! It must never follow a link out of the tree.

use crate::tree::{FileKind, FileTree, path};
use crate::warning::Warnings;

/// Names of directories that hold the packages of an application.
const NAMES: [&[u8]; 5] = [b"node_modules", b"site-packages", b"dist-packages", b".venv", b"venv"];

/// Whether a link is worth a warning if it leads out of the tree.
pub(crate) fn is_of_packages(link: &[u8]) -> bool {
    NAMES.contains(&path::file_name(link))
}

/// The directory of the tree that a link leads to; `None` if that is not in the tree.
pub(crate) fn directory_of(tree: &dyn FileTree, link: &[u8]) -> Option<Vec<u8>> {
    let target = tree.metadata(link).ok()?.symlink_target?;
    let root = path::normalize(tree.root_path());
    let within_root = |path: &[u8]| match root.is_empty() {
        true => Some(path.to_vec()),
        false if path == root => Some(Vec::new()),
        false => path.strip_prefix(&root[..])?.strip_prefix(b"/").map(<[u8]>::to_vec),
    };
    let place = if target.first() == Some(&b'/') {
        // The root of another system names what it holds as that system does.
        within_root(&path::normalize(&target)).unwrap_or_else(|| link.to_vec())
    } else {
        let absolute = path::join(&root, path::parent(link));
        within_root(&path::normalize_from(&absolute, &target))?
    };
    let found = tree.resolve(&place).ok()?;
    (found.metadata.kind == FileKind::Directory).then_some(found.path)
}

/// Warns of those of `links` that lead out of the tree: what they hold is not listed.
pub(crate) fn warn(tree: &dyn FileTree, links: &[Vec<u8>], warnings: &mut Warnings) {
    for link in links.iter().filter(|link| directory_of(tree, link).is_none()) {
        let target = tree.metadata(link).ok().and_then(|found| found.symlink_target).unwrap_or_default();
        let message = format!(
            "is a symbolic link to {}, which is not in what is scanned: its packages are not listed",
            path::display(&target)
        );
        let remedy = "scan the directory that it leads to, or mount or copy that directory here";
        warnings.push("leads-out", &path::display(link), message, remedy);
    }
}
