//! Programs that run others in a way of their own, so that their names do not tell what reads: emulators, and what is
//! executed from memory. It must never take for one what executes others by the kernel's exec, as shells do.

use super::Unmeasurable;
use crate::sweep::base_name;

/// Emulators of user programs of another processor, by the beginnings of their names.
const EMULATORS: &[&str] = &["rosetta", "box64", "box86", "box32", "FEX"];
/// QEMU's emulators of user programs begin so, and BuildKit's of them.
const QEMU: &[&str] = &["qemu-", "buildkit-qemu-"];
/// What begins so and is none of them.
const QEMU_TOOLS: &[&str] = &[
    "system-",
    "img",
    "nbd",
    "io",
    "ga",
    "edid",
    "keymap",
    "pr-helper",
    "bridge-helper",
    "storage-daemon",
    "vmsr-helper",
    "trace-stap",
    "debootstrap",
    "binfmt-conf",
    "make-debian-root",
];
/// Runtimes of containers, which execute a copy of themselves from memory.
const COPY_THEMSELVES: &[&str] = &["runc", "crun"];
/// Whose packages nobody can tell apart from data then.
const ECOSYSTEMS: &[&str] = &["pypi", "npm", "gem", "composer", "maven", "golang", "cargo"];

/// What an executed program gives away, for each ecosystem whose packages it may run. `outside`: it lies in no mount of the
/// process's; `called`: its first argument.
pub fn of_runner(program: &[u8], outside: bool, called: &str) -> impl Iterator<Item = Unmeasurable> {
    let reason = if outside && program.is_empty() {
        let copies_itself = COPY_THEMSELVES.contains(&base_name(called.as_bytes()).as_str());
        (!copies_itself).then(|| {
            format!(
                "a program was executed from memory (as {called}), and may be an interpreter: what it loads cannot be told \
                 apart from what it only reads; run the program from its file under observation"
            )
        })
    } else {
        is_emulator(&base_name(program)).then(|| {
            format!(
                "/{} emulates another processor: what its programs load cannot be told apart from what it only reads; run \
                 the application built for this machine, or on a machine of its own kind, under observation",
                String::from_utf8_lossy(program)
            )
        })
    };
    reason.into_iter().flat_map(|reason| {
        ECOSYSTEMS.iter().map(move |ecosystem| Unmeasurable { ecosystem, reason: reason.clone() })
    })
}

fn is_emulator(name: &str) -> bool {
    let of_qemu = QEMU.iter().find_map(|beginning| name.strip_prefix(beginning));
    let is_qemu = of_qemu.is_some_and(|rest| !QEMU_TOOLS.iter().any(|tool| rest.starts_with(tool)));
    is_qemu || EMULATORS.iter().any(|emulator| name.starts_with(emulator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulators_and_programs_in_memory() {
        for (program, outside, called, expected) in [
            (
                "usr/bin/qemu-x86_64-static",
                false,
                "qemu-x86_64-static",
                Some("/usr/bin/qemu-x86_64-static emulates"),
            ),
            ("usr/bin/qemu-aarch64", true, "python", Some("emulates")),
            ("usr/bin/buildkit-qemu-aarch64", true, "/bin/sh", Some("emulates")),
            ("run/rosetta/rosetta", true, "node", Some("emulates")),
            ("usr/local/bin/box64", false, "box64", Some("emulates")),
            ("usr/bin/FEXInterpreter", false, "ruby", Some("emulates")),
            ("usr/bin/qemu-system-x86_64", false, "qemu-system-x86_64", None),
            ("usr/bin/qemu-img", false, "qemu-img", None),
            ("usr/bin/qemu-ga", false, "qemu-ga", None),
            ("", true, "python3", Some("from memory (as python3)")),
            ("", true, "/usr/bin/runc", None),
            ("", true, "crun", None),
            ("", false, "python3", None),
            ("usr/bin/python3.11", true, "python3", None),
        ] {
            let found: Vec<_> = of_runner(program.as_bytes(), outside, called).collect();
            let expected_count = if expected.is_some() { ECOSYSTEMS.len() } else { 0 };
            assert_eq!(found.len(), expected_count, "{program} {called}: {found:?}");
            let says = |text: &str| {
                found.iter().all(|found| found.reason.contains(text) && found.reason.contains("; "))
            };
            assert!(expected.is_none_or(says), "{program} {called}: {found:?}");
        }
    }
}
