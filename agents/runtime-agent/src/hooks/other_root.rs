//! Whether a command runs programs in another root directory, where the files of hooks are not found. Reads scripts only.
//! It must never call such a command harmless: Node.js, Ruby and JVMs refuse to start without the file that they were told of.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rules::SHELLS;

/// Most of a script, or of a file of options, that is looked into, in bytes.
pub const TEXT_MAX_BYTES: u64 = 64 * 1024;

/// Programs that run others in another root directory, with the environment that they got.
const OTHER_ROOTS: [&str; 14] = [
    "apptainer",
    "arch-chroot",
    "bwrap",
    "chroot",
    "firejail",
    "flatpak",
    "lxc-attach",
    "nsenter",
    "pivot_root",
    "proot",
    "schroot",
    "singularity",
    "systemd-nspawn",
    "unshare",
];
/// Programs that run others in containers, where the environment goes if it is asked for. A script has more to run than these.
const CONTAINERS: [&str; 10] = [
    "crun",
    "ctr",
    "docker",
    "docker-compose",
    "kubectl",
    "machinectl",
    "nerdctl",
    "podman",
    "podman-compose",
    "runc",
];
/// Programs whose arguments are another command; shells are, too.
const WRAPPERS: [&str; 24] = [
    "busybox",
    "chrt",
    "doas",
    "dumb-init",
    "env",
    "flock",
    "gosu",
    "ionice",
    "nice",
    "nohup",
    "nsenter",
    "pkexec",
    "runuser",
    "setpriv",
    "setsid",
    "stdbuf",
    "su",
    "su-exec",
    "sudo",
    "taskset",
    "timeout",
    "tini",
    "unshare",
    "xargs",
];
/// Words of a shell behind which a command follows.
const KEYWORDS: [&str; 12] =
    ["!", "builtin", "command", "do", "elif", "else", "exec", "if", "then", "time", "until", "while"];

/// A program that enters other namespaces or another root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its name.
    pub program: String,
    /// Files are found under the same paths.
    pub keeps_root: bool,
}

/// What a command enters, as far as its words and the shell script that it runs tell. Of several programs it is one that
/// does not keep the root, if there is one.
pub fn entered(command: &Command) -> Option<Entered> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words.map(|word| OsStr::to_string_lossy(word).into_owned()).collect();
    let directory = command.get_current_dir().unwrap_or(Path::new("."));
    let mut found = of_words(&words.iter().map(String::as_str).collect::<Vec<_>>(), true);
    let (program, rest) = words.split_first()?;
    let wraps = runs_others(name(program));
    let by_shell = words.iter().any(|word| SHELLS.contains(&name(word)));
    // A shell takes its script from the working directory, too.
    let beside = rest.iter().filter(|word| wraps && !word.contains('/')).map(|word| directory.join(word));
    let named = if wraps { &words[..] } else { &words[..1] };
    let found_by_system = named.iter().filter_map(|word| file_of(command, OsStr::new(word)));
    for text in beside.chain(found_by_system).filter_map(|path| script(&path, by_shell)) {
        // Other namespaces alone are nothing to leave a whole script without hooks for.
        found.extend(of_text(&text, false).into_iter().filter(|entered| !entered.keeps_root));
    }
    found.sort_by_key(|entered| entered.keeps_root);
    found.into_iter().next()
}

/// The file that the system runs for a word of a command: a path, or a name that it finds along the command's PATH.
pub fn file_of(command: &Command, word: &OsStr) -> Option<PathBuf> {
    let program = Path::new(word);
    if program.components().count() > 1 {
        return Some(
            command.get_current_dir().map_or_else(|| program.to_owned(), |folder| folder.join(program)),
        );
    }
    let set = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    let list = set.map(OsStr::to_os_string).or_else(|| std::env::var_os("PATH"))?;
    std::env::split_paths(&list).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Why nothing of a command is measured that enters another root; with the remedy.
pub fn reason(entered: &Entered) -> String {
    // Of several reasons a report gives the first in the order of text: this says more than that eBPF is switched off.
    format!(
        "another root directory is entered by the command ({}), where no hook would be found; run it as root with eBPF, or run \
         `plimsoll run` inside of that root directory",
        entered.program
    )
}

fn name(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'']);
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether the arguments of a program are another command.
fn runs_others(program: &str) -> bool {
    SHELLS.contains(&program) || WRAPPERS.contains(&program)
}

