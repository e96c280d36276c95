//! Node.js: code that no probe can tell apart is said to be that, as the real tools make it; what they did not make is not.
//! The tools come from npm's own registry, once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::languages::{Way, copy_of, program};
use super::support::node::{names, node, of_packages, packages, run_each};

const TOOLS: &str = include_str!("../applications/node/tools/package.json");
const FILES: &[(&str, &str)] = &[
    // Modules of both kinds, and so small that no tool has to leave anything but the code itself.
    ("src/cjs.js", "console.log(typeof require('lodash'), require('left-pad')('7', 3, '0'));\n"),
    (
        "src/esm.js",
        "import { nanoid } from 'nanoid';\nimport chunk from 'lodash-es/chunk.js';\nconsole.log(nanoid().length, chunk([1, 2], 1).length);\n",
    ),
    ("src/tiny.js", "import { nanoid } from 'nanoid';\nconsole.log(nanoid().length);\n"),
    (
        "src/typed.ts",
        "import { nanoid } from 'nanoid';\nimport { helped } from './helped';\nexport enum Kind { A = 'a', B = 'b' }\nexport class Typed<T> {\n  #secret = nanoid();\n  constructor(private readonly first: T, readonly kind: Kind = Kind.A) {}\n  async *all(): AsyncGenerator<T | undefined> { yield this.first; yield* helped([this.first]); }\n  get length() { return this.#secret?.length ?? 0; }\n}\nnew Typed('x').all().next().then(({ value }) => console.log(value, new Typed(1).length));\n",
    ),
    (
        "src/helped.ts",
        "import chalk = require('left-pad');\nexport const helped = <T>(all: T[]): T[] => [...all, ...all.slice(Number(chalk('1', 2, '0')))];\n",
    ),
    (
        "vite.config.mjs",
        "export default { ssr: { noExternal: true }, build: { minify: process.env.MINIFY === '1' } };\n",
    ),
];

/// One way to make one script.
struct Build {
    made: &'static str,
    command: &'static str,
}

const BUILDS: &[Build] = &[
    Build {
        made: "out/webpack/development.js",
        command: "webpack ./src/cjs.js --target node --mode development -o out/webpack --output-filename development.js",
    },
    Build {
        made: "out/webpack/production.js",
        command: "webpack ./src/esm.js --target node --mode production -o out/webpack --output-filename production.js",
    },
    Build {
        made: "out/esbuild.cjs",
        command: "esbuild src/cjs.js --bundle --platform=node --outfile=out/esbuild.cjs --log-level=error",
    },
    Build {
        made: "out/esbuild.mjs",
        command: "esbuild src/esm.js --bundle --platform=node --format=esm --outfile=out/esbuild.mjs --log-level=error",
    },
    Build {
        made: "out/esbuild.min.mjs",
        command: "esbuild src/tiny.js --bundle --minify --platform=node --format=esm --outfile=out/esbuild.min.mjs --log-level=error",
    },
    Build {
        made: "out/esbuild.lines.mjs",
        command: "esbuild src/esm.js --bundle --minify --line-limit=80 --platform=node --format=esm --outfile=out/esbuild.lines.mjs --log-level=error",
    },
    Build {
        made: "out/rollup.cjs",
        command: "rollup src/cjs.js -p node-resolve -p commonjs -p json --format cjs -o out/rollup.cjs --silent",
    },
    Build {
        made: "out/rollup.mjs",
        command: "rollup src/esm.js -p node-resolve --format esm -o out/rollup.mjs --silent",
    },
    Build {
        made: "out/rollup.min.mjs",
        command: "rollup src/tiny.js -p node-resolve -p terser --format esm -o out/rollup.min.mjs --silent",
    },
    Build {
        made: "out/vite/esm.mjs",
        command: "vite build --ssr src/esm.js --outDir out/vite --logLevel error",
    },
    Build { made: "out/ncc/index.js", command: "ncc build src/cjs.js -o out/ncc -q" },
    Build { made: "out/nccmin/index.js", command: "ncc build src/esm.js -m -o out/nccmin -q" },
];

