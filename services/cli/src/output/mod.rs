//! What the command prints: tables for people, JSON for programs, errors with their causes.
//! It must never colour what is not a terminal, nor what NO_COLOR forbids.

mod convert;
mod evidence;
mod policy;
mod report;
mod scan;
mod table;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use plimsoll_schemas::events::Warning;

pub use convert::{artifact, observed, package_from_scan, package_from_usage, totals};
pub use evidence::Files;
pub use policy::Policy;
pub use report::report_table;
pub use scan::{ScanResult, scan_json, scan_table};
pub use table::{Cell, Colour, Table};

use crate::arguments;

/// Prints an error with its causes.
pub fn print_error(error: &anyhow::Error) {
    let label = if colours(std::io::stderr().is_terminal()) { "\x1b[1;31merror\x1b[0m" } else { "error" };
    // The causes' texts often repeat each other: a text that holds the next one already is enough.
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    // Nothing can be done if even this cannot be written.
    let _ = writeln!(std::io::stderr(), "{label}: {text}");
}

/// Prints a scan's warnings.
pub fn print_warnings(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("warning: {}: {}; {}", warning.subject, warning.message, warning.remedy);
    }
}

/// Where the result goes instead of standard output, if the user names a file.
pub struct ResultFile(Option<(PathBuf, File)>);

impl ResultFile {
    /// Creates the file, or empties it: before the work, so that a mistake costs nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(arguments: &arguments::Output) -> anyhow::Result<Self> {
        let Some(path) = &arguments.output_file else { return Ok(Self(None)) };
        let file = File::create(path).with_context(|| {
            format!("--output-file {}: it cannot be written; name a place where it can", path.display())
        })?;
        Ok(Self(Some((path.clone(), file))))
    }

    /// Makes the file this process's standard output: what is printed from now on goes there, without colours.
    ///
    /// # Errors
    /// If the system refuses that.
    pub fn take_output(&self) -> anyhow::Result<()> {
        let Some((path, file)) = &self.0 else { return Ok(()) };
        std::io::stdout().flush()?;
        rustix::stdio::dup2_stdout(file).with_context(|| format!("--output-file {}", path.display()))
    }
}

/// Prints a value as indented JSON.
///
/// # Errors
/// If standard output cannot be written, for another reason than that its reader has enough (`| head`).
pub fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from);
    unless_closed(written.and_then(|()| writeln!(out)).and_then(|()| out.flush()))
}

/// Prints a text as it is.
///
/// # Errors
/// As of [`print_json`].
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A reader that has enough is no fault: the exit code still says what was found.
fn unless_closed(written: std::io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// Whether to colour (no-color.org).
pub fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Narrowest terminal that lines are fitted to, in columns.
const MIN_WIDTH: usize = 20;

/// How many columns a line may have: what COLUMNS says, else the terminal's width; `None` where output goes elsewhere.
pub fn terminal_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    let of_terminal = || {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        Some(usize::from(size.ws_col))
    };
    let width = columns.filter(|width| *width > 0).or_else(of_terminal).filter(|width| *width > 0)?;
    Some(width.max(MIN_WIDTH))
}

/// The beginning of a line of progress, so that the terminal does not break it.
pub fn fitted(text: &str) -> String {
    match terminal_width() {
        Some(width) if text.chars().count() >= width => text.chars().take(width - 2).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}