/// Whether an argument is spelled as programs are, by name or below `bin` or `sbin`; other paths and settings are data.
fn may_be_program(word: &str) -> bool {
    let parent = word.rsplit_once('/').map(|(parent, _)| parent);
    !word.contains('=') && parent.is_none_or(|parent| matches!(name(parent), "bin" | "sbin"))
}

/// What one command enters; `clients` of containers count.
fn of_words(words: &[&str], clients: bool) -> Vec<Entered> {
    let Some((program, arguments)) = words.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    found.extend(of_program(program, arguments, clients));
    if runs_others(name(program)) {
        for (index, argument) in arguments.iter().enumerate() {
            if argument.contains(char::is_whitespace) {
                found.extend(of_text(argument, clients));
            } else if may_be_program(argument) {
                found.extend(of_program(argument, &arguments[index + 1..], clients));
            }
        }
    }
    found
}

fn of_program(program: &str, arguments: &[&str], clients: bool) -> Option<Entered> {
    let program = name(program);
    let is_one = OTHER_ROOTS.contains(&program) || clients && CONTAINERS.contains(&program);
    if !is_one {
        return None;
    }
    // Options of the command that follows may be taken for its own: that costs a measurement, and breaks nothing.
    let short = |letters: &[char]| {
        arguments.iter().any(|word| {
            word.strip_prefix('-').is_some_and(|word| !word.starts_with('-') && word.contains(letters))
        })
    };
    // Options may be shortened.
    let long =
        |begins: &[&str]| arguments.iter().any(|word| begins.iter().any(|begin| word.starts_with(begin)));
    let keeps_root = match program {
        "unshare" => !short(&['R']) && !long(&["--ro"]),
        "nsenter" => !short(&['a', 'm', 'r']) && !long(&["--a", "--m", "--r"]),
        _ => false,
    };
    Some(Entered { program: program.to_owned(), keeps_root })
}

/// What the commands of a shell's text enter.
fn of_text(text: &str, clients: bool) -> Vec<Entered> {
    let lines = text.lines().map(|line| match line.trim_start().starts_with('#') {
        true => "",
        false => line.split_once(" #").map_or(line, |(code, _)| code),
    });
    let ends = |letter: char| ";&|()`{}".contains(letter);
    let is_begin = |word: &&str| {
        KEYWORDS.contains(word) || word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'))
    };
    lines
        .flat_map(|line| line.split(ends))
        .flat_map(|part| {
            let words: Vec<&str> = part
                .split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']))
                .filter(|word| !word.is_empty())
                .skip_while(is_begin)
                .collect();
            of_words(&words, clients)
        })
        .collect()
}

