//! Start-up of a JVM application without an agent, with ours, and with one whose ClassFileLoadHook does nothing: by its time,
//! by samples of where that goes, or by the instructions that it executes.
//! It must never time one of them apart from the others: the runs alternate, since machines change their speed.

mod application;
mod counts;
mod instructions;
mod samples;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plimsoll_runtime_agent::hooks::report::JvmReport;
use plimsoll_runtime_agent::java::StartHook;
use plimsoll_runtime_agent::java::reader::Heard;

use counts::{Count, Counts};
use instructions::Counter;
use samples::Sampler;

/// Measures what an agent costs a JVM's start.
#[derive(Debug, clap::Parser)]
#[command(name = "jvm-startup")]
pub struct Options {
    /// Home of the JDK or JRE; without, `java` on the PATH is run.
    #[arg(long, env = "JAVA_HOME")]
    pub java_home: Option<PathBuf>,
    /// Runs of each.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Counts instructions under QEMU's user emulation instead of timing: a start takes a minute, and counts hardly vary, so
    /// that two rounds will do.
    #[arg(long, conflicts_with = "until")]
    pub instructions: bool,
    /// Samples by perf what the time is spent for, kernel included: needs no counters of the processor, and may need root.
    #[arg(long, conflicts_with_all = ["until", "instructions"])]
    pub sampled: bool,
    /// An option of the JVM, as in `--java-option=-Xshare:off`; may be given more than once.
    #[arg(long = "java-option", allow_hyphen_values = true)]
    pub java_options: Vec<OsString>,
    /// The start ends when the application prints a line with this text; it is killed then. Without, it must end by
    /// itself, and its end is measured, too.
    #[arg(long)]
    pub until: Option<String>,
    /// The application: what follows `java` on its command line. Without, a web service on Spring Boot is fetched by Maven,
    /// which ends as soon as it has started.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub application: Vec<OsString>,
}

/// What one run took.
struct Run {
    wall: Duration,
    /// User and system time of all its threads.
    cpu: Duration,
    /// Time on a CPU of the thread that runs `main`; none where its end was waited for.
    main: Option<Duration>,
    /// Only where instructions are counted, or stacks sampled.
    counts: Option<Counts>,
}

/// Whose start is measured.
const AGENTS: [&str; 3] = ["none", "ours", "empty ClassFileLoadHook"];

#[derive(Debug, Default)]
struct Times {
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
    main: Vec<Duration>,
    counts: Vec<Counts>,
}

impl Times {
    fn median(&self) -> f64 {
        let mut sorted = self.wall.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).map_or(f64::NAN, Duration::as_secs_f64) * 1_000.0
    }

    fn least(&self) -> f64 {
        self.wall.iter().min().map_or(f64::NAN, Duration::as_secs_f64) * 1_000.0
    }

    fn cpu(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64() * 1_000.0 / self.cpu.len() as f64
    }
}

/// Share of the rounds that is left out at either end: one run beside a busy neighbour outweighs a hundred others.
const TRIMMED: f64 = 0.2;

/// What one agent costs, in milliseconds: the mean over rounds, and its standard error.
#[derive(Debug, Clone, Copy)]
struct Cost {
    mean: f64,
    error: f64,
}

impl Cost {
    /// Of the differences within each round, the trimmed mean and Yuen's standard error of it.
    fn beyond(own: &[Duration], none: &[Duration]) -> Self {
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1_000.0;
        let mut beyond: Vec<f64> =
            own.iter().zip(none).map(|(own, none)| milliseconds(own) - milliseconds(none)).collect();
        beyond.sort_by(f64::total_cmp);
        let cut = (beyond.len() as f64 * TRIMMED) as usize;
        let kept = beyond.get(cut..beyond.len() - cut).unwrap_or_default();
        let (Some(least), Some(most)) = (kept.first(), kept.last()) else {
            return Self { mean: f64::NAN, error: f64::NAN };
        };
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        let winsorized: Vec<f64> = beyond.iter().map(|one| one.clamp(*least, *most)).collect();
        let middle = winsorized.iter().sum::<f64>() / winsorized.len() as f64;
        let squares: f64 = winsorized.iter().map(|one| (one - middle).powi(2)).sum();
        let count = kept.len() as f64;
        Self { mean, error: (squares / (count * (count - 1.0))).sqrt() }
    }

