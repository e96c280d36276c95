//! Histories of reports, and what they are worth.

use plimsoll_schemas::words::observed;

use super::*;

fn report(kind: ReportKind, pid: u32, name: &str, path: &str) -> Report {
    Report { kind, pid, lost: 0, truncated: false, name: name.into(), path: path.into() }
}

/// Probes at work, losses, and keys of what is not, after a history.
fn after(history: &[Report], ended: &[u32]) -> (String, String, String) {
    let mut coverage = Coverage::default();
    coverage.set_first_process(1);
    for report in history {
        coverage.on_report(report, 0);
    }
    coverage.judge(ended, 0);
    let watched: Vec<String> =
        coverage.watched().iter().map(|(probe, first)| format!("{probe} {first}")).collect();
    let losses: Vec<String> = coverage.losses().map(|(probe, count)| format!("{probe} {count}")).collect();
    // Of languages that did not start all say the same.
    let silent =
        |name: &str, reason: &str| name != "python-import" && reason.starts_with("no ") && name != "ld-audit";
    let unavailable: Vec<String> = coverage
        .unavailable()
        .into_iter()
        .filter(|(name, reason)| !silent(name, reason))
        .map(|(name, _)| name)
        .collect();
    (watched.join(", "), losses.join(", "), unavailable.join(", "))
}

fn check(history: &[Report], ended: &[u32], watched: &str, losses: &str, unavailable: &str) {
    let expected = (watched.to_owned(), losses.to_owned(), unavailable.to_owned());
    assert_eq!(after(history, ended), expected, "{history:?}");
}

#[test]
fn each_process_counts_once_as_hooked_or_refused() {
    use Language::{Php, Python};
    use ReportKind::{AuditStarted, HookStarted};
    let python = "/usr/bin/python3";
    let hello = |pid| report(HookStarted(Python), pid, "cpython 3.11.2", python);
    let start = |pid, arguments| report(AuditStarted, pid, arguments, python);
    let request = report(HookStarted(Php), 5, "8.2", "/usr/sbin/php-fpm8.2");
    let mut coverage = Coverage::default();
    coverage.set_first_process(1);
    for report in [
        start(1, "python3\0a.py"),
        hello(1),
        // Another program in the same process.
        start(1, "python3\0b.py"),
        hello(1),
        // Isolated: without the hook, and looked at twice.
        start(2, "python3\0-I\0c.py"),
        // One process answers many requests.
        request.clone(),
        request,
    ] {
        coverage.on_report(&report, 0);
    }
    coverage.judge(&[2], 0);
    coverage.refuse(2, Python);
    coverage.refuse(5, Php);
    let counted: Vec<_> = coverage.processes().collect();
    assert_eq!(
        counted,
        [(Python, observed::AT_START, 2), (Python, observed::REFUSED, 1), (Php, observed::AT_START, 1)]
    );
}

