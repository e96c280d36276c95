//! Programs and scripts of a workload that may hide packages, and what is known not to be measurable.
//! It must never let one go without being looked into or said not to have been.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use plimsoll_schemas::words::{Rung, usage_kind};

use super::Workload;
use crate::observe::Observation;
use crate::unmeasurable::{self, Found, Unmeasurable};

/// Most programs and scripts of a workload that are looked at for what they hide; of others it is said that they were not.
const SCRIPTS_MAX: usize = 4_096;
/// Most files of PHP that are looked at for forks.
const PHP_FILES_MAX: usize = 16_384;
/// Most programs that carry Python and are told apart.
const CARRIERS_MAX: usize = 1_024;

/// What a file is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Packages that are not files any more.
    Hidden,
    /// Forks, of a file that PHP included where only its hook tells.
    Forks,
}

/// A program or script that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub path: Vec<u8>,
    /// Where its event begins in the ring buffer, which is not to be freed before it was looked at.
    pub position: u64,
    pub seen_ms: i64,
    pub look: Look,
}

impl Workload {
    /// Packages of an ecosystem cannot be measured in this workload; the first reason stays.
    pub fn set_unmeasurable(&mut self, found: Unmeasurable) {
        if let Entry::Vacant(free) = self.learned.hidden.entry(found.key()) {
            free.insert(found.reason);
            self.changed = true;
        }
    }

    /// What a look into a program or a script found.
    pub fn set_found(&mut self, found: Found) {
        match found {
            Found::Hidden(found) => self.set_unmeasurable(found),
            Found::Alone(found) => {
                if self.learned.alone.is_none() {
                    self.changed |= !self.learned.loads_packages;
                    self.learned.alone = Some((found.key(), found.reason));
                }
            }
        }
    }

    /// A program mapped Python's library, and is no interpreter by its name.
    pub fn set_carries_python(&mut self, program: &str) {
        let carriers = &mut self.learned.carriers;
        if carriers.contains_key(program) {
            return;
        }
        if carriers.len() >= CARRIERS_MAX {
            // Whether it starts Python cannot be kept any more, and it may be a frozen one.
            return self.set_unmeasurable(unmeasurable::python::without_modules(program));
        }
        carriers.insert(program.to_owned(), false);
        self.changed = true;
    }

    /// A process of such a program read the first of Python's modules from a file. Others of its processes need not: a web
    /// server that only checks its configuration.
    pub fn set_started_python(&mut self, program: &str) {
        if let Some(started) = self.learned.carriers.get_mut(program) {
            self.changed |= !*started;
            *started = true;
        }
    }

    /// What it is said to be unable to measure.
    pub(super) fn unavailable_probes(&self) -> BTreeMap<String, String> {
        let learned = &self.learned;
        let mut unavailable = self.unavailable.clone();
        unavailable.extend(learned.hidden.clone());
        if let Some((key, reason)) = learned.alone.as_ref().filter(|_| !learned.loads_packages) {
            unavailable.entry(key.clone()).or_insert_with(|| reason.clone());
        }
        if learned.asks_daemon && !learned.runs_daemon {
            let found = unmeasurable::of_daemon();
            unavailable.entry(found.key()).or_insert(found.reason);
        }
        if let Some((program, _)) = learned.carriers.iter().find(|(_, started)| !**started) {
            let found = unmeasurable::python::without_modules(program);
            unavailable.entry(found.key()).or_insert(found.reason);
        }
        unavailable.extend(learned.tools.not_measured());
        unavailable
    }

    pub(super) fn note_what_cannot_be_measured(
        &mut self,
        observation: &Observation,
        position: u64,
        seen_ms: i64,
    ) {
        let learned = &mut self.learned;
        let is_loaded = observation.rung >= Rung::Loaded;
        let is_module = observation.kind == usage_kind::MODULE && is_loaded;
        if is_module && !learned.loads_packages && unmeasurable::is_package(&observation.path) {
            learned.loads_packages = true;
            self.changed |= learned.alone.is_some();
        }
        if is_module {
            let (asks, runs) = unmeasurable::daemon_of(&observation.path);
            self.changed |= asks && !learned.asks_daemon || runs && !learned.runs_daemon;
            learned.asks_daemon |= asks;
            learned.runs_daemon |= runs;
        }
        // What is only read runs nothing.
        if is_loaded && let Some(found) = unmeasurable::of_path(&observation.path) {
            self.set_unmeasurable(found);
        }
        let may_hide = match observation.kind {
            usage_kind::EXECUTABLE => true,
            usage_kind::LIBRARY => is_program(&observation.path),
            usage_kind::MODULE if is_module => unmeasurable::may_be_bundle(&observation.path),
            _ => false,
        };
        if !may_hide || self.looked_at.contains(&observation.path) {
            return;
        }
        if self.looked_at.len() >= SCRIPTS_MAX {
            return self.not_looked_at(&observation.path, Look::Hidden);
        }
        self.looked_at.insert(observation.path.clone());
        self.scripts.push_back(Script {
            path: observation.path.clone(),
            position,
            seen_ms,
            look: Look::Hidden,
        });
    }

