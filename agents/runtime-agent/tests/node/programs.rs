//! Node.js: programs that look at or change what the hook rests on end as they do without it, and are seen all the same.
//! Each program runs with and without the hook under several versions; those come from npm's registry, once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use plimsoll_runtime_agent::hooks::HookSession;
use plimsoll_runtime_agent::hooks::language::Language;
use plimsoll_runtime_agent::hooks::report::ReportKind;

use super::support::node::{names, packages, said, versions};

const TOOLS: &str = include_str!("../applications/node/tools/package.json");

/// Name, text, and the packages that it loads, separated by blanks.
const PROGRAMS: &[(&str, &str, &str)] = &[
    (
        "prototypes.js",
        "Object.prototype.has = Object.prototype.construct = Object.prototype.apply = () => 1;
         Object.prototype.deleteProperty = () => false;
         Object.prototype.ownKeys = Object.prototype.load = () => [];
         const { Worker } = require('worker_threads');
         console.log(typeof require('left-pad'), delete require.cache[require.resolve('left-pad')]);
         new Worker('require(\"semver\")', { eval: true }).on('exit', (code) => console.log('exit', code));
         import('nanoid').then((module) => console.log(typeof module.nanoid));",
        "left-pad nanoid semver",
    ),
    (
        "patched.js",
        "const fail = () => { throw new Error('patched') };
         const fs = require('fs');
         Array.prototype.push = Set.prototype.add = Set.prototype.has = fail;
         String.prototype.startsWith = String.prototype.includes = String.prototype.split = fail;
         RegExp.prototype.exec = fail;
         fs.openSync = fs.writeSync = fs.closeSync = Buffer.from = Buffer.concat = fail;
         Function.prototype.call = Function.prototype.apply = Function.prototype.bind = fail;
         Reflect.defineProperty = Reflect.apply = Reflect.construct = fail;
         process._rawDebug(typeof require('left-pad'));",
        "left-pad",
    ),
    (
        "frozen.js",
        "for (const name of Object.getOwnPropertyNames(globalThis)) {
           const value = globalThis[name];
           if (typeof value !== 'function' || !/^[A-Z]/.test(name)) continue;
           Object.freeze(value);
           if (value.prototype) Object.freeze(value.prototype);
         }
         console.log(typeof require('left-pad'), typeof require('yaml').parse);
         import('nanoid').then((module) => console.log(typeof module.nanoid));",
        "left-pad nanoid yaml",
    ),
    (
        "stacks.mjs",
        "import { createRequire } from 'module';
         import inner from './inner.cjs';
         const require = createRequire(import.meta.url);
         console.log(new Error('here').stack, inner, require('./inner.cjs'), (await import('./inner.mjs')).default);
         console.log(Object.keys(require.cache).length, process.execArgv, process.argv.length);
         try { require('./none.cjs') } catch (error) { console.log(error.code, error.requireStack, error.stack) }",
        "",
    ),
    ("inner.cjs", "module.exports = new Error('inner').stack;", ""),
    ("inner.mjs", "export default new Error('inner').stack;", ""),
    (
        "threads.js",
        "const { Worker, isMainThread, parentPort } = require('worker_threads');
         class Own extends Worker {}
         if (isMainThread) {
           const worker = new Worker(__filename);
           console.log(worker instanceof Worker, worker.constructor === Worker, Worker.name, Worker.length);
           worker.on('message', (message) => {
             console.log(message);
             const own = new Own('require(\"left-pad\")', { eval: true });
             own.on('exit', (code) => console.log(own.constructor === Own, code));
           });
         } else parentPort.postMessage([Object.keys(require.cache).length, new Error().stack.split('\\n').length]);",
        "left-pad",
    ),
    ("rejected.mjs", "import 'nanoid'; import('left-pad').then(() => { null.x });", "left-pad nanoid"),
    ("syntax.js", "require('./wrong.cjs');", ""),
    ("wrong.cjs", "var a = ;", ""),
    (
        "cluster.js",
        "const cluster = require('cluster');
         if (cluster.isPrimary) {
           cluster.fork().on('message', console.log).on('exit', (code, signal) => console.log(code, signal));
         } else { require('left-pad'); process.send(Object.keys(require.cache).length, () => process.exit(7)) }",
        "left-pad",
    ),
    (
        "children.js",
        "const { fork, spawnSync, execFileSync } = require('child_process');
         if (process.argv[2]) { console.log(process.execArgv, typeof require('semver')); process.exit(3) }
         fork(__filename, ['x'], { execArgv: ['--no-warnings'] }).on('exit', (code) => {
           console.log(code, spawnSync(process.execPath, ['-p', '1+1'], { env: {} }).stdout.toString());
           console.log(execFileSync(process.execPath, ['-e', 'console.log(typeof require(\"yaml\"))']).toString());
         });",
        "semver yaml",
    ),
    (
        "cache.js",
        "const Module = require('module'), { cache } = require, id = require.resolve('left-pad');
         require(id);
         console.log(cache === Module._cache, id in cache, cache[id].loaded, cache[id].parent === module);
         cache[id] = { exports: 42, id, loaded: true };
         console.log(require('left-pad'), module.children.length, Object.getPrototypeOf(cache));
         const other = { value: { exports: 43, loaded: true, id }, configurable: true, writable: true };
         Object.defineProperty(cache, id, other);
         console.log(require(id), delete cache[id], typeof require(id), Object.keys(cache).length);",
        "left-pad",
    ),
    (
        "end.js",
        "process.on('exit', (code) => { console.log(code, process.eventNames().length); process.exitCode = 9 });
         process.once('uncaughtException', (error) => console.log(error.message, require('left-pad').name));
         throw new Error('late');",
        "left-pad",
    ),
    ("killed.js", "require('left-pad'); process.kill(process.pid, 'SIGKILL'); for (;;);", "left-pad"),
    (
        // A loader on a thread of its own, as tsx, ts-node and agents of other vendors have one.
        "loader.mjs",
        "import { register } from 'node:module';
         register(`data:text/javascript,${encodeURIComponent(`
           export const resolve = (name, context, next) =>
             name === 'virtual' ? { url: 'file:///virtual', shortCircuit: true } : next(name, context);
           export const load = (url, context, next) => url.endsWith('virtual')
             ? { format: 'module', source: 'export default 5', shortCircuit: true } : next(url, context);`)}`);
         console.log((await import('virtual')).default, typeof (await import('nanoid')).nanoid);
         console.log(typeof (await import('left-pad')).default);",
        "left-pad nanoid",
    ),
    (
        "hooks.mjs",
        "import * as module from 'node:module';
         module.registerHooks?.({ load: (url, context, next) => next(url, context) });
         console.log(typeof (await import('nanoid')).nanoid, typeof (await import('left-pad')).default);",
        "left-pad nanoid",
    ),
    (
        // Modules that the application makes, as rewire and require-from-string do.
        "made.js",
        "const fs = require('fs'), Module = require('module'), compile = module._compile;
         console.log(compile.name, compile.length, String(compile), compile === Module.prototype._compile);
         console.log(Object.keys(Module.prototype), '_compile' in module, Object.keys(module));
         const make = (file, name) => {
           const made = new Module(name, module);
           made.filename = name;
           made._compile(file ? fs.readFileSync(file, 'utf8') : '\\n  this is wrong;', file || name);
           return typeof made.exports;
         };
         const [pad, nil] = [require.resolve('left-pad'), require.resolve('lodash/isNil')];
         console.log(make(pad, pad));
         try { make('', '/made/wrong.js') } catch (error) { console.log(error.stack) }
         const again = new Module(require.resolve('semver/internal/constants'), module);
         again.load(again.id);
         console.log(again.exports.MAX_LENGTH, again.id in require.cache);
         const named = require('require-from-string')('module.exports = __filename', require.resolve('yaml'));
         console.log(named === require.resolve('yaml'), require('./inner.cjs'));
         again._compile = () => 5;
         console.log(again._compile(), Object.keys(again).includes('_compile'));
         Module.prototype._compile = function (...values) { console.log('own'); return compile.apply(this, values) };
         delete require.cache[require.resolve('./inner.cjs')];
         console.log(require('./inner.cjs'), make(nil, 'somewhere'));",
        "left-pad lodash require-from-string semver yaml",
    ),
    (
        "compiled.js",
        "const vm = require('vm'), fs = require('fs'), { Worker } = require('worker_threads');
         const file = (name) => [fs.readFileSync(require.resolve(name), 'utf8'), { filename: require.resolve(name) }];
         class Own extends vm.Script {
           constructor(...values) { super(...values); this.made = new.target === Own }
         }
         const own = new Own(...file('lodash/isNil')), scope = { module: {} };
         own.runInNewContext(scope);
         console.log(typeof scope.module.exports, own.made, own instanceof vm.Script, own.constructor === Own);
         console.log(vm.Script.name, vm.Script.length, String(vm.Script).length, Object.keys(vm));
         console.log(Object.getOwnPropertyDescriptor(vm, 'runInThisContext').writable);
         for (const wrong of [() => new vm.Script('var a = ;', { filename: '/a/b.js', columnOffset: 3 }),
             () => vm.runInThisContext('\\n  null.x', '/a/c.js'), () => vm.runInThisContext('}'),
             () => vm.compileFunction('a b', [], { filename: '/a/d.js', lineOffset: 4 }), () => vm.Script('1'),
             () => vm.runInNewContext('throw new Error(1)', {}, { filename: '/a/e.js', displayErrors: false })]) {
           try { console.log(wrong()) } catch (error) { console.log(error.stack) }
         }
         console.log(vm.runInThisContext('debugger; 7'));
         new Worker(`const { runInThisContext } = require('vm');
           const filename = require.resolve('left-pad');
           console.log(typeof runInThisContext('(function () {})', { filename }))`, { eval: true });",
        "left-pad lodash",
    ),
    (
        "compiled.mjs",
        "import { compileFunction } from 'vm';
         import { createRequire } from 'module';
         const filename = createRequire(import.meta.url).resolve('left-pad');
         console.log(compileFunction('return 1', [], { filename })());
         const late = await import('vm');
         console.log(late.runInThisContext === late.default.runInThisContext, Object.keys(late));",
        "left-pad",
    ),
    (
        "replaced.js",
        "const vm = require('vm'), { runInThisContext } = vm;
         vm.runInThisContext = (text) => runInThisContext(text) + 1;
         vm.compileFunction = () => 5;
         console.log(vm.runInThisContext('1'), vm.runInThisContext.length, vm.compileFunction(), Object.keys(vm));",
        "",
    ),
    (
        "globals.js",
        "console.log(require('vm').runInNewContext('typeof require'), new Function('return typeof process')());
         console.log(Object.keys(globalThis).length, Object.getOwnPropertyNames(process).length);
         console.error(new Error('here').stack);",
        "",
    ),
];

