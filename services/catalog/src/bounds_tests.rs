use crate::binary::testing::Shape;
use crate::testing::tree_of;
use crate::tree::MAX_PATH_BYTES;
use crate::zip::tests::{Keep::*, Writer};

/// The warning of a bound names the file, and says what was left out; what is not beyond it is reported still.
#[track_caller]
fn check(files: &[(String, Vec<u8>)], subject: &str, message: &str, reported: &str) {
    let files: Vec<(String, &[u8])> =
        files.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
    let outcome = crate::catalog(&tree_of(&files));
    let warned = |warning: &&crate::Warning| warning.subject == subject && warning.message.contains(message);
    assert!(outcome.warnings.iter().any(|w| warned(&w)), "{subject}: {message}: {:#?}", outcome.warnings);
    let names: Vec<&str> = outcome.packages.iter().map(|package| package.name.as_str()).collect();
    assert!(names.contains(&reported), "{reported} is not in {:?}", &names[..names.len().min(20)]);
}

fn file(path: &str, text: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (path.to_owned(), text.into())
}

/// `count` lines or entries made of their numbers.
fn many(count: usize, one: impl Fn(usize) -> String, between: &str) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(between)
}

fn status(more: &str) -> (String, Vec<u8>) {
    let text = format!("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n{more}\n");
    file("var/lib/dpkg/status", text)
}

#[test]
fn dpkg() {
    let stanza = |n| format!("Package: p{n}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n");
    let check =
        |files: &[(String, Vec<u8>)], subject: &str, message: &str| check(files, subject, message, "a");
    let all = many(3_001, stanza, "\n");
    let status_file = "var/lib/dpkg/status";
    super::tests::check(&[file(status_file, all)], status_file, "more than 3000 packages", "p0");
    let long = format!("Depends: {}", many(2_001, |n| format!("d{n}"), ", "));
    check(&[status(&long)], status_file, "more than 2000 entries in Depends of package a");
    check(&[status(&many(1_020, |n| format!("F{n}: x"), "\n"))], status_file, "more lines of it are damaged");
    let list = "var/lib/dpkg/info/a.list";
    let long = format!("/{}/x\n/usr/bin/a\n", "d".repeat(MAX_PATH_BYTES));
    check(&[status(""), file(list, long)], list, "more than 4096 bytes in a path of the list");
    let gone = many(100, |n| format!("/usr/bin/x{n}"), "\n");
    check(&[status(""), file(list, gone)], list, "more than 64 files that are gone or links");
    let diversions = "var/lib/dpkg/diversions";
    let lines = many(1_001, |n| format!("/d{n}\n/e{n}\na"), "\n");
    check(&[status(""), file(diversions, lines)], diversions, "more than 1000 diversions");
    let copyright = "usr/share/doc/a/copyright";
    let format = "Format: https://www.debian.org/\n\n";
    for (text, message) in [
        (many(101, |n| format!("License: L{n}\n"), "\n"), "more than 100 licences"),
        (format!("License: {}\n", "x".repeat(201)), "more than 200 bytes in the name of a licence"),
        (many(5_001, |n| format!("Files: {n}\n"), "\n"), "more than 5000 stanzas"),
        ("x".repeat(512 * 1024), "more than 524288 bytes, so licences may be missing"),
    ] {
        check(&[status(""), file(copyright, format!("{format}{text}"))], copyright, message);
    }
    let mut left_out = super::LeftOut::default();
    left_out.first(0..3, 2, "x");
    assert_eq!(left_out.text(), "more than 2 x");
}

#[test]
fn alternatives() {
    let path = "var/lib/dpkg/alternatives/x";
    let text = format!("auto\n/usr/bin/x\n{}\n", many(1_001, |n| format!("n{n}\n/usr/bin/n{n}"), "\n"));
    let files = [status(""), file(path, text)];
    let files: Vec<(String, &[u8])> = files.iter().map(|(path, text)| (path.clone(), &text[..])).collect();
    let (outcome, _) = crate::catalog_with_ownership(&tree_of(&files));
    let found = outcome.warnings.iter().find(|warning| warning.subject == path);
    assert!(found.is_some_and(|w| w.message.contains("more than 1000 links")), "{:?}", outcome.warnings);
}

