//! Events of files as observations of use: which kind, which rung, in which artifact. Pure.
//! It must never credit a file outside the workload's mounts, nor the reads of sweeps, to anything.

use plimsoll_schemas::words::{NODE_SETTINGS, Rung, mount, usage_kind};

use crate::ebpf::event::{FileAction, FileEvent};
use crate::hooks::language::Language;
use crate::sweep::{Carried, Reader};
use crate::unmeasurable;

/// A use of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// One of `words::usage_kind`.
    pub kind: &'static str,
    /// Strength of the evidence.
    pub rung: Rung,
    /// Path in the mount namespace, without a leading slash.
    pub path: Vec<u8>,
    /// One of `words::mount`.
    pub mount: &'static str,
    /// Inode as the workload sees it; 0 if unknown.
    pub inode: u64,
    /// Name of the module or class; empty for files.
    pub name: String,
    pub origin: Origin,
}

/// What tells whether a file at another place may be one of the artifact's, or a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// When the inode last changed, milliseconds since the Unix epoch; 0 if unknown.
    pub changed_ms: i64,
    /// Its user has another mount namespace than the agent: the path may lead to another file here.
    pub other_mounts: bool,
    /// Its user is a tool, or a package manager's process in front of another (`npm start`): it loads what is its own.
    pub of_tool: bool,
}

/// Endings of files that each interpreter loads as code. Files that it reads as data, archives among them, are accessed.
/// A `.py` counts as loaded even where valid bytecode lies beside it, which the import system would take instead: that may
/// be parsing (`ast.parse`), but `exec(compile(text, path, "exec"))` opens it alike, and that runs it.
const PYTHON_MODULES: &[&[u8]] = &[b".py", b".pyc", b".so", b".pyw"];
const NODE_MODULES: &[&[u8]] = &[
    b".js", b".mjs", b".cjs", b".node", b".wasm", b".ts", b".mts", b".cts", b".jsx", b".tsx", b".json",
    b".es6",
];
const RUBY_MODULES: &[&[u8]] = &[b".rb", b".so", b".ru", b".rake"];
/// What JRuby and Jython read; `$py.class` is what Jython keeps of a `.py`.
const JVM_MODULES: &[&[u8]] = &[b".rb", b".py", COMPILED_BY_JYTHON];
const COMPILED_BY_JYTHON: &[u8] = b"$py.class";
const PHP_MODULES: &[&[u8]] = &[
    b".php",
    b".php5",
    b".inc",
    b".phtml",
    b".so",
    b".phar",
    // Drupal's.
    b".module",
    b".theme",
    b".install",
    b".profile",
    b".engine",
];
/// Programs of packages often have no ending; those of these directories are scripts.
const SCRIPT_DIRECTORIES: &[&[u8]] = &[b"bin", b".bin", b"exe", b"sbin"];

/// Endings of files that no interpreter runs, without their dots and in lower case: what is read of them is data. Sources of
/// one language are data to all others. `.pth` files of Python are read at each start, whoever uses their packages.
#[rustfmt::skip]
const DATA: &[&str] = &[
    // What is shown: pages are code to PHP.
    "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "bmp", "tif", "tiff", "avif", "ttf", "otf", "woff", "woff2", "eot",
    "afm", "pfb", "mp3", "mp4", "ogg", "wav", "webm", "css", "scss", "sass", "less", "map", "htm", "html", "xhtml", "pdf",
    // Settings, tables, and texts.
    "json", "json5", "jsonl", "yaml", "yml", "toml", "ini", "cfg", "conf", "properties", "csv", "tsv", "xml", "xsd", "xsl",
    "xslt", "dtd", "rng", "plist", "txt", "md", "markdown", "rst", "adoc", "rdoc", "log", "lock", "po", "mo", "pot", "proto",
    "graphql", "sql", "typed", "pth", "egg-link", "gemspec", "rbs", "rbi", "pyi", "pxd", "pyx", "sum", "mod",
    // Keys.
    "pem", "crt", "cer", "key", "der", "p12", "pub", "asc", "sig",
    // Archives, and forms that only programs read. Of packages in archives is told otherwise.
    "zip", "gz", "tgz", "bz2", "xz", "zst", "tar", "whl", "egg", "gem", "jar", "7z", "phar", "bin", "dat", "db", "sqlite",
    "sqlite3", "pkl", "pickle", "npy", "npz", "h5", "parquet", "dll", "dylib", "exe", "a", "o", "h", "c", "cc", "cpp", "hpp",
    // Sources.
    "py", "pyc", "pyw", "rb", "php", "js", "mjs", "cjs", "node", "wasm", "ts", "mts", "cts", "jsx", "tsx", "so", "sh", "pl",
    "lua", "java",
];

