//! Counts the instructions of a JVM under QEMU's user emulation: they hardly vary where times do.
//! It must never count what runs in the kernel: only how often it is called.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::counts::{CLASS_LOAD, Count, Counts, FUNCTIONS, HOOK, OWN_THREAD};

/// The emulator with its plugin.
pub struct Counter {
    plugin: OsString,
    counts: PathBuf,
}

impl Counter {
    /// Compiles the plugin into `scratch`, for the JVM whose library is `library`.
    ///
    /// # Errors
    /// If there is no C compiler, or the library does not name its functions.
    pub fn compile(scratch: &Path, library: &Path) -> anyhow::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/jvmti/count_instructions.c");
        let (compiled, counts) = (scratch.join("libcount_instructions.so"), scratch.join("counts"));
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden"])
            .arg(source)
            .arg("-o")
            .arg(&compiled);
        let status = compiler.status().context("no C compiler; `apt install gcc`")?;
        ensure!(status.success(), "QEMU's plugin was not compiled");
        let symbols = Command::new("nm").arg(library).output().context("no nm; `apt install binutils`")?;
        let mut plugin: OsString = compiled.into();
        plugin.push(",to=");
        plugin.push(&counts);
        plugin.push(",library=");
        plugin.push(library);
        let symbols = String::from_utf8_lossy(&symbols.stdout);
        let functions = functions(&symbols);
        for (index, address) in &functions {
            plugin.push(format!(",{index}={address}"));
        }
        let named = |label: &str| functions.iter().any(|(index, _)| FUNCTIONS[*index].0 == label);
        ensure!(
            named(CLASS_LOAD) && named(HOOK),
            "{} has no symbol table that names HotSpot's functions; take a JDK of Debian or Temurin",
            library.display()
        );
        Ok(Self { plugin, counts })
    }

    /// A command that runs `program` under the emulator.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(emulator());
        command.arg("-plugin").arg(&self.plugin).arg(program);
        command
    }

    /// What the last run executed.
    ///
    /// # Errors
    /// If the emulator told nothing.
    pub fn take(&self) -> anyhow::Result<Counts> {
        let text = std::fs::read_to_string(&self.counts).context("QEMU's plugin counted nothing")?;
        std::fs::remove_file(&self.counts)?;
        parse(&text)
    }
}

/// The emulator of this machine's own processor.
pub fn emulator() -> String {
    format!("qemu-{}", std::env::consts::ARCH)
}

/// Reads what the plugin wrote.
///
/// # Errors
/// If it is of another form, or a function was entered and not seen to return.
fn parse(text: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let number = |at: usize| -> anyhow::Result<u64> {
            words.get(at).and_then(|word| word.parse().ok()).with_context(|| format!("not counts: {line:?}"))
        };
        match words[0] {
            "thread" => {
                let count = Count { cost: number(1)?, system_calls: number(2)?, entries: 1 };
                counts.process += count;
                if words[3..].join(" ") == OWN_THREAD {
                    counts.own_thread += count;
                }
            }
            "function" => {
                let entries = number(4)?;
                ensure!(entries == number(5)?, "a function of the JVM was not seen to return: {line}");
                let count = Count { cost: number(2)?, system_calls: number(3)?, entries };
                let (label, _) =
                    *FUNCTIONS.get(number(1)? as usize).context("not a function that was asked for")?;
                *counts.asked.entry(label).or_default() += count;
            }
            _ => bail!("not counts: {line:?}"),
        }
    }
    Ok(counts)
}

/// Places in [`FUNCTIONS`] and addresses of those that a table of symbols (`nm`) names.
fn functions(symbols: &str) -> Vec<(usize, &str)> {
    let named = symbols.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (address, _, name) = (words.next()?, words.next()?, words.next()?);
        let index = FUNCTIONS.iter().position(|(_, begin)| name.starts_with(begin))?;
        // Parts that a compiler moved away have a name of their own, and are reached by a jump.
        (!name.contains('.')).then_some((index, address))
    });
    named.collect()
}

