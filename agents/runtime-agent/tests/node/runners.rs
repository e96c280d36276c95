//! Node.js: package managers use nothing when they install and run the application when they run it; servers and loaders
//! are seen through; Bun and Deno are told apart. The tools come from npm's registry, once, into the cache.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support;
use super::support::languages::{Way, assert_complete, cached, copy_of, fetch, mark, measure, program, set};
use super::support::node::{HOOK, names, node, of_packages, only_tools, packages, run_each};

const RUNNERS: &str = include_str!("../applications/node/runners.json");
const RUNTIMES: &str = include_str!("../applications/node/runtimes.json");
/// An application for pnpm and Yarn: an ECMAScript module, one of the old kind, and one that is only read.
const APPLICATION: &str = r#"{
  "name": "app", "version": "1.0.0", "private": true, "scripts": { "start": "node app.js" },
  "dependencies": { "left-pad": "1.3.0", "nanoid": "3.3.7", "picocolors": "1.1.1", "semver": "7.6.3", "uuid": "9.0.1" }
}"#;
const APP: &str = "const fs = require('fs');
const size = fs.readFileSync(require.resolve('semver/README.md')).length;
import('nanoid').then((module) => console.log(size > 0, typeof require('left-pad'), typeof module.nanoid));
";

fn tool(tools: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut command = node(&[tools.join("node_modules").join(script).to_str().unwrap()]);
    command.args(arguments).env("YARN_ENABLE_TELEMETRY", "0").env("CI", "1");
    command
}

/// The application as each package manager installs it.
fn installed(tools: &Path) -> Option<PathBuf> {
    cached(&format!("node-managers-{}", mark(&format!("{RUNNERS}{APPLICATION}{APP}"))), |folder| {
        let managers: [(&str, &str, &[&str]); 3] = [
            ("pnpm", "pnpm/bin/pnpm.cjs", &["install", "--ignore-scripts"]),
            ("yarn", "yarn/bin/yarn.js", &["install", "--ignore-scripts"]),
            ("pnp", "@yarnpkg/cli-dist/bin/yarn.js", &["install"]),
        ];
        for (name, script, arguments) in managers {
            let project = folder.join(name);
            let write = |name: &str, text: &str| fs::write(project.join(name), text);
            let arranged = fs::create_dir(&project)
                .and_then(|()| write("package.json", APPLICATION))
                .and_then(|()| write("app.js", APP))
                .and_then(|()| write("yarn.lock", ""))
                .and_then(|()| {
                    write(".yarnrc.yml", "enableGlobalCache: false\nenableImmutableInstalls: false\n")
                });
            arranged.map_err(|error| error.to_string())?;
            fetch(tool(tools, script, arguments).current_dir(&project))?;
        }
        Ok(())
    })
}

#[test]
fn managers_use_nothing_and_run_the_application() {
    let Some(tools) = packages("node-runners", RUNNERS) else { return };
    let Some(projects) = installed(&tools) else { return };
    let projects = copy_of(&projects);
    let expected = set(&["left-pad", "nanoid"]);
    for way in Way::all() {
        for (name, script, install, run) in [
            ("pnpm", "pnpm/bin/pnpm.cjs", &["install", "--offline", "--frozen-lockfile"][..], &["start"][..]),
            ("pnpm", "pnpm/bin/pnpm.cjs", &["list"], &["exec", "node", "app.js"]),
            ("yarn", "yarn/bin/yarn.js", &["list", "--offline"], &["--silent", "start"]),
            ("pnp", "@yarnpkg/cli-dist/bin/yarn.js", &["install", "--immutable"], &["start"]),
        ] {
            let root = projects.path().join(name);
            let quiet = measure(way, &root, vec![tool(&tools, script, install)]);
            assert_eq!(names(&of_packages(quiet.modules())), set(&[]), "{way:?} {name} {install:?}");
            let said = only_tools(&quiet).unwrap_or_default();
            let manager = if name == "pnp" { "yarn" } else { name };
            assert!(said.contains(&format!("only {manager}, whose")), "{way:?} {name} {install:?}: {said}");
            let loud = measure(way, &root, vec![tool(&tools, script, run)]);
            assert_eq!(only_tools(&loud), None, "{way:?} {name} {run:?}");
            assert!(loud.output.contains("true function function"), "{way:?} {name}: {}", loud.output);
            assert_complete(way, HOOK, &loud);
            let hidden = loud.workload().unavailable_probes.get("not-measurable:npm").cloned();
            assert_eq!(hidden, None, "{way:?} {name} {run:?}");
            let modules = loud.modules();
            if name == "pnp" {
                // Within archives, which the kernel sees as such.
                let inside: BTreeSet<String> =
                    modules.iter().filter(|path| path.contains(".zip/")).cloned().collect();
                let seen = if way == Way::Hooks { expected.clone() } else { set(&[]) };
                assert_eq!(names(&inside), seen, "{way:?} {modules:?}");
            } else {
                assert_eq!(names(&of_packages(modules)), expected, "{way:?} {name} {run:?}");
            }
        }
    }
}

