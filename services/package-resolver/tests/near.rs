//! A host of which only what lies near the asked paths is looked at: the same owners, without walking all of it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::{OpenRoot, Stage, brief, debian, write};

const HOST: &str = "host/0123456789abcdef0123456789abcdef";
const SITE: &str = "opt/tool/lib/python3.11/site-packages";

#[test]
fn owners_of_a_host_are_found_near_what_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    debian(root, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    let install = |site: &str, name: &str| {
        write(root, &format!("{site}/{name}.py"), "");
        let info = format!("{site}/{name}-1.dist-info");
        write(
            root,
            &format!("{info}/METADATA"),
            &format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"),
        );
        write(root, &format!("{info}/RECORD"), &format!("{name}.py,,\n../../../bin/{name},,\n"));
    };
    install(SITE, "six");
    write(root, "opt/tool/bin/six", "");
    write(root, "opt/tool/lib/python3.11/os.py", "");
    // An editable installation, far from its sources.
    write(root, "home/u/work/pyproject.toml", "");
    write(root, "home/u/work/src/mine.py", "");
    write(root, "home/u/alone.py", "");
    write(root, "home/u/hook.cjs", "");
    let info = "opt/other/lib/python3.11/site-packages/mine-2.dist-info";
    write(root, &format!("{info}/METADATA"), "Metadata-Version: 2.1\nName: mine\nVersion: 2\n");
    write(root, &format!("{info}/RECORD"), "");
    write(
        root,
        &format!("{info}/direct_url.json"),
        r#"{"url":"file:///home/u/work","dir_info":{"editable":true}}"#,
    );

    for near in [true, false] {
        let stage = Stage::with(|settings| settings.near = near);
        let mut agent = stage.agent();
        agent.open(OpenRoot {
            artifact: HOST,
            workload: "w",
            root: root.to_str().unwrap(),
            ..Default::default()
        });
        let mut owner = |path: &str| brief(&agent.one(HOST, "w", path));
        assert!(owner("usr/lib/libz.so.1").starts_with("owned libz1@1 "), "near: {near}");
        assert!(owner(&format!("{SITE}/six.py")).starts_with("owned six@1 "), "near: {near}");
        assert!(owner("opt/tool/bin/six").starts_with("owned six@1 "), "near: {near}");
        assert!(owner("opt/tool/lib/python3.11/os.py").starts_with("unowned "), "near: {near}");
        // A package that was installed after the first answers: of a whole host it is found with a delay only.
        install("opt/late/lib/python3.11/site-packages", "late");
        let late = owner("opt/late/lib/python3.11/site-packages/late.py");
        assert!(!near || late.starts_with("owned late@1 "), "{late}");
        std::fs::remove_dir_all(root.join("opt/late")).unwrap();
        // However much is asked for, a whole host is not walked.
        for number in 0..12 {
            let site = format!("opt/p{number}/lib/python3.11/site-packages");
            install(&site, "more");
            let more = owner(&format!("{site}/more.py"));
            assert!(!near || more.starts_with("owned more@1 "), "{more}");
        }
        assert!(owner("home/u/hook.cjs").starts_with("unowned "), "near: {near}");
        // An installation far away may name these.
        for (file, manifest) in [("work/src/mine.py", "work/pyproject.toml"), ("alone.py", ".pth")] {
            let entry = agent.one(HOST, "w", &format!("home/u/{file}"));
            let expect = if !near {
                if file == "alone.py" { "unowned " } else { "owned mine@2 " }
            } else {
                assert!(entry.reason.contains(manifest), "{}", entry.reason);
                assert_eq!(entry.role, "code", "no package of the operating system owns it");
                "unresolved "
            };
            assert!(brief(&entry).starts_with(expect), "near: {near}: {entry:?}");
        }
        let mut owner = |path: &str| brief(&agent.one(HOST, "w", path));
        // Once that was used, too, it is known.
        owner("opt/other/lib/python3.11/site-packages/other.py");
        assert!(owner("home/u/work/src/mine.py").starts_with("owned mine@2 "), "near: {near}");
    }
}