#[test]
fn hellos_and_their_absence() {
    use Language::{Node, Python, Ruby};
    use ReportKind::{AuditStarted, HookFailed, HookStarted, Object};
    let (bash, python) = ("/bin/bash", "/usr/bin/python3");
    check(&[], &[], "", "", "ld-audit, python-import");
    check(&[report(AuditStarted, 1, "", bash)], &[1], "ld-audit true", "", "python-import");
    // The first program took no library.
    check(&[report(AuditStarted, 2, "", bash)], &[], "ld-audit false", "", "python-import");
    let hooked = [
        report(AuditStarted, 1, "python3\0a.py", python),
        report(HookStarted(Python), 1, "cpython 3.11.2", python),
    ];
    check(&hooked, &[1], "ld-audit true, python-import true", "", "");
    // Jython beside it.
    let on_jvm = report(AuditStarted, 2, "java\0-cp\0x.jar\0org.python.util.jython\0a.py", "/usr/bin/java");
    check(
        &[hooked[0].clone(), hooked[1].clone(), on_jvm],
        &[1],
        "ld-audit true, python-import true",
        "python-import 1",
        "python-import:/usr/bin/java",
    );
    let linker = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
    let by_linker = "ld.so\0--preload\0x.so\0/usr/bin/python3\0-I\0a.py";
    check(
        &[hooked[0].clone(), hooked[1].clone(), report(AuditStarted, 2, by_linker, linker)],
        &[1, 2],
        "ld-audit true, python-import true",
        "python-import 1",
        "python-import:/usr/bin/python3",
    );
    let isolated = [hooked[0].clone(), hooked[1].clone(), report(AuditStarted, 2, "python3\0-I", python)];
    check(&isolated, &[], "ld-audit true, python-import true", "", "");
    // Without the audit library nothing would tell of an interpreter without the hook.
    check(
        &hooked[1..],
        &[],
        "python-import true",
        "python-import 1",
        "ld-audit, python-import:/usr/bin/python3",
    );
    check(
        &isolated,
        &[2],
        "ld-audit true, python-import true",
        "python-import 1",
        "python-import:/usr/bin/python3",
    );
    // python replaces itself by another program before it said hello.
    let replaced = [report(AuditStarted, 1, "python3\0-S", python), report(AuditStarted, 1, "", bash)];
    check(
        &replaced,
        &[],
        "ld-audit true",
        "python-import 1",
        "python-import, python-import:/usr/bin/python3",
    );
    check(&[report(AuditStarted, 1, "python3\0-V", python)], &[1], "ld-audit true", "", "python-import");
    let carried = [
        report(AuditStarted, 1, "", "/usr/bin/uwsgi"),
        report(Object, 1, "", "/usr/lib/libpython3.11.so.1.0"),
    ];
    check(&carried, &[1], "ld-audit true", "python-import 1", "python-import, python-import:/usr/bin/uwsgi");
    let failed = [hooked[0].clone(), hooked[1].clone(), report(HookFailed(Python), 1, "TypeError: x", "")];
    check(
        &failed,
        &[],
        "ld-audit true, python-import true",
        "python-import 1",
        "python-import:/usr/bin/python3",
    );
    let node = [
        report(AuditStarted, 1, "node\0a.js", "/usr/bin/node"),
        report(Object, 1, "", "/usr/lib/libnode.so.108"),
        report(HookStarted(Node), 1, "v20", "/usr/bin/node"),
    ];
    check(&node, &[1], "ld-audit true, node-module true", "", "python-import");
    check(
        &node[..2],
        &[1],
        "ld-audit true",
        "node-module 1",
        "node-module, node-module:/usr/bin/node, python-import",
    );
    // The audit library took the hook out: said once, at once.
    let left_out = [node[0].clone(), report(HookFailed(Node), 1, "blind: was started with --permission", "")];
    check(
        &left_out,
        &[1],
        "ld-audit true",
        "node-module 1",
        "node-module, node-module:/usr/bin/node, python-import",
    );
    let ruby = [
        report(AuditStarted, 1, "ruby\0a.rb", "/usr/bin/ruby3.1"),
        report(HookStarted(Ruby), 1, "3.1", "/usr/bin/ruby3.1"),
        report(HookFailed(Ruby), 1, "blind: is old", ""),
    ];
    check(
        &ruby,
        &[1],
        "ld-audit true, ruby-feature true",
        "ruby-feature 1",
        "python-import, ruby-feature:/usr/bin/ruby3.1",
    );
}

