//! Observation without eBPF: LD_AUDIT for shared libraries, and a hook per language, reporting through a FIFO.
//! It must never change what the application does, or count what the hooks themselves load.
//!
//! [`HookSession`] puts the hooks in place and reads them; [`Hooks`] makes a workload's uses, watches and losses of that.

mod counted;
pub mod coverage;
pub mod environment;
mod files;
mod in_use;
pub mod language;
pub(crate) mod leftover;
pub(crate) mod other_root;
pub mod php_programs;
mod php_settings;
mod place;
pub mod report;
pub mod session;
mod survey;
mod tools;
mod unseen_start;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::words::{probe, usage_kind};

pub use environment::HookEnvironment;
pub use session::{HookError, HookSession};

use crate::ebpf::event::split_arguments;
use crate::java::is_jvm;
use crate::procfs;
use crate::sweep::Role;
use crate::unmeasurable;
use crate::workload::{NO_POSITION, ObservedKey, ObservedNumbers, Watch, Workload};
use coverage::{Coverage, of_linked, probe_of};
use in_use::{InUse, Use};
use language::Language;
use place::Places;
use report::{Report, ReportKind};
use tools::Tools;
pub use unseen_start::UnseenStart;

/// What living processes hold loaded is told again this often.
const EPOCH: Duration = Duration::from_secs(3_600);
/// Processes with a JVM that wait to be taken.
const JVMS_MAX: usize = 4_096;
/// What all directories of hooks have in their paths.
const DIRECTORY_MARK: &[u8] = b"/plimsoll-hooks-";

/// The probes that take eBPF's place: LD_AUDIT, and the hook of each language.
pub fn probes() -> impl Iterator<Item = &'static str> {
    [probe::LD_AUDIT].into_iter().chain(Language::ALL.map(Language::probe))
}

/// The hooks of one process tree, and what they say of its workload.
pub struct Hooks(Box<Inner>);

struct Inner {
    session: HookSession,
    places: Places,
    in_use: InUse,
    tools: Tools,
    next_epoch: Instant,
    /// Processes that opened a JVM, not taken yet.
    jvms: Vec<u32>,
    /// How many opened one of which it is not known which processes they are, not taken yet.
    jvms_elsewhere: usize,
    /// A PHP started that can fork.
    php_forks: bool,
}

impl Hooks {
    /// Writes the hooks below `parent`, and reads what they report from now on.
    ///
    /// # Errors
    /// A [`HookError`].
    pub fn create(parent: &Path) -> std::io::Result<Self> {
        let session = HookSession::start(parent)?;
        Ok(Self(Box::new(Inner {
            session,
            places: Places::default(),
            in_use: InUse::default(),
            tools: Tools::default(),
            next_epoch: Instant::now() + EPOCH,
            jvms: Vec::new(),
            jvms_elsewhere: 0,
            php_forks: false,
        })))
    }

    /// What the environment of the tree's first process needs.
    pub fn environment(&self) -> HookEnvironment {
        self.0.session.environment()
    }

    /// Names the tree's first process, as soon as it is known: only its descendants are looked at, and a hello of another
    /// process alone is no watch from the first exec on.
    pub fn set_first_process(&mut self, pid: u32) {
        self.0.session.set_first_process(pid);
    }

    /// The tree's processes that live, as far as they are known.
    pub fn processes(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.session.processes()
    }

    /// The tree's first process got none of the hooks, for this reason.
    pub fn left_out(&mut self, reason: &str) {
        self.0.session.left_out(reason);
    }

    /// A program runs, which no hook may be in to tell it; its path is without a leading slash.
    pub fn executed(&mut self, pid: u32, path: &[u8]) {
        self.0.session.executed.push((pid, [b"/", path].concat()));
    }

