//! Ruby's servers: what is reported of their processes is what $LOADED_FEATURES says in these.
//! The gems are Debian's own builds, put into a home of gems: once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_runtime_agent::config::AgentConfig;
use rustix::process::Signal;

use super::support;
use super::support::FakeContainer;
use super::support::languages::{Measured, Way, assert_complete, below, copy_of, gem_home, measure, program};
use super::support::servers::{Running, end, free_port, get, serve};

/// The probe where eBPF is not at work.
const HOOK: &str = "ruby-feature";

const PACKAGES: &[&str] = &[
    "puma",
    "unicorn",
    "ruby-nio4r",
    "ruby-kgio",
    "ruby-raindrops",
    "ruby-rack",
    "ruby-bootsnap",
    "ruby-msgpack",
    "ruby-zeitwerk",
    "ruby-connection-pool",
    "ruby-redis",
    "ruby-sidekiq",
];
const FILES: &[(&str, &str)] = &[
    ("config.ru", include_str!("../applications/ruby/config.ru")),
    ("lib/greeting.rb", include_str!("../applications/ruby/lib/greeting.rb")),
    ("lib/greeting/word.rb", include_str!("../applications/ruby/lib/greeting/word.rb")),
    ("lib/greeting/never.rb", include_str!("../applications/ruby/lib/greeting/never.rb")),
    ("lib/loaded.rb", include_str!("../applications/ruby/lib/loaded.rb")),
    (
        "Gemfile",
        "gem \"unicorn\"\ngem \"rack\"\ngem \"zeitwerk\"\ngem \"connection_pool\"\ngem \"msgpack\"\n",
    ),
    ("cluster.rb", "workers 2\npreload_app!\nraise_exception_on_sigterm false\n"),
    ("unicorn.rb", "worker_processes 2\n"),
];
/// Loaded by each of the servers.
const USED: &[&str] = &["rack-", "zeitwerk-", "msgpack-", "connection_pool-"];

/// The application in a directory of its own; `None` (said why) without Ruby or its gems.
fn application() -> Option<tempfile::TempDir> {
    program("ruby", "apt install ruby ruby-bundler")?;
    let directory = copy_of(&gem_home("ruby-servers", PACKAGES)?);
    fs::create_dir_all(directory.path().join("lib/greeting")).unwrap();
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Some(directory)
}

fn ruby(root: &Path, arguments: &[&str]) -> Command {
    let home = fs::canonicalize(root).unwrap().join("gem-home");
    let mut command = Command::new("ruby");
    command.args(arguments).env("GEM_HOME", &home).env("GEM_PATH", &home).env("RACK_ENV", "production");
    command
}

/// Features below the root, as the processes wrote them.
fn truth(file: &Path, root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    below(&fs::canonicalize(root).unwrap(), text.lines().map(PathBuf::from))
}

fn assert_truth(what: &str, way: Way, measured: &Measured, truth: &BTreeSet<String>, used: &[&str]) {
    assert_complete(way, HOOK, measured);
    let reported = measured.modules();
    let missing: Vec<_> = truth.difference(&reported).collect();
    assert_eq!(missing, Vec::<&String>::new(), "{what} {way:?}");
    // Scripts without being features: the program itself, what it evaluates, and `load`.
    let is_script = |path: &str| {
        path.contains("/bin/") || ["config.ru", "cluster.rb", "unicorn.rb", "lib/loaded.rb"].contains(&path)
    };
    let invented: Vec<_> = reported.difference(truth).filter(|path| !is_script(path)).collect();
    assert_eq!(invented, Vec::<&String>::new(), "{what} {way:?}");
    assert!(reported.contains("lib/loaded.rb"), "{what} {way:?}");
    for gem in used.iter().chain(USED) {
        let home = format!("gem-home/gems/{gem}");
        assert!(reported.iter().any(|path| path.starts_with(&home)), "{what} {way:?}: {gem} {reported:?}");
    }
    for gem in ["redis-", "sidekiq-"] {
        let home = format!("gem-home/gems/{gem}");
        assert!(!reported.iter().any(|path| path.starts_with(&home)), "{what} {way:?}: {gem}");
    }
}

