//! What of each package was seen in use, and by what it was observed: the parts of the report below the table.
//! A list that is folded must say how much is behind it, and how to see it.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_portal::model::{Observed, Package, UsedFile};
use plimsoll_portal::text::{count_of, number};
use plimsoll_portal::time::rfc3339;
use plimsoll_schemas::words::{language, observed as how, package_kind, probe, usage, usage_kind};

use super::table::{Cell, Colour, Table};

/// Entries of one package that are shown without `--files`.
const FOLDED_MAX: usize = 10;

/// How the files and classes of packages are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// All of them, not only the first.
    pub all: bool,
    /// Only those whose path or name contains this, whatever its case.
    pub find: Option<String>,
}

impl Files {
    /// The entries of a package that are looked for.
    pub fn of<'a>(&self, package: &'a Package) -> Vec<&'a UsedFile> {
        let text = self.find.as_deref().map(str::to_lowercase);
        let fits = |file: &&UsedFile| {
            text.as_deref().is_none_or(|text| {
                file.name.to_lowercase().contains(text) || file.path.to_lowercase().contains(text)
            })
        };
        package.files.iter().chain(&package.classes).filter(fits).collect()
    }

    /// The lines below a package.
    pub fn lines(&self, package: &Package) -> Vec<String> {
        let files = self.of(package);
        let mut lines: Vec<String> = if self.all || files.len() <= FOLDED_MAX {
            files.iter().map(|file| line(file)).collect()
        } else {
            folded(&files)
        };
        let listed = package.files.len() + package.classes.len();
        let counted = usize::try_from(package.file_count + package.class_count).unwrap_or(usize::MAX);
        if let Some(text) = self.find.as_deref().filter(|_| files.len() < listed) {
            lines.push(format!(
                "{} of {} contain {text:?}, the others are not shown",
                number(files.len()),
                number(listed)
            ));
        }
        if counted > listed {
            lines.push(format!("and {} more that were only counted", counted - listed));
        }
        if !package.ambiguous_with.is_empty() {
            lines.push(format!("what is marked ambiguous may be of {}", package.ambiguous_with.join(" or ")));
        }
        lines
    }
}

fn line(file: &UsedFile) -> String {
    let what = if file.name.is_empty() { file.path.clone() } else { format!("{}  {}", file.name, file.path) };
    let ambiguous = if file.ambiguous { "  ambiguous" } else { "" };
    format!("{} {what}  {}{ambiguous}", file.rung, span(file.first_seen_ms, file.last_seen_ms))
}

/// First and last time, the date of the second only where it is another.
fn span(first_ms: i64, last_ms: i64) -> String {
    let text = |ms: i64| rfc3339(ms).unwrap_or_default();
    let (first, last) = (text(first_ms), text(last_ms));
    match (first.split_once('T'), last.split_once('T')) {
        _ if first == last => first,
        (Some((day, _)), Some((other, time))) if day == other => format!("{first} – {time}"),
        _ => format!("{first} – {last}"),
    }
}

/// One line for the classes of each Java package, or the files of each directory; the rest is counted.
fn folded(files: &[&UsedFile]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<&UsedFile>> = BTreeMap::new();
    for file in files {
        let group = if file.kind == usage_kind::CLASS {
            format!("{}.*  {}", file.name.rsplit_once('.').map_or("", |(package, _)| package), file.path)
        } else {
            format!("{}/*", file.path.rsplit_once('/').map_or("", |(directory, _)| directory))
        };
        groups.entry(group).or_default().push(file);
    }
    let mut largest: Vec<(&String, &Vec<&UsedFile>)> = groups.iter().collect();
    largest.sort_by_key(|(name, group)| (std::cmp::Reverse(group.len()), (*name).clone()));
    let mut lines: Vec<String> = largest
        .iter()
        .take(FOLDED_MAX)
        .map(|(name, group)| match group.as_slice() {
            [file] => line(file),
            _ => {
                let first = group.iter().map(|file| file.first_seen_ms).min().unwrap_or(0);
                let last = group.iter().map(|file| file.last_seen_ms).max().unwrap_or(0);
                format!("{} in {name}  {}", group.len(), span(first, last))
            }
        })
        .collect();
    let behind: usize = largest.iter().skip(FOLDED_MAX).map(|(_, group)| group.len()).sum();
    let more = if behind > 0 { format!("and {behind} more; ") } else { String::new() };
    lines.push(format!("{more}--files lists all {}, --find TEXT those that contain a text", files.len()));
    lines
}

