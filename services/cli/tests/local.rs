//! The command in local mode, with no server at all: as people type it, on a real interpreter.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::has_ebpf;

const NAMES: [&str; 6] = ["-a", "backend", "-c", "pythonapp", "-V", "1.0"];

/// An application with two packages, and a state of its own.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        let made = Command::new("python3")
            .args(["-m", "venv", "--without-pip"])
            .arg(world.app().join("venv"))
            .status();
        assert!(made.expect("python3 with venv is needed (apt install python3-venv)").success());
        world.install("used_one", "1.0", "import used_one.part\n");
        world.install("never_one", "2.0", "raise SystemExit('it was imported')\n");
        std::fs::write(world.app().join("run.py"), "import used_one\nprint('hello')\nraise SystemExit(7)\n")
            .unwrap();
        world
    }

    fn app(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    fn site_packages(&self) -> PathBuf {
        let lib = self.app().join("venv/lib");
        let python = std::fs::read_dir(lib).unwrap().next().unwrap().unwrap();
        python.path().join("site-packages")
    }

    fn install(&self, name: &str, version: &str, init: &str) {
        let site = self.site_packages();
        let info = site.join(format!("{name}-{version}.dist-info"));
        std::fs::create_dir_all(&info).unwrap();
        std::fs::create_dir_all(site.join(name)).unwrap();
        std::fs::write(site.join(name).join("__init__.py"), init).unwrap();
        std::fs::write(site.join(name).join("part.py"), "").unwrap();
        std::fs::write(
            info.join("METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
        )
        .unwrap();
        std::fs::write(
            info.join("RECORD"),
            format!("{name}/__init__.py,,\n{name}/part.py,,\n{name}-{version}.dist-info/METADATA,,\n"),
        )
        .unwrap();
    }

    fn plimsoll(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = support::plimsoll(self.directory.path());
        command.args(arguments).current_dir(directory).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn output(&self, directory: &Path, arguments: &[&str]) -> Output {
        self.plimsoll(directory, arguments).output().unwrap()
    }

    fn scan(&self) -> Value {
        let arguments = [&["scan", "-s", "fs"][..], &NAMES, &["-o", "json", "app"]].concat();
        json(&self.output(self.directory.path(), &arguments))
    }

    /// Runs the application; the report that the run ends with.
    fn run(&self, directory: &Path, options: &[&str], program: &[&str]) -> (Output, Value) {
        let arguments = [&["run"][..], &NAMES, options, &["-o", "json", "--cmd"], program].concat();
        let output = self.output(directory, &arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text
            .find('{')
            .unwrap_or_else(|| panic!("no report: {text} {}", String::from_utf8_lossy(&output.stderr)));
        (output.clone(), serde_json::from_str(&text[start..]).unwrap())
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn package<'a>(report: &'a Value, name: &str) -> &'a Value {
    let packages = report["packages"].as_array().unwrap();
    packages
        .iter()
        .find(|package| package["name"] == name)
        .unwrap_or_else(|| panic!("{name} is not in {report:#}"))
}

fn check_use(options: &[&str], probe: &str) {
    let world = World::new();
    world.scan();
    let (output, report) = world.run(&world.app(), options, &["venv/bin/python", "run.py"]);
    assert_eq!(output.status.code(), Some(7), "the command's own exit code");
    assert!(output.stdout.starts_with(b"hello\n"), "the command's own output");
    let used = package(&report, "used-one");
    assert_eq!(used["use"], "used", "{used:#}");
    assert_eq!(used["rung"], "loaded");
    let files: Vec<&str> = ["files", "classes"]
        .iter()
        .flat_map(|list| used[*list].as_array().unwrap())
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    for expected in ["used_one/__init__.py", "used_one/part.py"] {
        assert!(files.iter().any(|path| path.ends_with(expected)), "{expected} is not in {files:?}");
    }
    let never = package(&report, "never-one");
    assert_eq!(never["use"], "unused", "{never:#}");
    assert_eq!(never["coverage"]["from_first_exec"], true);
    assert_eq!(never["coverage"]["probes"], serde_json::json!([probe]));
    let observed = serde_json::json!([{"ecosystem": "pypi", "probe": probe, "how": "at-start", "processes": 1,
        "workload_count": 1, "counts": {}, "reasons": []}]);
    assert_eq!(report["observed"], observed);
}

#[test]
fn a_run_tells_used_from_unused_by_ebpf() {
    if has_ebpf() {
        check_use(&[], "ebpf-files");
    } else {
        eprintln!("skipped: eBPF needs root rights");
    }
}

#[test]
fn a_run_tells_used_from_unused_by_hooks() {
    check_use(&["--no-ebpf"], "python-import");
}

/// What outlives the command may import anything later; what ends a little after it is seen to its end.
#[test]
fn nothing_is_unused_where_a_process_runs_on() {
    let modes: &[&[&str]] = if has_ebpf() { &[&[], &["--no-ebpf"]] } else { &[&["--no-ebpf"]] };
    let daemon = |wait: &str| {
        format!(
            "import used_one, os, sys\nready, told = os.pipe()\nif os.fork() == 0:\n    os.setsid()\n    \
             null = os.open('/dev/null', os.O_RDWR)\n    [os.dup2(null, n) for n in range(3)]\n    \
             os.write(told, b'x')\n    {wait}\n    os._exit(0)\nos.read(ready, 1)\n"
        )
    };
    for options in modes {
        let world = World::new();
        world.scan();
        let fifo = world.directory.path().join("end");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = world.app().join("run.py");
        // Longest wait for somebody who writes there: a test that fails leaves nothing behind.
        let wait = format!(
            "import select; fd = os.open({:?}, os.O_RDWR); select.select([fd], [], [], 60)",
            fifo.to_str().unwrap()
        );
        std::fs::write(&script, daemon(&wait)).unwrap();
        let (_, report) = world.run(&world.app(), options, &["venv/bin/python", "run.py"]);
        std::fs::write(&fifo, "x").unwrap();
        assert_eq!(package(&report, "used-one")["use"], "used");
        let never = package(&report, "never-one");
        assert_eq!(never["use"], "not_measured", "{never:#}");
        let reason = never["use_reason"].as_str().unwrap();
        assert!(reason.contains("1 process ran on when the observation ended (first: python3"), "{reason}");

        let world = World::new();
        world.scan();
        std::fs::write(world.app().join("run.py"), daemon("import time; time.sleep(0.2)")).unwrap();
        let (_, report) = world.run(&world.app(), options, &["venv/bin/python", "run.py"]);
        let never = package(&report, "never-one");
        assert_eq!(never["use"], "unused", "{never:#}");
    }
}

#[test]
fn scanning_after_the_run_gives_the_same() {
    let world = World::new();
    world.run(&world.app(), &["--no-ebpf"], &["venv/bin/python", "run.py"]);
    world.scan();
    let arguments = [&["report"][..], &NAMES, &["-o", "json"]].concat();
    let report = json(&world.output(world.directory.path(), &arguments));
    assert_eq!(package(&report, "used-one")["use"], "used");
    assert_eq!(package(&report, "never-one")["use"], "unused");
}

/// What a report says of use and recommendation, by purl and copy.
fn essence(report: &Value) -> BTreeMap<String, Value> {
    let kept = ["use", "use_reason", "rung", "vulnerable", "scanned", "recommendation", "files"];
    let packages = report["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let key = format!("{} {} {}", package["artifact"], package["purl"], package["locations"]);
            let files: Vec<&Value> =
                package["files"].as_array().into_iter().flatten().map(|file| &file["path"]).collect();
            let mut said: serde_json::Map<String, Value> =
                kept.iter().map(|name| ((*name).to_owned(), package[*name].clone())).collect();
            said.insert("files".to_owned(), serde_json::json!(files));
            (key, Value::Object(said))
        })
        .collect()
}

#[test]
fn scanning_the_host_before_or_after_the_run_gives_the_same() {
    // The host's packages are used by the component only where something sees them being used.
    if !has_ebpf() {
        return;
    }
    let reports = [true, false].map(|host_first| {
        let world = World::new();
        let here = world.directory.path().to_owned();
        let scan_host = || {
            let output = world.output(&here, &["scan", "-s", "host", "-o", "json"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        world.scan();
        if host_first {
            scan_host();
        }
        world.run(&world.app(), &[], &["venv/bin/python", "run.py"]);
        if !host_first {
            scan_host();
        }
        let component = json(&world.output(&here, &[&["report"][..], &NAMES, &["-o", "json"]].concat()));
        (essence(&component), component)
    });
    let [(first, _), (last, _)] = &reports;
    let of_host = first.values().filter(|said| said["use"] == "used").count();
    println!("{} packages compared, {of_host} used", first.len());
    assert!(first.keys().any(|key| key.contains("host/")), "packages of the host are among them");
    for key in first.keys().chain(last.keys()) {
        assert_eq!(first.get(key), last.get(key), "{key}");
    }
}

#[test]
fn a_run_on_other_files_than_the_scan_proves_nothing_unused() {
    let world = World::new();
    world.scan();
    let (_, report) =
        world.run(world.directory.path(), &["--no-ebpf"], &["app/venv/bin/python", "app/run.py"]);
    for package in report["packages"].as_array().unwrap() {
        assert_ne!(package["use"], "unused", "{package:#}");
    }
    assert!(package(&report, "never-one")["use_remedy"].as_str().unwrap().contains("--root"));
    let app = world.app();
    let options = ["--no-ebpf", "--root", app.to_str().unwrap()];
    let (_, report) = world.run(world.directory.path(), &options, &["app/venv/bin/python", "app/run.py"]);
    assert_eq!(package(&report, "never-one")["use"], "unused");
}

#[test]
fn two_scans_are_the_same_byte_for_byte() {
    let world = World::new();
    let (mut first, mut second) = (world.scan(), world.scan());
    for scan in [&mut first, &mut second] {
        for varying in ["scan_id", "started_at", "completed_at"] {
            assert!(scan.as_object_mut().unwrap().remove(varying).is_some(), "{varying}");
        }
    }
    assert_eq!(serde_json::to_vec(&first).unwrap(), serde_json::to_vec(&second).unwrap());
    assert_eq!(package(&first, "never-one")["use"], "not_measured");
}

#[test]
fn exit_codes_tell_what_happened() {
    let world = World::new();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["scan", "-s", "fs", "app"], 2, "-a, -c and -V"),
        (&["scan", "-s", "fs", "-a", "x", "app"], 2, "belong together"),
        (
            &["scan", "-s", "fs", "-a", "x", "-c", "y", "-V", "1", "nowhere"],
            1,
            "nowhere: entity not found; check that it exists",
        ),
        (&["scan", "-s", "fs", "-a", "x", "-c", "y", "-V", "", "app"], 2, "-V \"\": give a name"),
        (
            &["report", "-a", "x", "-c", "y", "-V", "1", "--output-file", "no/where"],
            1,
            "--output-file no/where",
        ),
        (
            &[
                "run",
                "-a",
                "x",
                "-c",
                "y",
                "-V",
                "1",
                "--output-file",
                "no/where",
                "--",
                "sh",
                "-c",
                "exit 7",
            ],
            1,
            "--output-file no/where",
        ),
        (&["scan", "-s", "cloud", "app"], 2, "possible values"),
        (&["report", "-a", "x", "-c", "y", "-V", "1"], 1, "plimsoll scan"),
        (&["report", "-a", "x", "-c", "y", "-V", "1", "--fail-on", "severe"], 2, "critical"),
        (
            &["run", "-a", "x", "-c", "y", "-V", "1", "--no-ebpf", "--", "no-such-program"],
            1,
            "no-such-program",
        ),
    ];
    for (arguments, code, text) in cases {
        let output = world.output(world.directory.path(), arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
}

#[test]
fn a_signal_reaches_the_command_once() {
    use std::io::{BufRead as _, BufReader};
    let world = World::new();
    let script = "import signal, sys\n\
                  def told(number, frame):\n    print('told', flush=True)\n    sys.exit(9)\n\
                  signal.signal(signal.SIGTERM, told)\nprint('ready', flush=True)\nsignal.pause()\n";
    std::fs::write(world.app().join("wait.py"), script).unwrap();
    let arguments = [&["run"][..], &NAMES, &["--no-ebpf", "--cmd", "venv/bin/python", "wait.py"]].concat();
    let mut child = world.plimsoll(&world.app(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "told");
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_command_ended_by_a_signal_has_the_shells_code() {
    let world = World::new();
    let arguments = [&["run"][..], &NAMES, &["--no-ebpf", "--", "sh", "-c", "kill -KILL $$"]].concat();
    assert_eq!(world.output(&world.app(), &arguments).status.code(), Some(128 + 9));
}

#[test]
fn the_result_goes_to_a_file_and_the_output_stays_the_commands() {
    let world = World::new();
    for (format, begin) in [("json", "{"), ("table", "backend / pythonapp")] {
        let options = ["--no-ebpf", "-o", format, "--output-file", "result", "--cmd", "echo", "its own"];
        let output = world.output(&world.app(), &[&["run"][..], &NAMES, &options].concat());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "its own\n");
        let result = std::fs::read_to_string(world.app().join("result")).unwrap();
        assert!(result.starts_with(begin), "{result}");
    }
}

/// `plimsoll … | head`: the reader went when it had enough.
#[test]
fn output_that_nobody_reads_any_more_is_no_fault() {
    let world = World::new();
    for arguments in
        [&["scan", "-s", "fs", "."][..], &["report"], &["report", "-o", "json"], &["report", "-v"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = world.plimsoll(&world.app(), &[&arguments[..1], &NAMES, &arguments[1..]].concat());
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        assert!(!errors.contains("pipe") && !errors.contains("panicked"), "{arguments:?}: {errors}");
    }
}

/// PYTHONSTARTUP and LD_PRELOAD of the application work as ever, and what they load is used.
#[test]
fn the_applications_own_settings_stay() {
    // As much room for thread-local variables as jemalloc wants, and half as much again.
    const PRELOADED: &str = "#include <unistd.h>\n\
        static __thread volatile char room[4000] __attribute__((tls_model(\"initial-exec\")));\n\
        __attribute__((constructor)) static void begin(void) { room[1] = 1; write(1, \"preloaded\\n\", 10); }\n";
    const COMMAND: &str = "PYTHONSTARTUP=$PWD/startup.py LD_PRELOAD=$PWD/preloaded.so venv/bin/python -i 2> /dev/null \
        < input.py";
    let world = World::new();
    let app = world.app();
    std::fs::write(app.join("preloaded.c"), PRELOADED).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", "preloaded.so", "preloaded.c"]).current_dir(&app);
    assert!(compiler.status().expect("cc is needed (apt install gcc libc6-dev)").success());
    std::fs::write(app.join("startup.py"), "import used_one\nprint('started')\n").unwrap();
    std::fs::write(
        app.join("input.py"),
        "import os\nprint(os.environ['PYTHONSTARTUP'], os.environ['LD_PRELOAD'])\n",
    )
    .unwrap();
    let plain = Command::new("sh").args(["-c", COMMAND]).current_dir(&app).output().unwrap();
    let expected = format!("preloaded\nstarted\n{0}/startup.py {0}/preloaded.so\n", app.display());
    assert_eq!(String::from_utf8_lossy(&plain.stdout), expected);
    world.scan();
    let ways: &[&[&str]] = if has_ebpf() { &[&["--no-ebpf"], &[]] } else { &[&["--no-ebpf"]] };
    for way in ways {
        let options = [way, &["-o", "json", "--output-file", "result", "--cmd", "sh", "-c", COMMAND][..]];
        let output = world.output(&app, &[&["run"][..], &NAMES, &options.concat()].concat());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{way:?}");
        let report = serde_json::from_slice(&std::fs::read(app.join("result")).unwrap()).unwrap();
        assert_eq!(package(&report, "used-one")["use"], "used", "{way:?}");
    }
}

#[test]
fn runs_at_the_same_time_lose_nothing() {
    let world = World::new();
    world.scan();
    let spawn = |version: &str| {
        let arguments = [
            "run",
            "-a",
            "backend",
            "-c",
            "pythonapp",
            "-V",
            version,
            "--no-ebpf",
            "--cmd",
            "venv/bin/python",
            "run.py",
        ];
        world.plimsoll(&world.app(), &arguments).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = ["a", "b", "c"].into_iter().map(spawn).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
    for version in ["a", "b", "c"] {
        let arguments = ["report", "-a", "backend", "-c", "pythonapp", "-V", version, "-o", "json"];
        let report = json(&world.output(world.directory.path(), &arguments));
        assert_eq!(package(&report, "used-one")["use"], "used", "version {version}");
    }
}

#[test]
fn damaged_state_is_named_with_a_remedy() {
    let world = World::new();
    world.scan();
    let state = world.directory.path().join("state/plimsoll/local.state");
    let mut bytes = std::fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).unwrap();
    let output = world.output(world.directory.path(), &[&["report"][..], &NAMES].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("local.state") && told.contains("remove it"), "{told}");
}

#[test]
fn completions_and_help_are_there() {
    let world = World::new();
    for (arguments, text) in [
        (&["completions", "bash"][..], "_plimsoll"),
        (&["--help"], "Examples:"),
        (&["run", "--help"], "--cmd python run.py"),
        (&["scan", "--help"], "docker:web:1.0"),
    ] {
        let output = world.output(world.directory.path(), arguments);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(text), "{arguments:?}");
    }
}