/// The begin of a plain file that is no program of the machine's own code, whatever else is in it.
pub fn text_of(path: &Path) -> Option<String> {
    // To open a FIFO would wait.
    if !fs::metadata(path).is_ok_and(|file| file.is_file()) {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    (!bytes.starts_with(b"\x7fELF")).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of a shell's script.
fn script(path: &Path, by_shell: bool) -> Option<String> {
    let text = text_of(path)?;
    let first = text.lines().next().unwrap_or_default();
    let is_shells = match first.strip_prefix("#!") {
        Some(interpreter) => interpreter.split_whitespace().any(|word| SHELLS.contains(&name(word))),
        None => by_shell,
    };
    is_shells.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: Option<(&str, bool)>) {
        let mut command = Command::new(words[0]);
        let found = entered(command.args(&words[1..]));
        let found = found.as_ref().map(|found| (found.program.as_str(), found.keeps_root));
        assert_eq!(found, expected, "{words:?}");
    }

    #[test]
    fn commands() {
        for (line, expected) in [
            ("node app.js", None),
            ("java -jar docker", None),
            ("nice java -cp a:b c", None),
            ("/usr/sbin/chroot /srv node app.js", Some(("chroot", false))),
            ("sudo -E /usr/sbin/chroot /srv node", Some(("chroot", false))),
            ("bwrap --ro-bind / / ruby a.rb", Some(("bwrap", false))),
            ("docker-compose up", Some(("docker-compose", false))),
            ("env A=b unshare -m node", Some(("unshare", true))),
            ("unshare -pf --map-root-user node a.js", Some(("unshare", true))),
            ("unshare -R /srv node", Some(("unshare", false))),
            ("unshare -mR/srv node", Some(("unshare", false))),
            ("unshare --root=/srv node", Some(("unshare", false))),
            ("unshare -m chroot /srv node", Some(("chroot", false))),
            ("nsenter -t 1 -n node", Some(("nsenter", true))),
            ("nsenter -t 1 -m node", Some(("nsenter", false))),
            ("nsenter --target 1 --all node", Some(("nsenter", false))),
            ("gosu app chroot /srv node", Some(("chroot", false))),
            ("xargs -n1 /opt/bin/chroot /srv", Some(("chroot", false))),
            // Data of others.
            ("env CONF=/x/docker node app.js", None),
            ("env CONF=docker node app.js", None),
            ("timeout 600 pytest tests/docker", None),
            ("nohup node /srv/docker", None),
        ] {
            check(&line.split(' ').collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn words_of_shells() {
        for (text, expected) in [
            ("cd /x;chroot . php a.php", Some(("chroot", false))),
            ("cd /srv/docker && node app.js", None),
            ("echo 'docker is here'", None),
            ("A=b exec chroot /srv ruby", Some(("chroot", false))),
            ("if x; then sudo -E chroot /srv ruby; fi", Some(("chroot", false))),
            ("x=$(chroot /srv node -v)", Some(("chroot", false))),
            ("unshare -m sh -c 'mount a b; chroot b node'", Some(("chroot", false))),
            ("docker compose up", Some(("docker", false))),
        ] {
            for shell in ["/bin/sh", "fish"] {
                check(&[shell, "-c", text], expected);
            }
        }
        check(&["su", "-c", "chroot /srv node a.js", "app"], Some(("chroot", false)));
    }

    #[test]
    fn scripts_are_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let path = path.to_str().unwrap();
        for (text, by_itself, by_shell) in [
            ("#!/bin/sh\nR=/x\nchroot $R node a.js\n", true, true),
            ("#!/usr/bin/env bash\n  sudo chroot /x node a.js\n", true, true),
            ("chroot /x node a.js\n", false, true),
            ("#!/bin/sh\nunshare -n java -version\n", false, false),
            ("#!/bin/sh\n# chroot\nnode a.js # as in chroot /x\n", false, false),
            // A database beside the application.
            ("#!/bin/sh\ndocker run -d postgres\nnode a.js\n", false, false),
            ("#!/usr/bin/python3\nchroot = 1\n", false, false),
        ] {
            fs::write(path, text).unwrap();
            let expected = |is: bool| is.then_some(("chroot", false));
            check(&[path], expected(by_itself));
            check(&["bash", "-e", path], expected(by_shell));
            check(&["sudo", "-E", "bash", path], expected(by_shell));
        }
        fs::write(path, [0xff; 8]).unwrap();
        check(&["bash", path], None);
        let long = format!("#!/bin/sh\nchroot /x node\n{}", "#".repeat(TEXT_MAX_BYTES as usize));
        for text in [&b"#!/bin/sh\n# caf\xe9\nchroot /x node\n"[..], long.as_bytes()] {
            fs::write(path, text).unwrap();
            check(&[path], Some(("chroot", false)));
        }
        fs::write(path, "\x7fELF\nchroot /x\n").unwrap();
        check(&["bash", path], None);
        fs::remove_file(path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
        check(&["bash", path], None);
    }

    #[test]
    fn scripts_are_found_as_the_system_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("start-app"), "#!/bin/sh\nchroot /x node a.js\n").unwrap();
        for (line, expected) in [
            ("start-app", true),
            ("sudo -E start-app", true),
            ("node start-app", false),
            ("start-other", false),
        ] {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap());
            command.args(words).env("PATH", directory.path());
            assert_eq!(entered(&command).is_some(), expected, "{line}");
        }
    }

    /// The correlator gives the first of several reasons, in the order of text.
    #[test]
    fn the_reason_comes_before_that_of_ebpf() {
        let entered = Entered { program: "chroot".to_owned(), keeps_root: false };
        assert!(reason(&entered).as_str() < "eBPF is switched off");
    }
}