/// By what the packages of each language were observed, and how its processes.
pub fn observed(packages: &[Package], observed: &[Observed]) -> String {
    #[derive(Default)]
    struct Group<'a> {
        packages: usize,
        used: usize,
        from_first_exec: usize,
        probes: BTreeSet<&'a str>,
        events_lost: i64,
    }
    let mut groups: BTreeMap<(&str, &str), Group> = BTreeMap::new();
    for package in packages {
        let group = groups.entry((&package.kind, &package.ecosystem)).or_default();
        group.packages += 1;
        group.used += usize::from(package.usage == usage::USED);
        group.from_first_exec += usize::from(package.coverage.from_first_exec);
        group.probes.extend(package.coverage.probes.iter().map(String::as_str));
        group.events_lost = group.events_lost.max(package.coverage.events_lost);
    }
    // Processes of a language of which no package is known.
    for one in observed {
        if !groups.keys().any(|(_, ecosystem)| *ecosystem == one.ecosystem) {
            let group = groups.entry((package_kind::APPLICATION, &one.ecosystem)).or_default();
            group
                .probes
                .extend((one.how != how::REFUSED).then_some(one.probe.as_str()).filter(|p| !p.is_empty()));
        }
    }
    let mut table = Table::new(&["PACKAGES OF", "USED", "FROM THE FIRST EXEC", "PROCESSES", "OBSERVED BY"]);
    for ((_, ecosystem), group) in &groups {
        let words: Vec<&str> = group.probes.iter().map(|name| probe::describe(name)).collect();
        let lost = if group.events_lost > 0 {
            format!("; {} lost", count_of(group.events_lost, "event", "events"))
        } else {
            String::new()
        };
        let by = if words.is_empty() {
            Cell::coloured("nothing that could see their use", Colour::Yellow)
        } else {
            format!("{}{lost}", words.join("; ")).into()
        };
        table.row(vec![
            ecosystem_name(ecosystem).into(),
            format!("{} of {}", group.used, group.packages).into(),
            format!("{} of {}", group.from_first_exec, group.packages).into(),
            processes(ecosystem, observed),
            by,
        ]);
    }
    table.render()
}

fn ecosystem_name(ecosystem: &str) -> String {
    language(ecosystem).map_or_else(|| ecosystem.to_owned(), |language| format!("{language} ({ecosystem})"))
}

/// The processes of a language, in short: how many from their start, how many not.
fn processes(ecosystem: &str, observed: &[Observed]) -> Cell {
    let mut parts = Vec::new();
    let mut late = false;
    for (word, text) in
        [(how::AT_START, "from the start"), (how::ATTACHED, "attached"), (how::REFUSED, "refused")]
    {
        let of = observed.iter().filter(|one| one.ecosystem == ecosystem && one.how == word);
        let count: i64 = of.map(|one| one.processes).sum();
        if count > 0 {
            late |= word != how::AT_START;
            parts.push(format!("{} {text}", number(count)));
        }
    }
    if observed.iter().any(|one| one.ecosystem == ecosystem && one.how == how::NOT_MEASURABLE) {
        late = true;
        parts.push("not measurable".to_owned());
    }
    let text = if parts.is_empty() { "–".to_owned() } else { parts.join(", ") };
    Cell::coloured(text, if late { Colour::Yellow } else { Colour::None })
}

