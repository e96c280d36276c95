//! The JVMTI agent that reports which classes a JVM loads, and from where; how it is put in place.
//! It must never pull a library into the JVM that it watches, nor keep that from starting.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The shared object, for the architecture of this build, every C library and every JVM from JDK 8 on.
pub static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/native.so"));

/// The same for 32-bit JVMs; empty where there is none.
pub static LIBRARY_32_BIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/32-bit.so"));

/// Name of the library's file.
pub const FILE_NAME: &str = "libplimsoll_jvmti.so";

/// The variable that adds options to every JVM that starts.
pub const VARIABLE: &str = "JAVA_TOOL_OPTIONS";

/// What glibc may put for `$PLATFORM` (ld.so(8)) in the name of a library that a program loads: the kernel's name, or what
/// it makes of the processor. Another C library leaves the word as it is: that folder is for JVMs of this build's own kind.
#[cfg(target_arch = "x86_64")]
const PLATFORMS: &[&str] = &["x86_64", "haswell", "xeon_phi", "$PLATFORM"];
#[cfg(target_arch = "aarch64")]
const PLATFORMS: &[&str] = &["aarch64", "$PLATFORM"];
const PLATFORMS_32_BIT: &[&str] = &["i386", "i486", "i586", "i686"];

/// Writes the library below `directory`, to be loaded by any user's JVM, once for each kind of JVM; gives the name that leads
/// each to its own. Where the kernel tells programs no platform (some sandboxes), it is the name of the own kind alone.
///
/// # Errors
/// If it cannot be written.
pub fn write_to(directory: &Path, platform_is_told: bool) -> io::Result<PathBuf> {
    let small = if LIBRARY_32_BIT.is_empty() { &[][..] } else { PLATFORMS_32_BIT };
    for (library, platforms) in [(LIBRARY, PLATFORMS), (LIBRARY_32_BIT, small)] {
        for (index, platform) in platforms.iter().enumerate() {
            let folder = directory.join(platform);
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            let file = folder.join(FILE_NAME);
            if index > 0 {
                fs::hard_link(directory.join(platforms[0]).join(FILE_NAME), file)?;
                continue;
            }
            fs::write(&file, library)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(directory.join(if platform_is_told { "$PLATFORM" } else { PLATFORMS[0] }).join(FILE_NAME))
}

/// The JVM's option that loads `library` at its start; it reports to the FIFO `reports`.
///
/// # Errors
/// If a path has a character that ends an option in the environment.
pub fn option(library: &Path, reports: &Path) -> io::Result<String> {
    let text = format!("-agentpath:{}={}", library.display(), reports.display());
    let ends =
        |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | char::REPLACEMENT_CHARACTER);
    if text.contains(ends) || library.to_string_lossy().contains('=') {
        let message = format!(
            "{} has a space, a quotation mark or an equals sign, which no path of the JVM's agent may have; choose another \
             directory with TMPDIR",
            library.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(text)
}
