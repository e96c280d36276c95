//! Observation without eBPF: LD_AUDIT for shared libraries and an import hook for Python, reporting through a FIFO.
//! It must never change what the application does, or count what the hooks themselves load.
//!
//! [`HookSession`] puts the hooks in place and reads them; [`Hooks`] makes a workload's uses, watches and losses of that.

pub mod coverage;
mod place;
pub mod report;
pub mod session;
mod survey;

use std::path::Path;

use plimsoll_schemas::words::{probe, usage_kind};

pub use session::{HookEnvironment, HookError, HookSession};

use crate::procfs;
use crate::workload::{NO_POSITION, Watch, Workload};
use coverage::{Coverage, probe_of};
use place::Places;
use report::{Report, ReportKind};

/// What all directories of hooks have in their paths.
const DIRECTORY_MARK: &[u8] = b"/plimsoll-hooks-";

/// The hooks of one process tree, and what they say of its workload.
pub struct Hooks(Box<Inner>);

struct Inner {
    session: HookSession,
    places: Places,
}

impl Hooks {
    /// Writes the hooks below `parent`, and reads what they report from now on.
    ///
    /// # Errors
    /// A [`HookError`].
    pub fn create(parent: &Path) -> std::io::Result<Self> {
        Ok(Self(Box::new(Inner { session: HookSession::start(parent)?, places: Places::default() })))
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

    /// Adds to the workload whatever was reported before this call: uses, watches that began, losses, and why something
    /// is not measured. `boot_id` names the agent's life.
    pub fn observe(&mut self, workload: &mut Workload, boot_id: &str) {
        let Inner { session, places } = &mut *self.0;
        session.drain(|coverage, report, time_ms| add_use(workload, places, coverage, &report, time_ms));
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
        for (probe, total) in coverage.losses() {
            workload.set_loss(probe, boot_id, total);
        }
        let ours =
            |name: &String| name.starts_with(probe::LD_AUDIT) || name.starts_with(probe::PYTHON_IMPORT);
        let unavailable = coverage.unavailable();
        if workload.unavailable.iter().filter(|(name, _)| ours(name)).ne(&unavailable) {
            workload.unavailable.retain(|name, _| !ours(name));
            workload.unavailable.extend(unavailable);
            workload.changed = true;
        }
    }
}

fn add_use(workload: &mut Workload, places: &mut Places, coverage: &Coverage, report: &Report, time_ms: i64) {
    let kind = match report.kind {
        ReportKind::AuditStarted => usage_kind::EXECUTABLE,
        ReportKind::Object => usage_kind::LIBRARY,
        ReportKind::Module => usage_kind::MODULE,
        // Nothing was read for a namespace package.
        _ => return,
    };
    // Hooks are no part of the application; another agent's may be there, around this one or within.
    let is_hook = report.path.windows(DIRECTORY_MARK.len()).any(|window| window == DIRECTORY_MARK);
    if report.truncated || is_hook || !report.path.starts_with(b"/") {
        return;
    }
    let name = if kind == usage_kind::MODULE { String::from_utf8_lossy(&report.name) } else { "".into() };
    let process = coverage.program(report.pid).or_else(|| {
        let executable = procfs::executable(report.pid)?;
        Some(String::from_utf8_lossy(&executable).into_owned())
    });
    let process = process.unwrap_or_default();
    for observation in places.observations(kind, &report.path, &name) {
        workload.add(observation, probe_of(report.kind), process.clone(), time_ms, NO_POSITION, None);
    }
}
