//! Ruby: what is reported of a real application is what $LOADED_FEATURES says.
//! The gems are Debian's own builds, put into a home of gems: once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::languages::{Way, assert_complete, below, copy_of, gem_home, measure, program};

/// The probe where eBPF is not at work.
const HOOK: &str = "ruby-feature";

const PACKAGES: &[&str] = &[
    "ruby-rack",
    "ruby-mustermann",
    "ruby-ruby2-keywords",
    "ruby-rack-protection",
    "ruby-sinatra",
    "ruby-tilt",
    "ruby-addressable",
    "ruby-public-suffix",
    "ruby-i18n",
    "ruby-concurrent",
    "ruby-tzinfo",
    "ruby-mime-types",
    "ruby-mime-types-data",
    "ruby-kramdown",
    "ruby-rouge",
    "ruby-multi-json",
    "ruby-builder",
    "ruby-hashie",
    "ruby-thor",
    "ruby-rainbow",
    "ruby-bcrypt",
];
const FILES: &[(&str, &str)] = &[
    ("app.rb", include_str!("../applications/ruby/app.rb")),
    ("plugin.rb", include_str!("../applications/ruby/plugin.rb")),
    (
        "Gemfile",
        "gem \"sinatra\"\ngem \"i18n\"\ngem \"multi_json\"\ngem \"rainbow\", \"3.1.1\"\ngem \"tzinfo\"\n",
    ),
];

/// The application in a directory of its own; `None` (said why) without Ruby or its gems.
fn application() -> Option<tempfile::TempDir> {
    program("ruby", "apt install ruby ruby-bundler")?;
    let gems = gem_home("ruby-application", PACKAGES)?;
    let directory = copy_of(&gems);
    for (name, text) in FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Some(directory)
}

fn ruby(root: &Path, program: &str, arguments: &[&str]) -> Command {
    let home = fs::canonicalize(root).unwrap().join("gem-home");
    let mut command = Command::new(program);
    command.args(arguments).env("GEM_HOME", &home).env("GEM_PATH", &home);
    command
}

fn of_gems(paths: BTreeSet<String>) -> BTreeSet<String> {
    paths.into_iter().filter(|path| path.starts_with("gem-home/")).collect()
}

#[test]
fn features_are_what_ruby_says() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let mut command = ruby(root, "ruby", &["app.rb"]);
        command.env("TRUTH", &written);
        let measured = measure(way, root, vec![command]);
        assert!(measured.output.starts_with("2 "), "{way:?} {}", measured.output);
        assert_complete(way, HOOK, &measured);
        let text = fs::read_to_string(&written).unwrap();
        let truth = of_gems(below(&fs::canonicalize(root).unwrap(), text.lines().map(PathBuf::from)));
        let reported = of_gems(measured.modules());
        let missing: Vec<_> = truth.difference(&reported).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{way:?}");
        // Scripts that gave up while they ran are no features, though they were read and ran.
        let gave_up = ["addressable/idna/native.rb", "tilt/erubi.rb", "tilt/erubis.rb"];
        let invented = reported.difference(&truth);
        let invented: Vec<_> =
            invented.filter(|path| !gave_up.iter().any(|end| path.ends_with(end))).collect();
        assert_eq!(invented, Vec::<&String>::new(), "{way:?}");
        assert!(measured.modules().contains("plugin.rb"), "{way:?}: what is loaded without being a feature");
        let uses = |gem: &str| reported.iter().any(|path| path.starts_with(&format!("gem-home/gems/{gem}-")));
        for used in
            ["sinatra", "rack", "tilt", "i18n", "concurrent-ruby", "multi_json", "bcrypt", "addressable"]
        {
            assert!(uses(used), "{way:?}: {used} was used: {reported:?}");
        }
        assert!(
            uses("mime-types")
                && uses("thor")
                && reported.contains("gem-home/gems/rainbow-2.9.9/lib/rainbow.rb")
                && reported.contains("gem-home/gems/rainbow-3.1.1/lib/rainbow.rb"),
            "{way:?}"
        );
        for unused in ["rouge", "tzinfo", "hashie", "builder", "kramdown"] {
            assert!(!uses(unused), "{way:?}: {unused} was not used");
        }
        assert!(reported.iter().any(|path| path.ends_with("bcrypt_ext.so")), "{way:?}");
    }
}

