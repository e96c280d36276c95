//! Interpreters that a process has mapped as libraries: a web server with mod_php, uWSGI, Ruby with PyCall. What it reads of
//! their languages are modules, whatever program it is. A set of a few bits, as the eBPF programs write it.

use crate::ebpf::wire::event_flag;
use crate::hooks::language::Language;

/// The languages of these interpreters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried(u32);

impl Carried {
    /// Of the flags of an event, or of what is kept of a process.
    pub fn of_bits(flags: u32) -> Self {
        Self(flags & Language::ALL.map(bit).into_iter().fold(0, |all, bit| all | bit))
    }

    /// As the eBPF programs keep it.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether an interpreter of this language is among them.
    pub fn has(self, language: Language) -> bool {
        self.0 & bit(language) != 0
    }
}

impl FromIterator<Language> for Carried {
    fn from_iter<I: IntoIterator<Item = Language>>(languages: I) -> Self {
        Self(languages.into_iter().fold(0, |all, language| all | bit(language)))
    }
}

fn bit(language: Language) -> u32 {
    match language {
        Language::Python => event_flag::CARRIES_PYTHON,
        Language::Node => event_flag::CARRIES_NODE,
        Language::Ruby => event_flag::CARRIES_RUBY,
        Language::Php => event_flag::CARRIES_PHP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_flags_are_none_of_them() {
        let carried = Carried::of_bits(event_flag::CARRIES_RUBY | event_flag::RESYNC);
        assert_eq!(Language::ALL.map(|language| carried.has(language)), [false, false, true, false]);
        assert_eq!(carried, [Language::Ruby].into_iter().collect());
        assert_eq!(Carried::of_bits(u32::MAX), Language::ALL.into_iter().collect());
    }
}
