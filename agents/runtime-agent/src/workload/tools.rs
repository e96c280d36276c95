//! Of which ecosystems only tools ran in a workload: linters, bundlers, installers, whose own loads do not count. What they
//! did proves nothing about packages, until an application of the ecosystem runs.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::words::{language, probe};
use serde::{Deserialize, Serialize};

use super::Workload;
use super::learned::cut;
use crate::sweep::Role;

/// Tools of an ecosystem that are named.
const NAMED_MAX: usize = 3;

/// What ran, by ecosystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tools {
    applications: BTreeSet<String>,
    /// Names, and whether there are more.
    tools: BTreeMap<String, (BTreeSet<String>, bool)>,
}

impl Tools {
    /// Shortens the names of tools.
    pub(super) fn cut(&mut self, max_bytes: usize) {
        for (names, _) in self.tools.values_mut() {
            *names = names.iter().map(|name| cut(name, max_bytes)).collect();
        }
    }

    /// Whether this changes what is said.
    fn note(&mut self, ecosystem: &'static str, role: Role) -> bool {
        match role {
            Role::Application => {
                self.applications.insert(ecosystem.to_owned()) && self.tools.contains_key(ecosystem)
            }
            Role::Tool(name) => {
                let (names, more) = self.tools.entry(ecosystem.to_owned()).or_default();
                let new = !names.contains(&name) && !*more;
                if new && names.len() < NAMED_MAX {
                    names.insert(name);
                } else if new {
                    *more = true;
                }
                new && !self.applications.contains(ecosystem)
            }
        }
    }

    /// Ecosystems that were not measured, as they stand among the probes that are not available.
    pub(super) fn not_measured(&self) -> impl Iterator<Item = (String, String)> {
        let alone =
            self.tools.iter().filter(|(ecosystem, _)| !self.applications.contains(ecosystem.as_str()));
        alone.map(|(ecosystem, (names, more))| {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            if *more {
                names.push("other tools");
            }
            let (last, before) = names.split_last().map_or(("", &[][..]), |(last, before)| (*last, before));
            let names = match before {
                [] => last.to_owned(),
                before => format!("{} and {last}", before.join(", ")),
            };
            let of = language(ecosystem).map_or_else(|| ecosystem.clone(), str::to_owned);
            let reason = format!(
                "no application of {of} ran, only {names}, whose own loads do not count; run the application under \
                 observation"
            );
            (format!("{}{ecosystem}", probe::NOT_MEASURED_PREFIX), reason)
        })
    }
}

impl Workload {
    /// A tool or an application of an ecosystem runs.
    pub fn note_role(&mut self, ecosystem: &'static str, role: Role) {
        self.changed |= self.learned.tools.note(ecosystem, role);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::*;

    /// The reasons after these ran, and which of them changed what is to be published.
    fn check(ran: &[(&'static str, &str)], expected: &[(&str, &str)], changing: &[bool]) {
        let mut workload = workload();
        let mut changed = Vec::new();
        for (ecosystem, tool) in ran {
            workload.changed = false;
            let role = if tool.is_empty() { Role::Application } else { Role::Tool((*tool).to_owned()) };
            workload.note_role(ecosystem, role);
            changed.push(workload.changed);
        }
        assert_eq!(changed, changing, "{ran:?}");
        let said = workload.event().unavailable_probes;
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (key, part) in expected {
            assert!(said[*key].contains(part), "{said:?}");
            assert!(said[*key].ends_with("; run the application under observation"), "{said:?}");
        }
    }

    #[test]
    fn only_tools_are_said_until_an_application_runs() {
        let (npm, pypi) = ("not-measured:npm", "not-measured:pypi");
        check(&[("npm", "")], &[], &[false]);
        check(
            &[("npm", "eslint"), ("npm", "eslint")],
            &[(npm, "no application of Node.js ran, only eslint, whose")],
            &[true, false],
        );
        check(
            &[("npm", "npm"), ("npm", "eslint"), ("pypi", "pip"), ("pypi", "")],
            &[(npm, "only eslint and npm, whose")],
            &[true, true, true, true],
        );
        check(&[("npm", "npm"), ("npm", ""), ("npm", "eslint")], &[], &[true, true, false]);
        check(
            &[("npm", "npm"), ("pypi", ""), ("pypi", "mypy")],
            &[(npm, "only npm, whose")],
            &[true, false, false],
        );
        check(
            &[("pypi", "a"), ("pypi", "b"), ("pypi", "c"), ("pypi", "d"), ("pypi", "e")],
            &[(pypi, "only a, b, c and other tools, whose")],
            &[true, true, true, true, false],
        );
    }
}