    /// This cost as a share of the peer's, and the share's standard error (to the first order).
    fn share_of(self, peer: Self) -> Self {
        let mean = self.mean / peer.mean;
        Self { mean, error: (self.error.powi(2) + (mean * peer.error).powi(2)).sqrt() / peer.mean.abs() }
    }
}

/// Times and prints them.
///
/// # Errors
/// If there is no JDK or C compiler, or the application fails.
#[allow(clippy::print_stdout)] // The figures are its output.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = std::env::temp_dir().join(format!("plimsoll-jvm-{}", plimsoll_kit::host::random_id()));
    std::fs::create_dir(&scratch)?;
    let result = measure(options, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    let (times, classes) = result?;
    println!("{} classes were told in each run of ours", classes / options.rounds.max(1) as u64);
    match (options.instructions, options.sampled) {
        (false, false) => print_times(&times),
        (true, _) => print_counts("thousands of instructions", &times),
        (_, true) => print_counts("microseconds", &times),
    }
    Ok(())
}

#[allow(clippy::print_stdout)] // The figures are its output.
fn print_times(times: &[Times; AGENTS.len()]) {
    println!("{:<24} {:>12} {:>12} {:>12}", "agent", "median ms", "least ms", "CPU ms");
    for (name, times) in AGENTS.iter().zip(times) {
        println!("{name:<24} {:>12.1} {:>12.1} {:>12.1}", times.median(), times.least(), times.cpu());
    }
    println!("costs within a round, the outer fifths of the rounds left out, ± standard error:");
    let [none, ours, peer] = times;
    for (what, of) in [
        ("wall", (|times| &times.wall) as fn(&Times) -> &Vec<Duration>),
        ("CPU", |times| &times.cpu),
        ("main thread", |times| &times.main),
    ] {
        if of(none).is_empty() {
            continue;
        }
        let [ours, peer] = [ours, peer].map(|times| Cost::beyond(of(times), of(none)));
        let share = ours.share_of(peer);
        println!(
            "{what:<11} ours {:.1} ± {:.1} ms, the peer {:.1} ± {:.1} ms: {:.2} ± {:.2} of the peer (target: at most 0.50)",
            ours.mean, ours.error, peer.mean, peer.error, share.mean, share.error
        );
    }
}

/// Means over the runs, and how far these lie apart.
#[allow(clippy::print_stdout)] // The figures are its output.
fn print_counts(unit: &str, times: &[Times; AGENTS.len()]) {
    println!("{unit} (how far the runs lie apart), system calls, how often it was begun or sampled:");
    for (name, times) in AGENTS.iter().zip(times) {
        let print = |what: &str, of: &dyn Fn(&Counts) -> Count| {
            let Mean { cost, apart, system_calls, entries } = Mean::of(&times.counts, of);
            if cost > 0.0 {
                println!("{name:<24} {what:<38} {cost:>9.0} ({apart:>6.0}) {system_calls:>8} {entries:>8}");
            }
        };
        for label in counts::LABELS {
            print(label, &|counts| counts.asked.get(label).copied().unwrap_or_default());
        }
        print("a thread of its own", &|counts| counts.own_thread);
        print("all of the agent", &Counts::agent);
        print("the whole process", &|counts| counts.process);
    }
    let [none, ours, peer] = times;
    let beyond = |times: &Times, of: fn(&Counts) -> Count| {
        Mean::of(&times.counts, of).cost - Mean::of(&none.counts, of).cost
    };
    for (what, of) in [
        ("all of the agent but its own thread", Counts::asked as fn(&Counts) -> Count),
        ("all of the agent", Counts::agent),
        ("the whole process, less the one without an agent", |counts| counts.process),
    ] {
        let (ours, peer) = (beyond(ours, of), beyond(peer, of));
        println!(
            "{what}: ours {ours:.0}, the peer {peer:.0}: {:.2} of the peer (target: at most 0.50)",
            ours / peer
        );
    }
}

/// Of several runs.
struct Mean {
    /// Thousands.
    cost: f64,
    /// The most less the least, in thousands.
    apart: f64,
    system_calls: u64,
    entries: u64,
}

