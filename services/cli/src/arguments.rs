//! The words of the command line.
//! It must never give one letter two meanings in two commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use plimsoll_kit::config::ConfigArgs;

/// Shows which packages an application really loads, joined with what is vulnerable.
///
/// Without a broker configured everything runs in this process and its state is kept below
/// $XDG_STATE_HOME/plimsoll. With kafka.brokers configured (PLIMSOLL_KAFKA_BROKERS, or a configuration file) the same
/// commands feed the pipeline, and reports come from the portal.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  plimsoll db build osv/                                      make the vulnerability database from an OSV export
  plimsoll scan -s fs -a backend -c pythonapp -V 1.0 mydir    find packages and vulnerabilities in a directory
  plimsoll scan -s image docker:web:1.0                       the same in an image of the running Docker
  plimsoll run -a backend -c pythonapp -V 1.0 -- python run.py    run a program and see what it loads
  plimsoll report -a backend -c pythonapp -V 1.0 --vulnerable --used

Exit codes: 0 done, 1 failed, 2 bad usage, 3 the policy of --fail-on is broken; run gives its command's own.
Colours are off where NO_COLOR is set or the output is no terminal.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the packages of a directory, an image or this host, and their vulnerabilities
    Scan(Scan),
    /// Run a command and observe which packages it uses
    Run(Run),
    /// Show the recommendation for each package of a component
    Report(Report),
    /// Build or look at the vulnerability database
    #[command(subcommand)]
    Db(Db),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The names of what is scanned or run.
#[derive(Clone, Debug, Default, Args)]
pub struct Names {
    /// Application
    #[arg(short = 'a', long, value_name = "NAME")]
    pub application: Option<String>,
    /// Component of the application
    #[arg(short = 'c', long, value_name = "NAME")]
    pub component: Option<String>,
    /// Version of the component
    #[arg(short = 'V', long = "component-version", value_name = "VERSION")]
    pub version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// A directory that belongs to one version of a component
    Fs,
    /// A container image: docker:NAME, archive:FILE.tar, oci:DIRECTORY, or a name that the running Docker knows
    Image,
    /// This host's root directory
    Host,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::Image => "image",
            Self::Host => "host",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs; the fields are those of the portal's API
    Json,
}

/// How results are shown and judged.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Write the result to this file, not to standard output, which `run` shares with its command
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,
    /// Exit with code 3 if a vulnerability of at least this severity is found: critical, high, medium or low; with
    /// `used:` before it only packages that are used count, for example used:high
    #[arg(long, value_name = "[used:]SEVERITY")]
    pub fail_on: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll scan -s fs -a backend -c pythonapp -V 1.0 mydir/pythonapp
  plimsoll scan -s image -a backend -c web -V 1.0 docker:web:1.0
  plimsoll scan -s image archive:web.tar -o json
  plimsoll scan -s host")]
