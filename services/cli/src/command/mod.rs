//! Carries out one command.
//! It must never start a server, nor ask one that is not configured.

mod container;
mod db;
mod detached;
mod report;
mod run;
mod scan;
mod signals;

use clap::CommandFactory;
use plimsoll_kit::config::load;
use plimsoll_kit::lifecycle::ServiceInfo;

use crate::Exit;
use crate::arguments::{Arguments, Command, Names};
use crate::config::CliConfig;
use crate::exit::UsageError;

/// Name of the command as a service: in configuration paths, logs and client ids.
pub const NAME: &str = "cli";

/// Carries out the command.
///
/// # Errors
/// What kept it from its end; [`crate::exit::code_of`] gives the exit code.
pub fn execute(arguments: &Arguments) -> anyhow::Result<Exit> {
    if let Some(Command::Completions { shell }) = &arguments.command {
        clap_complete::generate(*shell, &mut Arguments::command(), "plimsoll", &mut std::io::stdout());
        return Ok(Exit::Done);
    }
    let loaded = load::<CliConfig>(NAME, &arguments.config).map_err(|error| UsageError(error.to_string()))?;
    if arguments.config.print_config {
        crate::output::print(&loaded.print())?;
        return Ok(Exit::Done);
    }
    let Some(command) = &arguments.command else {
        return Err(
            UsageError("name a command: scan, run, report or db; see plimsoll --help".to_owned()).into()
        );
    };
    let mut config = loaded.value;
    quiet_unless_asked(&mut config, command, &loaded.sources.keys().cloned().collect::<Vec<_>>());
    let _telemetry = plimsoll_kit::telemetry::init(info(), &config.telemetry)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match command {
        Command::Scan(scan) => scan::execute(scan, &config),
        Command::Run(run) => run::execute(run, &config),
        Command::Report(report) => report::execute(report, &config),
        Command::Db(db) => db::execute(db, &config),
        Command::Completions { .. } => Ok(Exit::Done),
    }
}

/// The command as its services know it.
pub fn info() -> ServiceInfo {
    ServiceInfo::new(NAME, env!("CARGO_PKG_VERSION"))
}

/// Logs are for services; on a terminal only warnings are wanted, unless the user set a level or asked for more. What the
/// join says of partitions means nothing where there is no broker.
fn quiet_unless_asked(config: &mut CliConfig, command: &Command, set: &[String]) {
    let verbose = match command {
        Command::Scan(scan) => scan.verbose,
        Command::Run(run) => run.verbose,
        _ => false,
    };
    if !set.iter().any(|key| key == "telemetry.log_level") {
        config.telemetry.log_level =
            if verbose { "plimsoll=info,plimsoll_correlator=warn,warn" } else { "warn" }.to_owned();
    }
}

/// The three names, which `run` and `report` need.
fn component(names: &Names, why: &str) -> anyhow::Result<plimsoll_scanner::Component> {
    let component = optional_component(names)?;
    Ok(component.ok_or_else(|| UsageError(format!("{why}; name the component with -a, -c and -V")))?)
}

fn optional_component(names: &Names) -> anyhow::Result<Option<plimsoll_scanner::Component>> {
    let found = plimsoll_scanner::target::component(
        names.application.as_deref(),
        names.component.as_deref(),
        names.version.as_deref(),
    )?;
    Ok(found)
}