/// What a linter, or whatever starts one, does says nothing about what the application needs.
#[test]
fn where_only_tools_ran_it_is_said() {
    if program("npm", "apt install nodejs npm").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("node_modules/eslint/bin")).unwrap();
    fs::create_dir_all(root.join("node_modules/levn")).unwrap();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("node_modules/eslint/bin/eslint.js", "require('levn'); console.log('linted');\n");
    write("node_modules/levn/index.js", "");
    write("app.js", "require('levn'); console.log('ran');\n");
    write(
        "package.json",
        r#"{"scripts":{"lint":"node node_modules/eslint/bin/eslint.js","start":"node app.js"}}"#,
    );
    let npm = |script: &str| {
        let mut npm = Command::new("npm");
        npm.args(["--silent", "run", script]).env("npm_config_update_notifier", "false");
        npm
    };
    let eslint = || node(&["node_modules/eslint/bin/eslint.js"]);
    for way in Way::all() {
        for (commands, expected) in [
            (vec![eslint()], true),
            (vec![node(&["--version"]), npm("lint")], true),
            (vec![npm("lint"), npm("start")], false),
            (vec![node(&["app.js"]), eslint()], false),
        ] {
            let what = format!("{way:?} {commands:?}");
            let measured = measure(way, root, commands);
            let said = only_tools(&measured);
            assert_eq!(said.is_some(), expected, "{what}: {said:?}");
            assert!(said.is_none_or(|said| said.contains("only eslint, whose")), "{what}");
            assert_eq!(names(&of_packages(measured.modules())).is_empty(), expected, "{what}");
        }
    }
}

#[test]
fn the_copy_that_was_loaded_has_the_use() {
    let Some(tools) = packages("node-runners", RUNNERS) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let from = tools.join("node_modules/left-pad");
    // One version at two places, as hard links that share their inodes; a workspace with a copy of its own; a link.
    for place in [
        "node_modules/left-pad",
        "node_modules/other/node_modules/left-pad",
        "packages/shared/node_modules/left-pad",
    ] {
        let place = root.join(place);
        fs::create_dir_all(&place).unwrap();
        for file in ["package.json", "index.js"] {
            fs::copy(from.join(file), place.join(file)).unwrap();
        }
    }
    let outer = root.join("node_modules/left-pad/index.js");
    let inner = root.join("node_modules/other/node_modules/left-pad/index.js");
    fs::remove_file(&inner).unwrap();
    fs::hard_link(&outer, &inner).unwrap();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("node_modules/other/index.js", "module.exports = require('left-pad');\n");
    write("packages/shared/index.js", "module.exports = require('left-pad');\n");
    symlink("../packages/shared", root.join("node_modules/shared")).unwrap();
    write("other.js", "require('other');\n");
    write("shared.js", "require('shared');\n");
    for way in Way::all() {
        for (arguments, expected) in [
            (
                &["other.js"][..],
                &["node_modules/other/index.js", "node_modules/other/node_modules/left-pad/index.js"][..],
            ),
            (&["shared.js"], &["packages/shared/index.js", "packages/shared/node_modules/left-pad/index.js"]),
            (
                &["--preserve-symlinks", "shared.js"],
                &["packages/shared/index.js", "packages/shared/node_modules/left-pad/index.js"],
            ),
        ] {
            let measured = measure(way, root, vec![node(arguments)]);
            let mut modules = measured.modules();
            modules.retain(|path| path.ends_with("index.js"));
            assert_eq!(modules, set(expected), "{way:?} {arguments:?}");
        }
    }
}

