//! Classes of an archive that several packages share: each goes to the package that claims it most closely.
//! What only a tie speaks for must be said to be in doubt.
#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::Event;
use plimsoll_schemas::events::{PackageOwnership, RuntimeWorkload, UsedFile};
use support::*;

/// An image with Java packages whose only workload was watched by the JVM tool interface from its first exec.
fn events(
    names: &[&str],
    ownership: Vec<Event>,
    items: Vec<plimsoll_schemas::events::UsageItem>,
) -> Compacted {
    let packages: Vec<_> = names
        .iter()
        .map(|name| package("s1", name, if name.starts_with("deb") { "os" } else { "application" }, &[]))
        .collect();
    let mut watched: RuntimeWorkload = workload("w", "web", T0, T0 + 60_000, true);
    watched.watched[0].probe = "jvmti".into();
    let mut events = vec![Event::Manifest(manifest("s1", &packages))];
    events.extend(packages.iter().cloned().map(Event::Package));
    events.extend(names.iter().map(|name| Event::Findings(findings("s1", name, &[]))));
    events.extend(ownership);
    events.push(Event::Workload(watched));
    events.push(Event::Usage(usage("w", "web", items)));
    run(events.into_iter().enumerate().map(|(offset, event)| (event, order(offset as i64))))
}

fn names(files: &[UsedFile]) -> Vec<(&str, bool)> {
    files.iter().map(|file| (file.name.as_str(), file.ambiguous)).collect()
}

