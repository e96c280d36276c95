//! Whether the agent may be brought into a JVM that runs, from what is known of it.
//! It must never let a signal be sent to a JVM that would not catch it.

use super::archives;
use crate::procfs;

/// The first version that warns of agents which come later.
const WARNS_FROM: u32 = 21;

/// What is known of a JVM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JvmFacts {
    /// Feature version: 8, 11, 17…; unknown for images without a release file.
    pub version: Option<u32>,
    /// It is Eclipse OpenJ9, whose attach is another one.
    pub is_openj9: bool,
    /// It catches SIGQUIT.
    pub catches_quit: bool,
    /// It was stopped, or is frozen in its cgroup.
    pub is_stopped: bool,
    /// Its attach socket is there.
    pub listens: bool,
    /// Its own options, from the command line and the environment.
    pub options: Vec<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Attach,
    /// It is coming up.
    NotYet,
    /// It refuses, or would notice; why, and what to do.
    Refuse(String),
}

/// What helps where the agent cannot come later.
pub(super) const AT_START: &str =
    "start it with the agent instead (`plimsoll run`, which sets JAVA_TOOL_OPTIONS)";

/// Decides.
pub fn judge(facts: &JvmFacts, attach_from_21: bool) -> Verdict {
    let last = |name: &str| {
        let on = |option: &&String| ["+", "-"].iter().any(|sign| **option == format!("-XX:{sign}{name}"));
        facts.options.iter().rfind(on).map(|option| option.starts_with("-XX:+"))
    };
    let archive = facts.options.iter().any(|option| archives::is_archive_option(option));
    let refuse = |why: &str| {
        Verdict::Refuse(match archive {
            true => format!("{}, and {why}; {}", archives::WHY, archives::WITHOUT_ARCHIVE),
            false => format!("{why}; {AT_START}"),
        })
    };
    if facts.is_openj9 {
        return refuse("is Eclipse OpenJ9, to which agents cannot be attached from outside");
    }
    if last("DisableAttachMechanism") == Some(true) {
        return refuse("was started with -XX:+DisableAttachMechanism");
    }
    if last("EnableDynamicAgentLoading") == Some(false) {
        return refuse("was started with -XX:-EnableDynamicAgentLoading");
    }
    if facts.options.iter().any(|option| option == "-Xrs" || option == "-XX:+ReduceSignalUsage") {
        return refuse("was started with -Xrs: a signal to attach would end it");
    }
    if facts.version.is_some_and(|version| version < 8) {
        return refuse("is older than JDK 8");
    }
    let warns = facts.version.is_none_or(|version| version >= WARNS_FROM)
        && last("EnableDynamicAgentLoading") != Some(true);
    if warns && !attach_from_21 {
        let (why, otherwise) = if archive {
            (format!("{}, and ", archives::WHY), archives::WITHOUT_ARCHIVE)
        } else {
            (String::new(), AT_START)
        };
        return Verdict::Refuse(format!(
            "{why}is of JDK {WARNS_FROM} or newer, and would print a warning on its standard error when it is attached to; \
             allow that with java.attach_from_21 (`plimsoll run --java-attach-from-21`), or {otherwise}"
        ));
    }
    if facts.is_stopped || (!facts.listens && !facts.catches_quit) {
        return Verdict::NotYet;
    }
    Verdict::Attach
}

/// Options of a JVM that take the next word (docs.oracle.com, the java command).
const OPTIONS_WITH_VALUE: [&str; 13] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--add-modules",
    "--upgrade-module-path",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--patch-module",
    "--limit-modules",
    "--enable-native-access",
];

/// Cuts a JVM's arguments (without the program itself) where its own options end: at `-jar`, `-m`, or its main class.
pub fn split_options(arguments: &[String]) -> (&[String], &[String]) {
    let mut end = 0;
    while let Some(word) = arguments.get(end)
        && word.starts_with(['-', '@'])
        && !matches!(word.as_str(), "-jar" | "-m" | "--module")
    {
        end += if OPTIONS_WITH_VALUE.contains(&word.as_str()) { 2 } else { 1 };
    }
    arguments.split_at(end.min(arguments.len()))
}