/// What is made file by file hides nothing.
const COMPILED: &[Build] = &[
    Build {
        made: "out/tsc/typed.js",
        command: "tsc src/typed.ts --outDir out/tsc --target es2022 --module commonjs --noCheck",
    },
    Build {
        made: "out/tsc5/typed.js",
        command: "tsc src/typed.ts --outDir out/tsc5 --target es5 --module commonjs --lib es2022 --downlevelIteration --noCheck --inlineSourceMap",
    },
    Build {
        made: "out/external.mjs",
        command: "esbuild src/esm.js --bundle --packages=external --platform=node --format=esm --outfile=out/external.mjs --log-level=error",
    },
];

fn command(root: &Path, build: &Build) -> Command {
    let mut words = build.command.split(' ');
    let mut command = Command::new(root.join("node_modules/.bin").join(words.next().unwrap()));
    command.args(words);
    command
}

#[test]
fn bundles_are_named_and_their_makers_use_nothing() {
    let Some(tools) = packages("node-tools", TOOLS) else { return };
    let directory = copy_of(&tools);
    let root = directory.path();
    fs::create_dir(root.join("src")).unwrap();
    for (name, text) in FILES {
        fs::write(root.join(name), text).unwrap();
    }
    for (round, way) in Way::all().into_iter().enumerate() {
        // All are made once; a few once more, for what their makers use.
        let builds: Vec<&Build> =
            BUILDS.iter().chain(COMPILED).step_by(if round == 0 { 1 } else { 5 }).collect();
        let built = run_each(way, root, builds.iter().map(|build| command(root, build)).collect());
        assert_eq!(of_packages(built[0].measured.modules()), BTreeSet::new(), "{way:?}");
        for (ran, build) in built.iter().zip(&builds) {
            assert_eq!(ran.not_measurable(), None, "{way:?} {}", build.command);
        }
        let bundles = run_each(way, root, BUILDS.iter().map(|build| node(&[build.made])).collect());
        for (ran, build) in bundles.iter().zip(BUILDS) {
            let reason = ran.not_measurable().unwrap_or_default();
            let named = reason.contains(build.made) && reason.contains("without bundling its packages");
            assert!(named, "{way:?} {}: {reason} {}", build.made, ran.output);
        }
        assert_eq!(of_packages(bundles[0].measured.modules()), BTreeSet::new(), "{way:?}");
        let compiled = run_each(way, root, COMPILED.iter().map(|build| node(&[build.made])).collect());
        for (ran, build) in compiled.iter().zip(COMPILED) {
            assert_eq!(ran.not_measurable(), None, "{way:?} {}", build.made);
        }
        let used = names(&of_packages(compiled[0].measured.modules()));
        let expected = ["left-pad", "lodash-es", "nanoid"].map(str::to_owned).into();
        assert_eq!(used, expected, "{way:?}");
    }
}

#[test]
fn programs_and_snapshots_with_an_application_inside_are_named() {
    let Some(runtime) = program("node", "apt install nodejs npm") else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(
        root.join("entry.js"),
        "require('v8').startupSnapshot?.setDeserializeMainFunction(() => console.log(1));\n",
    )
    .unwrap();
    fs::write(root.join("plain.js"), "console.log(1);\n").unwrap();
    // What single executable applications, pkg and nexe have in common: a copy of Node.js under a name of its own.
    fs::copy(&runtime, root.join("server")).unwrap();
    let build = ["--snapshot-blob", "app.blob", "--build-snapshot", "entry.js"];
    for way in Way::all() {
        let mut server = Command::new(root.join("server"));
        server.arg("plain.js");
        let commands =
            vec![node(&build), node(&["--snapshot-blob", "app.blob"]), node(&["plain.js"]), server];
        let ran = run_each(way, root, commands);
        let reasons: Vec<_> = ran.iter().map(|ran| ran.not_measurable().unwrap_or_default()).collect();
        assert_eq!((reasons[0].as_str(), reasons[2].as_str()), ("", ""), "{way:?}");
        assert!(reasons[1].contains("--snapshot-blob"), "{way:?}: {reasons:?}");
        assert!(reasons[3].contains("/server carries a JavaScript runtime"), "{way:?}: {reasons:?}");
    }
}
