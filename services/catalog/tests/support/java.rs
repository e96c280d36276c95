//! The JDK's tools, and real jars: those of the development stack's broker.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The jars of the broker; `None` (said why) where `cargo xtask test` never ran.
pub fn kafka() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let jars = base.join("plimsoll/kafka-4.4.0/libs");
    if !jars.is_dir() {
        super::skip(&format!("{} is not there: run cargo xtask test once", jars.display()));
        return None;
    }
    Some(jars)
}

/// Where a tool of the JDK is.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(tool)).find(|file| file.is_file())
}

/// Whether there is a JDK, not only a runtime.
pub fn has_jdk() -> bool {
    super::has("javac", "--version") && super::has("jlink", "--version")
}

/// Runs a tool and gives its standard output.
pub fn tool(name: &str, directory: &Path, arguments: &[&str]) -> String {
    super::run(Command::new(name).args(arguments).current_dir(directory)).unwrap()
}

/// A jar of these files, made in a directory by the JDK's own tool.
pub fn jar(directory: &Path, name: &str, files: &[(&str, &[u8])]) {
    let content = directory.join(format!("{name}.d"));
    for (path, bytes) in files {
        let file = content.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    let to = directory.join(name);
    tool("jar", &content, &["--create", "--file", to.to_str().unwrap(), "."]);
    std::fs::remove_dir_all(content).unwrap();
}