    /// Processes that opened a JVM since the last call.
    pub fn take_jvms(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.0.jvms)
    }

    /// How many JVMs were opened since the last call by processes of other PID namespaces, whose numbers say nothing here.
    pub fn take_jvms_elsewhere(&mut self) -> usize {
        std::mem::take(&mut self.0.jvms_elsewhere)
    }

    /// Programs that were started since the last call where no hook tells of them, a JVM's neither.
    pub fn take_unseen(&mut self) -> Vec<UnseenStart> {
        let session = &mut self.0.session;
        let mut unseen = std::mem::take(&mut session.unseen);
        unseen.append(&mut session.coverage.take_hidden_jvms());
        unseen
    }

    /// Adds to the workload whatever was reported before this call: uses, watches that began, losses, and why something
    /// is not measured. `boot_id` names the agent's life.
    pub fn observe(&mut self, workload: &mut Workload, boot_id: &str) {
        let Inner { session, places, in_use, tools, next_epoch, jvms, jvms_elsewhere, php_forks } =
            &mut *self.0;
        let mut opened = Vec::new();
        session.drain(|coverage, report, time_ms| {
            match report.kind {
                ReportKind::Object if is_jvm(&report.path) && jvms.len() + opened.len() < JVMS_MAX => {
                    opened.push(report.pid);
                }
                ReportKind::AuditStarted => {
                    in_use.forget(report.pid);
                    let linked = of_linked(&report);
                    let started = linked.as_ref().unwrap_or(&report);
                    let arguments = split_arguments(&started.name);
                    if let Some(found) = unmeasurable::of_command(&started.path, &arguments) {
                        workload.set_unmeasurable(found);
                    }
                    if let Some((ecosystem, tool)) = tools.started(started, &arguments, procfs::parent) {
                        workload.note_role(ecosystem, tool);
                    }
                }
                ReportKind::Module(language) | ReportKind::HookStarted(language) => {
                    // A worker that was forked has its parent's program, which no library tells again.
                    if coverage.program(report.pid).is_none() {
                        tools.follow(report.pid, procfs::parent);
                    }
                    // Node.js says hello in the scripts that npm runs while it installs, too; of these no module is told.
                    let is_module = matches!(report.kind, ReportKind::Module(_));
                    if (is_module || language != Language::Node) && tools.is_application(report.pid) {
                        workload.note_role(language.ecosystem(), Role::Application);
                    }
                    if is_module && tools.is_tool(report.pid) {
                        return;
                    }
                    if language == Language::Php {
                        *php_forks |= !is_module && report.name.ends_with(b" forks");
                        if is_module && *php_forks {
                            look_for_forks(workload, &report.path, time_ms);
                        }
                    }
                }
                _ => {}
            }
            let of_tool = !tools.is_application(report.pid);
            for mut one in uses(places, coverage, &report) {
                one.observation.origin.of_tool = of_tool;
                add(workload, &one, time_ms);
                in_use.add(report.pid, one, procfs::started_ns);
            }
        });
        let (here, elsewhere): (Vec<u32>, Vec<u32>) =
            opened.into_iter().partition(|pid| session.is_reporter(*pid));
        jvms.extend(here);
        *jvms_elsewhere += elsewhere.len();
        let room = JVMS_MAX.saturating_sub(jvms.len());
        // The others stay for the next time.
        jvms.extend(session.jvms.drain(..room.min(session.jvms.len())));
        for (pid, path) in std::mem::take(&mut session.executed) {
            let process = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(&path)).into_owned();
            for observation in places.observations(usage_kind::EXECUTABLE, &path, "") {
                let one = Use { probe: probe::RESYNC, process: process.clone(), observation };
                add(workload, &one, now_ms());
                in_use.add(pid, one, procfs::started_ns);
            }
        }
        if Instant::now() >= *next_epoch {
            *next_epoch = Instant::now() + EPOCH;
            in_use.living(procfs::started_ns).for_each(|one| add(workload, one, now_ms()));
        }
        let coverage = &session.coverage;
        for (probe, from_first_exec) in coverage.watched() {
            if workload.watches.iter().any(|watch| watch.probe == probe) {
                continue;
            }
            let from_ms = workload.base.started_at_ms;
            workload.watches.push(Watch {
                probe,
                boot_id: boot_id.to_owned(),
                from_ms,
                until_ms: from_ms,
                from_first_exec,
            });
            workload.changed = true;
        }
        for (language, how, processes) in coverage.processes() {
            let key = ObservedKey { ecosystem: language.ecosystem(), probe: language.probe(), how };
            workload.set_observed(key, &ObservedNumbers { processes, ..ObservedNumbers::default() });
        }
        for (probe, total) in coverage.losses() {
            workload.set_loss(probe, boot_id, total);
        }
        let ours = |name: &String| {
            let named = name.split(':').next().unwrap_or_default();
            probes().any(|probe| probe == named)
        };
        let unavailable = coverage.unavailable();
        if workload.unavailable.iter().filter(|(name, _)| ours(name)).ne(&unavailable) {
            workload.unavailable.retain(|name, _| !ours(name));
            workload.unavailable.extend(unavailable);
            workload.changed = true;
        }
    }
}

