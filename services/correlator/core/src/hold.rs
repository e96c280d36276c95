//! What holds a package that is not used: used packages that need it, directly or through other held ones.
//! A package that something used depends on must never be recommended for removal by itself.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_schemas::events::ScanPackage;
use plimsoll_schemas::words::package_kind;

use crate::artifact::Artifact;
use crate::limits::HELD_BY_MAX;

/// What stands in `held_by` for a package that the system cannot do without.
pub(crate) const ESSENTIAL: &str = "essential";

/// Names under which a package may be depended on: OS packages are apart, and so is each language.
fn normalised(package: &ScanPackage, name: &str) -> (String, String) {
    let bare = name.split([' ', '(', '[', ';', '<', '>', '=', '!', '~']).next().unwrap_or(name);
    if package.kind == package_kind::OS {
        // dpkg's architecture qualifier (`python3:any`).
        return (String::new(), bare.split(':').next().unwrap_or(bare).to_owned());
    }
    let name = match package.ecosystem.as_str() {
        "pypi" => bare.to_lowercase().replace(['_', '.'], "-"),
        _ => bare.to_owned(),
    };
    (package.ecosystem.clone(), name)
}

/// Which packages of a scan need which: names resolved once, since every change of what is used asks for what it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// Ids of what is needed, by the package that needs it; none without needs.
    of: BTreeMap<String, Vec<String>>,
    /// Packages that the system cannot do without.
    essential: Vec<String>,
}

impl Artifact {
    /// The needs of the current scan's packages.
    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        let Some(scan) = self.current.as_ref().and_then(|id| self.scans.get(id)) else { return needs };
        let mut providers: BTreeMap<(String, String), Vec<&String>> = BTreeMap::new();
        for (id, package) in &scan.packages {
            let record = &package.record;
            for name in std::iter::once(&record.name).chain(&record.provides) {
                providers.entry(normalised(record, name)).or_default().push(id);
            }
            if record.essential {
                needs.essential.push(id.clone());
            }
        }
        for (id, package) in &scan.packages {
            let wanted = package.record.dependencies.iter().flat_map(|list| list.split('|'));
            let found: BTreeSet<&String> = wanted
                .filter_map(|wanted| providers.get(&normalised(&package.record, wanted.trim())))
                .flatten()
                .copied()
                .collect();
            if !found.is_empty() {
                needs.of.insert(id.clone(), found.into_iter().cloned().collect());
            }
        }
        needs
    }

    /// For each package of the current scan that is not used and is held: the names of what holds it, sorted, at most
    /// [`HELD_BY_MAX`]. `used` are the ids of the used packages.
    pub(crate) fn holds(&self, needs: &Needs, used: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
        let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let Some(scan) = self.current.as_ref().and_then(|id| self.scans.get(id)) else { return held };
        for id in needs.essential.iter().filter(|id| !used.contains(*id)) {
            held.insert(id.clone(), vec![ESSENTIAL.to_owned()]);
        }
        let mut roots: Vec<(&str, &str)> = needs
            .of
            .keys()
            .filter(|id| used.contains(*id))
            .filter_map(|id| scan.packages.get(id).map(|package| (package.record.name.as_str(), id.as_str())))
            .collect();
        roots.sort_unstable();
        // In the order of names: a package that has its full number of holders already passes nothing new on either,
        // so that each package is entered at most HELD_BY_MAX times.
        for (name, root) in roots {
            let mut stack = vec![root];
            let mut entered: BTreeSet<&str> = BTreeSet::new();
            while let Some(id) = stack.pop() {
                for needed in needs.of.get(id).into_iter().flatten() {
                    if used.contains(needed) || !entered.insert(needed) {
                        continue;
                    }
                    let holders = held.entry(needed.clone()).or_default();
                    if holders.len() >= HELD_BY_MAX {
                        continue;
                    }
                    if holders.last().is_none_or(|last| last != name) {
                        holders.push(name.to_owned());
                    }
                    stack.push(needed);
                }
            }
        }
        held
    }
}
