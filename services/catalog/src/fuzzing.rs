//! What fuzzers call: bytes of an artifact through one parser, and through everything that is made of what it read.
//! Not part of the interface of this crate; `fuzz/` has one target per function, and the test below runs all of them.
//!
//! A new parser is one row in [`PARSERS`] and one file in `fuzz/fuzz_targets`.

use crate::tree::{Contents, Entry, Layer, MemoryTree, TreeError};
use crate::{Wanted, digest, wanted};
use std::borrow::Cow;

/// Permission bits of all files, so that programs are looked into.
const MODE: u32 = 0o755;

/// One parser: where its file stands, what stands around it, and a file that it reads well.
pub struct Parser {
    pub name: &'static str,
    path: &'static str,
    around: &'static [(&'static str, &'static [u8])],
    pub fixture: &'static [u8],
}

impl Parser {
    /// A tree with these bytes as the parser's file.
    pub(crate) fn tree(&self, bytes: &[u8]) -> MemoryTree {
        let mut tree = MemoryTree::new();
        for (path, contents) in self.around {
            must_fit(put(&mut tree, path.as_bytes(), contents, Layer::NONE));
        }
        must_fit(put(&mut tree, self.path.as_bytes(), bytes, Layer::NONE));
        tree
    }
}

/// dpkg's record of one package, beside which its other files are read.
const BASH: (&str, &[u8]) =
    ("var/lib/dpkg/status", b"Package: bash\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n");

