use super::*;
use crate::OwnershipIndex;
use crate::testing::{Node, near_names_the_same_owners, owners, tree};
use crate::zip::tests::{Keep, Writer};

#[test]
fn each_parsers_databases_are_near_what_they_own() {
    for parser in crate::fuzzing::PARSERS {
        near_names_the_same_owners(&parser.tree(parser.fixture));
    }
}

#[test]
fn what_is_far_is_not_looked_at() {
    let info = b"Metadata-Version: 2.1\nName: far\nVersion: 1\n";
    let near = b"Metadata-Version: 2.1\nName: near\nVersion: 1\n";
    let tree = tree(&[
        ("opt/a/site-packages/near-1.dist-info/METADATA", Node::File(near)),
        ("opt/a/site-packages/near-1.dist-info/RECORD", Node::File(b"near.py,,\n")),
        ("opt/a/site-packages/near.py", Node::File(b"")),
        ("opt/b/site-packages/far-1.dist-info/METADATA", Node::File(info)),
        ("opt/b/site-packages/far-1.dist-info/RECORD", Node::File(b"far.py,,\n")),
        ("opt/b/site-packages/far.py", Node::File(b"")),
    ]);
    let mut surroundings = Surroundings::default();
    let is_ahead = |surroundings: &mut Surroundings, asked: &[u8]| {
        let before = surroundings.generation;
        surroundings.add(&tree, asked);
        surroundings.generation > before
    };
    assert!(is_ahead(&mut surroundings, b"opt/a/site-packages/near.py"));
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/a/site-packages/near.py"), "near dist-info code");
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "-");
    // Nothing new lies near this, but near that.
    assert!(!is_ahead(&mut surroundings, b"opt/a/site-packages/other.py"));
    assert!(!is_ahead(&mut surroundings, b"etc/hosts"));
    // Of a copy, as an index is built of it: what is asked meanwhile is not in it, and its number tells.
    let copy = surroundings.clone();
    assert!(is_ahead(&mut surroundings, b"opt/b/site-packages/far.py"));
    assert!(copy.generation < surroundings.generation);
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "far dist-info code");
}

