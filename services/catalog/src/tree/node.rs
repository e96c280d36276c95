//! One file of a [`super::MemoryTree`], packed into 32 bytes.
//! Holds no text: names and link targets stand in the tree's arena.

use super::FileKind;

/// No node, no name.
pub(super) const NONE: u32 = u32::MAX;
pub(super) const KIND_SHIFT: u16 = 12;
pub(super) const MODE_MASK: u16 = 0o7777;

// 32 bytes; a field more costs 12 MB on an image of 3 million files.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub size_bytes: u64,
    pub parent: u32,
    pub name: u32,
    pub first_child: u32,
    pub next_sibling: u32,
    /// Regular file: inode. Symbolic link: interned target.
    pub link: u32,
    /// Kind in the upper 4 bits, permission bits below.
    pub mode_and_kind: u16,
    pub layer: u16,
}

/// The removed kind: the node stays linked, so that removing a name costs nothing and adding it again reuses it.
pub(super) const REMOVED: u16 = 15;

impl Node {
    fn raw_kind(&self) -> u16 {
        self.mode_and_kind >> KIND_SHIFT
    }

    pub fn kind(&self) -> FileKind {
        KINDS[self.raw_kind() as usize]
    }

    pub fn is_present(&self) -> bool {
        self.raw_kind() != REMOVED
    }
}

const KINDS: [FileKind; 16] = {
    let mut kinds = [FileKind::Unknown; 16];
    kinds[0] = FileKind::Regular;
    kinds[1] = FileKind::Directory;
    kinds[2] = FileKind::Symlink;
    kinds[3] = FileKind::Fifo;
    kinds[4] = FileKind::Socket;
    kinds[5] = FileKind::CharacterDevice;
    kinds[6] = FileKind::BlockDevice;
    kinds
};

pub(super) fn pack(kind: FileKind, mode: u32) -> u16 {
    let index = KINDS.iter().position(|known| *known == kind).unwrap_or(7);
    ((index as u16) << KIND_SHIFT) | (mode as u16 & MODE_MASK)
}
