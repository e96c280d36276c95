//! `plimsoll scan`: packages and vulnerabilities of a target, to the terminal and into the pipeline.
//! It must never publish half a scan, nor call a package unused: a scan looks at no use.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use plimsoll_kit::broker::ProducerOptions;
use plimsoll_kit::host::{machine_id, random_id};
use plimsoll_kit::transport::Connections;
use plimsoll_scanner::publish::publish;
use plimsoll_scanner::{Scan, ScanOptions, Target, scan};
use plimsoll_schemas::event::Stamper;
use plimsoll_vulndb::{Database, DatabaseError};

use super::optional_component;
use crate::Exit;
use crate::arguments::{self, Format};
use crate::config::CliConfig;
use crate::local::Local;
use crate::output::{Policy, ResultFile, fitted, print, print_json, print_warnings, scan_json, scan_table};

/// Longest wait for broker and registry, in seconds.
const CONNECT_MAX_SECONDS: u64 = 30;

pub fn execute(arguments: &arguments::Scan, config: &CliConfig) -> anyhow::Result<Exit> {
    let policy = Policy::parse(arguments.output.fail_on.as_deref())?;
    let file = ResultFile::create(&arguments.output)?;
    let target = Target::parse(arguments.source.as_str(), &arguments.target)?;
    let component = optional_component(&arguments.names)?;
    let docker_host = arguments.docker_host.clone().unwrap_or_else(|| config.docker_host());
    let progress = Progress { terminal: std::io::stderr().is_terminal(), verbose: arguments.verbose };
    let options = ScanOptions {
        database: database(config)?,
        docker_host: &docker_host,
        progress: &|text| progress.tell(text),
    };
    let outcome = scan(&target, component.as_ref(), &options);
    progress.clear();
    let scan = outcome?;
    if config.has_broker() {
        publish_to_pipeline(&scan, config)?;
    } else {
        let mut local = Local::open(&config.state_directory())?;
        local.publish_scan(&scan)?;
        local.close()?;
    }
    print_warnings(&scan.manifest.warnings);
    let result = scan_json(&scan);
    file.take_output()?;
    match arguments.output.output {
        Format::Json => print_json(&result)?,
        Format::Table => print(&scan_table(&result, arguments.verbose))?,
    }
    Ok(policy.judge(&result.packages))
}

/// The database, if there is one at the default place; a configured one must be there.
fn database(config: &CliConfig) -> anyhow::Result<Option<Arc<Database>>> {
    match Database::open(&config.database_path()) {
        Ok(database) => Ok(Some(Arc::new(database))),
        Err(DatabaseError::Missing { .. }) if config.database.is_none() => {
            eprintln!(
                "warning: no vulnerability database at {}: packages are not assessed; build one with `plimsoll db build`",
                config.database_path().display()
            );
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn publish_to_pipeline(scan: &Scan, config: &CliConfig) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(CONNECT_MAX_SECONDS);
    connections.prepare_until(deadline).context("the scan was not published")?;
    // Two scans from one host may run at once: each is a producer of its own.
    let id = format!("plimsoll-cli-{}-{}", machine_id()?, random_id());
    let mut producer =
        connections.broker.producer(ProducerOptions::transactional("plimsoll-cli", id.as_str()))?;
    publish(scan, producer.as_mut(), &connections.codec(), &Stamper::new(id, random_id()), None)?;
    Ok(())
}

struct Progress {
    terminal: bool,
    verbose: bool,
}

impl Progress {
    fn tell(&self, text: &str) {
        if self.verbose {
            eprintln!("{text}");
        } else if self.terminal {
            eprint!("\r\x1b[K{}", fitted(text));
        }
    }

    fn clear(&self) {
        if self.terminal && !self.verbose {
            eprint!("\r\x1b[K");
        }
    }
}
