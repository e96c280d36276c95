//! The application notices nothing of the hook: neither of its faults nor of its presence, and every exception from
//! outside that strikes while it works arrives at the application.

use std::collections::BTreeSet;
use std::fs;

use super::fixture::{Fixture, interpreters, text};

/// Faults of the hook, of the application and of what stands between.
#[test]
fn a_hook_that_fails_is_silent_there_and_loud_here() {
    for interpreter in interpreters() {
        let check = |script: &str, prepare: &dyn Fn(&Fixture)| {
            let mut fixture = Fixture::new();
            prepare(&fixture);
            let mut command = fixture.command(&interpreter.program);
            let output = fixture.run(command.args(["-c", script]));
            fixture.drain();
            assert_eq!(
                (text(&output.stdout), text(&output.stderr)),
                ("fine\n".into(), String::new()),
                "{interpreter:?}"
            );
            let unavailable = fixture.session.coverage.unavailable();
            (fixture.failures(), fixture.lost("python-import"), unavailable)
        };
        let nothing = |_: &Fixture| {};
        let faulty = "import _frozen_importlib as system, types\n\
            system._init_module_attrs.__globals__['NAME'] = None\n\
            spec = system.ModuleSpec('near', None, origin='near.py')\n\
            spec._set_fileattr = True\n\
            system._init_module_attrs(spec, types.ModuleType('near'))\n\
            print('fine')";
        let (failures, lost, unavailable) = check(&faulty.replace("NAME", "getcwd"), &nothing);
        assert!(failures[0].starts_with("TypeError"), "{failures:?}");
        let told = unavailable.values().any(|reason| reason.contains("TypeError"));
        assert!(lost >= 1 && told, "{unavailable:?}");
        // One that cannot even say so.
        let (_, lost, _) = check(&faulty.replace("NAME", "getpid"), &nothing);
        assert!(lost >= 1, "{interpreter:?}");
        // An error of a handler of signals goes on to the application, wherever it strikes.
        let signal = "import functools, os, signal, _frozen_importlib\n\
            class Boom(Exception): pass\n\
            def handler(number, frame): raise Boom\n\
            signal.signal(signal.SIGALRM, handler)\n\
            hook = _frozen_importlib._init_module_attrs.__globals__\n\
            hook['getpid'] = functools.partial(os.kill, os.getpid(), signal.SIGALRM)\n\
            try: import wave\n\
            except Boom: print('fine')";
        assert_eq!(check(signal, &nothing).0, Vec::<String>::new());
        // The same where runpy runs a file.
        let run = "import functools, os, runpy, signal\n\
            class Boom(Exception): pass\n\
            def handler(number, frame): raise Boom\n\
            signal.signal(signal.SIGALRM, handler)\n\
            open('near.py', 'w').close()\n\
            hook = runpy.exec.__new__.__globals__\n";
        let fails = format!("{run}hook['getcwd'] = None\nrunpy.run_path('near.py')\nprint('fine')");
        assert!(check(&fails, &nothing).0[0].starts_with("TypeError"));
        let struck = format!(
            "{run}hook['getpid'] = functools.partial(os.kill, os.getpid(), signal.SIGALRM)\n\
            try: runpy.run_path(os.getcwd() + '/near.py')\n\
            except Boom: print('fine')"
        );
        assert_eq!(check(&struck, &nothing).0, Vec::<String>::new());
        if interpreter.version >= (3, 8) {
            let sandbox = "import sys\n\
                def refuse(event, arguments):\n\
                \x20   if event == 'open' and 'plimsoll-hooks' in str(arguments[0]): raise RuntimeError('refused')\n\
                sys.addaudithook(refuse)\n\
                import wave\n\
                print('fine')";
            let (_, lost, _) = check(sandbox, &nothing);
            assert!(lost >= 1, "{interpreter:?}");
            // In the middle of such a hook a signal is none of ours.
            let strikes = "import functools, os, signal, sys\n\
                class Boom(Exception): pass\n\
                def handler(*a): raise Boom('from outside')\n\
                signal.signal(signal.SIGALRM, handler)\n\
                def look(event, arguments):\n\
                \x20   if event == 'open' and 'plimsoll-hooks' in str(arguments[0]):\n\
                \x20       os.kill(os.getpid(), signal.SIGALRM)\n\
                \x20       for number in range(100): pass\n\
                sys.addaudithook(look)\n\
                try: import wave\n\
                except Boom: print('fine')";
            check(strikes, &nothing);
        }
        let broken = |fixture: &Fixture| {
            fs::write(fixture.session.directory().join("python/import_hook.py"), "import (").unwrap();
        };
        let (_, lost, unavailable) = check("print('fine')", &broken);
        assert!(lost == 1 && unavailable["python-import"].contains("no import hook"), "{unavailable:?}");
        let gone =
            |fixture: &Fixture| fs::remove_dir_all(fixture.session.directory().join("python")).unwrap();
        assert_eq!(check("print('fine')", &gone).1, 1);
        // An application that closes all descriptors, and one that looks at the next free number.
        let closes = "import os, sys\n\
            os.closerange(3, 256)\n\
            import wave\n\
            assert os.open('/dev/null', os.O_RDONLY) == 3\n\
            print('fine')";
        assert_eq!(check(closes, &nothing).1, 0);
    }
}

/// Exceptions of signal handlers and of PyThreadState_SetAsyncExc that strike the hook arrive at the application, none of its
/// descriptors stays open, and what the application then tries again is told.
#[test]
fn no_exception_from_outside_is_swallowed() {
    for interpreter in interpreters() {
        let mut fixture = Fixture::new();
        let program = fixture.write("strikes.py", include_str!("../../applications/python/strikes.py"));
        let mut command = fixture.command(&interpreter.program);
        let output = fixture.run(command.arg(program));
        let said = (text(&output.stdout), text(&output.stderr));
        assert_eq!(said, ("done\n".into(), String::new()), "{interpreter:?}");
        let modules = fixture.modules();
        let struck = |kind: &str| modules.iter().filter(|(name, _)| name.starts_with(kind)).count();
        if ((3, 7)..(3, 12)).contains(&interpreter.version) {
            let all: BTreeSet<u32> = (1..100).collect();
            for kind in ["OSError", "Boom", "KeyboardInterrupt"] {
                let prefix = format!("taken.{kind}.");
                let told = modules.iter().filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse().ok());
                let told: BTreeSet<u32> = told.collect();
                let missing: Vec<_> = all.difference(&told).collect();
                assert_eq!(missing, Vec::<&u32>::new(), "{interpreter:?} {kind}");
            }
        }
        assert!(struck("timer") >= 400, "{interpreter:?}");
    }
}
