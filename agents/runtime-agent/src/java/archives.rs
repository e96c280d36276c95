//! Whether a command's JVMs are told to write an archive of their classes (CDS): HotSpot then ends at once if it finds an agent
//! among its options. It must never call such a command harmless where its words tell, nor read what is not a plain file.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::facts::{options_of, variables_of};
use crate::hooks::other_root::{file_of, text_of};
use crate::procfs;

/// Options that make it write one; the audit library has the same list.
pub const ARCHIVE_OPTIONS: [&str; 5] = [
    "-XX:ArchiveClassesAtExit=",
    "-XX:+AutoCreateSharedArchive",
    "-XX:+RecordDynamicDumpInfo",
    "-XX:+DumpSharedSpaces",
    "-Xshare:dump",
];
/// Most files beside a script; a directory with more is no application's.
const BESIDE_MAX: usize = 64;

/// Why such a JVM has no agent from its start, in a reason.
pub const WHY: &str = "writes an archive of its classes (-XX:ArchiveClassesAtExit, -XX:+AutoCreateSharedArchive, \
    -XX:+RecordDynamicDumpInfo, -Xshare:dump), and such a JVM takes no agent at its start";
/// What helps then.
pub const WITHOUT_ARCHIVE: &str =
    "run it once without that option (the archive is best made by a run of its own)";

/// Whether an option of a JVM makes it write an archive.
pub fn is_archive_option(word: &str) -> bool {
    ARCHIVE_OPTIONS.iter().any(|option| word.starts_with(option))
}

/// Whether a command asks for it, as far as its words, its environment, the script that it runs and files beside that tell.
pub fn writes_archive(command: &Command) -> bool {
    let directory = command.get_current_dir().unwrap_or(Path::new("."));
    let set: Vec<_> = command.get_envs().collect();
    let inherited = std::env::vars_os()
        .filter(|(name, _)| !set.iter().any(|(of, _)| *of == name))
        .map(|(_, value)| value);
    let own = set.iter().filter_map(|(_, value)| value.map(OsStr::to_os_string));
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_os_string);
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let texts = inherited.chain(own).map(|value| value.to_string_lossy().into_owned());
    let texts: Vec<String> = texts.chain(words.iter().cloned()).collect();
    texts.iter().any(|text| asks(text))
        || texts
            .iter()
            .flat_map(|text| files_of_options(text))
            .any(|file| text_of(&directory.join(file)).is_some_and(|text| asks(&text)))
        || words.iter().any(|word| scripts_ask(command, directory, word))
}

/// Whether a JVM that runs is told so by its own options. What files of options say is not known.
pub fn is_written_by(pid: u32) -> bool {
    let options = options_of(&procfs::command_line(pid), &variables_of(pid));
    options.iter().any(|option| is_archive_option(option))
}

/// Whether a text has one of the options as a word.
fn asks(text: &str) -> bool {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '=' | '{' | ',' | ':');
    ARCHIVE_OPTIONS.iter().any(|option| {
        text.match_indices(option).any(|(at, _)| text[..at].chars().next_back().is_none_or(ends))
    })
}

/// Files that a text names as those of a JVM's options.
fn files_of_options(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\''));
    words.filter_map(|word| {
        ["@", "-XX:Flags=", "-XX:VMOptionsFile="].iter().find_map(|begin| word.strip_prefix(begin))
    })
}

/// Whether a word names a script that asks for it, or that has a text beside it (`setenv.sh`, `app.vmoptions`) that does.
fn scripts_ask(command: &Command, directory: &Path, word: &str) -> bool {
    let found = file_of(command, OsStr::new(word)).into_iter().chain([directory.join(word)]);
    found.filter_map(|path| Some((text_of(&path)?, path))).any(|(text, path)| {
        let is_script = text.starts_with("#!") || path.extension().is_some_and(|ending| ending == "sh");
        let said = without_comments(&text);
        asks(&said)
            || is_script
                && files_of_options(&said)
                    .any(|file| text_of(&directory.join(file)).is_some_and(|text| asks(&text)))
            || is_script
                && beside(&path)
                    .iter()
                    .filter_map(|path| text_of(path))
                    .any(|text| asks(&without_comments(&text)))
    })
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

fn beside(script: &Path) -> Vec<PathBuf> {
    let entries =
        script.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(BESIDE_MAX + 1).collect();
    if paths.len() > BESIDE_MAX { Vec::new() } else { paths }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::other_root::TEXT_MAX_BYTES;

    #[test]
    fn the_audit_library_looks_for_the_same_options() {
        let audit = include_str!("../../../audit/src/java_options.h");
        let list =
            audit.split("archive_words[5][32]").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        let words: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(words, ARCHIVE_OPTIONS);
    }

    #[test]
    fn commands() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let asking = b"#!/bin/sh\n# caf\xe9\nexec java -XX:+AutoCreateSharedArchive -cp a T\n";
        let long = [&asking[..], &vec![b'#'; TEXT_MAX_BYTES as usize]].concat();
        for (name, text) in
            [("latin/start.sh", &asking[..]), ("long/start.sh", &long), ("latin/options", asking)]
        {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        }
        for (name, text) in [
            ("options", "-Xmx9m\n-XX:ArchiveClassesAtExit=a.jsa\n"),
            ("plain/start.sh", "#!/bin/sh\n# not -XX:ArchiveClassesAtExit=x\nexec java -cp a T\n"),
            ("own/start.sh", "#!/bin/sh\nexec java \"-XX:+AutoCreateSharedArchive\" -cp a T\n"),
            ("beside/start", "#!/bin/sh\n. ./setenv.sh\nexec java $OPTIONS T\n"),
            ("beside/setenv.sh", "OPTIONS=-XX:+AutoCreateSharedArchive\n"),
        ] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        }
        for (line, variable, expected) in [
            ("java -cp a T", "", false),
            ("java -XX:ArchiveClassesAtExit=a.jsa -cp a T", "", true),
            ("java -XX:+AutoCreateSharedArchive -XX:SharedArchiveFile=a.jsa T", "", true),
            ("java -XX:-AutoCreateSharedArchive -XX:SharedArchiveFile=a.jsa -Xshare:auto T", "", false),
            ("java T", "-Xmx9m -Xshare:dump", true),
            ("java @options T", "", true),
            ("java @missing T", "", false),
            ("java T", "-XX:VMOptionsFile=options", true),
            ("sh plain/start.sh", "", false),
            ("sh own/start.sh", "", true),
            ("beside/start", "", true),
            // One letter of another encoding, and a script with much behind what is looked for.
            ("sh latin/start.sh", "", true),
            ("latin/start.sh", "", true),
            ("sh long/start.sh", "", true),
            ("java @latin/options T", "", true),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(folder.path()).env("JAVA_OPTS", variable);
            assert_eq!(writes_archive(&command), expected, "{line} {variable}");
        }
    }
}