#[test]
fn php_tells_at_the_end_of_each_request() {
    use Language::Php;
    use ReportKind::{AuditStarted, HookEnded, HookStarted, Object};
    let fpm = "/usr/sbin/php-fpm8.2";
    let started = [
        report(AuditStarted, 1, "php-fpm8.2\0-F", fpm),
        // A worker, forked.
        report(HookStarted(Php), 2, "8.2 fpm-fcgi", fpm),
    ];
    let ended = [started[0].clone(), started[1].clone(), report(HookEnded(Php), 2, "", "")];
    // Whatever says hello: other requests can have gone without the hook.
    let of_fpm = format!("php-include:{fpm}, python-import");
    let none = format!("php-include, {of_fpm}");
    check(&started[..1], &[1], "ld-audit true", "php-include 1", &none);
    check(&started, &[], "ld-audit true, php-include true", "php-include 1", &of_fpm);
    check(&ended, &[1, 2], "ld-audit true, php-include true", "php-include 1", &of_fpm);
    check(&started, &[2], "ld-audit true, php-include true", "php-include 2", &of_fpm);
    let apache = [
        report(AuditStarted, 1, "", "/usr/sbin/apache2"),
        report(Object, 1, "", "/usr/lib/apache2/modules/libphp8.2.so"),
        report(HookStarted(Php), 2, "8.2 apache2handler", ""),
        report(HookEnded(Php), 2, "", ""),
    ];
    let of_apache = "php-include:/usr/sbin/apache2, python-import";
    check(&apache, &[1, 2], "ld-audit true, php-include true", "php-include 1", of_apache);
    let (php, script) = ("/usr/bin/php8.2", "php\0a.php");
    let command = [
        report(AuditStarted, 1, script, php),
        report(HookStarted(Php), 1, "8.2 cli", php),
        report(HookEnded(Php), 1, "", ""),
    ];
    check(&command, &[1], "ld-audit true, php-include true", "", "python-import");
    let twice = [command[0].clone(), command[1].clone(), command[1].clone(), command[2].clone()];
    let lost = "php-include:/usr/bin/php8.2, python-import";
    check(&twice, &[1], "ld-audit true, php-include true", "php-include 1", lost);
}

#[test]
fn an_interpreter_has_time_to_start() {
    let mut coverage = Coverage::default();
    coverage.on_report(&report(ReportKind::AuditStarted, 1, "python3\0a.py", "/usr/bin/python3"), 1_000);
    coverage.judge(&[], 1_000 + HELLO_MAX_MS);
    assert_eq!(coverage.losses().count(), 0);
    coverage.judge(&[], 1_001 + HELLO_MAX_MS);
    assert_eq!(coverage.losses().collect::<Vec<_>>(), [("python-import", 1)]);
}

#[test]
fn losses_add_up() {
    let mut coverage = Coverage::default();
    let lossy = |kind, lost, truncated| Report { lost, truncated, ..report(kind, 1, "", "/x") };
    coverage.on_report(&lossy(ReportKind::Object, 3, false), 0);
    coverage.on_report(&lossy(ReportKind::Module(Language::Python), 2, true), 0);
    coverage.on_report(&lossy(ReportKind::Module(Language::Python), 1, false), 0);
    assert_eq!(coverage.losses().collect::<Vec<_>>(), [("ld-audit", 3), ("python-import", 4)]);
}

#[test]
fn losses_only_grow_whatever_a_process_writes() {
    let most = Report { lost: u64::MAX, ..report(ReportKind::Object, 1, "", "/lib/a.so") };
    check(&[most.clone(), most], &[], "", "ld-audit 18446744073709551615", "ld-audit, python-import");
}

#[test]
fn each_program_is_named_once_for_each_probe_and_always_counted() {
    let mut coverage = Coverage::default();
    let probes = [probe::LD_AUDIT, probe::PYTHON_IMPORT];
    let mut tell = |program: &str, reason| {
        probes.iter().for_each(|probe| coverage.unmeasured(probe, program.as_bytes(), reason));
        (coverage.reasons.len(), coverage.lost[probe::LD_AUDIT])
    };
    assert_eq!(tell("/usr/bin/sudo", "first"), (2, 1));
    assert_eq!(tell("/usr/bin/sudo", "again"), (2, 2));
    for number in 1..UNMEASURED_PROGRAMS_MAX {
        tell(&format!("/bin/{number}"), "first");
    }
    let full = 2 * UNMEASURED_PROGRAMS_MAX;
    assert_eq!(tell("/bin/more", "first"), (full, UNMEASURED_PROGRAMS_MAX as u64 + 2));
    // What has a place keeps it for every probe.
    coverage.unmeasured(probe::NODE_MODULE, b"/bin/1", "first");
    assert_eq!(coverage.reasons.len(), full + 1);
    let kept = &coverage.reasons[&(probe::LD_AUDIT, "/usr/bin/sudo".to_owned())];
    assert!(kept.starts_with("/usr/bin/sudo first; "), "{kept}");
}
