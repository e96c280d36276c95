//! The command line of `cargo xtask`.
//! It only describes; what a command does stands in the module of its name.

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, development stack, tests and demo of Plimsoll")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Install what building and testing need (with apt where permitted, else it is named)
    Setup,
    /// Everything that CI checks: format, lints, build, all tests with real servers, the demo
    Test,
    /// Scan and run a real application and a real container image through the whole pipeline, and show the result
    Demo(crate::demo::Options),
    /// The servers and all services of Plimsoll; they run on until `down`
    Up {
        #[command(flatten)]
        at: StackDirectory,
        /// Vulnerability database for the scanner, made by `plimsoll db build`; without it nothing is assessed
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
    },
    /// Stop what `up` or `stack up` started, and delete its data (logs stay)
    Down {
        #[command(flatten)]
        at: StackDirectory,
        /// Keep data and ports for the next `up`
        #[arg(long)]
        keep_data: bool,
    },
    /// The real servers that development and tests use, on free loopback ports
    #[command(subcommand)]
    Stack(StackCommand),
}

#[derive(clap::Args, Clone)]
pub struct StackDirectory {
    /// Where this stack keeps its data, logs and `env` file; another directory is another stack
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum StackCommand {
    /// Start servers and wait until they answer; servers that run already are left alone
    Up {
        #[command(flatten)]
        at: StackDirectory,
        /// Which servers: kafka,registry,clickhouse,docker (default: all of them)
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Start servers, run a command with the variables for tests, stop the servers
    Run {
        /// Directory of this stack, which nothing else may use [default: a new one below target]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Which servers: kafka,registry,clickhouse,docker (default: all of them)
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
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

impl StackDirectory {
    pub fn path(self) -> PathBuf {
        self.dir.unwrap_or_else(crate::paths::default_stack)
    }
}
