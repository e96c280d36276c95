//! The command line.
//! Every size has a default that a laptop bears.

use std::path::PathBuf;

use crate::generate::Load;

/// Measures Plimsoll under load on loopback, beside peers in the same run.
///
/// Servers come from `cargo xtask stack run`:
///
///   cargo xtask stack run --only kafka,registry -- cargo run --release -p plimsoll-loadtest -- correlator --peer
#[derive(Debug, clap::Parser)]
#[command(name = "plimsoll-loadtest")]
pub struct Arguments {
    #[command(flatten)]
    pub servers: crate::servers::Servers,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Inputs per second and per CPU-second of the correlator: exactly once, at least once, and Kafka Streams.
    Correlator(CorrelatorOptions),
    /// Correlator and sink together: every row in ClickHouse compared, and the sink's CPU beside ClickHouse's.
    Pipeline(PipelineOptions),
    /// Kills a correlator that holds many keys, and times its first output after the restart.
    Restart(RestartOptions),
    /// The join alone, in this process and without servers, for counting its instructions:
    ///
    /// valgrind --tool=callgrind --toggle-collect='*Correlator::run*' --toggle-collect='*committer::Worker::run*'
    /// plimsoll-loadtest replay --artifacts 5
    Replay(LoadOptions),
    /// What the others start in processes of their own.
    #[command(hide = true)]
    Serve(ServeOptions),
}

/// How large the load is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LoadOptions {
    /// Images.
    #[arg(long, default_value_t = 100)]
    pub artifacts: usize,
    /// Packages of each image.
    #[arg(long, default_value_t = 200)]
    pub packages: usize,
    /// Batches of uses of each image's workload.
    #[arg(long, default_value_t = 40)]
    pub batches: usize,
    /// Uses in a batch.
    #[arg(long, default_value_t = 25)]
    pub items: usize,
}

impl LoadOptions {
    pub fn load(&self) -> Load {
        let Self { artifacts, packages, batches, items } = *self;
        Load { artifacts, packages, batches, items }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct CorrelatorOptions {
    #[command(flatten)]
    pub load: LoadOptions,
    /// Runs of each, by turns; the medians are compared.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Also the same join on Kafka Streams (needs java and mvn).
    #[arg(long)]
    pub peer: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct PipelineOptions {
    #[command(flatten)]
    pub load: LoadOptions,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RestartOptions {
    /// Keys of the state, about.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: usize,
    /// Where the local state lies.
    #[arg(long)]
    pub directory: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// What to serve.
    #[arg(value_enum)]
    pub what: Served,
    /// First part of the topics' names.
    #[arg(long)]
    pub prefix: String,
    /// Local state; in memory without it.
    #[arg(long)]
    pub state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Served {
    Correlator,
    /// The same without transactions.
    CorrelatorAtLeastOnce,
    Sink,
}
