//! Set-up, development stack, test and demo commands of the repository (`cargo xtask …`).
//! It must stay quick to build and never depend on a crate of the product.
#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod cache;
mod http;
mod paths;
mod process;
mod run;
mod setup;
mod signals;
mod stack;
mod test;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, development stack, tests and demo of Plimsoll")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need (with apt where permitted, else it is named)
    Setup,
    /// Everything that CI checks: format, lints, build, all tests with real servers, the demo
    Test,
    /// The real servers that development and tests use, on free loopback ports
    #[command(subcommand)]
    Stack(StackCommand),
}

#[derive(clap::Args, Clone)]
struct StackDirectory {
    /// Where this stack keeps its data, logs and `env` file; another directory is another stack
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum StackCommand {
    /// Start servers and wait until they answer; servers that run already are left alone
    Up {
        #[command(flatten)]
        at: StackDirectory,
        /// Which servers: kafka,registry,clickhouse,docker (default: all of them)
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Stop the servers and delete their data (logs stay)
    Down {
        #[command(flatten)]
        at: StackDirectory,
        /// Keep data and ports for the next `up`
        #[arg(long)]
        keep_data: bool,
    },
    /// Show servers, addresses, process ids and logs; fails when one is not ready
    Status {
        #[command(flatten)]
        at: StackDirectory,
    },
    /// Stop one server if it runs (SIGTERM; it may also have been killed) and start it again, with the same ports and data
    Restart {
        #[command(flatten)]
        at: StackDirectory,
        server: String,
    },
    /// Kill one server with SIGKILL; `restart` brings it back
    Kill {
        #[command(flatten)]
        at: StackDirectory,
        server: String,
    },
    /// Freeze one server with SIGSTOP
    Pause {
        #[command(flatten)]
        at: StackDirectory,
        server: String,
    },
    /// Let a frozen server go on with SIGCONT
    Resume {
        #[command(flatten)]
        at: StackDirectory,
        server: String,
    },
}

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
        Command::Stack(command) => stack_command(command),
    }
}

fn stack_command(command: StackCommand) -> anyhow::Result<()> {
    let open = |at: StackDirectory| stack::Stack::open(&at.dir.unwrap_or_else(paths::default_stack));
    match command {
        StackCommand::Up { at, only } => {
            let mut stack = open(at)?;
            stack.up(&stack::Selection::parse(&only)?)?;
            print!("{}", stack.describe());
            println!("variables for tests: {}", stack.env_file().display());
            Ok(())
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
