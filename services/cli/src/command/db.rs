//! `plimsoll db`: builds and describes the vulnerability database.
//! It must never replace a good database by one that could not be built.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use plimsoll_vulndb::{Progress, build, status};

use crate::Exit;
use crate::arguments::{Db, Format};
use crate::config::CliConfig;
use crate::output::{fitted, print, print_json};

pub fn execute(db: &Db, config: &CliConfig) -> anyhow::Result<Exit> {
    match db {
        Db::Build { osv, file } => {
            let path = file.clone().unwrap_or_else(|| config.database_path());
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("making {}", directory.display()))?;
            }
            let terminal = std::io::stderr().is_terminal();
            let report = build(osv, &path, &mut |progress| {
                if terminal {
                    eprint!("\r\x1b[K{}", fitted(&describe(&progress)));
                }
            });
            if terminal {
                eprint!("\r\x1b[K");
            }
            let report = report?;
            if report.warnings_dropped > 0 {
                eprintln!("warning: {} more warnings were left out", report.warnings_dropped);
            }
            print(&format!(
                "{}: {} records for {} packages, {:.1} MB, version {}\n",
                report.path.display(),
                report.records,
                report.packages,
                report.file_size_bytes as f64 / 1e6,
                report.database_version
            ))?;
            Ok(Exit::Done)
        }
        Db::Status { output } => {
            let status = status(&config.database_path())?;
            if *output == Format::Json {
                print_json(&status)?;
                return Ok(Exit::Done);
            }
            print(&format!("{}  version {}\n", status.path.display(), status.database_version))?;
            print(&format!(
                "built {}, newest record {}, {} records ({} withdrawn) for {} packages, {:.1} MB\n\n",
                time(status.built_ms),
                time(status.newest_modified_ms),
                status.records,
                status.withdrawn,
                status.packages,
                status.file_size_bytes as f64 / 1e6
            ))?;
            let mut table = crate::output::Table::new(&["FEED", "RECORDS", "WITHDRAWN", "NEWEST"]);
            for feed in &status.feeds {
                table.row(vec![
                    feed.name.clone().into(),
                    feed.records.to_string().into(),
                    feed.withdrawn.to_string().into(),
                    time(feed.newest_modified_ms).into(),
                ]);
            }
            print(&(table.render() + "\n"))?;
            let mut table = crate::output::Table::new(&["ECOSYSTEM", "PACKAGES", "ENTRIES", "VERSION ORDER"]);
            for ecosystem in &status.ecosystems {
                let order =
                    if ecosystem.matched { &ecosystem.version_order } else { "none: not matched yet" };
                table.row(vec![
                    ecosystem.name.clone().into(),
                    ecosystem.packages.to_string().into(),
                    ecosystem.affected.to_string().into(),
                    order.into(),
                ]);
            }
            print(&table.render())?;
            Ok(Exit::Done)
        }
    }
}

fn time(ms: i64) -> String {
    plimsoll_portal::time::short(ms).unwrap_or_else(|| "unknown".to_owned())
}

fn describe(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Reading { ecosystem, done, total } => {
            format!("reading {ecosystem}: {done} of {total} records")
        }
        Progress::Indexing { records } => format!("indexing {records} records"),
        Progress::Writing { bytes } => format!("writing {} kB", bytes / 1000),
    }
}
