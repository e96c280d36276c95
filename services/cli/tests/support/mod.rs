//! What tests of the command share: the command itself, with a state of its own and none of this machine's settings.

use std::path::Path;
use std::process::{Command, Stdio};

/// `plimsoll` with its state and data below `directory`.
pub fn plimsoll(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_STATE_HOME", directory.join("state"))
        .env("XDG_DATA_HOME", directory.join("data"))
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    command
}