    /// Nobody can look at what still waits.
    pub fn give_up_scripts(&mut self) {
        for script in std::mem::take(&mut self.scripts) {
            self.not_looked_at(&script.path, script.look);
        }
    }

    /// Nobody could look into one of them.
    pub fn not_looked_at(&mut self, path: &[u8], look: Look) {
        match look {
            Look::Hidden => {
                unmeasurable::not_looked_at(path).for_each(|found| self.set_unmeasurable(found));
            }
            Look::Forks => self.set_unmeasurable(unmeasurable::php::not_looked_at(path)),
        }
    }

    /// PHP included a file, where only its hook tells, and can fork; the path is without a leading slash.
    pub fn look_for_forks(&mut self, path: &[u8], seen_ms: i64) {
        if self.php_files.contains(path) {
            return;
        }
        if self.php_files.len() >= PHP_FILES_MAX {
            return self.not_looked_at(path, Look::Forks);
        }
        self.php_files.insert(path.to_vec());
        self.scripts.push_back(Script {
            path: path.to_vec(),
            position: crate::workload::NO_POSITION,
            seen_ms,
            look: Look::Forks,
        });
    }
}

/// Whether what was mapped is a program by its name: the dynamic linker was called to run it.
fn is_program(path: &[u8]) -> bool {
    !path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).contains(&b'.')
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observation, workload};
    use super::*;

    #[test]
    fn a_script_alone_holds_packages_unless_some_were_loaded() {
        let mut workload = workload();
        let says =
            |workload: &Workload| workload.event().unavailable_probes.contains_key("not-measurable:npm");
        let found = Unmeasurable { ecosystem: "npm", reason: "alone; do".into() };
        workload.set_found(Found::Alone(found));
        assert!(says(&workload));
        let load = |workload: &mut Workload, path: &str| {
            let module = Observation { kind: "module", ..observation(path, 1) };
            workload.add(module, "ebpf-files", String::new(), 1, 0, None);
        };
        load(&mut workload, "usr/lib/node_modules/npm/lib/cli.js");
        load(&mut workload, "app/server.js");
        assert!(says(&workload));
        load(&mut workload, "app/node_modules/a/index.js");
        assert!(!says(&workload));
    }

    #[test]
    fn each_program_that_carries_python_has_to_start_it_from_files() {
        let mut workload = workload();
        let says = |workload: &Workload| {
            let said = workload.event().unavailable_probes;
            said.get("not-measurable:pypi").map_or_else(String::new, |reason| reason[..8].to_owned())
        };
        workload.set_carries_python("usr/sbin/apache2");
        assert_eq!(says(&workload), "/usr/sbi");
        workload.set_started_python("usr/sbin/apache2");
        assert_eq!(says(&workload), "");
        // `apache2 -t` starts no Python.
        workload.set_carries_python("usr/sbin/apache2");
        assert_eq!(says(&workload), "");
        workload.set_carries_python("opt/frozen");
        workload.set_started_python("usr/sbin/apache2");
        assert_eq!(says(&workload), "/opt/fro");
    }

    #[test]
    fn an_application_may_run_below_a_daemon_from_elsewhere() {
        let mut workload = workload();
        let says =
            |workload: &Workload| workload.event().unavailable_probes.contains_key("not-measurable:npm");
        let load = |workload: &mut Workload, path: &str| {
            let module = Observation { kind: "module", ..observation(path, 1) };
            workload.add(module, "node-module", String::new(), 1, 0, None);
        };
        load(&mut workload, "app/node_modules/pm2/lib/Utility.js");
        assert!(!says(&workload));
        load(&mut workload, "app/node_modules/pm2/lib/Client.js");
        assert!(says(&workload));
        load(&mut workload, "app/node_modules/pm2/lib/Daemon.js");
        assert!(!says(&workload));
    }

    #[test]
    fn what_nobody_looks_into_is_said() {
        let mut workload = workload();
        let execute = |workload: &mut Workload, number: usize| {
            let program = Observation { kind: "executable", ..observation(&format!("bin/{number}"), 1) };
            workload.add(program, "ebpf-files", String::new(), 1, 0, None);
        };
        (0..SCRIPTS_MAX).for_each(|number| execute(&mut workload, number));
        execute(&mut workload, 0);
        assert_eq!((workload.scripts.len(), workload.learned.hidden.len()), (SCRIPTS_MAX, 0));
        execute(&mut workload, SCRIPTS_MAX);
        let reason = workload.learned.hidden["not-measurable:maven"].clone();
        assert!(reason.contains(&format!("/bin/{SCRIPTS_MAX} could not be looked into")), "{reason}");
        workload.scripts.push_back(Script {
            path: b"app/main.js".to_vec(),
            position: 0,
            seen_ms: 0,
            look: Look::Hidden,
        });
        workload.give_up_scripts();
        assert!(workload.scripts.is_empty() && workload.learned.hidden.contains_key("not-measurable:npm"));
    }
}