/// Who reads: the judgement of its command line where that is known, else the kernel's class.
pub fn reader_of(event: &FileEvent, judged: Option<Reader>) -> Reader {
    match judged {
        None | Some(Reader::Plain) => Reader::of_class(event.reader),
        Some(judged) => judged,
    }
}

/// Whether a process that opens this file loads code from it: it is an interpreter of the file's language, or has mapped
/// one. To all others the file is data.
fn is_module(reader: Reader, carries: Carried, path: &[u8]) -> bool {
    match reader {
        Reader::Ignored | Reader::Installer => return false,
        Reader::Java if ends(path, JVM_MODULES) => return true,
        _ => {}
    }
    let interprets = |language| reader.language() == Some(language) || carries.has(language);
    Language::ALL.into_iter().any(|language| interprets(language) && is_module_of(language, path))
}

/// Whether an interpreter that opens this file may load code from it: a script without an ending, a template.
fn may_be_module(reader: Reader, carries: Carried, path: &[u8]) -> bool {
    if matches!(reader, Reader::Ignored | Reader::Installer) {
        return false;
    }
    let interprets = |language| reader.language() == Some(language) || carries.has(language);
    Language::ALL.into_iter().any(interprets) && !is_data(path, interprets(Language::Php))
}

/// Whether a file holds data by its name.
fn is_data(path: &[u8], is_php: bool) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let name = String::from_utf8_lossy(name).to_lowercase();
    // Shared libraries have their versions behind.
    if name.contains(".so.") {
        return true;
    }
    match name.rsplit_once('.') {
        Some((_, ending)) if is_php && matches!(ending, "htm" | "html") => false,
        // `.env`, `.gitignore`
        Some(("", _)) => true,
        Some((_, ending)) => DATA.contains(&ending),
        // `LICENSE`, `README`
        None => !path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).iter().any(u8::is_ascii_lowercase),
    }
}

fn ends(path: &[u8], endings: &[&[u8]]) -> bool {
    endings.iter().any(|ending| path.ends_with(ending))
}

fn is_module_of(language: Language, path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    match language {
        Language::Python => ends(path, PYTHON_MODULES) || is_script(path),
        // A package whose main file is JSON is loaded by reading it.
        Language::Node => {
            let is_metadata =
                path.ends_with(b".d.ts") || name == b"package.json" || NODE_SETTINGS.contains(&name);
            ends(path, NODE_MODULES) && !is_metadata || is_script(path)
        }
        Language::Ruby => ends(path, RUBY_MODULES) || is_script(path),
        Language::Php => ends(path, PHP_MODULES) || is_script(path),
    }
}

/// A file without an ending in a directory of programs: `node_modules/.bin/x`, `gems/puma-6.4.2/bin/puma`.
fn is_script(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let (name, directory) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    !name.contains(&b'.') && SCRIPT_DIRECTORIES.contains(&directory)
}

