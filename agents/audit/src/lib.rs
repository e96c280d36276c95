//! The LD_AUDIT library (rtld-audit(7)) that reports every object a program loads, and how it is put in place.
//! It must never pull a library into the process that it watches, nor make the linker say anything there.

pub mod unseen;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The shared object, for the architecture of this build. It reports nothing before [`configured`] gave it its paths.
pub static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/native.so"));

/// The same for 32-bit programs; empty where there is none.
pub static LIBRARY_32_BIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/32-bit.so"));

/// Name of the library's file.
pub const FILE_NAME: &str = "libplimsoll_audit.so";

/// Longest path that can be set in the library, in bytes.
pub const PATH_MAX_BYTES: usize = SLOT_BYTES - 1;

/// Room for one path; audit.c has the same number.
const SLOT_BYTES: usize = 512;
const REPORT_SLOT: &[u8] = b"\x1eplimsoll: FIFO of reports\x1e";
const LOSS_SLOT: &[u8] = b"\x1eplimsoll: file of losses\x1e";

/// What the linker may put for `$PLATFORM` (ld.so(8)): the kernel's name, or what glibc makes of the processor.
#[cfg(target_arch = "x86_64")]
const PLATFORMS: &[&str] = &["x86_64", "haswell", "xeon_phi"];
#[cfg(target_arch = "aarch64")]
const PLATFORMS: &[&str] = &["aarch64"];
const PLATFORMS_32_BIT: &[&str] = &["i386", "i486", "i586", "i686"];

/// The library with the paths that it works with: the FIFO that takes reports, and the file that grows by one byte per
/// lost report. A process finds them without its environment, so that nested observers do not disturb each other.
///
/// # Errors
/// If a path is not absolute, has a NUL, or is longer than [`PATH_MAX_BYTES`].
pub fn configured(library: &[u8], reports: &Path, losses: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = library.to_vec();
    for (slot, path) in [(REPORT_SLOT, reports), (LOSS_SLOT, losses)] {
        let path = path.as_os_str().as_bytes();
        if !path.starts_with(b"/") || path.contains(&0) || path.len() > PATH_MAX_BYTES {
            let message = format!(
                "{} cannot be set in the audit library: it must be an absolute path of at most {PATH_MAX_BYTES} \
                 bytes; choose another directory with TMPDIR",
                String::from_utf8_lossy(path)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let place = bytes
            .windows(slot.len())
            .position(|window| window == slot)
            .and_then(|at| bytes.get_mut(at..at + SLOT_BYTES))
            .ok_or_else(|| {
                io::Error::other("the audit library has no room for its paths: it was not built whole")
            })?;
        place.fill(0);
        place[..path.len()].copy_from_slice(path);
    }
    Ok(bytes)
}

/// Writes the library below `directory`, once for each kind of program that its linker takes it for, and gives the word
/// for `LD_AUDIT`. The linker of a 32-bit program would complain on its standard error of a 64-bit library; `$PLATFORM`
/// in the word leads each linker to its own.
///
/// # Errors
/// If a path does not fit ([`configured`]), or the files cannot be written.
pub fn write_to(directory: &Path, reports: &Path, losses: &Path) -> io::Result<OsString> {
    let small = if LIBRARY_32_BIT.is_empty() { &[][..] } else { PLATFORMS_32_BIT };
    for (library, platforms) in [(LIBRARY, PLATFORMS), (LIBRARY_32_BIT, small)] {
        for (index, platform) in platforms.iter().enumerate() {
            let folder = directory.join(platform);
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            let file = folder.join(FILE_NAME);
            if index > 0 {
                fs::hard_link(directory.join(platforms[0]).join(FILE_NAME), file)?;
                continue;
            }
            fs::write(&file, configured(library, reports, losses)?)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
    }
    let mut word = directory.as_os_str().to_os_string();
    word.push(format!("/$PLATFORM/{FILE_NAME}"));
    Ok(word)
}

/// The library for programs of this build's own kind, where `$PLATFORM` is not to be used: some sandboxes do not tell
/// it to programs.
pub fn plain_word(directory: &Path) -> OsString {
    directory.join(PLATFORMS[0]).join(FILE_NAME).into_os_string()
}
