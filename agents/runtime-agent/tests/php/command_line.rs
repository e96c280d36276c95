//! PHP: what is reported of a real application is what get_included_files() says, on the command line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::languages::{Measured, Way, assert_complete, below, measure, program};
use super::support::php::{HOOK, application, of_packages, truth};

const USED: &[&str] = &[
    "vendor/twig/twig/",
    "vendor/monolog/monolog/",
    "vendor/psr/log/",
    "vendor/guzzlehttp/psr7/",
    "vendor/psr/http-message/",
    "vendor/symfony/string/",
    "vendor/nikic/fast-route/",
    "vendor/symfony/yaml/",
    "vendor/brick/math/",
];
const UNUSED: &[&str] = &[
    "vendor/league/",
    "vendor/symfony/process/",
    "vendor/react/",
    "vendor/ramsey/",
    "vendor/doctrine/",
    "vendor/symfony/finder/",
    "vendor/symfony/console/",
];

fn assert_truth(way: Way, measured: &Measured, truth: &BTreeSet<String>) {
    let reported = of_packages(measured.modules());
    let missing: Vec<_> = truth.difference(&reported).collect();
    let invented: Vec<_> = reported.difference(truth).collect();
    assert_eq!((missing, invented), (vec![], vec![]), "{way:?}");
    let uses = |package: &str| reported.iter().any(|path| path.starts_with(package));
    for used in USED {
        assert!(uses(used), "{way:?}: {used} was used: {reported:?}");
    }
    for unused in UNUSED {
        assert!(!uses(unused), "{way:?}: {unused} was not used");
    }
}

#[test]
fn files_are_what_php_says_it_included() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let mut php = Command::new("php");
        php.arg("app.php").env("TRUTH", &written);
        let measured = measure(way, root, vec![php]);
        assert_eq!(measured.output, "2 snakeCase 1\n", "{way:?}");
        assert_complete(way, HOOK, &measured);
        assert_truth(way, &measured, &truth(&written, root));
        assert!(measured.modules().contains("tool/vendor/psr/log/src/NullLogger.php"), "{way:?}");
        if way == Way::Ebpf {
            let read = below(&fs::canonicalize(root).unwrap(), measured.paths("file"));
            assert!(read.contains("vendor/league/commonmark/notes.txt"), "{read:?}");
        }
    }
}

#[test]
fn composer_uses_nothing_and_checks_use_nothing() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let composer = |arguments: &[&str]| {
            let mut composer = Command::new("composer");
            composer.args(["--no-interaction", "--no-plugins", "--quiet"]).args(arguments);
            composer.env("COMPOSER_ALLOW_SUPERUSER", "1");
            composer
        };
        let mut lint = Command::new("php");
        lint.args(["-l", "vendor/twig/twig/src/Environment.php"]);
        let mut warm = Command::new("php");
        warm.args([
            "-d",
            "opcache.enable_cli=1",
            "-r",
            "opcache_compile_file('vendor/twig/twig/src/Source.php');",
        ]);
        let quiet = vec![composer(&["dump-autoload", "--optimize"]), composer(&["show"]), lint, warm];
        let quiet = measure(way, root, quiet);
        assert_eq!(of_packages(quiet.modules()), BTreeSet::new(), "{way:?}");
    }
}

/// What a fork included last, before it is killed, is told by nobody: that is said.
#[test]
fn a_fork_that_ends_by_force_is_a_loss() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("late.php"), "<?php class Late {}").unwrap();
    for (end, lost) in [("posix_kill(getmypid(), SIGKILL);", true), ("", false)] {
        let script = format!(
            "<?php spl_autoload_register(function () {{ require 'late.php'; }}); \
             if (!($pid = pcntl_fork())) {{ new Late; {end} exit; }} pcntl_waitpid($pid, $status);"
        );
        fs::write(root.join("app.php"), script).unwrap();
        let mut php = Command::new("php");
        php.arg("app.php");
        let measured = measure(Way::Hooks, root, vec![php]);
        assert_eq!(measured.lost(HOOK) > 0, lost, "{end} {:?}", measured.workload());
        assert!(lost || measured.modules().contains("late.php"));
    }
}