#[test]
fn servers_and_loaders_are_seen_through() {
    let Some(tools) = packages("node-runners", RUNNERS) else { return };
    let directory = copy_of(&tools);
    let root = directory.path();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write(
        "typed.ts",
        "import pad from 'left-pad'; import { nanoid } from 'nanoid'; const a: number = 1; console.log(typeof pad, nanoid().length, a);\n",
    );
    write(
        "a.test.js",
        "require('node:test').test('a', () => { require('left-pad'); return import('nanoid'); });\n",
    );
    write(
        "server.js",
        "require('left-pad'); import('nanoid').then(() => { require('fs').writeFileSync('ready', ''); setTimeout(() => {}, 60_000) });\n",
    );
    write(
        "cluster.js",
        "const cluster = require('cluster');
if (cluster.isPrimary) { for (const _ of 'ab') cluster.fork().on('message', function () { this.kill() }); }
else { require('left-pad'); import('nanoid').then(() => process.send(1)); setInterval(() => {}, 1000); }\n",
    );
    let home = root.join("pm2-home");
    let pm2 = |arguments: &[&str]| {
        let mut pm2 = tool(root, "pm2/bin/pm2", arguments);
        pm2.env("PM2_HOME", &home);
        pm2
    };
    // As an operator does: the daemon stays behind, with the application below it.
    let wait = "const t = setInterval(() => { if (require('fs').existsSync('ready')) clearInterval(t) }, 20)";
    for way in Way::all() {
        let own = |measured: &support::languages::Measured| {
            let mut used = names(&of_packages(measured.modules()));
            used.retain(|name| ["left-pad", "nanoid", "pnpm", "yarn"].contains(&name.as_str()));
            used
        };
        for command in [
            node(&["cluster.js"]),
            node(&["--test", "a.test.js"]),
            tool(root, "tsx/dist/cli.mjs", &["typed.ts"]),
        ] {
            let what = format!("{way:?} {command:?}");
            let measured = measure(way, root, vec![command]);
            assert_eq!(own(&measured), set(&["left-pad", "nanoid"]), "{what}");
            assert_complete(way, HOOK, &measured);
        }
        let _ = fs::remove_file(root.join("ready"));
        let commands =
            vec![pm2(&["start", "server.js", "--silent"]), node(&["-e", wait]), pm2(&["kill", "--silent"])];
        let measured = measure(way, root, commands);
        assert_eq!(own(&measured), set(&["left-pad", "nanoid"]), "{way:?} pm2");
        let hidden = |measured: &support::languages::Measured| {
            measured.workload().unavailable_probes.get("not-measurable:npm").cloned()
        };
        assert_eq!(hidden(&measured), None, "{way:?} pm2");
        // A daemon from before runs the application elsewhere.
        assert!(pm2(&["ping", "--silent"]).current_dir(root).output().unwrap().status.success());
        let measured = measure(way, root, vec![pm2(&["start", "server.js", "--silent"])]);
        assert!(pm2(&["kill", "--silent"]).current_dir(root).output().unwrap().status.success());
        // pm2 hands the hook on to the daemon: what the application loads until `start` ends is told by chance.
        if way == Way::Ebpf {
            assert_eq!(own(&measured), set(&[]), "pm2 from before");
        }
        assert!(hidden(&measured).is_some_and(|reason| reason.contains("daemon")), "{way:?} pm2 from before");
    }
}

