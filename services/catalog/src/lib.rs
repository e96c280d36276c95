//! Package catalogers and file ownership, one folder per ecosystem, pure over a [`FileTree`].
//! Never runs, writes or fetches anything, and never trusts a size, count or path found in an artifact.

pub mod tree;

pub use tree::{DirectoryOptions, DirectoryTree, FileTree, MemoryTree};