impl Mean {
    fn of(counts: &[Counts], of: impl Fn(&Counts) -> Count) -> Self {
        let runs = counts.len().max(1) as u64;
        let all: Vec<Count> = counts.iter().map(of).collect();
        let costs = || all.iter().map(|count| count.cost);
        let apart = costs().max().unwrap_or_default() - costs().min().unwrap_or_default();
        Self {
            cost: costs().sum::<u64>() as f64 / runs as f64 / 1e3,
            apart: apart as f64 / 1e3,
            system_calls: all.iter().map(|count| count.system_calls).sum::<u64>() / runs,
            entries: all.iter().map(|count| count.entries).sum::<u64>() / runs,
        }
    }
}

type Measured = ([Times; AGENTS.len()], u64);

fn measure(options: &Options, scratch: &Path) -> anyhow::Result<Measured> {
    let application = match &options.application {
        named if named.is_empty() => application::build()?,
        named => named.clone(),
    };
    let java = java(options)?;
    let meter = match (options.instructions, options.sampled) {
        (false, false) => Meter::Clock,
        (true, _) => Meter::Counter(Counter::compile(scratch, &instructions::jvm_library(&java)?)?),
        (_, true) => Meter::Sampler(Sampler::new(scratch)),
    };
    let start = Start { java, application, options, meter };
    let peer = compile_peer(options.java_home.as_deref(), scratch)?;
    let mut hook = StartHook::create(scratch)?;
    let ours = hook.environment().value(None).to_string_lossy().into_owned();
    let peer = format!("-agentpath:{}", peer.display());
    let agents = [None, Some(ours), Some(peer)];
    let (ended, classes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = std::thread::spawn({
        let (ended, classes) = (Arc::clone(&ended), Arc::clone(&classes));
        move || {
            // As the agent does: what is there, each 20 ms.
            while !ended.load(Ordering::Relaxed) {
                hook.reports.read(|heard| {
                    if let Heard::Report(JvmReport::Classes, report) = heard {
                        let names = report.name.iter().filter(|byte| **byte == b';').count();
                        classes.fetch_add(names as u64, Ordering::Relaxed);
                    }
                });
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let mut times = <[Times; AGENTS.len()]>::default();
    let mut result = Ok(());
    // The first round only warms the caches of files, which does not change what is counted.
    let first = usize::from(options.instructions);
    'rounds: for round in first..=options.rounds {
        for turn in 0..agents.len() {
            let which = (round + turn) % agents.len();
            match start.run(agents[which].as_deref()) {
                Ok(run) if round > 0 => {
                    times[which].wall.push(run.wall);
                    times[which].cpu.push(run.cpu);
                    times[which].main.extend(run.main);
                    times[which].counts.extend(run.counts);
                }
                Ok(_) => classes.store(0, Ordering::Relaxed),
                Err(error) => {
                    result = Err(error);
                    break 'rounds;
                }
            }
        }
    }
    std::thread::sleep(Duration::from_millis(50));
    ended.store(true, Ordering::Relaxed);
    ensure!(reader.join().is_ok(), "the reader of reports panicked");
    result.map(|()| (times, classes.load(Ordering::Relaxed)))
}

/// The program named `java`.
fn java(options: &Options) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = match &options.java_home {
        Some(home) => vec![home.join("bin/java")],
        None => std::env::split_paths(&path).map(|folder| folder.join("java")).collect(),
    }
    .into_iter();
    files.find(|file| file.is_file()).context("there is no java; name a JDK with --java-home")
}

/// What is started again and again.
struct Start<'a> {
    java: PathBuf,
    application: Vec<OsString>,
    options: &'a Options,
    meter: Meter,
}

/// How a run is measured.
enum Meter {
    Clock,
    Counter(Counter),
    Sampler(Sampler),
}

impl Start<'_> {
    /// One run, to its end or until it has started.
    fn run(&self, agent: Option<&str>) -> anyhow::Result<Run> {
        let mut command = match &self.meter {
            Meter::Clock => Command::new(&self.java),
            Meter::Counter(counter) => counter.command(self.java.as_os_str()),
            Meter::Sampler(sampler) => sampler.command(self.java.as_os_str()),
        };
        command.args(agent).args(&self.options.java_options).args(&self.application);
        command.env_remove("JAVA_TOOL_OPTIONS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (begin, cpu) = (Instant::now(), children_cpu()?);
        let mut child = command.spawn().with_context(|| {
            format!("{command:?} does not start; `apt install default-jdk-headless qemu-user linux-perf`")
        })?;
        let mut errors = child.stderr.take().context("the application has no standard error")?;
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).map(|_| text)
        });
        let (mut started, mut main) = (None, None);
        for line in BufReader::new(child.stdout.take().context("the application has no output")?).split(b'\n')
        {
            let line = line?;
            let until = self.options.until.as_ref();
            if until.is_some_and(|text| String::from_utf8_lossy(&line).contains(text)) {
                started = Some(begin.elapsed());
                main = Some(main_thread_cpu(child.id())?);
                child.kill()?;
                break;
            }
        }
        let status = child.wait()?;
        let wall = started.unwrap_or_else(|| begin.elapsed());
        let errors = errors.join().ok().context("the reader of errors panicked")??;
        let as_asked = if self.options.until.is_some() { started.is_some() } else { status.success() };
        ensure!(as_asked, "the application failed ({status}): {}", String::from_utf8_lossy(&errors));
        let counts = match &self.meter {
            Meter::Clock => None,
            Meter::Counter(counter) => Some(counter.take()?),
            Meter::Sampler(sampler) => Some(sampler.take()?),
        };
        Ok(Run { wall, cpu: children_cpu()?.saturating_sub(cpu), main, counts })
    }
}