/// What an event proves; `None` if nothing.
pub fn observe(event: &FileEvent, reader: Reader) -> Option<Observation> {
    if event.outside || event.truncated || event.path.is_empty() {
        return None;
    }
    let (kind, rung) = match event.action {
        FileAction::Exec => (usage_kind::EXECUTABLE, Rung::Loaded),
        FileAction::Map => (usage_kind::LIBRARY, Rung::Loaded),
        FileAction::Open => match reader {
            Reader::Ignored | Reader::Installer => return None,
            reader if is_module(reader, event.carries, &event.path) => (usage_kind::MODULE, Rung::Loaded),
            // Whether it ran is not known: enough not to call its package unused.
            reader if may_be_module(reader, event.carries, &event.path) => {
                (usage_kind::MODULE, Rung::Accessed)
            }
            _ => (usage_kind::FILE, Rung::Accessed),
        },
    };
    // What OPcache and Jython keep in a file stands for its source, which is not read then.
    let source = match reader {
        reader if reader == Reader::Php || event.carries.has(Language::Php) => {
            unmeasurable::source_of_opcache_file(&event.path).map(<[u8]>::to_vec)
        }
        Reader::Java => {
            event.path.strip_suffix(COMPILED_BY_JYTHON).map(|module| [module, b".py".as_slice()].concat())
        }
        _ => None,
    };
    if let (Some(path), FileAction::Open) = (source, event.action) {
        return Some(Observation {
            kind: usage_kind::MODULE,
            rung: Rung::Loaded,
            path,
            mount: mount::ROOT,
            inode: 0,
            name: String::new(),
            origin: Origin::default(),
        });
    }
    Some(Observation {
        kind,
        rung,
        path: event.path.clone(),
        mount: if event.on_root_mount { mount::ROOT } else { mount::OTHER },
        inode: event.inode,
        name: String::new(),
        origin: Origin {
            changed_ms: i64::try_from(event.change_time_ns / 1_000_000).unwrap_or(0),
            ..Origin::default()
        },
    })
}

/// Whether `path` lies below `root` (both without leading slashes), and where.
pub fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    if root.is_empty() {
        return Some(path);
    }
    path.strip_prefix(root)?.strip_prefix(b"/")
}

