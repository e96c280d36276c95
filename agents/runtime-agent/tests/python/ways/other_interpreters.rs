//! PyPy, and Jython on a JVM: what they read is use, and nothing says that a package of theirs is unused.

use std::process::Command;

use super::kit::{HOOK, application, modules};
use super::support::languages::{Way, assert_complete, measure, program};

/// Python 2 and 3.
const FILES: &[(&str, &str)] =
    &[("app.py", "import sys\nsys.path.insert(0, 'packages')\nimport six\nprint(six.__version__)\n")];

#[test]
fn pypy() {
    let Some(pypy) = program("pypy3", "apt install pypy3") else { return };
    let Some(directory) = application(FILES) else { return };
    let root = directory.path();
    for way in Way::all() {
        let mut command = Command::new(&pypy);
        command.arg("app.py").env_remove("PYTHONPATH");
        let measured = measure(way, root, vec![command]);
        assert_eq!(measured.output, "1.16.0\n", "{way:?}");
        assert!(modules(&measured).contains("packages/six.py"), "{way:?} {:?}", modules(&measured));
        assert_complete(way, HOOK, &measured);
    }
}

#[test]
fn jython() {
    let Some(jython) = program("jython", "apt install jython") else { return };
    let Some(directory) = application(FILES) else { return };
    let root = directory.path();
    for way in Way::all() {
        let mut command = Command::new(&jython);
        // Its cache of jars may not be writable.
        command.args(["-Dpython.cachedir.skip=true", "app.py"]);
        command.env_remove("PYTHONPATH").env_remove("JAVA_TOOL_OPTIONS");
        let measured = measure(way, root, vec![command]);
        assert_eq!(measured.output, "1.16.0\n", "{way:?}");
        match way {
            Way::Ebpf => {
                assert!(modules(&measured).contains("packages/six.py"), "{:?}", modules(&measured));
                assert_complete(way, HOOK, &measured);
            }
            Way::Hooks => {
                assert!(measured.lost(HOOK) > 0, "{:?}", measured.workload());
                let reasons = measured.workload().unavailable_probes;
                assert!(reasons.values().any(|reason| reason.contains("runs on a JVM")), "{reasons:?}");
            }
        }
    }
}
