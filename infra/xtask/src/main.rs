//! Set-up, development stack, test and demo commands of the repository (`cargo xtask …`).
//! It must stay quick to build and never depend on a crate of the product.
#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod cache;
mod cli;
mod demo;
mod http;
mod paths;
mod process;
mod run;
mod services;
mod setup;
mod signals;
mod stack;
mod test;

use clap::Parser;
use cli::{Arguments, Command, StackCommand, StackDirectory};
use stack::{Selection, Stack};
use std::process::ExitCode;

fn main() -> ExitCode {
    match signals::install().and_then(|()| run_command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_command() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Setup => setup::everything(),
        Command::Test => test::run(),
        Command::Demo(options) => demo::run(&options),
        Command::Up { at, database } => services::up(&at.path(), database.as_deref()),
        Command::Down { at, keep_data } => open(at)?.down(keep_data),
        Command::Stack(command) => stack_command(command),
    }
}

fn open(at: StackDirectory) -> anyhow::Result<Stack> {
    Stack::open(&at.path())
}

fn stack_command(command: StackCommand) -> anyhow::Result<()> {
    match command {
        StackCommand::Up { at, only } => {
            let mut stack = open(at)?;
            stack.up(&Selection::parse(&only)?)?;
            print!("{}", stack.describe());
            println!("variables for tests: {}", stack.env_file().display());
            Ok(())
        }
        StackCommand::Run { dir, only, command } => {
            stack::run_within(dir, &Selection::parse(&only)?, &command)
        }
        StackCommand::Down { at, keep_data } => open(at)?.down(keep_data),
        StackCommand::Status { at } => {
            let stack = open(at)?;
            print!("{}", stack.describe());
            stack.all_ready()
        }
        StackCommand::Restart { at, server } => open(at)?.restart(&server),
        StackCommand::Kill { at, server } => open(at)?.kill(&server),
        StackCommand::Pause { at, server } => open(at)?.pause(&server),
        StackCommand::Resume { at, server } => open(at)?.resume(&server),
    }
}
