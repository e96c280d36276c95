//! PHP's hook inside other people's programs: they do what they do without it.

use std::fs;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;

use super::support::languages::{both, program};

/// Programs as they come; each shows what a hook could change. What stands before `--` are PHP's options.
const PROGRAMS: &[(&str, &str, &str)] = &[
    (
        "settings",
        "",
        "echo ini_get('memory_limit'), ini_get('precision'), get_cfg_var('own.setting'), php_ini_loaded_file();",
    ),
    ("settings of a file", "-c other.ini", "echo ini_get('memory_limit'), php_ini_loaded_file();"),
    ("settings of a directory", "-c other", "echo ini_get('memory_limit'), php_ini_loaded_file();"),
    ("no settings", "-n", "echo ini_get('memory_limit'), var_export(php_ini_loaded_file(), true);"),
    (
        "one setting",
        "-d memory_limit=99M -d display_errors=0",
        "echo ini_get('memory_limit'); echo $missing;",
    ),
    ("its own file", "-d auto_prepend_file=own.php", "echo $own;"),
    ("its own file at the end", "-d auto_append_file=own.php", "echo 'first ';"),
    (
        "its own place of files",
        "-d include_path=inc",
        "echo get_include_path(); require 'late.php'; echo $late;",
    ),
    (
        "arguments",
        "",
        "global $argc; echo $argc, implode(',', $argv), $_SERVER['argc'], count($GLOBALS) > 5; print_r(array_keys(get_defined_vars()));",
    ),
    (
        "classes and functions",
        "",
        "echo count(get_declared_classes()), implode(get_defined_functions()['user']), count(get_defined_constants(true)['user'] ?? []);",
    ),
    (
        "autoloaders",
        "",
        "spl_autoload_register(function ($c) { echo \"[$c]\"; }); echo class_exists('Missing') ? 1 : 0; new Missing2;",
    ),
    (
        "warnings",
        "",
        "echo $missing; var_dump(error_get_last()['message']); trigger_error('mine', E_USER_WARNING); @strpos(); ",
    ),
    (
        "an error handler",
        "",
        "set_error_handler(function (...$all) { echo 'h', $all[1]; return true; }); echo $missing; var_dump(set_error_handler(null) !== null);",
    ),
    (
        "an exception handler",
        "",
        "set_exception_handler(function ($e) { echo get_class($e), $e->getTraceAsString(); exit(3); }); function f() { throw new LogicException; } f();",
    ),
    ("an exception", "", "function f() { throw new LogicException('mine'); } f();"),
    ("no such function", "", "no_such_function();"),
    ("a mistake", "", "echo 'no"),
    ("exit in the end", "", "register_shutdown_function(function () { echo 'end'; exit(5); }); exit(4);"),
    ("death", "", "die('why');"),
    ("output buffers", "", "echo ob_get_level(); ob_start(fn ($all) => strtoupper($all)); echo 'loud'; "),
    (
        "destructors",
        "",
        "class D { public $n; function __construct($n) { $this->n = $n; } function __destruct() { echo $this->n; if ($this->n > 6) { $GLOBALS['late'] = new D($this->n - 1); } } } \
         $a = new D(1); $b = [new D(2), $a]; $c = new D(9); function k() { static $s; $s = new D(3); } k(); \
         register_shutdown_function(function () { echo 'end '; });",
    ),
    (
        "an exception of a destructor",
        "",
        "class D { function __destruct() { throw new Exception('mine'); } } $a = new D; $b = [$a]; $b[] = &$b;",
    ),
    (
        "exit of a destructor",
        "",
        "class D { function __destruct() { echo 'd'; exit(7); } } $a = new D; $b = [$a]; $b[] = &$b;",
    ),
    (
        "generators at the end",
        "",
        "function g() { try { yield 1; } finally { echo 'finally'; } } $g = g(); $g->current(); ob_start(); echo 'buffered';",
    ),
    (
        "a chain of shutdown functions",
        "",
        "function r($n) { register_shutdown_function(function () use ($n) { echo $n; if ($n) { r($n - 1); } }); } r(12);",
    ),
    (
        "a session with a handler of its own",
        "-d session.save_path=/tmp -d session.use_cookies=0",
        "class H extends SessionHandler { function write($i, $d): bool { echo \"[$d]\"; return parent::write($i, $d); } } \
         session_set_save_handler(new H, false); ob_start(); session_start(); $_SESSION['a'] = 1; echo session_status();",
    ),
    (
        "a stream of its own",
        "",
        "class S { public $context; function stream_open() { return true; } function stream_close() { echo 'closed'; } } \
         stream_wrapper_register('own', 'S'); $f = fopen('own://a', 'w');",
    ),
    ("too much memory", "-d memory_limit=8M", "str_repeat('x', 1 << 24);"),
    ("too long", "-d max_execution_time=1", "while (true);"),
    (
        "no sockets and no processes",
        "-d disable_functions=exec,passthru,proc_open,fsockopen,posix_kill",
        "echo 1;",
    ),
    (
        "fork",
        "",
        "$pid = pcntl_fork(); if (!$pid) { require 'inc/late.php'; exit(6); } pcntl_waitpid($pid, $status); echo pcntl_wexitstatus($status);",
    ),
    ("signal", "", "posix_kill(getmypid(), SIGTERM); sleep(9);"),
    (
        "closed descriptors",
        "",
        "fclose(STDERR); fclose(STDIN); $f = fopen('inc/late.php', 'r'); echo fgets($f); require 'inc/late.php';",
    ),
    (
        "a program started",
        "",
        "passthru(PHP_BINARY . ' own.php', $code); echo $code; echo shell_exec(PHP_BINARY . ' -r \"echo 7;\"');",
    ),
    ("strict types", "", "declare(strict_types=1); function f(int $x) { return $x; } echo f('1');"),
    (
        "a namespace",
        "",
        "namespace A\\B; const C = 1; function f() { return __FUNCTION__; } echo f(), \\A\\B\\C, __LINE__, __FILE__;",
    ),
    (
        "generators and references",
        "",
        "function &g() { $x = 1; yield $x; } foreach (g() as &$v) { $v++; echo $v; } gc_collect_cycles(); echo memory_get_usage() > 0;",
    ),
    (
        "confined later",
        "",
        "ini_set('open_basedir', __DIR__); require 'inc/late.php'; echo $late; echo @file_get_contents('/etc/passwd') === false;",
    ),
    (
        "another directory",
        "",
        "chdir('/'); echo getcwd(); register_shutdown_function(function () { echo getcwd(); });",
    ),
    (
        "session and headers",
        "",
        "header('X: 1'); setcookie('a', 'b'); echo http_response_code() === false, headers_sent();",
    ),
];

