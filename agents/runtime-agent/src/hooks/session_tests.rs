//! Sessions at work and at their ends.

use super::*;

#[test]
fn sessions_that_start_together_do_not_sweep_each_other() {
    let parent = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let session = HookSession::start(parent.path()).unwrap();
                    assert!(session.inner.join(leftover::LOCKED).exists());
                }
            });
        }
    });
}

fn session() -> (tempfile::TempDir, HookSession) {
    let parent = tempfile::tempdir().unwrap();
    let session = HookSession::start(parent.path()).unwrap();
    (parent, session)
}

fn write(session: &HookSession, bytes: &[u8]) {
    File::options().write(true).open(session.inner.join("reports")).unwrap().write_all(bytes).unwrap();
}

fn taken(session: &mut HookSession) -> Vec<String> {
    let mut paths = Vec::new();
    session.drain(|_, report, _| paths.push(String::from_utf8_lossy(&report.path).into_owned()));
    paths
}

#[test]
fn gives_everything_that_was_written_before() {
    let (_parent, mut session) = session();
    for number in 0..200 {
        write(&session, format!("\u{1e}LO 7 0 - 0 4\n/{number:03}").as_bytes());
    }
    let expected: Vec<String> = (0..200).map(|number| format!("/{number:03}")).collect();
    assert_eq!(taken(&mut session), expected);
    assert!(taken(&mut session).is_empty());
}

#[test]
fn counts_what_was_lost() {
    let (_parent, mut session) = session();
    let append = |bytes: &[u8]| {
        let mut file = File::options().append(true).open(session.inner.join("losses")).unwrap();
        file.write_all(bytes).unwrap();
    };
    append(b"LLP");
    write(&session, b"nonsense\x1eLO 7 5 - 0 2\n/a");
    // Nobody else can end the reading, or pretend that it has come to a mark.
    write(&session, &session_mark("guess 0"));
    assert_eq!(taken(&mut session), ["/a"]);
    let lost: Vec<_> = session.coverage.losses().collect();
    assert_eq!(
        lost,
        [
            ("ld-audit", 2 + 5 + 2),
            ("node-module", 2),
            ("php-include", 2),
            ("python-import", 1 + 2),
            ("ruby-feature", 2)
        ]
    );
}

#[test]
fn leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    drop(HookSession::start(parent.path()).unwrap());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    let strange = parent.path().join("a:b");
    fs::create_dir(&strange).unwrap();
    assert!(matches!(HookSession::start(&strange), Err(HookError::Unspeakable(_))));
    assert!(matches!(HookSession::start(&parent.path().join("none")), Err(HookError::Directory { .. })));
}

#[test]
fn processes_that_run_on_keep_their_library() {
    let (parent, session) = session();
    let mut command = Command::new("sh");
    // Starts another program after the session's end.
    command.args(["-c", "echo started; read line; exec cat /dev/null"]);
    session.environment().apply(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut started = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut started).unwrap();
    drop(session);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // Another test's child, forked while this session held its lock, may hold it until its exec.
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(parent.path()).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the abandoned hooks are still there");
        drop(HookSession::start(parent.path()).unwrap());
    }
}

#[test]
fn ends_while_nobody_takes_anything() {
    let (_parent, session) = session();
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut writer =
        File::options().write(true).custom_flags(nonblocking).open(session.inner.join("reports")).unwrap();
    let report = b"\x1eLO 7 0 - 0 2\n/a";
    // More than the queue and the FIFO hold together.
    let mut refused = 0;
    while refused < 1_000 {
        refused += usize::from(writer.write_all(report).is_err());
    }
    drop(session);
}