/// How the processes of each language were observed, with what became of classes, the reasons and the remedies.
pub fn how_observed(observed: &[Observed]) -> String {
    let mut table = Table::new(&["HOW EACH LANGUAGE WAS OBSERVED"]);
    for one in observed {
        table.row(vec![format!("{}: {}", ecosystem_name(&one.ecosystem), one.sentence()).into()]);
        for reason in &one.reasons {
            table.row(vec![Cell::coloured(format!("  {reason}"), Colour::Dim)]);
        }
    }
    if observed.is_empty() {
        table.row(vec!["no process of a language was seen".into()]);
    }
    format!("\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> UsedFile {
        UsedFile {
            path: "lib/x.jar".into(),
            kind: "class".into(),
            name: name.into(),
            rung: "loaded".into(),
            first_seen_ms: 1_763_800_000_000,
            last_seen_ms: 1_763_800_005_000,
            ..UsedFile::default()
        }
    }

    fn package(classes: usize, counted: i64) -> Package {
        let classes = (0..classes).map(|n| class(&format!("org.p{}.C{n}", n % 2))).collect();
        Package { classes, class_count: counted, ..Package::default() }
    }

    #[test]
    fn few_are_listed_with_their_times() {
        let lines = Files::default().lines(&package(2, 2));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "loaded org.p0.C0  lib/x.jar  2025-11-22T08:26:40.000Z – 08:26:45.000Z");
    }

    #[test]
    fn many_are_folded_and_say_so() {
        let lines = Files::default().lines(&package(31, 40));
        assert!(lines[0].starts_with("16 in org.p0.*  lib/x.jar  2025"), "{lines:?}");
        assert!(lines[1].starts_with("15 in org.p1.*"), "{lines:?}");
        assert!(lines[2].contains("--files lists all 31"), "{lines:?}");
        assert_eq!(lines[3], "and 9 more that were only counted");
        assert_eq!(Files { all: true, find: None }.lines(&package(31, 31)).len(), 31);
    }

    #[test]
    fn a_text_finds_names_and_paths_in_any_case() {
        let find = |text: &str| Files { all: true, find: Some(text.into()) }.of(&package(31, 31)).len();
        assert_eq!((find("ORG.P1."), find("x.JAR"), find("none")), (15, 31, 0));
        let lines = Files { all: true, find: Some("p1.c1".into()) }.lines(&package(31, 31));
        assert_eq!(lines.last().unwrap(), "6 of 31 contain \"p1.c1\", the others are not shown");
    }

    #[test]
    fn each_language_says_by_what_it_was_observed() {
        let mut java = package(1, 1);
        java.kind = "application".into();
        java.ecosystem = "maven".into();
        java.usage = "used".into();
        java.coverage.probes = vec!["jvmti".into()];
        java.coverage.from_first_exec = true;
        let node = Package { ecosystem: "npm".into(), ..java.clone() };
        let node = Package { coverage: Default::default(), usage: "not_measured".into(), ..node };
        let jvms = |how: &str, processes| Observed {
            ecosystem: "maven".into(),
            probe: "jvmti".into(),
            how: how.into(),
            processes,
            counts: [("classes-hidden".to_owned(), 7)].into(),
            ..Observed::default()
        };
        let mut refused = jvms("refused", 1);
        refused.counts.clear();
        refused.reasons = vec!["/usr/bin/java was started with -Xrs; start it with `plimsoll run`".into()];
        let ruby =
            Observed { ecosystem: "gem".into(), probe: "ruby-feature".into(), ..jvms("at-start", 1_200) };
        let how = [ruby, jvms("at-start", 2), jvms("attached", 3), refused];
        let text = observed(&[java, node], &how);
        let line = |begin: &str| {
            let line = text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}"));
            line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>()
        };
        let java = "JVM tool interface: classes that were defined";
        assert_eq!(
            line("Java"),
            ["Java (maven)", "1 of 1", "1 of 1", "2 from the start, 3 attached, 1 refused", java]
        );
        assert_eq!(
            line("Node.js"),
            ["Node.js (npm)", "0 of 1", "0 of 1", "–", "nothing that could see their use"]
        );
        assert_eq!(
            line("Ruby"),
            ["Ruby (gem)", "0 of 0", "0 of 0", "1,200 from the start", "hook in Ruby: required features"]
        );
        let text = how_observed(&how);
        assert!(
            text.contains("Java (maven): 3 JVMs observed only after they had started (jvmti): 7 hidden"),
            "{text}"
        );
        assert!(
            text.contains("\n  /usr/bin/java was started with -Xrs; start it with `plimsoll run`\n"),
            "{text}"
        );
    }
}
