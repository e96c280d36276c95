//! Where the time of a JVM goes, kernel and waiting for memory included: perf samples its stacks by a clock, which needs no
//! counters of the processor.
//! It must never take a sample for an agent's whose stack does not say so.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::counts::{Count, Counts, FUNCTIONS, OWN_THREAD};

/// Not a divisor of what the kernel or the JVM do periodically.
const SAMPLES_PER_SECOND: u64 = 9_973;
const NANOSECONDS_PER_SAMPLE: u64 = 1_000_000_000 / SAMPLES_PER_SECOND;

/// perf, and where it writes.
pub struct Sampler {
    data: PathBuf,
}

impl Sampler {
    pub fn new(scratch: &Path) -> Self {
        Self { data: scratch.join("perf.data") }
    }

    /// A command that runs `program` while its stacks are sampled.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-e", "task-clock", "-g", "-F"]).arg(SAMPLES_PER_SECOND.to_string());
        command.arg("-o").arg(&self.data).arg("--").arg(program);
        command
    }

    /// What the last run took, in nanoseconds.
    ///
    /// # Errors
    /// If perf cannot read what it wrote.
    pub fn take(&self) -> anyhow::Result<Counts> {
        let mut command = Command::new("perf");
        command.args(["script", "--no-demangle", "-F", "comm,ip,sym", "-i"]).arg(&self.data);
        let mut perf = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("no perf; `apt install linux-perf`")?;
        let counts = read(BufReader::new(perf.stdout.take().context("perf has no output")?));
        ensure!(perf.wait()?.success(), "perf script failed");
        std::fs::remove_file(&self.data)?;
        counts
    }
}

/// Reads samples as perf prints them: the thread's name, a line for each frame from the innermost on, an empty line.
fn read(mut text: impl BufRead) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let (mut thread, mut function): (Option<String>, Option<&'static str>) = (None, None);
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? > 0 {
        let words = String::from_utf8_lossy(&line).trim().to_owned();
        match (&thread, words.as_str()) {
            (Some(name), "") => {
                add(&mut counts, name, function);
                (thread, function) = (None, None);
            }
            (None, "") => {}
            (None, name) => thread = Some(name.to_owned()),
            (Some(_), frame) => {
                let symbol = frame.split_once(' ').map_or("", |(_, symbol)| symbol);
                let found = FUNCTIONS.iter().find(|(_, begin)| symbol.starts_with(begin));
                // The outermost one, as instructions are counted.
                function = found.map(|(label, _)| *label).or(function);
            }
        }
        line.clear();
    }
    ensure!(counts.process.entries > 0, "perf took no samples");
    Ok(counts)
}

fn add(counts: &mut Counts, thread: &str, function: Option<&'static str>) {
    let sample = Count { cost: NANOSECONDS_PER_SAMPLE, system_calls: 0, entries: 1 };
    counts.process += sample;
    if thread == OWN_THREAD {
        counts.own_thread += sample;
    } else if let Some(label) = function {
        *counts.asked.entry(label).or_default() += sample;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_count_where_their_stacks_say() {
        let text = "java \n\t  aa fstat\n\t bb _ZN11JvmtiExport25post_class_file_load_hookE6\n\
                    \t cc _ZN12KlassFactory33check_shared_class_file_load_hookE5\n\t dd main\n\n\
                    plimsoll \n\t  aa _ZN11JvmtiExport13post_vm_deathEv\n\n\
                    C1 CompilerThre \n\t aa [unknown]\n\t ffff\n\njava\n\n";
        let counts = read(text.as_bytes()).unwrap();
        assert_eq!((counts.process.entries, counts.own_thread.entries), (4, 1));
        let asked: Vec<_> = counts.asked.iter().map(|(label, count)| (*label, count.entries)).collect();
        assert_eq!(asked, [("ClassFileLoadHook of shared classes", 1)]);
        assert_eq!(counts.agent().cost, 2 * NANOSECONDS_PER_SAMPLE);
        assert!(read(&b"\n"[..]).is_err());
    }
}
