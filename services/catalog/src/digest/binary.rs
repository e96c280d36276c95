//! Which files may be ELF programs or shared libraries: by name and mode bits first, so that most are never opened.
//! Never decides what is in one; the ecosystems' digests do.

use crate::role::is_shared_library;
use crate::tree::path;

/// First bytes of a file by which it is recognised.
pub const BINARY_HEAD_BYTES: usize = 64;

/// Endings of files that are no program whatever their mode bits say (images made on file systems without such bits
/// mark everything executable).
pub(super) const OTHER_EXTENSIONS: [&[u8]; 58] = [
    b"a", b"bz2", b"c", b"cc", b"cfg", b"class", b"conf", b"cpp", b"css", b"csv", b"elc", b"gif", b"go",
    b"gz", b"h", b"hpp", b"htm", b"html", b"ico", b"ini", b"jar", b"java", b"jpg", b"js", b"json", b"list",
    b"log", b"lua", b"map", b"md", b"md5sums", b"mjs", b"mo", b"o", b"pem", b"php", b"pl", b"pm", b"png",
    b"po", b"py", b"pyc", b"rb", b"rs", b"rst", b"sh", b"svg", b"tcl", b"toml", b"ts", b"ttf", b"txt",
    b"whl", b"xml", b"xz", b"yaml", b"yml", b"zip",
];

/// Whether a file of this name may be a program or a shared library.
pub(crate) fn is_binary_name(path: &[u8]) -> bool {
    let name = path::file_name(path);
    match memchr::memrchr(b'.', name) {
        Some(dot) => OTHER_EXTENSIONS.binary_search(&&name[dot + 1..]).is_err(),
        None => true,
    }
}

/// Whether the regular file at `path` may be an ELF program or shared library, before anything of it is read.
pub fn may_be_binary(path: &[u8], mode: u32) -> bool {
    let may_be = mode & 0o111 != 0 || is_library_name(path::file_name(path));
    may_be && is_binary_name(path)
}

/// Libraries need no mode bit to be mapped.
fn is_library_name(name: &[u8]) -> bool {
    is_shared_library(name) || name.ends_with(b".node")
}

/// Whether these are the first bytes of a 32 or 64 bit ELF file that can be run or mapped (System V ABI, ELF header).
pub fn is_binary(head: &[u8]) -> bool {
    let [0x7f, b'E', b'L', b'F', 1 | 2, data @ (1 | 2), 1, ..] = head else { return false };
    let Some([low, high]) = head.get(16..18) else { return false };
    let file_type = if *data == 1 { [*low, *high] } else { [*high, *low] };
    // ET_EXEC and ET_DYN.
    matches!(file_type, [2 | 3, 0])
}
