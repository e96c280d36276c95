//! Wiring of the `plimsoll` command.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_cli::{arguments::Arguments, command, exit};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match command::execute(&arguments) {
        Ok(exit) => exit.code(),
        Err(error) => {
            plimsoll_cli::output::print_error(&error);
            exit::code_of(&error)
        }
    }
}