/// The JVM's own options of a command line: those before the main class, and whatever the variables add.
pub fn options_of(arguments: &[String], variables: &[String]) -> Vec<String> {
    let (own, _) = split_options(arguments.get(1..).unwrap_or_default());
    // What a file of arguments holds is not known; what stands behind it is.
    let own = own.iter().filter(|word| word.starts_with('-')).cloned();
    // A JVM takes quotes away.
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'');
    let words = variables.iter().flat_map(|text| text.split(ends)).filter(|word| !word.is_empty());
    words.map(str::to_owned).chain(own).collect()
}

/// What a process's environment adds to a JVM's options.
pub fn variables_of(pid: u32) -> Vec<String> {
    const NAMES: [&[u8]; 3] = [b"JAVA_TOOL_OPTIONS=", b"JDK_JAVA_OPTIONS=", b"_JAVA_OPTIONS="];
    let environment = procfs::environment(pid).unwrap_or_default();
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    let value = |name: &&[u8]| variables.iter().find_map(|variable| variable.strip_prefix(*name));
    NAMES.iter().filter_map(value).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// The feature version in "1.8", "17.0.15+6", "25".
pub fn feature_version(text: &str) -> Option<u32> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Option<u32>, command: &str, variables: &str, allowed: bool, expected: &str) {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let facts = JvmFacts {
            version,
            catches_quit: true,
            options: options_of(&words(command), &[variables.to_owned()]),
            ..JvmFacts::default()
        };
        let verdict = match judge(&facts, allowed) {
            Verdict::Refuse(reason) => reason,
            other => format!("{other:?}"),
        };
        assert!(verdict.contains(expected), "{command} {variables}: {verdict}");
    }

    #[test]
    fn verdicts() {
        check(Some(17), "java -jar x.jar", "", false, "Attach");
        check(Some(8), "java -cp a:b Main", "", false, "Attach");
        let hidden = "java @options --add-exports a/b=c -XX:+DisableAttachMechanism Main";
        check(Some(17), hidden, "", false, "DisableAttachMechanism");
        check(Some(21), "java Main", "", false, "java.attach_from_21");
        check(None, "java Main", "", false, "java.attach_from_21");
        check(Some(21), "java Main", "", true, "Attach");
        let archive = "java -XX:+AutoCreateSharedArchive -XX:SharedArchiveFile=a.jsa Main";
        check(Some(25), archive, "", false, "run it once without that option");
        check(Some(25), archive, "", true, "Attach");
        check(Some(17), "java -XX:ArchiveClassesAtExit=a.jsa -Xrs Main", "", true, "without that option");
        check(Some(25), "java -XX:+EnableDynamicAgentLoading Main", "", false, "Attach");
        check(Some(17), "java -XX:-EnableDynamicAgentLoading Main", "", true, "EnableDynamicAgentLoading");
        check(Some(17), "java -XX:+DisableAttachMechanism Main", "", false, "DisableAttachMechanism");
        check(Some(17), "java Main", "-Da=b -XX:+DisableAttachMechanism", false, "DisableAttachMechanism");
        check(
            Some(17),
            "java -XX:+DisableAttachMechanism -XX:-DisableAttachMechanism Main",
            "",
            false,
            "Attach",
        );
        let quoted = "-Da=b \"-XX:+AutoCreateSharedArchive\"";
        check(Some(25), "java Main", quoted, false, "run it once without that option");
        check(Some(17), "java -Xrs Main", "", false, "would end it");
        check(Some(17), "java -XX:+ReduceSignalUsage Main", "", true, "would end it");
        check(Some(17), "java Main", "-Xrs", true, "would end it");
        check(Some(17), "java -cp a Main -Xrs", "", false, "Attach");
        check(Some(7), "java Main", "", false, "older than");
        let deaf = JvmFacts { version: Some(17), ..JvmFacts::default() };
        assert_eq!(judge(&deaf, false), Verdict::NotYet);
        assert_eq!(judge(&JvmFacts { listens: true, ..deaf.clone() }, false), Verdict::Attach);
        let frozen = JvmFacts { is_stopped: true, catches_quit: true, ..deaf.clone() };
        assert_eq!(judge(&frozen, false), Verdict::NotYet);
        assert!(matches!(judge(&JvmFacts { is_openj9: true, ..deaf }, true), Verdict::Refuse(_)));
    }

    #[test]
    fn versions() {
        for (text, expected) in
            [("1.8.0_402", Some(8)), ("17.0.15+6", Some(17)), ("25", Some(25)), ("", None), ("x", None)]
        {
            assert_eq!(feature_version(text), expected, "{text}");
        }
    }
}