/// What a fork includes is lost if it is killed or becomes another program, and nobody knows that it was there.
#[test]
fn programs_that_fork_prove_nothing_by_the_hook() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("late.php"), "<?php class Late {}").unwrap();
    // As Composer's, in front of the hook's.
    let load = "<?php spl_autoload_register(function () { require 'late.php'; }, true, true);";
    let key = "not-measurable:composer";
    for (how, end) in [
        ("pcntl_fork()", "posix_kill(getmypid(), SIGKILL);"),
        ("PCNTL_Fork()", "posix_kill(getmypid(), SIGTERM); sleep(9);"),
        ("call_user_func('pcntl_fork')", "pcntl_exec('/bin/true');"),
    ] {
        let script =
            format!("{load} if (!($pid = {how})) {{ new Late; {end} exit; }} pcntl_waitpid($pid, $status);");
        fs::write(root.join("forks.php"), script).unwrap();
        fs::write(
            root.join("app.php"),
            "<?php require 'forks.php'; require 'phar://' . __DIR__ . '/renamed.phar.x/a.php';",
        )
        .unwrap();
        let make = "$phar = new Phar('made.phar'); $phar['a.php'] = '<?php '; unset($phar); rename('made.phar', 'renamed.phar.x');";
        let made =
            Command::new("php").args(["-d", "phar.readonly=0", "-r", make]).current_dir(&root).status();
        assert!(made.unwrap().success());
        for way in Way::all() {
            let mut php = Command::new("php");
            php.arg("app.php");
            let measured = measure(way, &root, vec![php]);
            let reasons = measured.workload().unavailable_probes;
            if way == Way::Ebpf {
                assert!(!reasons.contains_key(key), "{how} {end} {reasons:?}");
                assert!(measured.modules().contains("late.php"), "{how} {end}");
                continue;
            }
            let reason = reasons.get(key).unwrap_or_else(|| panic!("{how} {end} {reasons:?}"));
            let says = format!("{}/forks.php names pcntl_fork", root.display());
            assert!(reason.contains(&says) && reason.contains("eBPF (as root)"), "{reason}");
        }
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "php < app.php"]);
    let reasons = measure(Way::Hooks, &root, vec![shell]).workload().unavailable_probes;
    assert!(reasons.get(key).is_some_and(|reason| reason.contains("php://stdin")), "{reasons:?}");
    fs::write(root.join("forks.php"), "<?php pcntl_signal(SIGTERM, SIG_IGN);").unwrap();
    let mut php = Command::new("php");
    php.arg("app.php");
    let measured = measure(Way::Hooks, &root, vec![php]);
    assert_complete(Way::Hooks, HOOK, &measured);
    assert!(!measured.workload().unavailable_probes.contains_key(key), "{:?}", measured.workload());
}

/// Programs that include files while they end, and whether that is told: `None`, or why nobody can.
const ENDINGS: &[(&str, Option<&str>)] = &[
    ("$global = new Includes;", None),
    ("function keep() { static $kept; $kept = new Includes; } keep();", None),
    (
        "class Outer { public $inner; function __destruct() { $GLOBALS['kept'] = new Includes; } } $outer = new Outer;",
        None,
    ),
    ("$global = new Includes; throw new Exception('the end');", None),
    (
        "register_shutdown_function(function () { register_shutdown_function(function () { \
         register_shutdown_function(function () { require 'late.php'; }); }); });",
        None,
    ),
    ("session_set_save_handler(new Handler, true); session_start(); $_SESSION['a'] = 1;", None),
    (
        "session_set_save_handler(new Handler, false); session_start(); $_SESSION['a'] = 1;",
        Some("save handler"),
    ),
    ("ob_start(function ($text) { require 'late.php'; return $text; });", Some("output buffer")),
    ("$global = fopen('own://a', 'w');", Some("stream of a class")),
    ("ob_start(); echo ' '; session_start(); $_SESSION['a'] = 1; require 'late.php';", None),
];

#[test]
fn what_is_included_while_the_request_ends_is_told_or_said_not_to_be() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("late.php"), "<?php file_put_contents('included', '');").unwrap();
    let classes = "<?php ini_set('session.save_path', __DIR__); ini_set('session.use_cookies', '0'); chdir(__DIR__);
        class Includes { function __destruct() { require __DIR__ . '/late.php'; } }
        class Handler extends SessionHandler {
            function write($id, $data): bool { require __DIR__ . '/late.php'; return parent::write($id, $data); }
        }
        class Stream {
            public $context;
            function stream_open() { return true; }
            function stream_close() { require __DIR__ . '/late.php'; }
        }
        stream_wrapper_register('own', 'Stream'); ini_set('display_errors', '0');";
    for (text, untold) in ENDINGS {
        fs::write(root.join("app.php"), format!("{classes}\n{text}")).unwrap();
        fs::remove_file(root.join("included")).ok();
        let mut shell = Command::new("sh");
        shell.args(["-c", "php app.php 2>/dev/null; true"]);
        let measured = measure(Way::Hooks, root, vec![shell]);
        assert!(root.join("included").exists(), "{text}");
        let reasons = measured.workload().unavailable_probes;
        match untold {
            None => {
                assert_complete(Way::Hooks, HOOK, &measured);
                assert!(measured.modules().contains("late.php"), "{text}");
            }
            Some(why) => {
                assert!(measured.lost(HOOK) > 0, "{text} {:?}", measured.workload());
                assert!(reasons.values().any(|reason| reason.contains(why)), "{text} {reasons:?}");
            }
        }
    }
}

