//! The JVMTI agent that reports which classes a JVM loads, and from where; how it is put in place.
//! It must never pull a library into the JVM that it watches, nor keep that from starting.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The shared object, for the architecture of this build, every C library and every JVM from JDK 8 on.
pub static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.so"));

/// Name of the library's file.
pub const FILE_NAME: &str = "libplimsoll_jvmti.so";

/// The variable that adds options to every JVM that starts.
pub const VARIABLE: &str = "JAVA_TOOL_OPTIONS";

/// Writes the library into `directory`, to be loaded by any user's JVM.
///
/// # Errors
/// If it cannot be written.
pub fn write_to(directory: &Path) -> io::Result<PathBuf> {
    let file = directory.join(FILE_NAME);
    fs::write(&file, LIBRARY)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
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