#[test]
fn bun_and_deno_are_seen_by_the_kernel_and_named_by_the_hooks() {
    let Some(tools) = packages("node-runners", RUNNERS) else { return };
    let Some(runtimes) = packages("node-runtimes", RUNTIMES) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["left-pad", "nanoid", "tsx"] {
        let copied =
            Command::new("cp").arg("-a").arg(tools.join("node_modules").join(name)).arg(root).status();
        assert!(copied.unwrap().success());
        fs::create_dir_all(root.join("node_modules")).unwrap();
        fs::rename(root.join(name), root.join("node_modules").join(name)).unwrap();
    }
    fs::write(root.join("package.json"), "{\"name\":\"app\",\"private\":true,\"dependencies\":{\"left-pad\":\"1.3.0\",\"nanoid\":\"3.3.7\",\"tsx\":\"4.23.15\"}}").unwrap();
    fs::write(root.join("app.mjs"), "import pad from 'left-pad'; const { nanoid } = await import('nanoid'); console.log(typeof pad, nanoid().length);\n").unwrap();
    // The name that npm's package of Bun gives it.
    let bun = root.join("bun.exe");
    fs::copy(runtimes.join("node_modules/@oven/bun-linux-x64/bin/bun"), &bun).unwrap();
    let deno = runtimes.join("node_modules/@deno/linux-x64-glibc/deno");
    for way in Way::all() {
        for (runtime, program, arguments) in [
            ("Bun", &bun, &["app.mjs"][..]),
            ("Deno", &deno, &["run", "--allow-all", "--no-config", "--node-modules-dir=manual", "app.mjs"]),
        ] {
            let mut command = Command::new(program);
            command.args(arguments).env("DENO_DIR", root.join("deno-cache")).env("DENO_NO_UPDATE_CHECK", "1");
            let ran = run_each(way, root, vec![command]).remove(0);
            assert_eq!(ran.output, "function 21\n", "{way:?} {runtime}");
            let used = names(&of_packages(ran.measured.modules()));
            if way == Way::Ebpf {
                assert_eq!(used, set(&["left-pad", "nanoid"]), "{runtime}");
                assert_eq!(ran.not_measurable(), None, "{runtime}");
            } else {
                let workload = ran.workload();
                let reasons: Vec<_> =
                    workload.unavailable_probes.iter().filter(|(key, _)| key.starts_with(HOOK)).collect();
                let takes_none = format!("is {runtime}, which takes no hook");
                assert!(reasons.iter().any(|(_, reason)| reason.contains(&takes_none)), "{reasons:?}");
                let watched = workload.watched.iter().any(|watch| watch.probe == HOOK);
                assert!(!watched, "{runtime}: nothing is to be called unused");
            }
        }
    }
}

#[test]
fn bun_starts_tools_and_applications_as_npx_does() {
    let Some(runtimes) = packages("node-runtimes", RUNTIMES) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("node_modules/.bin")).unwrap();
    // One is known as a tool by its name, the other is none.
    for name in ["prettier", "serve"] {
        let path = root.join("node_modules/.bin").join(name);
        fs::write(&path, "#!/usr/bin/env node\nconsole.log(process.argv.length);\n").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::write(root.join("package.json"), r#"{"name":"app","private":true,"scripts":{"lint":"prettier"}}"#)
        .unwrap();
    let bun = root.join("bun");
    fs::copy(runtimes.join("node_modules/@oven/bun-linux-x64/bin/bun"), &bun).unwrap();
    symlink(&bun, root.join("bunx")).unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new(root.join(words[0]));
        command.args(&words[1..]);
        command
    };
    let tools: [&[&str]; 6] = [
        &["bun", "x", "prettier"],
        &["bunx", "prettier"],
        &["bunx", "--bun", "prettier"],
        &["bun", "run", "lint"],
        &["bun", "prettier"],
        &["bun", "node_modules/.bin/prettier"],
    ];
    let applications: [&[&str]; 2] = [&["bun", "x", "serve"], &["bun", "node_modules/.bin/serve"]];
    for way in Way::all() {
        let commands = tools.iter().chain(&applications).map(|words| command(words)).collect();
        let ran = run_each(way, root, commands);
        for (words, ran) in tools.iter().zip(&ran) {
            let said = ran.workload().unavailable_probes.get("not-measured:npm").cloned().unwrap_or_default();
            assert!(said.contains("only prettier, whose"), "{way:?} {words:?}: {said:?}");
        }
        for (words, ran) in applications.iter().zip(&ran[tools.len()..]) {
            let said = ran.workload().unavailable_probes;
            assert!(!said.contains_key("not-measured:npm"), "{way:?} {words:?}: {said:?}");
        }
    }
}