/// An archive is used where something in it is, and only then.
#[test]
fn archives_are_used_with_what_is_in_them() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let make = "foreach (['main', 'library', 'data'] as $name) { $phar = new Phar(\"$name.phar\"); \
        $phar['src/a.php'] = '<?php echo \"in \", basename(__FILE__), \" \";'; \
        $phar->setStub('<?php Phar::mapPhar(); require \"phar://\" . __FILE__ . \"/src/a.php\"; __HALT_COMPILER();'); }";
    let made = Command::new("php").args(["-d", "phar.readonly=0", "-r", make]).current_dir(root).status();
    assert!(made.unwrap().success());
    fs::rename(root.join("main.phar"), root.join("main")).unwrap();
    fs::write(root.join("app.php"), "<?php require 'phar://library.phar/src/a.php'; filesize('data.phar');")
        .unwrap();
    for way in Way::all() {
        let php = |script: &str| {
            let mut php = Command::new("php");
            php.arg(script);
            php
        };
        let measured = measure(way, root, vec![php("main"), php("app.php")]);
        assert_complete(way, HOOK, &measured);
        let mut reported = measured.modules();
        reported.extend(below(&fs::canonicalize(root).unwrap(), measured.paths("file")));
        for archive in ["main", "library.phar"] {
            assert!(reported.contains(archive), "{way:?} {archive} {reported:?}");
        }
        assert!(!reported.iter().any(|path| path.contains("data")), "{way:?} {reported:?}");
        assert!(measured.modules().contains("library.phar"), "{way:?} {reported:?}");
        let inside = reported.contains("library.phar/src/a.php");
        assert_eq!(inside, way == Way::Hooks, "what is in it, the kernel does not see: {reported:?}");
    }
}

/// Extensions are shared objects: those that `php -m` has beyond what is compiled in.
#[test]
fn extensions_are_told_by_their_files() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let script = "$folder = ini_get('extension_dir'); \
        foreach (get_loaded_extensions(false) as $name) { $file = $folder . '/' . strtolower($name) . '.so'; \
        if (is_file($file)) echo $file, \"\\n\"; } if (extension_loaded('Zend OPcache')) echo $folder, \"/opcache.so\\n\";";
    fs::write(root.join("app.php"), format!("<?php {script}")).unwrap();
    for way in Way::all() {
        let mut php = Command::new("php");
        php.arg("app.php");
        let measured = measure(way, root, vec![php]);
        let expected: BTreeSet<PathBuf> = measured.output.lines().map(PathBuf::from).collect();
        assert!(expected.len() > 5, "{expected:?}");
        let libraries = measured.paths("library");
        let extensions: BTreeSet<PathBuf> = libraries
            .into_iter()
            .filter(|path| path.parent() == expected.first().unwrap().parent())
            .collect();
        assert_eq!(extensions, expected, "{way:?}");
    }
}

#[test]
fn the_application_keeps_its_settings_and_notices_nothing() {
    let Some(directory) = application() else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::create_dir(root.join("ini")).unwrap();
    fs::write(root.join("own.php"), "<?php $own = 1; echo \"own\\n\";").unwrap();
    let ini = format!("memory_limit = 77M\nauto_prepend_file = \"{}/own.php\"\n", root.display());
    fs::write(root.join("ini/own.ini"), ini).unwrap();
    let text = "<?php echo ini_get('memory_limit'), count(get_declared_classes()), count(get_defined_functions()['user']);\n\
        print_r(array_keys(get_defined_vars())); var_dump(error_get_last()); echo get_included_files()[0];\n\
        set_error_handler(function (...$all) { echo 'handler', $all[1]; }); echo $missing;\n\
        register_shutdown_function(function () { echo 'last'; });\n\
        function f() { throw new Exception('the end'); } f();\n";
    fs::write(root.join("strange.php"), text).unwrap();
    let command = || {
        let mut command = Command::new("php");
        command.arg("strange.php").current_dir(&root);
        command.env("PHP_INI_SCAN_DIR", format!(":{}", root.join("ini").display()));
        command
    };
    let plain = command().output().unwrap();
    let session = plimsoll_runtime_agent::hooks::HookSession::start(&root).unwrap();
    let mut hooked = command();
    session.environment().apply(&mut hooked);
    let hooked = hooked.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&plain.stdout).starts_with("own\n77M"), "{plain:?}");
    assert_eq!(text(&hooked.stdout), text(&plain.stdout));
    assert_eq!(text(&hooked.stderr), text(&plain.stderr));
    assert_eq!(hooked.status, plain.status);
}