fn add(workload: &mut Workload, one: &Use, time_ms: i64) {
    workload.add(one.observation.clone(), one.probe, one.process.clone(), time_ms, NO_POSITION, None);
}

/// A file that PHP included may fork, and what a fork includes is lost if it ends by force.
fn look_for_forks(workload: &mut Workload, path: &[u8], seen_ms: i64) {
    if is_hook(path) {
        return;
    }
    // An archive is looked into once, whatever was included from it.
    let path = archive_of(path).unwrap_or(path);
    workload.look_for_forks(path.strip_prefix(b"/").unwrap_or(path), seen_ms);
}

/// Hooks are no part of the application; another agent's may be there, around this one or within.
fn is_hook(path: &[u8]) -> bool {
    memchr::memmem::find(path, DIRECTORY_MARK).is_some()
}

/// What a report proves.
fn uses(places: &mut Places, coverage: &Coverage, report: &Report) -> Vec<Use> {
    let kind = match report.kind {
        ReportKind::AuditStarted => usage_kind::EXECUTABLE,
        ReportKind::Object => usage_kind::LIBRARY,
        ReportKind::Module(_) => usage_kind::MODULE,
        // Nothing was read for a namespace package.
        _ => return Vec::new(),
    };
    if report.truncated || is_hook(&report.path) || !report.path.starts_with(b"/") {
        return Vec::new();
    }
    let name = if kind == usage_kind::MODULE { String::from_utf8_lossy(&report.name) } else { "".into() };
    let process = coverage.program(report.pid).or_else(|| {
        let executable = procfs::executable(report.pid)?;
        Some(String::from_utf8_lossy(&executable).into_owned())
    });
    let process = process.unwrap_or_default();
    let probe = probe_of(report.kind);
    let mut observations = places.observations(kind, &report.path, &name);
    // An archive may be owned as the file that it is.
    if report.kind == ReportKind::Module(Language::Php)
        && let Some(archive) = archive_of(&report.path)
    {
        observations.extend(places.observations(kind, archive, ""));
    }
    observations.into_iter().map(|observation| Use { probe, process: process.clone(), observation }).collect()
}