/// An ECMAScript module that imports another, both taken by `require` (from Node.js 20.19 on).
const GRAPH: &[(&str, &str)] = &[
    ("graph/app.cjs", "console.log(require('outer').a);"),
    (
        "graph/node_modules/outer/package.json",
        r#"{ "name": "outer", "version": "1.0.0", "type": "module", "exports": "./i.js" }"#,
    ),
    ("graph/node_modules/outer/i.js", "export { x as a } from 'inner';"),
    (
        "graph/node_modules/inner/package.json",
        r#"{ "name": "inner", "version": "1.0.0", "exports": "./i.mjs" }"#,
    ),
    ("graph/node_modules/inner/i.mjs", "export const x = 1;"),
];

/// Options of Node.js, and of the application for it, with each of which the first program runs once more.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["--frozen-intrinsics", "--no-warnings"], ""),
    (&["--disable-proto=delete"], "--max-old-space-size=100"),
    (&["--disallow-code-generation-from-strings"], "--require \"./own hook.cjs\" --title=a"),
    (&[], "--no-such-option"),
    (&[], "--require \"unterminated"),
    (&["--permission", "--allow-fs-read=*", "--allow-worker"], ""),
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program with and without the hook; gives the packages that were reported.
fn differential(root: &Path, make: impl Fn() -> Command, what: &str) -> BTreeSet<String> {
    let plain = make().current_dir(root).output().unwrap();
    let mut session = HookSession::start(root).unwrap();
    let mut hooked = make();
    session.environment().apply(&mut hooked);
    let hooked = hooked.current_dir(root).output().unwrap();
    assert_eq!(text(&hooked.stdout), text(&plain.stdout), "{what}");
    assert_eq!(said(&hooked.stderr), said(&plain.stderr), "{what}");
    assert_eq!(hooked.status, plain.status, "{what}");
    let mut modules = BTreeSet::new();
    session.drain(|_, report, _| match report.kind {
        ReportKind::Module(Language::Node) => drop(modules.insert(text(&report.path))),
        ReportKind::HookFailed(_) => panic!("{what}: {}", text(&report.name)),
        _ => {}
    });
    names(&modules)
}

