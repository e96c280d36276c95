//! Builds a database and prints the report: `cargo run -p plimsoll-vulndb --example build -- OSV_DIR OUTPUT`.
//! For development only; never a replacement of `plimsoll db build`.

#![allow(clippy::print_stdout)]

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let osv_dir = arguments.next().context("give the directory of the OSV export")?;
    let output = arguments.next().context("give the output file")?;
    let start = Instant::now();
    let report = plimsoll_vulndb::build(&osv_dir, &output, &mut |_| ())?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    println!("built in {:?}", start.elapsed());
    println!("{}", serde_json::to_string_pretty(&plimsoll_vulndb::status(&output)?)?);
    Ok(())
}