#[test]
fn each_class_goes_to_the_closest_claim() {
    let jar = "app/shaded.jar";
    let got = events(
        &["jv-app", "jv-log", "jv-core", "jv-never", "deb"],
        vec![Event::Ownership(shaded(
            jar,
            &[
                ("jv-app", &[]),
                ("jv-log", &["org.log."]),
                ("jv-core", &["org.log.core."]),
                ("jv-never", &["org.never."]),
                ("deb", &[]),
            ],
        ))],
        vec![
            class(jar, "org.log.Logger", T0 + 1),
            class(jar, "org.log.core.net.Socket", T0 + 2),
            class(jar, "Main", T0 + 3),
        ],
    );
    let classes = |name: &str| names(&got.usage("web", name).unwrap().classes);
    assert_eq!(classes("jv-app"), [("Main", false)]);
    assert_eq!(classes("jv-log"), [("org.log.Logger", false)]);
    assert_eq!(classes("jv-core"), [("org.log.core.net.Socket", false)]);
    assert_eq!(classes("jv-never"), []);
    // The OS package that carries the archive was used by any of them.
    assert_eq!(classes("deb").len(), 3);
    for (name, expect) in [("jv-app", "used"), ("jv-core", "used"), ("jv-never", "unused"), ("deb", "used")] {
        assert_eq!(got.package(name).r#use, expect, "{name}");
        assert_eq!(got.package(name).ambiguous_with, Vec::<String>::new(), "{name}");
    }
    assert_eq!(got.usage("web", "jv-core").unwrap().class_count, 1);
    assert_eq!(got.package("jv-core").first_used_ms, T0 + 2);
}

#[test]
fn a_tie_credits_all_and_says_so() {
    let jar = "app/shaded.jar";
    let got = events(
        &["jv-one", "jv-two", "jv-app"],
        vec![Event::Ownership(shaded(
            jar,
            &[("jv-one", &["org.x.", "org.one."]), ("jv-two", &["org.x."]), ("jv-app", &["", "org.app."])],
        ))],
        vec![class(jar, "org.x.A", T0 + 1), class(jar, "org.one.B", T0 + 2)],
    );
    let two = got.usage("web", "jv-two").unwrap();
    assert_eq!(names(&two.classes), [("org.x.A", true)]);
    assert_eq!(
        (two.r#use.as_str(), two.ambiguous_with.as_slice()),
        ("used", &["pkg:maven/jv-one@1".into()][..])
    );
    assert!(two.use_reason.contains("unless it is of pkg:maven/jv-one@1"), "{}", two.use_reason);
    // The other one has a class of its own as well: its use is beyond doubt.
    let one = got.usage("web", "jv-one").unwrap();
    assert_eq!(names(&one.classes), [("org.one.B", false), ("org.x.A", true)]);
    assert_eq!(one.use_reason, "code of it was loaded");
    assert_eq!(one.ambiguous_with, ["pkg:maven/jv-two@1"]);
    assert_eq!(got.package("jv-app").r#use, "unused");
}

/// That Java packages resemble the name of a component is a guess: what was used is never called unused for it.
#[test]
fn merged_components_are_unused_only_where_no_class_may_be_theirs() {
    let jar = "app/shaded.jar";
    let check = |loaded: &[&str], expect: [&str; 4]| {
        // The main component, two whose Java packages resemble them, and one that resembles none.
        let owners: [(&str, &[&str]); 4] = [
            ("jv-app", &["", "com.acme."]),
            ("jv-log", &["org.log."]),
            ("jv-core", &["org.log.core."]),
            ("jv-el", &[]),
        ];
        let items = loaded.iter().zip(1..).map(|(name, at)| class(jar, name, T0 + at)).collect();
        let names = owners.map(|(name, _)| name);
        let got = events(&names, vec![Event::Ownership(shaded(jar, &owners))], items);
        let uses = names.map(|name| got.usage("web", name).unwrap().r#use.clone());
        assert_eq!(uses, expect, "{loaded:?}");
        got
    };
    let (used, unused, held) = ("used", "unused", "not_measured");
    check(&[], [unused; 4]);
    // The main component's own Java packages are nobody else's.
    check(&["com.acme.Main"], [used, unused, unused, unused]);
    // What resembles none is credited to all that claim nothing, the main component among them.
    check(&["Main"], [used, unused, unused, used]);
    let got = check(&["com.sun.el.Factory"], [used, held, held, used]);
    let log = got.usage("web", "jv-log").unwrap();
    assert_eq!(
        log.use_reason,
        "it lies merged with 3 others in app/shaded.jar, and what was loaded of com.sun.el may be its own: which class is \
         whose cannot be told"
    );
    assert!(log.use_remedy.contains("jars of their own"), "{}", log.use_remedy);
    // Renamed by the plugin, and nobody's by name.
    check(&["com.acme.shaded.sun.el.Factory"], [used, held, held, used]);
    check(&["com.acme.io.Reader"], [used, unused, unused, unused]);
    check(&["com.acme.io.sundry.Reader"], [used, held, held, used]);
    // A class of `jv-core` by its name may be of `jv-log` as well; and of `jv-el`, which has none by its name.
    check(&["org.log.core.Logger"], [unused, held, used, held]);
    check(&["org.log.Logger"], [unused, used, unused, held]);
    check(&["org.log.core.Logger", "org.log.Logger"], [unused, used, used, held]);
}

/// An archive of classes that a wheel carries as a file: the wheel was used by each class, and who of the merged components
/// was is judged as without it.
#[test]
fn classes_of_an_archive_in_a_wheel_are_judged_as_without_it() {
    let jar = "app/shaded.jar";
    let check = |with_wheel: bool| {
        let mut owners: Vec<(&str, &[&str])> =
            vec![("jv-app", &["", "com.acme."]), ("jv-log", &["org.log."]), ("jv-el", &[])];
        if with_wheel {
            owners.insert(0, ("py-wheel", &[]));
        }
        let items = vec![class(jar, "com.sun.el.Factory", T0 + 1), class(jar, "com.acme.Main", T0 + 2)];
        let names: Vec<&str> = owners.iter().map(|(name, _)| *name).collect();
        let got = events(&names, vec![Event::Ownership(shaded(jar, &owners))], items);
        let uses = ["jv-app", "jv-log", "jv-el"].map(|name| got.usage("web", name).unwrap().r#use.clone());
        assert_eq!(uses, ["used", "not_measured", "used"], "{with_wheel}");
        assert_eq!(got.usage("web", "jv-el").unwrap().ambiguous_with, ["pkg:maven/jv-app@1"]);
        got
    };
    check(false);
    let wheel = check(true);
    let wheel = wheel.usage("web", "py-wheel").unwrap();
    assert_eq!((wheel.r#use.as_str(), wheel.class_count), ("used", 2));
    assert_eq!(wheel.ambiguous_with, Vec::<String>::new());
}

#[test]
fn an_opened_archive_proves_nothing() {
    let jar = "app/shaded.jar";
    let got = events(
        &["jv-app", "jv-log"],
        vec![Event::Ownership(shaded(jar, &[("jv-app", &[]), ("jv-log", &["org.log."])]))],
        vec![item(jar, "file", "accessed", T0 + 1)],
    );
    for name in ["jv-app", "jv-log"] {
        assert_eq!(got.package(name).r#use, "unused");
        assert_eq!(got.package(name).ambiguous_with, Vec::<String>::new());
    }
}

#[test]
fn classes_of_unknown_place_hold_back_only_what_they_could_be_of() {
    let unknown = |path: &str| {
        let got = events(
            &["jv-app"],
            vec![Event::Ownership(not_owned(path, "unresolved"))],
            vec![class(path, "org.x.A", T0 + 1)],
        );
        got.package("jv-app").r#use.clone()
    };
    assert_eq!(unknown("app/shaded.jar"), "not_measured");
    assert_eq!(unknown("app/shaded.jar!/BOOT-INF/lib/inner.jar"), "not_measured");
    assert_eq!(unknown("app/other.jar"), "unused");
    assert_eq!(unknown("tmp/generated"), "unused");
}

#[test]
fn a_class_from_nobody_can_tell_where_holds_back_what_has_its_java_package() {
    let check = |ownership: Option<plimsoll_schemas::events::PackageOwnership>, expect: [&str; 2]| {
        let got = events(
            &["jv-app", "jv-other"],
            ownership.clone().map(Event::Ownership).into_iter().collect(),
            vec![class("?!/org/x", "org.x.A", T0 + 1)],
        );
        let used = ["jv-app", "jv-other"].map(|name| got.package(name).r#use.clone());
        assert_eq!(used, expect, "{ownership:?}");
        let artifact = got.artifact();
        assert_eq!((artifact.unowned_path_count, artifact.unresolved_path_count), (0, 0));
        got
    };
    let of_any = |names: &[&str]| {
        let owners: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[][..])).collect();
        let mut ownership = shaded("?!/org/x", &owners);
        ownership.state = "unresolved".into();
        ownership
    };
    let got = check(Some(of_any(&["jv-app"])), ["not_measured", "unused"]);
    let app = got.usage("web", "jv-app").unwrap();
    assert_eq!((app.r#use.as_str(), app.class_count), ("not_measured", 0));
    assert!(app.use_reason.starts_with("org.x.A was loaded from no file"), "{}", app.use_reason);
    assert!(got.usage("web", "jv-other").unwrap().use_reason.starts_with("none of its files"));
    check(Some(of_any(&["jv-app", "jv-other"])), ["not_measured", "not_measured"]);
    // Nobody looked, or not yet.
    check(Some(of_any(&[])), ["not_measured", "not_measured"]);
    check(None, ["not_measured", "not_measured"]);
    check(Some(not_owned("?!/org/x", "unowned")), ["unused", "unused"]);
}

#[test]
fn a_class_from_what_may_be_a_copy_holds_back_what_has_its_java_package() {
    let at = "?/tmp/jetty-*/lib/x.jar!/org/x";
    let mut ownership = shaded(at, &[("jv-app", &[][..])]);
    ownership.state = "unresolved".into();
    let got = events(
        &["jv-app", "jv-other"],
        vec![Event::Ownership(ownership)],
        vec![class(at, "org.x.A", T0 + 1)],
    );
    let used = ["jv-app", "jv-other"].map(|name| got.package(name).r#use.clone());
    assert_eq!(used, ["not_measured", "unused"]);
    let app = got.usage("web", "jv-app").unwrap();
    assert!(
        app.use_reason.starts_with("org.x.A was loaded from /tmp/jetty-*/lib/x.jar,"),
        "{}",
        app.use_reason
    );
}

/// Runs and machines of one artifact have different archives; the same class was told in each.
#[test]
fn answers_about_a_java_package_are_joined() {
    let answer = |names: &[&str]| {
        let owners: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[][..])).collect();
        let mut ownership = shaded("?!/org/x", &owners);
        ownership.state = "unresolved".into();
        Event::Ownership(ownership)
    };
    let nobodys = || Event::Ownership(not_owned("?!/org/x", "unowned"));
    let check = |answers: Vec<Event>, expected: [&str; 2]| {
        let got = events(&["jv-app", "jv-other"], answers, vec![class("?!/org/x", "org.x.A", T0 + 1)]);
        assert_eq!(["jv-app", "jv-other"].map(|name| got.package(name).r#use.clone()), expected);
    };
    let both = ["not_measured", "not_measured"];
    check(vec![answer(&["jv-app", "jv-other"]), answer(&["jv-app"])], both);
    check(vec![answer(&["jv-other"]), answer(&["jv-app"])], both);
    check(vec![answer(&["jv-app"]), nobodys()], ["not_measured", "unused"]);
    // Not all archives are known any more, and then they are.
    check(vec![answer(&["jv-app"]), answer(&[])], both);
    check(vec![answer(&[]), answer(&["jv-app"])], ["not_measured", "unused"]);
    check(vec![answer(&[]), nobodys()], ["unused", "unused"]);
    // Of another machine's archives, nobody else's answer says anything.
    let of_another = |event: Event| match event {
        Event::Ownership(ownership) => {
            Event::Ownership(PackageOwnership { producer_id: "b".into(), ..ownership })
        }
        other => other,
    };
    check(vec![of_another(answer(&[])), answer(&["jv-app"])], both);
    check(
        vec![of_another(answer(&[])), answer(&["jv-app"]), of_another(nobodys())],
        ["not_measured", "unused"],
    );
    // More than is kept: any.
    let many: Vec<String> = (0..30_000).map(|number| format!("jv-with-a-longer-name-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(vec![answer(&many), answer(&["jv-app"])], both);
    let producers = (0..300).map(|number| match answer(&[]) {
        Event::Ownership(ownership) => {
            Event::Ownership(PackageOwnership { producer_id: format!("{number}"), ..ownership })
        }
        other => other,
    });
    check(producers.chain([answer(&["jv-app"])]).collect(), both);
}

#[test]
fn more_classes_than_one_record_holds_are_all_listed() {
    let jar = "app/shaded.jar";
    let classes: Vec<_> = (0..15_000)
        .map(|number| class(jar, &format!("org.big.p{}.Class{number}", number % 40), T0 + number))
        .collect();
    let got = events(&["jv-app"], vec![Event::Ownership(owned(jar, "image", "jv-app", "code"))], classes);
    let first = got.usage("web", "jv-app").unwrap();
    assert_eq!(first.class_count, 15_000);
    let chunks: Vec<_> = got
        .outputs
        .values()
        .filter_map(|output| match output {
            plimsoll_correlator_core::Output::Usage(usage) => Some(usage),
            _ => None,
        })
        .collect();
    assert_eq!(chunks.len(), first.chunk_count as usize);
    assert_eq!(chunks.iter().map(|chunk| chunk.classes.len()).sum::<usize>(), 15_000);
    let sets = got.state.keys().filter(|(kind, _)| *kind == "classes").count();
    assert_eq!(sets, 40);
    assert!(got.state.values().all(|body| body.len() < 900_000));
}