/// The JVM's library beside a `java`, links followed.
///
/// # Errors
/// If there is none.
pub fn jvm_library(java: &Path) -> anyhow::Result<PathBuf> {
    let java = java.canonicalize().with_context(|| java.display().to_string())?;
    let home = java.parent().and_then(Path::parent).context("java lies in no folder")?;
    let place = Path::new("server/libjvm.so");
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH };
    // JDK 8 has a folder for the architecture, and a JDK of that age a JRE within.
    let folders = ["lib".into(), format!("lib/{architecture}"), format!("jre/lib/{architecture}")];
    let mut files = folders.iter().map(|folder| home.join(folder).join(place));
    let found = files.find(|file| file.is_file());
    found.with_context(|| format!("{} has no {}", home.display(), place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jvm::counts::{LOADING, SHARED_HOOK};

    #[test]
    fn counts_are_read_as_the_plugin_writes_them() {
        let text = "thread 50 3 java\nthread 7 2 plimsoll\nthread 9 1 C1 CompilerThre\nthread 4 0 \n\
                    function 4 20 1 4 4\nfunction 2 5 0 1 1\n";
        let counts = parse(text).unwrap();
        assert_eq!(counts.process, Count { cost: 70, system_calls: 6, entries: 4 });
        assert_eq!(counts.own_thread, Count { cost: 7, system_calls: 2, entries: 1 });
        assert_eq!(counts.agent(), Count { cost: 32, system_calls: 3, entries: 6 });
        for (text, why) in [
            ("function 2 5 0 2 1", "not seen to return"),
            ("function 99 5 0 1 1", "not a function"),
            ("thread x 1 a", "not counts"),
            ("else", "not counts"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn functions_are_found_by_their_symbols() {
        let symbols = "0000000000a341a0 t _ZN11JvmtiExport15post_class_loadEP10JavaThreadP5Klass\n\
                       0000000000a34111 t _ZN11JvmtiExport15post_class_loadEP10JavaThreadP5Klass.cold\n\
                       0000000000a2cb50 t _ZN11JvmtiExport25post_class_file_load_hookEP6Symbol\n\
                       \x20                U malloc\n0000000000000001 t other\n";
        assert_eq!(functions(symbols), [(4, "0000000000a341a0"), (5, "0000000000a2cb50")]);
    }

    /// A real JVM, so that a count of nothing is noticed.
    #[test]
    fn a_jvm_is_counted() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
        };
        let (Some(java), Some(_)) = (find("java"), find(&emulator())) else {
            let lack =
                "no java or no QEMU user emulation on the PATH (apt install default-jre-headless qemu-user)";
            assert!(std::env::var("CI").is_err(), "in CI this must run: {lack}");
            #[allow(clippy::print_stdout)]
            {
                println!("skipped: {lack}");
            }
            return;
        };
        let scratch = tempfile::tempdir().unwrap();
        let counter = Counter::compile(scratch.path(), &jvm_library(&java).unwrap()).unwrap();
        let peer = crate::jvm::compile_peer(None, scratch.path()).unwrap();
        let mut command = counter.command(java.as_os_str());
        command.arg(format!("-agentpath:{}", peer.display())).args(["-XX:TieredStopAtLevel=1", "-version"]);
        let output = command.env_remove("JAVA_TOOL_OPTIONS").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let counts = counter.take().unwrap();
        assert!(counts.process.cost > 10_000_000 && counts.process.entries > 5, "{counts:?}");
        assert_eq!(counts.own_thread, Count::default());
        assert_eq!(counts.asked[LOADING].entries, 1, "{counts:?}");
        assert_eq!(counts.asked[CLASS_LOAD].entries, 0, "nobody asked for them: {counts:?}");
        // A JVM that only says its version loads some hundred classes, most of them before an agent may ask for any.
        let hooked =
            counts.asked[HOOK].entries + counts.asked.get(SHARED_HOOK).map_or(0, |count| count.entries);
        assert!(hooked > 10, "{counts:?}");
    }
}