#[test]
fn programs_do_what_they_do_without_it() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    for folder in ["inc", "other", "scanned", "rc"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    fs::write(root.join("own.php"), "<?php $own = 'own '; echo $own;").unwrap();
    fs::write(root.join("inc/late.php"), "<?php $late = 'late ';").unwrap();
    for (file, limit) in [("other.ini", 41), ("other/php.ini", 42), ("rc/php.ini", 43)] {
        fs::write(root.join(file), format!("memory_limit = {limit}M\n")).unwrap();
    }
    fs::write(root.join("scanned/own.ini"), "precision = 9\nown.setting = here\n").unwrap();
    let session = HookSession::start(&root).unwrap();
    let mut differing = Vec::new();
    for (number, (what, options, text)) in PROGRAMS.iter().enumerate() {
        fs::write(root.join("program.php"), format!("<?php\n{text}\n")).unwrap();
        let (plain, hooked) = both(&session, || {
            let mut php = Command::new("php");
            php.args(options.split_whitespace()).args(["program.php", "-d", "argument"]).current_dir(&root);
            if number % 2 == 0 {
                php.env("PHPRC", root.join("rc"));
                php.env("PHP_INI_SCAN_DIR", format!(":{}", root.join("scanned").display()));
            }
            php
        });
        if hooked != plain {
            differing.push((what, plain, hooked));
        }
    }
    assert!(differing.is_empty(), "without it, and with it: {differing:#?}");
}

#[test]
fn what_a_handler_of_signals_throws_arrives() {
    if program("php", "apt install php-cli").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("interrupts.php"), include_str!("../applications/php/interrupts.php")).unwrap();
    let session = HookSession::start(&root).unwrap();
    // At work with each class, and not once a second only.
    let hook = session.directory().join("php/include_hook.php");
    let text = fs::read_to_string(&hook).unwrap();
    let busy = text.replace("$next = $now + 1.0;", "$next = $now;");
    assert_ne!(busy, text);
    fs::write(&hook, busy).unwrap();
    let mut php = Command::new("php");
    php.args(["interrupts.php", "100"]).current_dir(&root);
    session.environment().apply(&mut php);
    let output = php.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
}