#[test]
fn python() {
    let site = "s/site-packages";
    let metadata = format!("{site}/a-1.dist-info/METADATA");
    let record = format!("{site}/a-1.dist-info/RECORD");
    let plain = || file(&metadata, "Name: a\nVersion: 1\n");
    let lines = many(2_001, |n| format!("Requires-Dist: d{n}"), "\n");
    check(
        &[file(&metadata, format!("Name: a\nVersion: 1\n{lines}\n"))],
        &metadata,
        "more fields than a stanza may have, and 1002 more lines",
        "a",
    );
    let egg = format!("{site}/c-1.egg-info/PKG-INFO");
    let requires = file(&format!("{site}/c-1.egg-info/requires.txt"), many(2_001, |n| format!("d{n}"), "\n"));
    check(&[file(&egg, "Name: c\nVersion: 1\n"), requires], &egg, "more than 2000 dependencies", "c");
    let endless = format!("Name: a\nVersion: 1\nSummary: {}", "x".repeat(1024 * 1024));
    check(&[file(&metadata, endless)], &metadata, "only its first", "a");
    let files = many(5_001, |n| format!("a/m{n}.py,,"), "\n");
    check(&[plain(), file(&record, files)], &metadata, "more than 5000 files of the distribution", "a");
    let pth = many(17, |n| format!("p{n}.pth,,"), "\n");
    check(&[plain(), file(&record, pth)], &format!("{site}/p15.pth"), "more than 16 files .pth", "a");
    let one = format!("{site}/a.pth");
    let lines = many(1_001, |n| format!("/x{n}"), "\n");
    check(&[plain(), file(&record, "a.pth,,\n"), file(&one, lines)], &one, "more than 1000 lines", "a");
    let finder = format!("{site}/__editable___a_finder.py");
    let mapping = format!("MAPPING = {{{}}}", many(1_001, |n| format!("'m{n}': '/x{n}'"), ", "));
    check(
        &[
            plain(),
            file(&record, "a.pth,,\n"),
            file(&one, "import __editable___a_finder; x()\n"),
            file(&finder, mapping),
        ],
        &finder,
        "more than 1000 entries of the mapping",
        "a",
    );
    let egg = format!("{site}/b-1.egg-info/PKG-INFO");
    let top = format!("{site}/b-1.egg-info/top_level.txt");
    let words = many(1_001, |n| format!("w{n}"), "\n");
    check(
        &[file(&egg, "Name: b\nVersion: 1\n"), file(&top, words)],
        &egg,
        "more than 1000 top-level modules",
        "b",
    );
    let mut files = vec![file(&egg, "Name: b\nVersion: 1\n")];
    files.extend((0..2_001).map(|n| file(&format!("{site}/b/m{n}.py"), "")));
    check(&files, &egg, "more than 2000 files in one directory", "b");
    let vendor = format!("{site}/pip/_vendor/vendor.txt");
    let six = format!("{site}/pip/_vendor/six.py");
    let lines = format!("six==1\n{}", many(2_000, |n| format!("r{n}==1"), "\n"));
    check(&[file(&vendor, lines), file(&six, "")], &vendor, "more than 2000 lines", "six");
    let mut files = vec![file(&vendor, "big==1\n")];
    files.extend((0..1_001).map(|n| file(&format!("{site}/pip/_vendor/big/m{n}.py"), "")));
    check(
        &files,
        &format!("{site}/pip/_vendor/big"),
        "more than 1000 files of the copied distribution",
        "big",
    );
}

#[test]
fn zipped_python() {
    let metadata = b"Name: a\nVersion: 1\n";
    let archive = |record: &str, metadata: &[u8]| {
        let writer = Writer::default().add("a-1.dist-info/METADATA", metadata, Deflated);
        vec![file("app/a.pyz", writer.add("a-1.dist-info/RECORD", record.as_bytes(), Deflated).finish())]
    };
    let tops = many(1_001, |n| format!("t{n}.py,,"), "\n");
    check(&archive(&tops, metadata), "app/a.pyz", "more than 1000 top-level modules", "a");
    let long = format!("Name: a\nVersion: 1\nSummary: {}", "x".repeat(64 * 1024));
    check(&archive("", long.as_bytes()), "app/a.pyz", "bytes in METADATA or PKG-INFO", "a");
    let noise: String = (0..600_000u32).map(|n| format!("{:x},", n.wrapping_mul(2_654_435_761))).collect();
    check(&archive(&noise, metadata), "app/a.pyz", "bytes in RECORD", "a");
    let requires = format!("Name: a\nVersion: 1\n{}", many(2_001, |n| format!("Requires-Dist: d{n}"), "\n"));
    check(&archive("", requires.as_bytes()), "app/a.pyz!/a-1.dist-info", "1002 more lines", "a");
    let mut writer = Writer::default();
    for n in 0..2_001 {
        writer = writer.add(
            &format!("d{n}-1.dist-info/METADATA"),
            format!("Name: d{n}\nVersion: 1\n").as_bytes(),
            Stored,
        );
    }
    check(&[file("app/a.pyz", writer.finish())], "app/a.pyz", "more than 2000 distributions", "d0");
}

