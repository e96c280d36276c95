//! Ruby's hook inside other people's programs: they do what they do without it.

use std::fs;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::support::languages::{both, program};

const INTERRUPTS: &str = include_str!("../applications/ruby/interrupts.rb");
/// Threads that are stopped; with a hook that rescues what others raise about one in twenty is lost.
const ROUNDS: &str = "200";

#[test]
fn what_stops_a_thread_arrives() {
    if program("ruby", "apt install ruby").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("interrupts.rb"), INTERRUPTS).unwrap();
    let mut session = HookSession::start(&root).unwrap();
    // Reports go to the FIFO and, once that is gone, to the file of losses; then nowhere: each has its own rescue.
    for removed in ["", "reports", "losses", "full"] {
        fs::remove_file(session.directory().join(removed)).ok();
        if removed == "full" {
            std::os::unix::fs::symlink("/dev/full", session.directory().join("losses")).unwrap();
        }
        let mut ruby = Command::new("ruby");
        ruby.arg("interrupts.rb").args([ROUNDS, "."]).current_dir(&root);
        session.environment().apply(&mut ruby);
        let output = ruby.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "{}\n", "without {removed:?}: {output:?}");
        session.drain(|_, _, _| {});
    }
}

/// Programs as they come; each shows what a hook could change. `LATE` is a script that can be loaded.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    (
        "options",
        &[],
        "p $0, ARGV, $-w, $VERBOSE, $DEBUG, $-a, ENV['RUBYOPT'].to_s.sub(/ ?-r\\S*feature_hook.rb/, '')",
    ),
    ("warnings", &["-w"], "load LATE; warn 'x'; def a; end; def a; end"),
    ("all warnings", &["-W:deprecated", "-W2"], "load LATE; $; = ','; p $_"),
    (
        "without gems",
        &["--disable=gems"],
        "p defined?(Gem); require LATE; p $LOADED_FEATURES.grep(/late|hook/).size",
    ),
    ("without anything", &["--disable-all"], "p defined?(Gem), defined?(DidYouMean); load LATE"),
    ("frozen strings", &["--enable=frozen-string-literal"], "p 'a'.frozen?; load LATE; p ''.frozen?"),
    (
        "encodings",
        &["-Eascii-8bit:utf-8"],
        "p __ENCODING__, Encoding.default_external, Encoding.default_internal; load LATE",
    ),
    (
        "names",
        &[],
        "p global_variables.size, Object.constants.size, local_variables, ObjectSpace.count_objects.key?(:TOTAL), methods.size, caller",
    ),
    (
        "backtrace",
        &[],
        "begin; load LATE + 'r'; rescue LoadError => e; p e.message, e.backtrace; end; begin; load RAISE; rescue => e; p e.backtrace, e.cause, $!; end; p $!",
    ),
    (
        "uncaught",
        &[],
        "at_exit { puts 'end' }; Thread.report_on_exception = false; Thread.new { load RAISE }.join",
    ),
    ("exit codes", &[], "at_exit { exit 7 }; load LATE; abort 'no'"),
    ("exit at once", &[], "load LATE; exit! 5"),
    ("signal", &[], "load LATE; Process.kill(:TERM, $$); sleep"),
    (
        "interrupt",
        &[],
        "begin; load LATE; Process.kill(:INT, $$); sleep; rescue Interrupt => e; p e.class, e.backtrace.size; end",
    ),
    (
        "trace points",
        &[],
        "seen = []; TracePoint.new(:script_compiled, :raise) { |t| seen << [t.event, t.path] }.enable { load LATE; load RAISE rescue 1 }; p seen",
    ),
    (
        "set_trace_func",
        &[],
        "n = 0; set_trace_func(->(*a) { n += 1 if a[1].to_s.include?('hook') }); load LATE; set_trace_func(nil); p n",
    ),
    (
        "fork in threads",
        &[],
        "3.times.map { Thread.new { pid = fork { load LATE; exit! 3 }; Process.wait2(pid)[1].exitstatus } }.each { |t| p t.value }",
    ),
    ("ractors", &["-W0"], "p Ractor.new(LATE) { |late| load late; 1 + 1 }.take"),
    (
        "autoload",
        &[],
        "autoload :Late, LATE; p Object.autoload?(:Late) == LATE, Late, Object.autoload?(:Late)",
    ),
    ("wrapped load", &[], "load LATE, true; p defined?(Late); m = Module.new; load LATE, m; p m::Late"),
    (
        "binary",
        &[],
        "i = RubyVM::InstructionSequence; p i.load_from_binary(i.compile_file(LATE).to_binary).eval",
    ),
    (
        "evaluated",
        &[],
        "p eval('[__FILE__, __LINE__]'), instance_eval('1', 'x.rb'), binding.local_variables; Dir.chdir('/'); load LATE",
    ),
    (
        "closed descriptors",
        &[],
        "before = Dir.children('/proc/self/fd').size; load LATE; p Dir.children('/proc/self/fd').size == before; (3..20).each { |n| IO.for_fd(n).close rescue 1 }; load LATE",
    ),
    (
        "own require",
        &[],
        "module Kernel; alias old require; def require(x) = (puts x; old(x)); end; require LATE",
    ),
    (
        "monkeys",
        &[],
        "class IO; def close = raise('mine'); def self.sysopen(*) = raise('mine'); end; def Process.pid = raise('mine'); def File.expand_path(*) = raise('mine'); def Thread.handle_interrupt(*) = raise('mine'); load LATE; p 1",
    ),
    (
        "child",
        &[],
        "system(RbConfig.ruby, '-e', 'p 1; exit 4'); p $?.exitstatus; p `ruby -e 'load ENV.fetch(%(X))' 2>&1`.size > 0",
    ),
    ("standard input", &["-"], "p __FILE__, DATA.read\n__END__\nx\n"),
];

