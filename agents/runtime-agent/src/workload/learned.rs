//! What was learned of a workload from events that are not told again: it must outlive the agent where the watch does. An
//! agent that takes over the pinned programs goes on with it.
//! It must never forget that something could not be measured, but for the words of the reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Workload;
use super::tools::Tools;

/// Lengths that texts are cut to, in bytes, and most programs, until all fits into a note.
const CUTS: [(usize, usize); 4] = [(4_096, 1_024), (512, 32), (128, 4), (32, 1)];

/// Lives of an agent whose losses are noted, of each probe.
const LOSSES_MAX: usize = 2;

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Learned {
    /// Ecosystems that cannot be measured, as they stand among the probes that are not available.
    pub hidden: BTreeMap<String, String>,
    /// The same of a script that may hold all packages.
    pub alone: Option<(String, String)>,
    /// A package of Node.js was loaded from a file of its own.
    pub loads_packages: bool,
    /// It asked the daemon of a process manager to run the application.
    pub asks_daemon: bool,
    /// That daemon is one of its own processes.
    pub runs_daemon: bool,
    /// Programs that carry Python as a library, and whether one of their processes started it from files.
    pub carriers: BTreeMap<String, bool>,
    /// Ecosystems of which tools or an application ran.
    pub tools: Tools,
    /// Probe, boot and number of what was lost.
    pub losses: Vec<(String, String, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The workload's identity on the wire: a container that is started again is another one.
    id: String,
    learned: Learned,
}

impl Learned {
    fn cut(&self, text_bytes: usize, programs: usize) -> Self {
        let mut short = self.clone();
        short.hidden.values_mut().for_each(|reason| *reason = cut_reason(reason, text_bytes));
        if let Some((_, reason)) = &mut short.alone {
            *reason = cut_reason(reason, text_bytes);
        }
        // Those first that have something to say.
        let mut carriers: Vec<_> = self.carriers.iter().collect();
        carriers.sort_by_key(|(_, started)| **started);
        short.carriers.clear();
        for (program, started) in carriers.into_iter().take(programs) {
            // Of two whose names are one when cut, what did not start Python stays.
            *short.carriers.entry(cut(program, text_bytes)).or_insert(true) &= *started;
        }
        short.tools.cut(text_bytes);
        short
    }
}

/// A reason whose begin is cut, and whose remedy stays: `WHAT HAPPENED; WHAT TO DO`.
fn cut_reason(reason: &str, max_bytes: usize) -> String {
    if reason.len() <= max_bytes {
        return reason.to_owned();
    }
    let (what, remedy) = reason.rsplit_once("; ").unwrap_or((reason, ""));
    let remedy = cut(remedy, max_bytes / 2);
    format!("{}…; {remedy}", cut(what, max_bytes - remedy.len()))
}

/// The begin of a text.
pub(super) fn cut(text: &str, max_bytes: usize) -> String {
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}

/// Whose note it is: the workload's identity on the wire.
pub fn noted_id(note: &[u8]) -> Option<String> {
    serde_json::from_slice::<Note>(note).ok().map(|note| note.id)
}

impl Workload {
    /// What is to be noted of it, at most so many bytes; `None` if that was noted already.
    pub fn new_note(&mut self, max_bytes: usize) -> Option<Vec<u8>> {
        self.learned.losses = self.losses_to_note();
        if self.noted.as_ref() == Some(&self.learned) {
            return None;
        }
        self.noted = Some(self.learned.clone());
        let encode = |(text_bytes, programs)| {
            let note = Note { id: self.id.clone(), learned: self.learned.cut(text_bytes, programs) };
            serde_json::to_vec(&note).ok().filter(|text| text.len() <= max_bytes)
        };
        CUTS.into_iter().find_map(encode)
    }

    /// Some of each probe: one is enough for nothing to count as unused.
    fn losses_to_note(&self) -> Vec<(String, String, u64)> {
        let mut kept: Vec<(String, String, u64)> = Vec::new();
        for ((probe, boot_id), total) in self.losses.iter().filter(|(_, total)| **total > 0) {
            if kept.iter().filter(|(known, ..)| known == probe).count() < LOSSES_MAX {
                kept.push((probe.clone(), boot_id.clone(), *total));
            }
        }
        kept
    }

    /// Goes on with what an agent before this one noted.
    pub fn recall(&mut self, note: &[u8]) {
        match serde_json::from_slice::<Note>(note) {
            Ok(note) if note.id == self.id => {
                self.learned = note.learned;
                for (probe, boot_id, total) in self.learned.losses.clone() {
                    self.set_loss(&probe, &boot_id, total);
                }
                self.noted = Some(self.learned.clone());
                self.changed = true;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the note of an agent before this one is not readable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::*;
    use crate::sweep::Role;
    use crate::unmeasurable::{Found, Unmeasurable};

    #[test]
    fn what_was_said_is_said_after_a_restart() {
        let mut before = workload();
        assert!(before.new_note(8_188).is_some(), "which workload it is");
        assert_eq!(before.new_note(8_188), None, "there is nothing more to note");
        let hidden = |ecosystem, reason: &str| Unmeasurable { ecosystem, reason: reason.to_owned() };
        before.set_unmeasurable(hidden("pypi", "/app was frozen; run it otherwise"));
        before.set_found(Found::Alone(hidden("npm", "/app.js needs no other file; do not bundle")));
        before.set_carries_python("opt/frozen");
        before.note_role("gem", Role::Tool("rubocop".into()));
        before.set_loss("ebpf-files", "boot", 5);
        before.note_role("composer", Role::Application);
        let note = before.new_note(8_188).unwrap();
        assert_eq!(noted_id(&note).as_ref(), Some(&before.id));
        assert_eq!(before.new_note(8_188), None, "noted once");
        let recalled = |id: &str, note: &[u8]| {
            let mut after = Workload { id: id.to_owned(), ..workload() };
            after.recall(note);
            after
        };
        let mut after = recalled(&before.id, &note);
        assert_eq!(after.event().unavailable_probes, before.event().unavailable_probes);
        assert_eq!(after.event().unavailable_probes.len(), 3);
        assert_eq!(after.event().losses, before.event().losses);
        assert_eq!(after.event().losses[0].events_lost, 5);
        after.note_role("composer", Role::Tool("phpstan".into()));
        after.note_role("gem", Role::Application);
        assert_eq!(after.event().unavailable_probes.len(), 2, "an application of each of the two ran");
        assert!(recalled("m/d", &note).event().unavailable_probes.is_empty(), "another workload's");
        assert!(recalled(&before.id, &note[1..]).event().unavailable_probes.is_empty());
    }

    #[test]
    fn of_programs_with_one_name_when_cut_the_frozen_one_stays() {
        let mut learned = Learned::default();
        for (program, started) in [("/opt/a1", false), ("/opt/a2", true), ("/b", true)] {
            learned.carriers.insert(program.to_owned(), started);
        }
        let short = learned.cut(6, 10);
        assert_eq!(short.carriers, [("/b".to_owned(), true), ("/opt/a".to_owned(), false)].into());
    }

    #[test]
    fn a_note_has_room_for_every_ecosystem() {
        let mut workload = workload();
        for ecosystem in ["pypi", "npm", "gem", "composer", "maven"] {
            let reason = format!("/{} cannot be looked into; do otherwise", "\u{1}é".repeat(1_500));
            workload.set_unmeasurable(Unmeasurable { ecosystem, reason });
            for tool in 0..4 {
                workload.note_role(ecosystem, Role::Tool(format!("{tool}{}", "\u{1}".repeat(250))));
            }
        }
        (0..1_000)
            .for_each(|number| workload.set_carries_python(&format!("{number}{}", "\u{1}".repeat(4_000))));
        let note = workload.new_note(8_188).unwrap();
        let said: Vec<_> = workload.event().unavailable_probes.into_keys().collect();
        let mut after = super::super::tests::workload();
        after.recall(&note);
        let recalled = after.event().unavailable_probes;
        assert_eq!(recalled.keys().cloned().collect::<Vec<_>>(), said);
        assert!(recalled["not-measurable:gem"].ends_with("; do otherwise"), "{recalled:?}");
    }
}