#[test]
fn node() {
    let path = "node_modules/a/package.json";
    let manifest = |more: &str| file(path, format!(r#"{{"name":"a","version":"1.0.0",{more}}}"#));
    let entries = |count| many(count, |n| format!(r#""e{n}":"x""#), ",");
    for (more, message) in [
        (format!(r#""dependencies":{{{}}}"#, entries(2_001)), "more than 2000 dependencies"),
        (format!(r#""bin":{{{}}}"#, entries(201)), "more than 200 programs"),
        (
            format!(r#""licenses":[{}]"#, many(2_001, |n| format!(r#""L{n}""#), ",")),
            "more than 2000 licences",
        ),
        (format!(r#""x":"{}""#, "x".repeat(4 * 1024 * 1024)), "is longer than the 4194304 bytes"),
    ] {
        check(&[manifest(&more)], path, message, "a");
    }
    let mut files = vec![manifest(r#""x":1"#)];
    files.extend((0..2_001).map(|n| file(&format!("node_modules/a/m{n}.js"), "")));
    check(&files, "node_modules/a", "more than 2000 files in the package", "a");
}

#[test]
fn plug_and_play() {
    let pnp = |text: String| file("app/.pnp.cjs", text);
    let one = |n: usize| format!(r#""packageLocation": "./.yarn/cache/a{n}.zip/node_modules/a/""#);
    let zip = |writer: Writer| file("app/.yarn/cache/a0.zip", writer.finish());
    let package = |writer: Writer, name: &str, more: &str| {
        let text = format!(r#"{{"name":"{name}","version":"1.0.0"{more}}}"#);
        writer.add(&format!("node_modules/{name}/package.json"), text.as_bytes(), Deflated)
    };
    let plain = || zip(package(Writer::default(), "a", ""));
    check(&[pnp(many(1_001, one, ",")), plain()], "app/.pnp.cjs", "more than 1000 places of packages", "a");
    let long = format!(r#"{},"packageLocation": "./{}.zip/""#, one(0), "x".repeat(MAX_PATH_BYTES));
    check(&[pnp(long), plain()], "app/.pnp.cjs", "bytes in the path of a package", "a");
    let place = "app/.yarn/cache/a0.zip";
    let crowd = (0..65).fold(Writer::default(), |writer, n| package(writer, &format!("a{n:02}"), ""));
    check(&[pnp(one(0)), zip(crowd)], place, "more than 64 packages", "a00");
    let dependencies = many(2_001, |n| format!(r#""d{n}":"1""#), ",");
    let writer = package(Writer::default(), "a", &format!(r#","dependencies":{{{dependencies}}}"#));
    check(&[pnp(one(0)), zip(writer)], place, "more than 2000 dependencies", "a");
    let noise: String = (0..150_000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let writer = package(package(Writer::default(), "a", ""), "b", &format!(r#","x":"{noise}""#));
    check(&[pnp(one(0)), zip(writer)], place, "is longer than the 1048576 bytes", "a");
    let broken = (0..21).fold(package(Writer::default(), "a", ""), |writer, n| {
        writer.add(&format!("node_modules/z{n}/package.json"), b"{}", Stored)
    });
    check(&[pnp(one(0)), zip(broken)], place, "more than 20 members that cannot be read", "a");
}

#[test]
fn ruby() {
    let path = "g/specifications/a-1.gemspec";
    let gemspec = |more: &str| file(path, format!("# stub: a 1 ruby lib\n{more}\n"));
    let list = |count| many(count, |n| format!("\"e{n}\""), ", ");
    for (more, message) in [
        (format!("s.files = [{}]", list(3_001)), "more than 3000 entries of a list"),
        (format!("s.licenses = [{}]", list(2_001)), "more than 2000 entries of a list"),
        (format!("s.files = [\"{}\"]", "x".repeat(MAX_PATH_BYTES + 1)), "bytes in an entry of a list"),
        (many(2_001, |n| format!("s.add_dependency \"d{n}\""), "\n"), "more than 2000 dependencies"),
        ("x".repeat(4 * 1024 * 1024), "is longer than the 4194304 bytes"),
    ] {
        check(&[gemspec(&more)], path, message, "a");
    }
    let stub = format!("# stub: a 1 ruby {}\n", many(2_001, |n| format!("l{n}"), "\0"));
    check(&[file(path, stub)], path, "more than 2000 directories of libraries", "a");
    let mut files = vec![gemspec("")];
    files.extend((0..2_001).map(|n| file(&format!("g/gems/a-1/lib/m{n}.rb"), "")));
    check(&files, path, "more than 2000 files in one directory of it", "a");
    let mut files = vec![gemspec("")];
    files.extend((0..65).map(|n| file(&format!("g/extensions/p{n}/3.1.0/a-1/x.so"), "")));
    check(&files, path, "more than 64 directories of extensions", "a");
}

#[test]
fn composer() {
    let path = "app/vendor/composer/installed.json";
    let entry = |n: usize, more: &str| format!(r#"{{"name":"v/p{n}","version":"1"{more}}}"#);
    let source = |n: usize| file(&format!("app/vendor/v/p{n}/a.php"), "");
    let require = |count| format!(r#","require":{{{}}}"#, many(count, |n| format!(r#""v/d{n}":"1""#), ","));
    let list = |text: String| file(path, format!("[{text}]"));
    check(
        &[list(entry(0, &require(2_001))), source(0)],
        &format!("{path}: v/p0"),
        "more than 2000 dependencies",
        "v/p0",
    );
    check(
        &[list(many(3_001, |n| entry(n, ""), ",")), source(0)],
        path,
        "has more than 3000 packages",
        "v/p0",
    );
    let mut files = vec![list(entry(0, ""))];
    files.extend((0..2_001).map(|n| file(&format!("app/vendor/v/p0/m{n}.php"), "")));
    check(&files, "app/vendor/v/p0", "more than 2000 files in the package", "v/p0");
}

#[test]
fn cargo() {
    let package = |n: usize| format!("[[package]]\nname = \"c{n}\"\nversion = \"1.0.0\"\n");
    let lock = |text: String| file("app/Cargo.lock", text);
    check(&[lock(many(2_001, package, "\n"))], "app/Cargo.lock", "more than 2000 crates", "c0");
    let names = many(501, |n| format!(" \"d{n}\","), "\n");
    let text = format!("{}dependencies = [\n{names}\n]\n", package(0));
    check(&[lock(text)], "app/Cargo.lock", "more than 500 dependencies of one crate", "c0");
}

#[test]
fn programs() {
    let beside = || file("app/Cargo.lock", "[[package]]\nname = \"c\"\nversion = \"1.0.0\"\n");
    let comment = vec![b'x'; 64 * 1024 + 1];
    let program = Shape::USUAL.program(&[(".comment", &comment)]);
    let warning = "longer than what is read of it";
    check(&[file("usr/bin/a", program), beside()], "usr/bin/a", warning, "c");
    let sections: Vec<(String, &[u8])> = (0..4_100).map(|n| (format!("s{n}"), &b"x"[..])).collect();
    let sections: Vec<(&str, &[u8])> = sections.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let program = Shape::USUAL.program(&sections);
    check(&[file("usr/bin/a", program), beside()], "usr/bin/a", "more sections or segments", "c");
}

fn properties(n: usize) -> (String, String) {
    let text = format!("groupId=g.a{n}\nartifactId=a{n}\nversion=1\n");
    (format!("META-INF/maven/g.a{n}/a{n}/pom.properties"), text)
}

#[test]
fn java() {
    let jar = |writer: Writer| vec![file("app/a0-1.jar", writer.finish())];
    let first = || {
        let (path, text) = properties(0);
        Writer::default().add(&path, text.as_bytes(), Stored)
    };
    let check = |writer: Writer, message: &str| check(&jar(writer), "app/a0-1.jar", message, "g.a0:a0");
    let add = |writer: Writer, count: usize, one: &dyn Fn(usize) -> String| {
        (0..count).fold(writer, |writer, n| writer.add(&one(n), b"", Stored))
    };
    let poms = (0..2_001).fold(Writer::default(), |writer, n| {
        let (path, text) = properties(n);
        writer.add(&path, text.as_bytes(), Stored)
    });
    check(poms, "more than 2000 files pom.properties");
    check(add(first(), 2_001, &|n| format!("META-INF/maven/g/x{n}/pom.xml")), "more than 2000 files pom.xml");
    check(add(first(), 2_000, &|n| format!("META-INF/maven/g/x{n}/pom.xml")), "more than 2000 components");
    check(
        add(first(), 801, &|n| format!("d{n}/A.class")),
        "more than 800 directories of classes, so the deepest",
    );
    check(add(first(), 1_601, &|n| format!("d{n}/A.class")), "more than 1600 directories of classes");
    let long = format!("{}/A.class", "d".repeat(MAX_PATH_BYTES + 1));
    check(add(first(), 1, &|_| long.clone()), "more than 4096 bytes in the name of a class");
    let manifest = |text: String| first().add("META-INF/MANIFEST.MF", text.as_bytes(), Deflated);
    check(
        manifest(format!("Main-Class: {}\n\n", "x".repeat(600))),
        "more than 512 bytes in a value of the manifest",
    );
    let noise: String =
        (0..40_000u32).map(|n| format!("X{n}: {:x}\n", n.wrapping_mul(2_654_435_761))).collect();
    check(manifest(noise), "bytes in the main section of the manifest");
    let text = format!("groupId=g.a0\nartifactId=a0\nversion={}\n", "1".repeat(300));
    let path = properties(0).0;
    check(
        first().add("META-INF/maven/g.b/b/pom.properties", text.as_bytes(), Stored),
        "more than 256 bytes in a value of pom.properties",
    );
    let noise: String = (0..9_000u32).map(|n| format!("#{:x}\n", n.wrapping_mul(2_654_435_761))).collect();
    let text = format!("groupId=g.a0\nartifactId=a0\nversion=1\n{noise}");
    check(Writer::default().add(&path, text.as_bytes(), Deflated), "more than 65536 bytes in pom.properties");
    let relocated =
        (0..20).fold(first(), |writer, n| writer.add(&format!("r{n}/org/slf4j/A.class"), b"", Stored));
    let text = "groupId=org.slf4j\nartifactId=slf4j-api\nversion=1\n";
    let slf4j = "META-INF/maven/org.slf4j/slf4j-api/pom.properties";
    check(relocated.add(slf4j, text.as_bytes(), Stored), "more than 16 packages of one component");
    let deep = add(first(), 1, &|_| format!("{}A.class", "d/".repeat(21)));
    check(deep.add(slf4j, text.as_bytes(), Stored), "more than 20 parts in the package of a class");
}

#[test]
fn many_archives() {
    let inner = |n: usize| {
        let (path, text) = properties(n);
        let writer = Writer::default().add(&path, text.as_bytes(), Stored);
        (0..30).fold(writer, |writer, d| writer.add(&format!("d{d}/A.class"), b"", Stored)).finish()
    };
    let outer = |count| {
        (0..count).fold(Writer::default(), |writer, n| writer.add(&format!("l/a{n}.jar"), &inner(n), Stored))
    };
    let outer = outer(1_001).finish();
    let files = [file("app/a.war", outer)];
    check(&files, "app/a.war!/l/a999.jar", "more than 1000 archives in one file", "g.a0:a0");
    check(&files, "app/a.war!/l/a500.jar", "directories of classes left to this archive", "g.a0:a0");
}

#[test]
fn exploded_java() {
    let (path, text) = properties(0);
    let mut files = vec![file(&format!("app/{path}"), text)];
    files.extend((0..2_001).map(|n| file(&format!("app/d/C{n}.class"), "")));
    check(&files, "app", "more than 2000 files in the directory", "g.a0:a0");
}

#[test]
fn whole_trees() {
    let one = |n: usize| format!("[[package]]\nname = \"c{n}\"\nversion = \"1.0.0\"\n");
    let locks: Vec<(String, Vec<u8>)> = (0..11)
        .map(|l| file(&format!("p{l}/Cargo.lock"), many(2_000, |n| one(n + l * 2_000), "\n")))
        .collect();
    check(&locks, "p9/Cargo.lock", "more than 20000 packages", "c0");
    let mut files: Vec<(String, Vec<u8>)> = (0..30_001).map(|n| file(&format!("d{n}/a.jar"), "")).collect();
    files.push(file("a/Cargo.lock", one(0)));
    check(&files, "", "too many files", "c0");
}
