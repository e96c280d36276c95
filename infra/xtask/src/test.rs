//! `cargo xtask test`: all that must hold before a change lands, in phases with their durations.
//! It never skips a phase silently and never ends successfully when one failed.

use crate::stack::{Selection, Stack};
use crate::{demo, paths, run, setup};
use anyhow::{bail, ensure};
use std::time::{Duration, Instant};

/// Tests that hang must not eat the whole time that CI has.
const TESTS_LIMIT: Duration = Duration::from_secs(50 * 60);

/// What the phases found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// A phase that is not made of tests counts as one.
    fn phase(&mut self, ok: bool) {
        if ok { self.passed += 1 } else { self.failed += 1 }
    }

    /// Adds a closing line of libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add_result_line(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Runs every phase; the last line is the summary.
pub fn run() -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let mut phases = Vec::new();
    let result = phases_in_order(&mut tally, &mut phases);
    if let Err(error) = &result {
        eprintln!("xtask: {error:#}");
        tally.failed += 1;
    }
    println!("\nphases:");
    for (name, ok, duration) in &phases {
        println!("  {:>7.1} s  {name}{}", duration.as_secs_f64(), if *ok { "" } else { "  FAILED" });
    }
    let skipped = if tally.skipped > 0 { format!(", {} skipped", tally.skipped) } else { String::new() };
    println!("{} passed, {} failed{skipped}", tally.passed, tally.failed);
    // The summary stays the last line.
    std::process::exit(if tally.failed == 0 && tally.passed > 0 { 0 } else { 1 });
}

type Phases = Vec<(&'static str, bool, Duration)>;

fn phases_in_order(tally: &mut Tally, phases: &mut Phases) -> anyhow::Result<()> {
    let mut phase = |name: &'static str, work: &mut dyn FnMut() -> anyhow::Result<()>| -> bool {
        println!("\n== {name}");
        let begin = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("xtask: {name} failed: {error:#}");
        }
        phases.push((name, result.is_ok(), begin.elapsed()));
        result.is_ok()
    };

    ensure!(phase("setup", &mut setup::everything), "cannot go on without what is missing");
    tally.phase(phase("format", &mut || run::streamed(cargo().args(["fmt", "--all", "--check"]))));
    tally.phase(phase("lints", &mut || {
        run::streamed(&mut lints(&["--workspace", "--all-targets"]))?;
        // The one part of the workspace that another build leaves out.
        run::streamed(lints(&["--package", "plimsoll-runtime-agent"]).env("PLIMSOLL_WITHOUT_EBPF", "1"))
    }));
    let built = phase("build", &mut || {
        run::streamed(cargo().args(["build", "--workspace", "--locked"]))?;
        run::streamed(cargo().args(["test", "--workspace", "--locked", "--no-run"]))
    });
    ensure!(built, "what does not build cannot be tested");

    let mut servers = None;
    let started = phase("servers", &mut || {
        servers = Some(Stack::start(&paths::target().join("test/stack"), &selection())?);
        Ok(())
    });
    let Some(stack) = servers else { bail!("the tests need the servers") };
    tally.phase(started);
    phase("tests", &mut || {
        let mut tests = cargo();
        tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        tests.envs(stack.variables().iter().map(|(name, value)| (name, value)));
        let failed_before = tally.failed;
        let ok = run::lines(&mut tests, TESTS_LIMIT, |line| {
            println!("{line}");
            tally.add_result_line(line);
        })?;
        if !ok && tally.failed == failed_before {
            // A test program crashed, so it printed no result.
            tally.failed += 1;
        }
        ensure!(ok, "cargo test failed");
        Ok(())
    });
    // The demo starts servers of its own; two stacks at once would not leave it memory and cores.
    let stopped = phase("stop servers", &mut || stack.stop());
    tally.phase(stopped);
    tally.phase(phase("demo", &mut demo_check));
    Ok(())
}

/// Without root there is no private dockerd; CI has to have it.
fn selection() -> Selection {
    let root = rustix::process::geteuid().is_root();
    if !root && std::env::var_os("CI").is_none() {
        println!("not root: no private dockerd, tests with containers will skip");
        return Selection { docker: false, ..Selection::ALL };
    }
    Selection::ALL
}

/// The end-to-end run on real input (`cargo xtask demo --check`).
fn demo_check() -> anyhow::Result<()> {
    demo::run(&demo::Options::checking())
}

fn lints(of: &[&str]) -> std::process::Command {
    let mut command = cargo();
    command.arg("clippy").args(of).args(["--locked", "--", "-D", "warnings"]);
    command
}

fn cargo() -> std::process::Command {
    // Set when this runs as `cargo xtask`; a toolchain's own cargo then.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = run::command(cargo);
    command.current_dir(paths::workspace()).env("CARGO_TERM_COLOR", "never");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let check = |lines: &[&str], expect: (u64, u64, u64)| {
            let mut tally = Tally::default();
            lines.iter().for_each(|line| tally.add_result_line(line));
            assert_eq!((tally.passed, tally.failed, tally.skipped), expect, "{lines:?}");
        };
        let ok =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        let bad = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.01s";
        check(&[], (0, 0, 0));
        check(&[ok], (3, 0, 1));
        check(&["running 3 tests", ok, "", bad], (5, 4, 1));
        check(&["test tests::passed ... ok", "test result: what. 9 passed of"], (0, 0, 0));
    }
}