#[test]
fn servers_tell_what_their_workers_load() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    let puma = "gem-home/gems/puma-5.6.5/bin/puma";
    let servers: [(&str, &[&str], &[&str]); 4] = [
        ("puma", &[puma, "-b", "tcp://127.0.0.1:PORT"], &["puma-", "nio4r-"]),
        ("puma's cluster", &[puma, "-C", "cluster.rb", "-b", "tcp://127.0.0.1:PORT"], &["puma-", "nio4r-"]),
        (
            "unicorn",
            &[
                "/usr/bin/bundle",
                "exec",
                "ruby",
                "gem-home/gems/unicorn-6.0.0/bin/unicorn",
                "-c",
                "unicorn.rb",
                "-l",
                "127.0.0.1:PORT",
            ],
            &["unicorn-", "kgio-", "raindrops-"],
        ),
        (
            "rackup",
            &["gem-home/gems/rack-2.2.22/bin/rackup", "-s", "puma", "-o", "127.0.0.1", "-p", "PORT"],
            &["puma-", "nio4r-"],
        ),
    ];
    for (number, (what, words, used)) in servers.into_iter().enumerate() {
        for way in Way::all() {
            let port = free_port();
            let written = root.join(format!("truth-{number}-{way:?}"));
            let words: Vec<String> =
                words.iter().map(|word| word.replace("PORT", &port.to_string())).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = ruby(root, &words);
            command.env("TRUTH", &written).stderr(Stdio::null());
            let measured = serve(way, root, command, Signal::TERM, |server| {
                for (path, expected) in
                    [("/", "up"), ("/late", "hello"), ("/autoload", "2."), ("/load", "true"), ("/", "up")]
                {
                    let answer = get(port, path, server);
                    assert!(answer.contains(expected), "{what} {way:?} {path}: {answer}");
                }
            });
            assert_truth(what, way, &measured, &truth(&written, root), used);
        }
    }
}

#[test]
fn what_comes_from_bootsnaps_cache_is_used() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    let script = "Rack = Module.new\ndef run(app) = %w[/late /autoload /load].each { |path| p app.call('PATH_INFO' => path) }\n\
        load 'config.ru'\np defined?(Bootsnap) && RubyVM::InstructionSequence.respond_to?(:load_iseq)\n";
    fs::write(root.join("run.rb"), script).unwrap();
    let cache = fs::canonicalize(root).unwrap().join("cache");
    let command = |written: Option<&Path>| {
        let mut command = ruby(root, &["run.rb"]);
        command.env("CACHE", &cache).current_dir(root);
        written.map(|file| command.env("TRUTH", file));
        command
    };
    let filled = command(None).output().unwrap();
    assert!(String::from_utf8_lossy(&filled.stdout).ends_with("true\n"), "{filled:?}");
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let measured = measure(way, root, vec![command(Some(&written))]);
        let truth = truth(&written, root);
        assert!(truth.iter().any(|path| path.contains("/bootsnap-")), "{truth:?}");
        assert_complete(way, HOOK, &measured);
        let reported = measured.modules();
        let missing: Vec<_> = truth.difference(&reported).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{way:?}");
        assert!(!reported.contains("lib/greeting/never.rb"), "{way:?}");
    }
}

#[test]
fn a_server_that_ran_before_the_agent_is_watched_from_then_on() {
    let Some(directory) = application() else { return };
    if support::no_ebpf().is_some() {
        return;
    }
    let root = fs::canonicalize(directory.path()).unwrap();
    let port = free_port();
    let container = FakeContainer::new();
    let home = root.join("gem-home");
    let script = format!(
        "cd {}; export GEM_HOME={home} GEM_PATH={home}; exec ruby {home}/gems/puma-5.6.5/bin/puma -b tcp://127.0.0.1:{port}",
        root.display(),
        home = home.display(),
    );
    let mut server = Running(container.command("", &script).stdout(Stdio::null()).spawn().unwrap());
    assert!(get(port, "/", &mut server.0).contains("up"));
    let (agent, collected) = support::start(AgentConfig { watch_containers: true, ..support::config() });
    let collected = collected.of(&container);
    collected.wait("the container", |all| all.workload_of_container(&container.id).is_some());
    assert!(get(port, "/late", &mut server.0).contains("hello"));
    let late = home.join("gems/msgpack-1.4.2/lib/msgpack.rb");
    collected.wait("what was loaded late", |all| !all.items_of(&late).is_empty());
    let item = collected.items_of(&late).remove(0);
    assert_eq!((item.kind.as_str(), item.rung.as_str()), ("module", "loaded"));
    end(&mut server.0, Signal::TERM);
    agent.stop(false);
    let workload = collected.workload_of_container(&container.id).unwrap();
    assert!(workload.watched.iter().all(|watch| !watch.from_first_exec), "{workload:?}");
}