/// Removes `.`, `..`, doubled and leading slashes from a path that is known to be absolute or relative to `base`.
pub fn normalise(path: &[u8], base: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let prefix = if path.starts_with(b"/") { &b""[..] } else { base };
    for part in prefix.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
#[allow(clippy::type_complexity)] // tables of cases
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(action: FileAction, path: &str) -> FileEvent {
        FileEvent {
            action,
            workload: 1,
            pid: 1,
            parent_pid: 0,
            time_ns: 0,
            exec_id: 0,
            parent_exec_id: 0,
            reader: 0,
            carries: Carried::default(),
            command_hash: 0,
            mount_ns: 0,
            device: 0,
            inode: 7,
            parent_inode: 0,
            change_time_ns: 0,
            comm: String::new(),
            path: path.into(),
            on_root_mount: true,
            outside: false,
            truncated: false,
            resync: false,
            arguments: Vec::new(),
        }
    }

    #[test]
    fn kinds_and_rungs() {
        use FileAction::{Exec, Map, Open};
        let cases = [
            (Exec, "usr/bin/ls", Reader::Plain, Some(("executable", Rung::Loaded))),
            (Exec, "usr/bin/dpkg", Reader::Ignored, Some(("executable", Rung::Loaded))),
            (Map, "usr/lib/libc.so.6", Reader::Ignored, Some(("library", Rung::Loaded))),
            (Open, "usr/lib/libc.so.6", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/__pycache__/x.cpython-311.pyc", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/_x.cpython-311-x86_64-linux-gnu.so", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/x-1.0.dist-info/METADATA", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/x.egg", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/x.pyi", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/py.typed", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "venv/bin/tool", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/run.pyw", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/task", Reader::Python, Some(("module", Rung::Accessed))),
            (Open, "app/task", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/task", Reader::Installer, None),
            (Open, "app/conf.tmpl", Reader::Python, Some(("module", Rung::Accessed))),
            (Open, "app/a.pth", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/LICENSE", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/libx.so.1", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/.env", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/lib/run", Reader::Node, Some(("module", Rung::Accessed))),
            (Open, "app/node_modules/a/src/i.es6", Reader::Node, Some(("module", Rung::Loaded))),
            (Open, "app/node_modules/a/Logo.PNG", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/vendor/a/a/error.html", Reader::Php, Some(("module", Rung::Accessed))),
            (Open, "app/a/error.html", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "gems/a-1/lib/tasks/a.thor", Reader::Ruby, Some(("module", Rung::Accessed))),
            (Open, "gems/a-1/views/a.erb", Reader::Ruby, Some(("module", Rung::Accessed))),
            (Open, "app/x.py", Reader::Ignored, None),
            (Open, "app/node_modules/a/index.js", Reader::Node, Some(("module", Rung::Loaded))),
            (Open, "app/node_modules/a/index.js", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/build/a.node", Reader::Node, Some(("module", Rung::Loaded))),
            (Open, "app/node_modules/a/package.json", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/tsconfig.json", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/list.json", Reader::Node, Some(("module", Rung::Loaded))),
            (Open, "app/node_modules/a/index.d.ts", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/README.md", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/node_modules/a/bin/a", Reader::Node, Some(("module", Rung::Loaded))),
            (Open, "app/node_modules/a/LICENSE", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/.yarn/cache/a-1.zip", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "gems/a-1/lib/a.rb", Reader::Ruby, Some(("module", Rung::Loaded))),
            (Open, "gems/a-1/exe/a", Reader::Ruby, Some(("module", Rung::Loaded))),
            (Open, "gems/a-1/lib/tasks/a.rake", Reader::Ruby, Some(("module", Rung::Loaded))),
            (Open, "specifications/a-1.gemspec", Reader::Ruby, Some(("file", Rung::Accessed))),
            (Open, "app/vendor/a/a/src/A.php", Reader::Php, Some(("module", Rung::Loaded))),
            (Open, "app/vendor/bin/a", Reader::Php, Some(("module", Rung::Loaded))),
            (Open, "app/modules/a/a.install", Reader::Php, Some(("module", Rung::Loaded))),
            (Open, "app/vendor/composer/installed.json", Reader::Php, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Node, Some(("file", Rung::Accessed))),
            (Open, "app/x.js", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/x.php", Reader::Ruby, Some(("file", Rung::Accessed))),
            (Open, "app/x.rb", Reader::Php, Some(("file", Rung::Accessed))),
            (Open, "app/a.jar", Reader::Java, Some(("file", Rung::Accessed))),
            (Open, "app/a.class", Reader::Java, Some(("file", Rung::Accessed))),
            (Open, "gems/a-1/lib/a.rb", Reader::Java, Some(("module", Rung::Loaded))),
            (Open, "Lib/site-packages/a.py", Reader::Java, Some(("module", Rung::Loaded))),
            (Open, "Lib/site-packages/a$py.class", Reader::Java, Some(("module", Rung::Loaded))),
            (Open, "", Reader::Plain, None),
        ];
        for (action, path, reader, expected) in cases {
            let found = observe(&event(action, path), reader).map(|found| (found.kind, found.rung));
            assert_eq!(found, expected, "{action:?} {path} {reader:?}");
        }
    }

    /// What an interpreter keeps compiled is a use of the source, which it does not read then.
    #[test]
    fn compiled_files_stand_for_their_source() {
        let opcache = "var/cache/0123456789abcdef0123456789abcdef/app/vendor/a/a/A.php.bin";
        let source = "app/vendor/a/a/A.php";
        for (action, path, reader, carries, expected) in [
            (FileAction::Open, opcache, Reader::Php, None, (source, Rung::Loaded)),
            (FileAction::Open, opcache, Reader::Plain, Some(Language::Php), (source, Rung::Loaded)),
            (FileAction::Open, opcache, Reader::Plain, None, (opcache, Rung::Accessed)),
            (FileAction::Open, opcache, Reader::Java, None, (opcache, Rung::Accessed)),
            (FileAction::Map, opcache, Reader::Php, None, (opcache, Rung::Loaded)),
            (FileAction::Open, "Lib/a$py.class", Reader::Java, None, ("Lib/a.py", Rung::Loaded)),
            (FileAction::Open, "Lib/a$py.class", Reader::Plain, None, ("Lib/a$py.class", Rung::Accessed)),
        ] {
            let event = FileEvent { carries: carries.into_iter().collect(), ..event(action, path) };
            let found = observe(&event, reader).unwrap();
            assert_eq!(
                (found.path.as_slice(), found.rung),
                (expected.0.as_bytes(), expected.1),
                "{path} {reader:?}"
            );
        }
        for reader in [Reader::Ignored, Reader::Installer] {
            assert_eq!(observe(&event(FileAction::Open, opcache), reader), None);
        }
    }

    #[test]
    fn what_is_carried_decides_what_is_a_module() {
        use Language::{Node, Php, Python, Ruby};
        for (reader, carries, modules) in [
            (Reader::Plain, &[][..], ""),
            (Reader::Plain, &[Python], "a.py a.pyc"),
            (Reader::Plain, &[Ruby], "a.rb"),
            (Reader::Plain, &[Php], "a.php"),
            (Reader::Plain, &[Node], "a.js"),
            (Reader::Plain, &[Python, Ruby, Php, Node], "a.py a.pyc a.rb a.php a.js"),
            // PyCall, jep
            (Reader::Ruby, &[Python], "a.py a.pyc a.rb"),
            (Reader::Java, &[Python], "a.py a.pyc a.rb"),
            (Reader::Python, &[Python], "a.py a.pyc"),
            (Reader::Installer, &[Python], ""),
            (Reader::Ignored, &[Ruby], ""),
        ] {
            let carries: Carried = carries.iter().copied().collect();
            let is_loaded = |path: &&str| {
                let event = FileEvent { carries, ..event(FileAction::Open, path) };
                observe(&event, reader).is_some_and(|found| found.rung == Rung::Loaded)
            };
            let all = ["a.py", "a.pyc", "a.rb", "a.php", "a.js", "a.pyi", "a.txt", "package.json"];
            let found: Vec<_> = all.into_iter().filter(is_loaded).collect();
            assert_eq!(found.join(" "), modules, "{reader:?} {carries:?}");
        }
    }

    #[test]
    fn the_command_line_decides_before_the_kernel() {
        use crate::ebpf::wire::reader;
        let cases = [
            (reader::PLAIN, None, Reader::Plain),
            (reader::NODE, None, Reader::Node),
            (reader::NODE, Some(Reader::Ignored), Reader::Ignored),
            (reader::PROVISIONAL | 7, None, Reader::Plain),
            (reader::PROVISIONAL | 7, Some(Reader::Php), Reader::Php),
        ];
        for (class, judged, expected) in cases {
            let event = FileEvent { reader: class, ..event(FileAction::Open, "a") };
            assert_eq!(reader_of(&event, judged), expected, "{class} {judged:?}");
        }
    }

    #[test]
    fn places_decide() {
        let base = event(FileAction::Map, "data/libx.so");
        let other = FileEvent { on_root_mount: false, ..base.clone() };
        assert_eq!(observe(&base, Reader::Plain).unwrap().mount, "root");
        assert_eq!(observe(&other, Reader::Plain).unwrap().mount, "other");
        assert_eq!(observe(&FileEvent { outside: true, ..base.clone() }, Reader::Plain), None);
        assert_eq!(observe(&FileEvent { truncated: true, ..base }, Reader::Plain), None);
    }

    #[test]
    fn splits_at_the_root() {
        let cases: [(&[u8], &[u8], Option<&[u8]>); 5] = [
            (b"srv/app/run.py", b"srv/app", Some(b"run.py")),
            (b"srv/apple/run.py", b"srv/app", None),
            (b"srv/app", b"srv/app", None),
            (b"usr/bin/ls", b"", Some(b"usr/bin/ls")),
            (b"usr/bin/ls", b"srv/app", None),
        ];
        for (path, root, expected) in cases {
            assert_eq!(below(path, root), expected);
        }
    }

    #[test]
    fn normalises() {
        let cases: [(&[u8], &[u8], &[u8]); 7] = [
            (b"/usr//lib/./x.so", b"", b"usr/lib/x.so"),
            (b"/usr/lib/x.so", b"/srv/app", b"usr/lib/x.so"),
            (b"./x.so", b"/srv/app", b"srv/app/x.so"),
            (b"../x.so", b"/srv/app", b"srv/x.so"),
            (b"/../../etc/x", b"/srv", b"etc/x"),
            (b"/usr/bin/../lib64/x", b"/", b"usr/lib64/x"),
            (b"", b"/srv", b"srv"),
        ];
        for (path, base, expected) in cases {
            assert_eq!(normalise(path, base), expected);
        }
    }

    proptest! {
        #[test]
        fn normal_paths_stay(parts in prop::collection::vec("[a-z][a-z0-9.]{0,8}", 1..8)) {
            let path = parts.join("/");
            let once = normalise(format!("/{path}").as_bytes(), b"");
            prop_assert_eq!(&once, path.as_bytes());
            prop_assert_eq!(normalise(&once, b""), once);
        }

        #[test]
        fn never_leaves_the_root(path in "[./a]{0,30}", base in "[./b]{0,10}") {
            let normal = normalise(path.as_bytes(), base.as_bytes());
            prop_assert!(!normal.split(|b| *b == b'/').any(|part| part == b".." || part == b"."));
        }
    }
}