/// The archive of PHP that a file was included from: `/app/x` of `/app/x/src/a.php` where that is a file, whatever its name.
fn archive_of(path: &[u8]) -> Option<&[u8]> {
    const ENDING: &[u8] = b".phar/";
    let is_below_a_file = |path: &Path| {
        std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotADirectory)
    };
    let inside = Path::new(OsStr::from_bytes(path));
    if is_below_a_file(inside) {
        let archive = inside.ancestors().find(|outer| !is_below_a_file(outer))?;
        return Some(archive.as_os_str().as_bytes());
    }
    // It may be gone by now: then its name tells.
    let at = memchr::memmem::find(path, ENDING).filter(|_| !inside.exists())?;
    Some(&path[..at + ENDING.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{ArtifactView, WorkloadKind};
    use plimsoll_schemas::events::RuntimeWorkload;
    use std::collections::BTreeMap;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    /// Libraries and programs that were added since the last call.
    fn observed(hooks: &mut Hooks, workload: &mut Workload) -> Vec<(String, i64)> {
        hooks.observe(workload, "boot");
        let items = workload.take_pending().into_iter().map(|(_, pending)| pending.item);
        let mut found: Vec<_> = items
            .map(|item| (String::from_utf8(item.path).unwrap(), item.last_seen_ms))
            .filter(|(path, _)| path.ends_with("/cat"))
            .collect();
        found.sort();
        found
    }

    /// A path that was cut may be any file's; our own files and namespaces are no use of a package.
    #[test]
    fn reports_prove_uses_of_the_applications_files_alone() {
        use ReportKind::{AuditStarted, Emptied, HookFailed, HookStarted, Module, Namespace, Object};
        let own = format!("/tmp{}x/hooks/ruby/feature_hook.rb", String::from_utf8_lossy(DIRECTORY_MARK));
        let python = Language::Python;
        for (kind, path, truncated, expected) in [
            (Module(python), "/nowhere/a.py", false, Some((usage_kind::MODULE, probe::PYTHON_IMPORT, "a"))),
            (
                Module(Language::Node),
                "/nowhere/a.js",
                false,
                Some((usage_kind::MODULE, probe::NODE_MODULE, "a")),
            ),
            (Object, "/nowhere/a.so", false, Some((usage_kind::LIBRARY, probe::LD_AUDIT, ""))),
            (AuditStarted, "/nowhere/a", false, Some((usage_kind::EXECUTABLE, probe::LD_AUDIT, ""))),
            (Module(python), "/nowhere/a.py", true, None),
            (Module(python), "a.py", false, None),
            (Module(python), "", false, None),
            (Module(Language::Ruby), &own, false, None),
            (Object, &own, false, None),
            (Namespace, "/nowhere/a", false, None),
            (HookStarted(python), "/nowhere/python3", false, None),
            (HookFailed(python), "/nowhere/a.py", false, None),
            (Emptied, "/nowhere/a", false, None),
        ] {
            let (name, path) = (b"a".to_vec(), path.as_bytes().to_vec());
            let report = Report { kind, pid: u32::MAX, lost: 0, truncated, name, path };
            let found = uses(&mut Places::default(), &Coverage::default(), &report);
            let seen: Vec<_> = found
                .iter()
                .map(|each| (each.observation.kind, each.probe, each.observation.name.as_str()))
                .collect();
            assert_eq!(seen, expected.into_iter().collect::<Vec<_>>(), "{report:?}");
        }
    }

    #[test]
    fn what_a_program_without_the_environment_starts_is_not_measured() {
        let check = |arguments: &[&str], expected: bool| {
            let parent = tempfile::tempdir().unwrap();
            let mut hooks = Hooks::create(parent.path()).unwrap();
            let mut workload = Workload::new("m/t".into(), WorkloadKind::Tree, RuntimeWorkload::default(), 0);
            let mut command = Command::new("env");
            hooks.environment().apply(&mut command);
            assert!(command.args(arguments).status().unwrap().success());
            hooks.observe(&mut workload, "boot");
            let lost: BTreeMap<&str, u64> = hooks.0.session.coverage.losses().collect();
            for probe in probes() {
                assert_eq!(lost.get(probe).is_some_and(|lost| *lost > 0), expected, "{arguments:?} {lost:?}");
            }
        };
        check(&["-i", "true"], true);
        check(&["A=b", "true"], false);
    }

    #[test]
    fn archives_of_php_are_files_and_looked_into_once() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().to_str().unwrap();
        std::fs::write(directory.path().join("phpunit"), "").unwrap();
        std::fs::create_dir(directory.path().join("b.phar")).unwrap();
        std::fs::write(directory.path().join("b.phar/a.php"), "").unwrap();
        let mut workload = Workload::new("m/t".into(), WorkloadKind::Tree, RuntimeWorkload::default(), 0);
        for (path, expected) in [
            ("phpunit/src/a.php", Some("phpunit")),
            ("phpunit/src/deep/b.php", Some("phpunit")),
            ("phpunit", None),
            ("b.phar/a.php", None),
            ("gone.phar/src/a.php", Some("gone.phar")),
            ("gone.phar", None),
            ("gone/a.php", None),
        ] {
            let path = format!("{base}/{path}");
            let found = archive_of(path.as_bytes()).map(|path| String::from_utf8(path.to_vec()).unwrap());
            assert_eq!(found, expected.map(|name| format!("{base}/{name}")), "{path}");
            look_for_forks(&mut workload, path.as_bytes(), 0);
        }
        let mut waiting = workload.scripts.iter().map(|script| String::from_utf8_lossy(&script.path));
        assert_eq!(waiting.clone().count(), 4);
        assert!(waiting.next().unwrap().ends_with("/phpunit"));
    }

    /// The linker's own path says nothing of it.
    #[test]
    fn what_a_linker_runs_is_judged_as_what_it_is() {
        for (arguments, from_snapshot, by_tool) in [
            ("/usr/bin/node --snapshot-blob a.blob", true, false),
            ("--argv0 x /usr/bin/node --snapshot-blob a.blob", true, false),
            ("/usr/bin/node app.js", false, false),
            ("/usr/bin/node /usr/lib/node_modules/npm/bin/npm-cli.js ci", false, true),
            ("--list /usr/bin/node --snapshot-blob a.blob", false, false),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let mut hooks = Hooks::create(parent.path()).unwrap();
            let mut workload = Workload::new("m/t".into(), WorkloadKind::Tree, RuntimeWorkload::default(), 0);
            let path = "/lib64/ld-linux-x86-64.so.2";
            let name = format!("ld.so {arguments}").replace(' ', "\0");
            let report = format!("\x1eLH {} 0 - {} {}\n{name}{path}", u32::MAX, name.len(), path.len());
            std::fs::write(hooks.0.session.reports_path(), report).unwrap();
            hooks.observe(&mut workload, "boot");
            workload.identified(vec![ArtifactView { key: "host/m".into(), root: Vec::new() }]);
            let said = &workload.events()[0].unavailable_probes;
            let has = |key: &str| said.contains_key(key);
            assert_eq!(has("not-measurable:npm"), from_snapshot, "{arguments} {said:?}");
            assert_eq!(has("not-measured:npm"), by_tool, "{arguments} {said:?}");
        }
    }

    /// In a PID namespace of its own a process has a number that may be another one's here: this test's, for one.
    #[test]
    fn a_jvm_is_never_taken_for_another_process() {
        let parent = tempfile::tempdir().unwrap();
        let mut hooks = Hooks::create(parent.path()).unwrap();
        let mut workload = Workload::new("m/t".into(), WorkloadKind::Tree, RuntimeWorkload::default(), 0);
        let path = "/usr/lib/jvm/lib/server/libjvm.so";
        let mut tell = |pid: u32| {
            let report = format!("\x1eLO {pid} 0 - 0 {}\n{path}", path.len());
            std::fs::write(hooks.0.session.reports_path(), report).unwrap();
            hooks.observe(&mut workload, "boot");
            (hooks.take_jvms(), hooks.take_jvms_elsewhere())
        };
        assert_eq!(tell(std::process::id()), (vec![], 1));
        // It has ended: whoever told was quick.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(tell(child.id()), (vec![child.id()], 0));
    }

    #[test]
    fn what_is_in_use_is_told_again() {
        let parent = tempfile::tempdir().unwrap();
        let mut hooks = Hooks::create(parent.path()).unwrap();
        let mut workload = Workload::new("m/t".into(), WorkloadKind::Tree, RuntimeWorkload::default(), 0);
        workload.identified(vec![ArtifactView { key: "host/m".into(), root: Vec::new() }]);
        let mut command = Command::new("cat");
        hooks.environment().apply(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // When it answers, it has said what it loaded.
        input.write_all(b"hello\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let first = observed(&mut hooks, &mut workload);
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(observed(&mut hooks, &mut workload), []);
        hooks.0.next_epoch = Instant::now();
        let again = observed(&mut hooks, &mut workload);
        assert_eq!(again.len(), 1);
        assert!(again[0].1 >= first[0].1);
        drop(input);
        child.wait().unwrap();
        hooks.0.next_epoch = Instant::now();
        assert_eq!(observed(&mut hooks, &mut workload), []);
    }
}
