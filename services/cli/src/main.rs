//! Wiring of the `plimsoll` command.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_cli::{arguments::Arguments, command, exit};

fn main() -> ExitCode {
    // The same program, started by `run` to attach to a JVM.
    if let Some(code) = plimsoll_runtime_agent::java::helper::run_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    match command::execute(&arguments) {
        Ok(exit) => exit.code(),
        Err(error) => {
            plimsoll_cli::output::print_error(&error);
            exit::code_of(&error)
        }
    }
}