/// Of the threads that the JVM gives no name, the first one waits and the other one runs `main`.
fn main_thread_cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        if std::fs::read(thread.join("comm"))? == b"java\n" {
            let text = std::fs::read_to_string(thread.join("schedstat"))?;
            let time = text.split(' ').next().and_then(|time| time.parse::<u64>().ok());
            nanoseconds +=
                time.context("/proc/PID/task/TID/schedstat has no time; is CONFIG_SCHED_INFO set?")?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// User and system time of children that were waited for.
fn children_cpu() -> anyhow::Result<Duration> {
    /// USER_HZ: the same on all architectures that the agent runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name may hold anything; behind it cutime and cstime are the 16th and 17th field of proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let times = fields.get(13..15).context("/proc/self/stat is shorter than proc(5) says")?;
    let ticks: u64 = times.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

pub(crate) fn compile_peer(java_home: Option<&Path>, scratch: &Path) -> anyhow::Result<PathBuf> {
    let library = scratch.join("libempty_hook.so");
    let include = headers(java_home)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/jvmti/empty_hook.c");
    let status = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I"])
        .arg(&include)
        .arg("-I")
        .arg(include.join("linux"))
        .arg(source)
        .arg("-o")
        .arg(&library)
        .status()
        .context("no C compiler; `apt install gcc`")?;
    ensure!(status.success(), "the peer was not compiled with the headers in {}", include.display());
    Ok(library)
}

/// The folder of a JDK's headers: a JRE has none, and any JDK's will do.
fn headers(java_home: Option<&Path>) -> anyhow::Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path()).collect();
    installed.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let compilers = std::env::split_paths(&on_path).map(|folder| folder.join("javac"));
    // `bin/javac` of a JDK, links followed.
    let of_compiler = |javac: PathBuf| Some(javac.canonicalize().ok()?.parent()?.parent()?.to_owned());
    java_home
        .map(Path::to_owned)
        .into_iter()
        .chain(installed)
        .chain(compilers.filter_map(of_compiler))
        .map(|home| home.join("include"))
        .find(|include| include.join("jvmti.h").is_file())
        .context("no JDK with include/jvmti.h: neither --java-home (JAVA_HOME), nor one in /usr/lib/jvm, nor that of javac on \
             the PATH; `apt install default-jdk-headless`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_outer_rounds_do_not_count() {
        let none = milliseconds(&[100, 100, 100, 100, 100]);
        let cost = Cost::beyond(&milliseconds(&[109, 110, 111, 9_000, 1]), &none);
        assert!((cost.mean - 10.0).abs() < 1e-9, "{cost:?}");
        // Winsorized: 9, 9, 10, 11, 11; squares 4; three are kept.
        assert!((cost.error - (4.0_f64 / 6.0).sqrt()).abs() < 1e-9, "{cost:?}");
        assert!(Cost::beyond(&[], &[]).mean.is_nan());
    }

    #[test]
    fn the_error_of_a_share_grows_with_both() {
        let (ours, peer) = (Cost { mean: 5.0, error: 0.3 }, Cost { mean: 10.0, error: 0.8 });
        let share = ours.share_of(peer);
        assert!((share.mean - 0.5).abs() < 1e-9, "{share:?}");
        assert!((share.error - 0.05).abs() < 1e-9, "{share:?}");
    }
}