#[test]
fn bundler_installs_nothing_and_runs() {
    let Some(directory) = application() else { return };
    if program("bundle", "apt install ruby-bundler").is_none() {
        return;
    }
    let root = directory.path();
    fs::create_dir(root.join("lib")).unwrap();
    fs::write(root.join("lib/own.rb"), "require 'hashie'\n").unwrap();
    // Its extension is built by a script that loads a gem, as part of the installation.
    fs::create_dir(root.join("ext")).unwrap();
    let build = "require 'hashie'\nFile.write('Makefile', \"all:\\ninstall:\\nclean:\\n\")\n";
    fs::write(root.join("ext/extconf.rb"), build).unwrap();
    let gemspec = "Gem::Specification.new { |s| s.name = 'own'; s.version = '1'; s.summary = 'x'; s.authors = ['x']; \
        s.files = ['lib/own.rb', 'ext/extconf.rb']; s.extensions = ['ext/extconf.rb'] }\n";
    fs::write(root.join("own.gemspec"), gemspec).unwrap();
    fs::write(root.join("Rakefile"), "require 'builder'\ntask(:default) { puts Builder }\n").unwrap();
    for way in Way::all() {
        let installed = root.join("installed");
        let quiet = vec![
            ruby(root, "gem", &["build", "--quiet", "own.gemspec"]),
            ruby(
                root,
                "gem",
                &["install", "--local", "--no-document", "-i", installed.to_str().unwrap(), "own-1.gem"],
            ),
            ruby(root, "bundle", &["install", "--local"]),
            ruby(root, "bundle", &["list"]),
            ruby(root, "gem", &["list"]),
            ruby(root, "ruby", &["-c", "gem-home/gems/hashie-5.0.0/lib/hashie.rb"]),
        ];
        let quiet = measure(way, root, quiet);
        assert_eq!(of_gems(quiet.modules()), BTreeSet::new(), "{way:?}");
        let loud = ["exec", "ruby", "-e", "require 'multi_json'; puts 1"];
        let loud = measure(way, root, vec![ruby(root, "bundle", &loud)]);
        assert_eq!(loud.output, "1\n");
        let modules = of_gems(loud.modules());
        assert!(modules.iter().any(|path| path.contains("/multi_json-1")), "{way:?} {modules:?}");
        assert!(!modules.iter().any(|path| path.contains("/tzinfo")), "{way:?} {modules:?}");
        assert_complete(way, HOOK, &loud);
        // Runners, which are gems of the system, run the application.
        let system = |program: &str, arguments: &[&str]| {
            let mut command = ruby(root, program, arguments);
            command.env_remove("GEM_PATH");
            command
        };
        let own = installed.join("gems/own-1/lib/own.rb");
        let irb = format!("echo 'require %q({})' | irb -f --noecho --noprompt", own.display());
        let loud = measure(way, root, vec![system("rake", &["--silent"]), system("sh", &["-c", &irb])]);
        let modules = loud.modules();
        for used in ["Rakefile", "installed/gems/own-1/lib/own.rb"] {
            assert!(
                modules.contains(used) || loud.paths("file").iter().any(|path| path.ends_with(used)),
                "{way:?} {used} {modules:?}"
            );
        }
        for used in ["/builder-", "/hashie-"] {
            assert!(
                of_gems(modules.clone()).iter().any(|path| path.contains(used)),
                "{way:?} {used} {modules:?}"
            );
        }
        assert_complete(way, HOOK, &loud);
    }
}

#[test]
fn the_application_keeps_its_options_and_notices_nothing() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    fs::write(root.join("own.rb"), "OWN = 1\n").unwrap();
    let text = "p OWN, $LOADED_FEATURES.size, caller, Thread.list.size, Object.constants.size, $-w\n\
        require 'multi_json'\nbegin; require_relative 'bad'; rescue RuntimeError => e; puts e.backtrace; end\n\
        warn 'x'; at_exit { exit 3 }; raise 'the end'\n";
    fs::write(root.join("strange.rb"), text).unwrap();
    fs::write(root.join("bad.rb"), "raise 'bad'\n").unwrap();
    let command = || {
        let mut command = ruby(root, "ruby", &["-w", "strange.rb"]);
        command.current_dir(root).env("RUBYOPT", format!("-r{}", root.join("own.rb").display()));
        command
    };
    let plain = command().output().unwrap();
    let session = plimsoll_runtime_agent::hooks::HookSession::start(root).unwrap();
    let mut hooked = command();
    session.environment().apply(&mut hooked);
    let hooked = hooked.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&hooked.stdout), text(&plain.stdout));
    assert_eq!(text(&hooked.stderr), text(&plain.stderr));
    assert_eq!(hooked.status, plain.status);
}

#[test]
fn a_ruby_that_tells_of_no_scripts_is_named_and_runs() {
    if program("ruby", "apt install ruby").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    // As TracePoint is in JRuby, and before Ruby 2.6.
    let old = "def TracePoint.new(*events)\n  raise ArgumentError, \"unknown event: #{events}\"\nend\n";
    fs::write(root.join("old.rb"), old).unwrap();
    let mut command = Command::new("ruby");
    command.args(["-e", "puts 1"]).env("RUBYOPT", format!("-r{}", root.join("old.rb").display()));
    let measured = measure(Way::Hooks, root, vec![command]);
    assert_eq!(measured.output, "1\n");
    let reasons = measured.workload().unavailable_probes;
    assert!(reasons.values().any(|reason| reason.contains("JRuby or older than 2.6")), "{reasons:?}");
    assert!(measured.lost("ruby-feature") > 0, "{:?}", measured.workload());
}