/// `asked` has the same owners, the same packages among them, near it as in the whole tree; whether that is certain.
#[track_caller]
fn check(nodes: &[(&str, Node<'_>)], asked: &str, expect: &str, is_certain: bool) {
    let tree = tree(nodes);
    near_names_the_same_owners(&tree);
    let mut surroundings = Surroundings::default();
    surroundings.add(&tree, asked.as_bytes());
    let near = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    let whole = OwnershipIndex::build(&tree);
    let ids = |index: &OwnershipIndex| -> Vec<String> {
        let owners = index.lookup_in(&tree, asked.as_bytes()).map(|found| found.owners).unwrap_or_default();
        owners.iter().map(|owner| owner.package.package_id.clone()).collect()
    };
    let doubt = surroundings.doubt(&tree, &near, asked.as_bytes());
    assert_eq!(doubt.is_none(), is_certain, "{asked}: {doubt:?}");
    assert!(!is_certain || ids(&near) == ids(&whole), "{asked}");
    assert_eq!(owners(&whole, asked), expect, "{asked}");
}

#[test]
fn a_link_on_the_way_makes_no_second_package() {
    let info = b"Metadata-Version: 2.1\nName: six\nVersion: 1\n";
    let nodes = [
        ("lib", Node::Link("usr/lib")),
        ("usr/lib/python3/dist-packages/six-1.dist-info/METADATA", Node::File(info)),
        (
            "usr/lib/python3/dist-packages/six-1.dist-info/RECORD",
            Node::File(b"six.py,,\n../../../bin/six,,\n"),
        ),
        ("usr/lib/python3/dist-packages/six.py", Node::File(b"")),
        ("usr/bin/six", Node::File(b"")),
    ];
    check(&nodes, "lib/python3/dist-packages/six.py", "six dist-info code", true);
    check(&nodes, "usr/bin/six", "six dist-info code", true);
}

#[test]
fn sources_of_an_installation_far_away_are_that_installations() {
    let info = b"Metadata-Version: 2.1\nName: mine\nVersion: 1\n";
    let nodes = [
        ("home/u/work/mine.egg-info/PKG-INFO", Node::File(info)),
        ("home/u/work/mine.egg-info/top_level.txt", Node::File(b"mine\n")),
        ("home/u/work/mine/__init__.py", Node::File(b"")),
        ("opt/v/lib/python3.11/site-packages/mine-1.dist-info/METADATA", Node::File(info)),
        ("opt/v/lib/python3.11/site-packages/mine-1.dist-info/RECORD", Node::File(b"")),
        (
            "opt/v/lib/python3.11/site-packages/mine-1.dist-info/direct_url.json",
            Node::File(br#"{"url":"file:///home/u/work","dir_info":{"editable":true}}"#),
        ),
    ];
    check(&nodes, "home/u/work/mine/__init__.py", "mine direct-url code", false);
}

#[test]
fn jars_beside_the_asked_one_tell_how_it_is_called() {
    let jar = |member: &str, text: &[u8]| {
        Writer::default().add(member, text, Keep::Stored).add("A.class", b"\xca\xfe", Keep::Stored).finish()
    };
    let named =
        jar("META-INF/maven/org.acme/one/pom.properties", b"groupId=org.acme\nartifactId=one\nversion=1.0\n");
    let bare = jar("x/B.class", b"");
    let nodes = [
        ("opt/app/org.acme.one-1.0.jar", Node::File(&named)),
        ("opt/app/org.acme.two-1.0.jar", Node::File(&bare)),
    ];
    check(&nodes, "opt/app/org.acme.two-1.0.jar", "org.acme:two jar code", true);
}

#[test]
fn packages_in_a_cache_are_those_of_a_project_far_away() {
    let archive = Writer::default()
        .add("node_modules/a/package.json", br#"{"name":"a","version":"1.0.0"}"#, Keep::Stored)
        .add("node_modules/a/index.js", b"", Keep::Stored)
        .finish();
    let nodes = [
        ("home/u/.yarn/berry/cache/a.zip", Node::File(&archive)),
        (
            "srv/app/.pnp.cjs",
            Node::File(br#"{"packageLocation": "../../home/u/.yarn/berry/cache/a.zip/node_modules/a/"}"#),
        ),
    ];
    for asked in ["a.zip/node_modules/a/index.js", "a.zip"] {
        let role = if asked == "a.zip" { "data" } else { "code" };
        let expect = format!("a package.json {role}");
        check(&nodes, &format!("home/u/.yarn/berry/cache/{asked}"), &expect, false);
    }
}

/// A tree that counts the directories of which it is asked what they hold.
struct Counting<'t> {
    tree: &'t dyn FileTree,
    lists: std::sync::Mutex<BTreeSet<Vec<u8>>>,
}

impl FileTree for Counting<'_> {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        self.tree.metadata(path)
    }

    fn read(&self, path: &[u8], max_bytes: usize) -> Result<Contents<'_>, TreeError> {
        self.tree.read(path, max_bytes)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, TreeError> {
        self.lists.lock().unwrap().insert(path.to_vec());
        self.tree.list(path)
    }

    fn digest(&self, path: &[u8], digester: &Digester) -> Result<Digested<'_>, TreeError> {
        self.tree.digest(path, digester)
    }

    fn is_binary(&self, path: &[u8]) -> bool {
        self.tree.is_binary(path)
    }

    fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        self.tree.resolve(path)
    }

    fn walk(
        &self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> Result<WalkSummary, TreeError> {
        assert!(!start.is_empty(), "the whole tree is walked");
        self.tree.walk(start, &mut |path, kind| {
            if kind == FileKind::Directory {
                self.lists.lock().unwrap().insert(path.to_vec());
            }
            visit(path, kind)
        })
    }

    fn layer_of(&self, path: &[u8]) -> Option<&str> {
        self.tree.layer_of(path)
    }

    fn root_path(&self) -> &[u8] {
        self.tree.root_path()
    }
}

/// A host with packages of each language in places of their own, beside 1,000 directories that are nobody's matter.
#[test]
fn owners_are_those_of_the_whole_host_and_only_what_is_on_the_way_is_read() {
    const DIRECTORIES_MAX: usize = 24;
    let jar = Writer::default()
        .add("META-INF/maven/g/log/pom.properties", b"groupId=g\nartifactId=log\nversion=1\n", Keep::Stored)
        .add("L.class", b"\xca\xfe", Keep::Stored)
        .finish();
    let owned: &[(&str, &[u8])] = &[
        (
            "var/lib/dpkg/status",
            b"Package: libz1\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n",
        ),
        ("var/lib/dpkg/info/libz1.list", b"/usr/lib/libz.so.1\n"),
        ("usr/lib/libz.so.1", b""),
        ("opt/py/lib/python3.12/os.py", b""),
        (
            "opt/py/lib/python3.12/site-packages/six-1.dist-info/METADATA",
            b"Metadata-Version: 2.1\nName: six\nVersion: 1\n",
        ),
        ("opt/py/lib/python3.12/site-packages/six-1.dist-info/RECORD", b"six.py,,\n"),
        ("opt/py/lib/python3.12/site-packages/six.py", b""),
        ("srv/js/node_modules/left/package.json", br#"{"name":"left","version":"1.0.0"}"#),
        ("srv/js/node_modules/left/index.js", b""),
        (
            "srv/php/vendor/composer/installed.json",
            br#"{"packages":[{"name":"a/b","version":"1.0.0","install-path":"../a/b"}]}"#,
        ),
        ("srv/php/vendor/a/b/c.php", b""),
        (
            "srv/rb/gems/3.1.0/specifications/rack-2.0.0.gemspec",
            b"Gem::Specification.new do |s|\n  s.name = \"rack\"\n  s.version = \"2.0.0\"\nend\n",
        ),
        ("srv/rb/gems/3.1.0/gems/rack-2.0.0/lib/rack.rb", b""),
        ("srv/java/log-1.jar", &jar),
        ("home/u/hook.cjs", b""),
        ("home/u/data.txt", b""),
        ("home/u/alone.py", b""),
        ("home/u/project/package.json", br#"{"name":"mine","version":"1.0.0"}"#),
        ("home/u/project/lib/mine.js", b""),
    ];
    let far: Vec<String> = (0..1_000).map(|number| format!("data/{}/{number}/x.bin", number % 10)).collect();
    let nodes: Vec<(&str, Node<'_>)> = owned
        .iter()
        .map(|(path, bytes)| (*path, Node::File(bytes)))
        .chain(far.iter().map(|path| (path.as_str(), Node::File(b"".as_slice()))))
        .collect();
    let tree = tree(&nodes);
    let whole = OwnershipIndex::build(&tree);
    for (asked, expect, is_certain) in [
        ("usr/lib/libz.so.1", "libz1 dpkg code", true),
        ("opt/py/lib/python3.12/os.py", "-", true),
        ("opt/py/lib/python3.12/site-packages/six.py", "six dist-info code", true),
        ("srv/js/node_modules/left/index.js", "left package.json code", true),
        ("srv/php/vendor/a/b/c.php", "a/b composer code", true),
        ("srv/rb/gems/3.1.0/gems/rack-2.0.0/lib/rack.rb", "rack gem code", true),
        ("srv/java/log-1.jar", "g:log jar code", true),
        ("home/u/hook.cjs", "-", true),
        ("home/u/data.txt", "-", true),
        ("home/u/alone.py", "-", false),
        ("home/u/project/lib/mine.js", "-", false),
        ("home/u/hook/gone.cjs", "-", true),
    ] {
        assert_eq!(owners(&whole, asked), expect, "{asked}");
        let counting = Counting { tree: &tree, lists: std::sync::Mutex::default() };
        let mut surroundings = Surroundings::default();
        surroundings.add(&counting, asked.as_bytes());
        let near = OwnershipIndex::build(&Near::new(&counting, &surroundings));
        assert_eq!(owners(&near, asked), expect, "{asked}");
        let doubt = surroundings.doubt(&counting, &near, asked.as_bytes());
        assert_eq!(doubt.is_none(), is_certain, "{asked}: {doubt:?}");
        let lists = counting.lists.lock().unwrap();
        assert!(lists.len() <= DIRECTORIES_MAX, "{asked}: {} directories", lists.len());
        assert!(!lists.iter().any(|path| path.starts_with(b"data")), "{asked}");
    }
}

#[test]
fn a_path_beyond_the_bound_is_in_doubt() {
    let tree = tree(&[("home/u/hook.cjs", Node::File(b""))]);
    let mut surroundings = Surroundings::default();
    for number in 0..MAX_PATHS {
        surroundings.add(&tree, format!("tmp/{number}").as_bytes());
    }
    surroundings.add(&tree, b"home/u/hook.cjs");
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert!(surroundings.doubt(&tree, &index, b"home/u/hook.cjs").is_some());
    assert!(surroundings.doubt(&tree, &index, b"tmp/0").is_none());
}