#[test]
fn programs_do_what_they_do_without_it() {
    if program("ruby", "apt install ruby").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("late.rb"), "Late = 1 unless defined?(Late)\n").unwrap();
    fs::write(root.join("raise.rb"), "\n\nraise ArgumentError, 'mine'\n").unwrap();
    fs::write(root.join("own.rb"), "$own = true\n").unwrap();
    let session = HookSession::start(&root).unwrap();
    let mut differing = Vec::new();
    for (what, options, text) in PROGRAMS {
        let text = format!(
            "LATE = {:?}\nRAISE = {:?}\n{text}\n",
            root.join("late.rb").to_str().unwrap(),
            root.join("raise.rb").to_str().unwrap()
        );
        fs::write(root.join("program.rb"), &text).unwrap();
        let (plain, hooked) = both(&session, || {
            let mut ruby = Command::new("ruby");
            ruby.current_dir(&root).args(*options).env("X", "/nowhere.rb");
            match options.last() {
                Some(&"-") => ruby.stdin(fs::File::open(root.join("program.rb")).unwrap()),
                _ => ruby.args(["program.rb", "-x", "argument"]),
            };
            ruby.env("RUBYOPT", format!("-r{}", root.join("own.rb").display())).env("RUBYLIB", "/nowhere");
            ruby
        });
        if hooked != plain {
            differing.push((what, plain, hooked));
        }
    }
    assert!(differing.is_empty(), "without it, and with it: {differing:#?}");
}

/// What is evaluated under the name of a file; the text is of another place.
#[test]
fn files_that_are_evaluated_are_told() {
    if program("ruby", "apt install ruby").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    for name in ["absolute.rb", "relative.rb", "instance.rb", "never.rb", "a.gemspec"] {
        fs::write(root.join(name), "1 + 1\n").unwrap();
    }
    let text = "root = Dir.pwd\n\
        p eval(File.read('absolute.rb'), TOPLEVEL_BINDING, root + '/absolute.rb')\n\
        p eval(File.read('relative.rb'), nil, 'relative.rb')\n\
        2.times { p Object.new.instance_eval(File.read('instance.rb'), root + '/instance.rb') }\n\
        p eval(File.read('a.gemspec'), nil, root + '/a.gemspec'), File.read('never.rb').size\n\
        class Object; class_eval('def mine = __FILE__', __FILE__, 7); end\n\
        p mine\n";
    fs::write(root.join("program.rb"), text).unwrap();
    let mut session = HookSession::start(&root).unwrap();
    let (plain, hooked) = both(&session, || {
        let mut ruby = Command::new("ruby");
        ruby.current_dir(&root).arg("program.rb");
        ruby
    });
    assert!(plain.status.success(), "{plain:?}");
    assert_eq!(hooked, plain);
    let mut told = Vec::new();
    session.drain(|_, report, _| {
        let path = std::path::PathBuf::from(String::from_utf8_lossy(&report.path).into_owned());
        if report.kind == ReportKind::Module(Language::Ruby) && path.parent() == Some(root.as_path()) {
            told.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    });
    assert_eq!(told, ["program.rb", "absolute.rb", "relative.rb", "instance.rb"]);
}

/// Ruby tells of no shared object when it loads it: nothing is compiled behind the last one.
#[test]
fn a_shared_object_that_is_loaded_last_is_told() {
    if program("ruby", "apt install ruby").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    let archives =
        Command::new("ruby").args(["-e", "print RbConfig::CONFIG['rubyarchdir']"]).output().unwrap();
    let archives = String::from_utf8(archives.stdout).unwrap();
    fs::copy(format!("{archives}/etc.so"), root.join("etc.so")).unwrap();
    fs::write(root.join("program.rb"), "require Dir.pwd + '/etc.so'\n").unwrap();
    let mut session = HookSession::start(&root).unwrap();
    let mut ruby = Command::new("ruby");
    ruby.current_dir(&root).args(["--disable=gems", "program.rb"]);
    session.environment().apply(&mut ruby);
    let output = ruby.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut told = Vec::new();
    session.drain(|_, report, _| {
        if report.kind == ReportKind::Module(Language::Ruby) {
            told.push(String::from_utf8_lossy(&report.path).into_owned());
        }
    });
    let expected = root.join("etc.so");
    assert!(told.iter().any(|path| path == expected.to_str().unwrap()), "{told:?}");
}