/// All parsers that read files of an artifact.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "os_release",
        path: "etc/os-release",
        around: &[],
        fixture: b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian \\'12\\''\n",
    },
    Parser {
        name: "dpkg_status",
        path: "var/lib/dpkg/status",
        around: &[("var/lib/dpkg/info/bash.list", b"/.\n/bin\n/bin/bash\n"), ("bin/bash", b"")],
        fixture: b"Package: bash\nStatus: install ok installed\nEssential: yes\nSource: bash (5.2)\nVersion: 5.2-1\nArchitecture: amd64\nDepends: libc6 (>= 2.36), a | b\nProvides: sh (= 1)\n\nPackage: x\nStatus: deinstall ok config-files\nVersion: 1\n",
    },
    Parser {
        name: "dpkg_list",
        path: "var/lib/dpkg/info/bash.list",
        around: &[BASH],
        fixture: b"/.\n/usr\n/usr/bin/bash\n/usr/lib/python3/dist-packages/a-1.egg-info\n/usr/share/nodejs/a/package.json\n",
    },
    Parser {
        name: "dpkg_diversions",
        path: "var/lib/dpkg/diversions",
        around: &[BASH],
        fixture: b"/bin/sh\n/bin/sh.distrib\ndash\n",
    },
    Parser {
        name: "dpkg_copyright",
        path: "usr/share/doc/bash/copyright",
        around: &[BASH],
        fixture: b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-3+\n text\n",
    },
    Parser {
        name: "python_metadata",
        path: "s/site-packages/a-1.dist-info/METADATA",
        around: &[("s/site-packages/a-1.dist-info/RECORD", b"a.py,,\n")],
        fixture: b"Metadata-Version: 2.1\nName: a.B\nVersion: 1\nLicense: MIT\nClassifier: License :: OSI Approved :: X\nRequires-Dist: b[x] (>=1); extra == 'y'\n",
    },
    Parser {
        name: "python_record",
        path: "s/site-packages/a-1.dist-info/RECORD",
        around: &[("s/site-packages/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n")],
        fixture: b"a.py,sha256=x,1\n\"b,\"\"c\".py\",,\n../../../bin/a,,\na.pth,,\n",
    },
    Parser {
        name: "python_sources",
        path: "s/site-packages/a-1.egg-info/SOURCES.txt",
        around: &[
            ("s/site-packages/a-1.egg-info/PKG-INFO", b"Name: a\nVersion: 1\n"),
            ("s/site-packages/a-1.egg-info/namespace_packages.txt", b"a\n"),
        ],
        fixture: b"setup.py\nsrc/a/b/__init__.py\n",
    },
    Parser {
        name: "python_direct_url",
        path: "s/site-packages/a-1.dist-info/direct_url.json",
        around: &[("s/site-packages/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n")],
        fixture: br#"{"url":"file:///src/my%20a","dir_info":{"editable":true}}"#,
    },
    Parser {
        name: "python_finder",
        path: "s/site-packages/__editable___a_1_finder.py",
        around: &[
            ("s/site-packages/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n"),
            ("s/site-packages/a-1.dist-info/RECORD", b"__editable__.a-1.pth,,\n"),
            ("s/site-packages/__editable__.a-1.pth", b"import __editable___a_1_finder; x()\n/src\n"),
            ("src/a/__init__.py", b""),
        ],
        fixture: b"import sys\nMAPPING: dict[str, str] = {'a': '/src/a', 'b': \"/src/b\"}\n",
    },
    Parser {
        name: "python_vendor_txt",
        path: "s/site-packages/pip/_vendor/vendor.txt",
        around: &[("s/site-packages/pip/_vendor/six.py", b"")],
        fixture: b"six==1.16.0 # x\n  rich[y]==1 ; python_version > '3'\n",
    },
    Parser {
        name: "package_json",
        path: "node_modules/a/package.json",
        around: &[("node_modules/a/index.js", b"")],
        fixture: br#"{"name":"@a/b","version":"1.0.0","license":{"type":"MIT"},"bin":{"x":"./x.js"},"main":"index.js","dependencies":{"c":"^1"},"x":[[{"y":[]}]]}"#,
    },
    Parser {
        name: "gemspec",
        path: "specifications/a-1.0.gemspec",
        around: &[("gems/a-1.0/lib/a.rb", b"")],
        fixture: b"# -*- encoding: utf-8 -*-\n# stub: a 1.0 ruby lib\0ext\n\nGem::Specification.new do |s|\n  s.name = \"a\".freeze\n  s.version = \"1.0\"\n  s.licenses = [\"MIT\".freeze, 'x\\'y']\n  s.files = [\"lib/a.rb\".freeze]\n  s.executables = [\"a\".freeze]\n  s.add_runtime_dependency(%q<b>.freeze, [\">= 0\"])\nend\n",
    },
    Parser {
        name: "gem_version",
        path: "bundler/gems/a-0123abc/lib/a/version.rb",
        around: &[("bundler/gems/a-0123abc/a.gemspec", b"  s.name = 'a'\n  s.version = A::VERSION\n")],
        fixture: b"module A\n  VERSION = \"1.0.0\".freeze\nend\n",
    },
    Parser {
        name: "installed_json",
        path: "app/vendor/composer/installed.json",
        around: &[("app/vendor/a/b/src/x.php", b"")],
        fixture: br#"{"packages":[{"name":"a/b","version":"v1.0.0","type":"library","license":["MIT"],"require":{"php":"*","c/d":"1"},"bin":["bin/x"],"install-path":"../a/b"},{"name":"a/m","version":"1","type":"metapackage","install-path":null}],"dev":true}"#,
    },
    Parser {
        name: "phar",
        path: "app/a.phar",
        around: &[],
        fixture: include_bytes!("php/fixtures/packed.phar"),
    },
    Parser {
        name: "pear_record",
        path: "usr/share/php/.registry/.channel.pecl.php.net/redis.reg",
        around: &[("usr/lib/redis.so", b"")],
        fixture: br#"a:4:{s:4:"name";s:5:"redis";s:7:"version";a:1:{s:7:"release";s:1:"6";}s:3:"old";N;s:8:"filelist";a:1:{s:8:"redis.so";a:2:{s:4:"role";s:3:"ext";s:12:"installed_as";s:17:"/usr/lib/redis.so";}}}"#,
    },
    Parser {
        name: "python_archive",
        path: "app/a.pyz",
        around: &[],
        fixture: include_bytes!("python/fixtures/one.pyz"),
    },
    Parser {
        name: "python_zip",
        path: "app/a.zip",
        around: &[],
        fixture: include_bytes!("python/fixtures/plain.zip"),
    },
    Parser {
        name: "npm_archive",
        path: "app/.yarn/cache/a.zip",
        around: &[("app/.pnp.cjs", br#"'"packageLocation": "./.yarn/cache/a.zip/node_modules/a/"'"#)],
        fixture: include_bytes!("node/fixtures/cached.zip"),
    },
    Parser {
        name: "pnp_cjs",
        path: "app/.pnp.cjs",
        around: &[("app/.yarn/cache/a.zip", b"PK\x03\x04")],
        fixture: br#"const RAW_RUNTIME_STATE = '{"packageLocation": "./.yarn/__virtual__/a-virtual-1/0/cache/a.zip/node_modules/a/", "packageLocation": "../x/.yarn/berry/cache/a.zip/"}'"#,
    },
    Parser {
        name: "archive",
        path: "app/a.jar",
        around: &[],
        fixture: include_bytes!("java/fixtures/boot.jar"),
    },
    Parser {
        name: "pom_properties",
        path: "app/META-INF/maven/g/a/pom.properties",
        around: &[("app/org/x/A.class", b"")],
        fixture: b"#Generated by Maven\nversion=2.14.1\ngroupId=org.x\nartifactId=y\n",
    },
    Parser {
        name: "java_manifest",
        path: "app/META-INF/MANIFEST.MF",
        around: &[("app/WEB-INF/classes/org/x/A.class", b"")],
        fixture: b"Manifest-Version: 1.0\r\nImplementation-Title: a\r\n b\r\nBundle-SymbolicName: org.x.a;singleton:=true\r\nBundle-Version: 1.2.3\r\n\r\nName: a/B\r\n",
    },
    Parser {
        name: "java_release",
        path: "opt/jdk/release",
        around: &[("opt/jdk/lib/modules", b"")],
        fixture: b"IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_VERSION=\"17.0.15\"\n",
    },
    Parser {
        name: "java_modules",
        path: "opt/jdk/lib/modules",
        around: &[("opt/jdk/release", b"JAVA_VERSION=\"17.0.15\"\n")],
        fixture: include_bytes!("java/fixtures/modules.jimage"),
    },
    Parser { name: "binary", path: "usr/bin/a", around: &[], fixture: b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0" },
    Parser {
        name: "go_program",
        path: "usr/bin/a",
        around: &[],
        fixture: include_bytes!("golang/fixtures/program.elf"),
    },
    Parser {
        name: "rust_program",
        path: "usr/bin/a",
        around: &[],
        fixture: include_bytes!("rust/fixtures/audited.elf"),
    },
    Parser {
        name: "cargo_lock",
        path: "app/Cargo.lock",
        around: &[],
        fixture: b"version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\ndependencies = [\n \"b 1.0.0\",\n]\n",
    },
];

/// Runs the parser of this name over a file with these contents. What it finds must be the same each time.
///
/// # Panics
/// When a parser does, and when no parser is called so: both are what a fuzzer is to find.
pub fn run(name: &str, bytes: &[u8]) {
    let Some(parser) = PARSERS.iter().find(|parser| parser.name == name) else {
        panic!("no parser is called {name}");
    };
    let tree = parser.tree(bytes);
    let (outcome, index) = crate::catalog_with_ownership(&tree);
    assert_eq!(outcome, crate::catalog(&tree), "the same tree gave two outcomes");
    index.lookup(bytes);
    for package in &outcome.packages {
        for location in &package.locations {
            index.lookup(&location.path);
        }
    }
    assert!(index.is_current(&tree));
}

/// The paths are ours, and a tree this small is never full.
fn must_fit(kept: Result<(), TreeError>) {
    assert!(kept.is_ok(), "{kept:?}");
}

/// Puts a file as the scanner does: only what is wanted of it is kept.
pub(crate) fn put(tree: &mut MemoryTree, path: &[u8], bytes: &[u8], layer: Layer) -> Result<(), TreeError> {
    let wanted = wanted(path, MODE);
    let contents = match wanted {
        Wanted::Content { max_bytes } => {
            let kept = &bytes[..bytes.len().min(max_bytes)];
            Some(Contents { bytes: Cow::Borrowed(kept), truncated: kept.len() < bytes.len() })
        }
        Wanted::Digest | Wanted::MetadataOnly => None,
    };
    tree.insert(path, Entry::Regular { mode: MODE, size_bytes: bytes.len() as u64, contents }, layer)?;
    // Bytes in memory can be read.
    if wanted == Wanted::Digest
        && let Ok(digests) = digest::digest_file(path, MODE, &bytes.to_vec())
    {
        tree.keep_digests(path, digests)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const ROUNDS: u64 = 150;
    /// Far above what any of them takes, far below what a user would notice as a hang.
    const MAX_ROUND: Duration = Duration::from_secs(2);

    /// A generator of small numbers that is the same everywhere (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound.max(1) as u64) as usize
        }
    }

    fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
        const TOKENS: [&[u8]; 12] =
            [b"\0", b"\n", b"..", b"/", b"\"", b"[[[[[[[[", b"{", b"}", b"\xff\xff", b"-1", b"\\", b"'#{"];
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len() + 1);
            match numbers.below(5) {
                0 if at < bytes.len() => bytes[at] = numbers.below(256) as u8,
                1 => bytes.truncate(at),
                2 => {
                    let token = TOKENS[numbers.below(TOKENS.len())].to_vec();
                    bytes.splice(at..at, token);
                }
                3 => {
                    let end = (at + numbers.below(40)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => {
                    let end = (at + numbers.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
    }

    #[test]
    fn mutated_fixtures_neither_panic_nor_hang() {
        for (number, parser) in PARSERS.iter().enumerate() {
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1));
            for round in 0..ROUNDS {
                let mut bytes = parser.fixture.to_vec();
                for _ in 0..round.min(8) {
                    mutate(&mut bytes, &mut numbers);
                }
                let start = Instant::now();
                run(parser.name, &bytes);
                assert!(start.elapsed() < MAX_ROUND, "{} took {:?}: {bytes:?}", parser.name, start.elapsed());
            }
        }
    }

    #[test]
    fn every_parser_is_reached_by_its_fixture() {
        for parser in PARSERS {
            let is_read = wanted(parser.path.as_bytes(), MODE);
            let is_looked_into = matches!(is_read, Wanted::Content { .. } | Wanted::Digest);
            assert!(is_looked_into, "{}", parser.name);
        }
    }

    /// What an ecosystem looks into without a parser here would never be fuzzed, nor a parser without its target there.
    #[test]
    fn all_that_is_looked_into_has_a_parser_and_each_parser_a_fuzz_target() {
        for digester in crate::ECOSYSTEMS.iter().flat_map(|ecosystem| ecosystem.digesters()) {
            // pnpm calls the same manifests by their contents.
            let has_parser = digester.name == "npm-stored-manifest"
                || PARSERS.iter().any(|parser| {
                    let is_its = digester.may_want(parser.path.as_bytes(), MODE);
                    is_its && digester.of(&parser.fixture.to_vec()).is_ok_and(|digest| digest.is_some())
                });
            assert!(has_parser, "no parser of fuzzing.rs reaches the digester {}", digester.name);
        }
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for parser in PARSERS {
            let name = parser.name;
            let target =
                std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap_or_default();
            assert!(target.contains(&format!("plimsoll_catalog::fuzzing::run(\"{name}\", bytes)")), "{name}");
            let listed = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
            assert!(manifest.contains(&listed), "fuzz/Cargo.toml lacks {name}");
        }
    }
}