pub struct Scan {
    /// What kind of thing to scan
    #[arg(short, long, value_enum, value_name = "SOURCE")]
    pub source: Source,
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub output: Output,
    /// Tell what is going on
    #[arg(short, long)]
    pub verbose: bool,
    /// Container engine, for example unix:///var/run/docker.sock
    #[arg(long, value_name = "ENDPOINT")]
    pub docker_host: Option<String>,
    /// The directory or image
    #[arg(value_name = "TARGET", default_value = "", hide_default_value = true)]
    pub target: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll run -a backend -c pythonapp -V 1.0 -v --cmd python run.py
  plimsoll run -a backend -c pythonapp -V 1.0 -- python run.py
  plimsoll run -a backend -c pythonapp -V 1.0 -o json --output-file used.json -- python run.py | grep ready
  plimsoll run -a backend -c web -V 1.0 -- docker run --rm web:1.0
  plimsoll run -a backend -c web -V 1.0 -- docker run --detach web:1.0

The command gets the terminal, its signals and its exit code as without plimsoll. With root
rights eBPF observes it; without, LD_AUDIT sees shared libraries, and hooks see what Python,
Node.js, Ruby and PHP load; classes of Java come from the JVM either way; -v says which. A
detached container is observed until it stops, or until Ctrl-C, which leaves it running. Where
other processes outlive the command, nothing is called unused: what they load then is not seen.
A command, or shell script, that enters another root directory (chroot, unshare -R, nsenter,
bwrap, docker) gets no hook, of which no language would find the files there: without eBPF
nothing of it is measured; run it as root with eBPF, or `plimsoll run` inside of that root.
JVMs there are attached to. Programs of the command that enter one by themselves run as ever;
what they start there, or with an environment of its own, is not measured without eBPF, and
nothing is called unused then. Two are to be helped: with eBPF a JVM that such a program starts
needs `env -u JAVA_TOOL_OPTIONS` before it, and what static programs or those of Go start there
`env -u LD_AUDIT -u NODE_OPTIONS -u RUBYOPT -u PHP_INI_SCAN_DIR -u JAVA_TOOL_OPTIONS`; else it
refuses to start (\"Could not find agent library\", \"Cannot find module\").")]
pub struct Run {
    #[command(flatten)]
    pub names: Names,
    /// Say which probes observe, and what could not be observed
    #[arg(short, long)]
    pub verbose: bool,
    /// Directory of the component: files below it are its own, all others are the host's [default: the working directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
    /// Do not use eBPF even where it is permitted
    #[arg(long)]
    pub no_ebpf: bool,
    /// Attach to running JVMs of JDK 21 and newer, too, which then print a warning on their standard error; only JVMs that
    /// did not start with the agent are attached to: those in containers, and those without JAVA_TOOL_OPTIONS
    #[arg(long)]
    pub java_attach_from_21: bool,
    /// Container engine, for example unix:///var/run/docker.sock
    #[arg(long, value_name = "ENDPOINT")]
    pub docker_host: Option<String>,
    /// The command with its arguments; everything behind --cmd belongs to it
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND", conflicts_with = "rest")]
    pub cmd: Vec<String>,
    /// The command with its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "cmd")]
    pub rest: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll report -a backend -c pythonapp -V 1.0
  plimsoll report -a backend -c pythonapp -V 1.0 --vulnerable --used --fail-on used:high
  plimsoll report -a backend -c javaapp -V 1.0 --find org.apache.logging
  plimsoll report -a backend -c pythonapp -V 1.0 -o json")]
pub struct Report {
    #[command(flatten)]
    pub names: Names,
    /// Only vulnerable packages
    #[arg(long)]
    pub vulnerable: bool,
    /// Only packages that are used
    #[arg(long, conflicts_with = "unused")]
    pub used: bool,
    /// Only packages that were watched from their workload's first exec and never used
    #[arg(long)]
    pub unused: bool,
    #[command(flatten)]
    pub output: Output,
    /// Show the used files and classes of each package with first and last time, long lists folded
    #[arg(short, long)]
    pub verbose: bool,
    /// Show all used files and classes of each package, however many
    #[arg(long)]
    pub files: bool,
    /// Show only files and classes whose path or name contains TEXT, and the packages that have one
    #[arg(long, value_name = "TEXT")]
    pub find: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Db {
    /// Build the database from an OSV export: a directory with ECOSYSTEM/all.zip files, and kev.json and epss_scores-current.csv if there are such
    Build {
        /// Directory of the export
        #[arg(value_name = "OSV_DIR")]
        osv: PathBuf,
        /// Where to write it [default: the configured database]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show what the database holds
    Status {
        /// Output format
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_words_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn takes_the_commands_as_people_write_them() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let run = |line: &str| match parse(line).unwrap().command {
            Some(Command::Run(run)) => (run.cmd, run.rest),
            other => panic!("{other:?}"),
        };
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            run("plimsoll run -a backend -c pythonapp -V 1.0 -v --cmd python run.py"),
            (words("python run.py"), vec![])
        );
        assert_eq!(
            run("plimsoll run -a b -c p -V 1.0 --cmd python -c 1 -v --root x"),
            (words("python -c 1 -v --root x"), vec![])
        );
        assert_eq!(
            run("plimsoll run -a b -c p -V 1.0 -- docker run --rm web"),
            (vec![], words("docker run --rm web"))
        );
        assert!(parse("plimsoll scan -s fs -a backend -c pythonapp -V 1.0 mydir/pythonapp").is_ok());
        assert!(parse("plimsoll scan -s image docker:web -o json").is_ok());
        assert!(parse("plimsoll run -a b -c p -V 1").is_err());
        assert!(parse("plimsoll report -a b -c p -V 1 --used --unused").is_err());
        assert!(parse("plimsoll report -a b -c p -V 1 -o yaml").is_err());
        assert!(parse("plimsoll db build osv").is_ok());
    }
}
