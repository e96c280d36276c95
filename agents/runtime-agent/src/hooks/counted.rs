//! How many processes of each language took its hook, and how many did not. Pure.
//! It must never count down, nor a process twice while it runs one program.

use std::collections::{BTreeMap, HashSet};

use plimsoll_schemas::words::observed;

use super::language::Language;

/// Processes that are told apart, once for each way; more are not counted.
const PROCESSES_MAX: usize = 32_768;

/// Numbers of processes.
#[derive(Debug, Default)]
pub(super) struct Counted {
    told_apart: HashSet<(u32, Language, &'static str)>,
    numbers: BTreeMap<(Language, &'static str), u64>,
}

impl Counted {
    /// A process runs another program from now on.
    pub fn begin(&mut self, pid: u32) {
        for language in Language::ALL {
            for how in [observed::AT_START, observed::REFUSED] {
                self.told_apart.remove(&(pid, language, how));
            }
        }
    }

    /// It took the hook.
    pub fn hooked(&mut self, pid: u32, language: Language) {
        self.count(pid, language, observed::AT_START);
    }

    /// It runs without the hook; of one that took it, something else is meant.
    pub fn refused(&mut self, pid: u32, language: Language) {
        if !self.told_apart.contains(&(pid, language, observed::AT_START)) {
            self.count(pid, language, observed::REFUSED);
        }
    }

    fn count(&mut self, pid: u32, language: Language, how: &'static str) {
        if self.told_apart.len() < PROCESSES_MAX && self.told_apart.insert((pid, language, how)) {
            *self.numbers.entry((language, how)).or_default() += 1;
        }
    }

    /// All so far, by language and how they were observed.
    pub fn numbers(&self) -> impl Iterator<Item = (Language, &'static str, u64)> + '_ {
        self.numbers.iter().map(|((language, how), number)| (*language, *how, *number))
    }
}