#[test]
fn programs_end_as_they_do_without_the_hook() {
    let Some(tools) = packages("node-tools", TOOLS) else { return };
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    std::os::unix::fs::symlink(tools.join("node_modules"), root.join("node_modules")).unwrap();
    for (name, text, _) in PROGRAMS {
        fs::write(root.join(name), text).unwrap();
    }
    for (name, text) in GRAPH {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    }
    for node in versions() {
        for (name, _, loaded) in PROGRAMS.iter().chain(&[("graph/app.cjs", "", "inner outer")]) {
            let what = format!("{} {name}", node.display());
            let reported = differential(
                root,
                || {
                    let mut command = Command::new(&node);
                    command.arg(name);
                    command
                },
                &what,
            );
            let expected: BTreeSet<String> = loaded.split_whitespace().map(str::to_owned).collect();
            assert_eq!(reported, expected, "{what}");
        }
    }
}

#[test]
fn options_of_node_and_of_the_application_are_kept() {
    let Some(tools) = packages("node-tools", TOOLS) else { return };
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    std::os::unix::fs::symlink(tools.join("node_modules"), root.join("node_modules")).unwrap();
    fs::write(root.join("own hook.cjs"), "globalThis.own = typeof require('yaml');").unwrap();
    fs::write(root.join("app.js"), "console.log(typeof require('left-pad'), globalThis.own, process.title)")
        .unwrap();
    for node in versions() {
        for (options, given) in OPTIONS {
            let make = || {
                let mut command = Command::new(&node);
                command.args(*options).arg("app.js").env("NODE_OPTIONS", given);
                command
            };
            differential(root, make, &format!("{} {options:?} {given}", node.display()));
        }
    }
}