/// What the application shows, without the hook and with it.
fn compare(what: &str, root: &Path, command: impl Fn() -> Command) -> String {
    let plain = command().output().unwrap();
    let session = plimsoll_runtime_agent::hooks::HookSession::start(root).unwrap();
    let mut hooked = command();
    session.environment().apply(&mut hooked);
    assert_eq!(hooked.output().unwrap(), plain, "{what}");
    String::from_utf8_lossy(&plain.stdout).into_owned()
}

#[test]
fn functions_that_are_disabled_end_the_hook_and_not_the_application() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("app.php"), "<?php echo 'works';").unwrap();
    let all = "call_user_func count defined dirname fopen function_exists fwrite get_cfg_var get_included_files get_resources \
        getmypid ini_get microtime ob_get_status posix_getrlimit register_shutdown_function restore_error_handler \
        session_module_name session_status set_error_handler spl_autoload_register stream_get_meta_data \
        stream_set_write_buffer strlen strncmp substr";
    let disabled = |names: &str| {
        let mut php = Command::new("php");
        php.args(["-d", &format!("disable_functions={names}"), "app.php"]).current_dir(root);
        php
    };
    for name in all.split_whitespace() {
        assert_eq!(compare(name, root, || disabled(name)), "works", "{name}");
    }
    let measured = measure(Way::Hooks, root, vec![disabled("getmypid,fopen")]);
    assert!(!measured.is_watched_by("php-include"), "{:?}", measured.workload());
    assert!(measured.lost("php-include") > 0, "{:?}", measured.workload());
    // No room for the file of losses, and no one to report to.
    let script = "rm -f \"${PHP_INI_SCAN_DIR##*:}/../reports\"; ulimit -f 0; exec php app.php";
    let limited = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(root);
        shell
    };
    assert_eq!(compare("ulimit", root, limited), "works");
}

#[test]
fn the_own_file_is_the_one_that_php_would_take() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::create_dir(root.join("ini")).unwrap();
    fs::write(root.join("own.php"), "<?php echo 'own ';").unwrap();
    fs::write(root.join("app.php"), "<?php echo 'works';").unwrap();
    let own = root.join("own.php").display().to_string();
    for (ini, runs) in [
        (format!("auto_prepend_file = '{own}' ; why"), true),
        ("auto_prepend_file = ${ROOT}/own.php".to_owned(), true),
        ("auto_prepend_file = \"${ROOT}/own.php\"".to_owned(), true),
        (format!("auto_prepend_file = none\n[PHP]\nauto_prepend_file = {own}\n[HOST=other]\nx = 1"), true),
        (format!("auto_prepend_file = {own}\nauto_prepend_file = No"), false),
        ("auto_prepend_file = off".to_owned(), false),
        ("auto_prepend_file = null".to_owned(), false),
        ("auto_prepend_file = none".to_owned(), false),
        ("auto_prepend_file =".to_owned(), false),
        (format!("; auto_prepend_file = {own}"), false),
        (format!("[HOST=other]\nauto_prepend_file = {own}"), false),
        (format!("[PATH=/other]\nauto_prepend_file = {own}\n[PHP]\nauto_prepend_file = {own}"), false),
    ] {
        fs::write(root.join("ini/own.ini"), &ini).unwrap();
        let command = || {
            let mut php = Command::new("php");
            php.arg("app.php").current_dir(&root).env("ROOT", &root);
            php.env("PHP_INI_SCAN_DIR", format!(":{}", root.join("ini").display()));
            php
        };
        let shown = compare(&ini, &root, command);
        assert_eq!(shown.ends_with("own works"), runs, "{ini}: {shown}");
        assert!(shown.ends_with("works"), "{ini}: {shown}");
    }
    // PHP keeps what is above a mistake.
    fs::write(root.join("php.ini"), format!("auto_prepend_file = {own}\nx = (\nauto_prepend_file = off\n"))
        .unwrap();
    let shown = compare("mistake", &root, || {
        let mut php = Command::new("php");
        php.args(["-c", "php.ini", "app.php"]).current_dir(&root);
        php
    });
    assert!(shown.ends_with("own works"), "{shown}");
}
