// Reports each module that Node.js loads to Plimsoll's FIFO. Loaded by --require in NODE_OPTIONS, in every thread.
//
// It must never throw, print, wait, keep the process alive, or stand in a stack trace: it looks at what the loader puts
// into its cache, before the module runs, and is gone from the stack by then.
//
// A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
//     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
// kind: NH = the hook is at work (name: version), NM = a module was loaded, NF = the hook failed, or cannot see something.
'use strict';
(function plimsoll() {
  const HEAD_MAX_BYTES = 128;
  const REPORT_MAX_BYTES = 4096;
  const FAILURES_MAX = 3;
  // All that is used later is taken now: an application may replace functions of modules and of intrinsic objects, or
  // give Object.prototype properties that a handler without a null prototype would inherit.
  const { openSync, writeSync, closeSync, readFileSync, constants } = require('fs');
  const path = require('path');
  const { dirname } = path;
  const { fileURLToPath, pathToFileURL } = require('url');
  const Module = require('module');
  const { construct, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, setPrototypeOf } = Reflect;
  const { create } = Object;
  const { isProxy } = require('util').types;
  const { from: toBytes, concat } = Buffer;
  const { pid } = process;
  const { parse } = JSON;
  const toText = String;
  const uncurried = Function.prototype.bind.bind(Function.prototype.call);
  const startsWith = uncurried(String.prototype.startsWith);
  const includes = uncurried(String.prototype.includes);
  const indexOf = uncurried(String.prototype.indexOf);
  const lastIndexOf = uncurried(String.prototype.lastIndexOf);
  const slice = uncurried(String.prototype.slice);
  const part = uncurried(Buffer.prototype.subarray);
  const has = uncurried(Set.prototype.has);
  const add = uncurried(Set.prototype.add);
  const hasCompiled = uncurried(WeakSet.prototype.has);
  const addCompiled = uncurried(WeakSet.prototype.add);
  const base = path.dirname(__dirname);
  const inside = `${base}/`;
  const fifo = path.join(base, 'reports');
  const losses = path.join(base, 'losses');
  // For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now.
  const flags = constants.O_RDWR | constants.O_NONBLOCK;
  const toLosses = constants.O_WRONLY | constants.O_APPEND;
  const reported = new Set();
  // Modules that were or are being compiled.
  const compiled = new WeakSet();
  const thisFile = __filename;
  // Options that are no other with two threads than with one.
  const quietOption =
    /^--((max-(old|semi)-space-size|stack-trace-limit|unhandled-rejections|dns-result-order)=.*|enable-source-maps|no-warnings|no-deprecation|expose-gc)$/;
  let lost = 0;
  let failures = 0;
  // V8 is to be asked which scripts it parses, as soon as an ECMAScript module is required.
  let asksV8 = false;
  let askedV8 = false;

  function writeOnce(file, how, bytes) {
    const descriptor = openSync(file, how);
    try {
      return writeSync(descriptor, bytes, 0, bytes.length) === bytes.length;
    } finally {
      closeSync(descriptor);
    }
  }

  function lose() {
    // One byte per lost report: what a process that ends now could tell no more.
    try {
      if (writeOnce(losses, toLosses, toBytes('N'))) return;
    } catch {
      // Counted with the next report.
    }
    lost += 1;
  }

  function report(kind, name, file) {
    const nameBytes = part(toBytes(name), 0, 512);
    let pathBytes = toBytes(file);
    const room = REPORT_MAX_BYTES - HEAD_MAX_BYTES - nameBytes.length;
    const cut = pathBytes.length > room;
    if (cut) pathBytes = part(pathBytes, 0, room);
    const head = `\x1e${kind} ${pid} ${lost} ${cut ? 't' : '-'} ${nameBytes.length} ${pathBytes.length}\n`;
    const before = lost;
    try {
      if (writeOnce(fifo, flags, concat([toBytes(head), nameBytes, pathBytes]))) {
        lost -= before;
        return;
      }
    } catch {
      // Full, or nobody is there any more.
    }
    lose();
  }

  // Runs a piece of the hook: its errors are no one's but the agent's.
  function guard(work) {
    try {
      work();
    } catch (error) {
      failures += 1;
      if (failures <= FAILURES_MAX) {
        try {
          report('NF', toText((error && error.message) || error), '');
        } catch {
          // Nothing more can be told.
        }
      }
    }
  }

  // Installers run scripts of packages: these are no use (docs.npmjs.com/cli/using-npm/scripts).
  const lifecycle = process.env.npm_lifecycle_event;
  const installs = ['ci', 'install', 'i', 'add', 'update', 'rebuild', 'uninstall', 'prune', 'install-test', 'link'];
  const silent =
    installs.includes(process.env.npm_command) &&
    ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare'].includes(lifecycle);

  // These read modules and evaluate them by themselves.
  const runners = ['jest-runtime/', 'vite-node/', 'vitest/dist/'];

  function loaded(file) {
    if (typeof file !== 'string' || file[0] !== '/' || has(reported, file) || silent) return;
    add(reported, file);
    if (startsWith(file, inside)) return;
    report('NM', '', file);
    for (let at = 0; at < runners.length; at += 1) {
      if (runners[at] !== '' && includes(file, `/node_modules/${runners[at]}`)) {
        const name = slice(runners[at], 0, indexOf(runners[at], '/'));
        // Said once.
        runners[at] = '';
        report('NF', `blind: runs modules by itself (${name}), which the module hook does not see`, '');
      }
    }
  }

  function loadedUrl(url) {
    if (typeof url !== 'string' || !startsWith(url, 'file:')) return;
    let end = indexOf(url, '?');
    const hash = indexOf(url, '#');
    if (end < 0 || (hash >= 0 && hash < end)) end = hash;
    loaded(fileURLToPath(end < 0 ? url : slice(url, 0, end)));
  }

  // Node.js takes the cache from here whenever it looks for a module; an application sees the same object.
  function watched(cache) {
    return new Proxy(cache, {
      __proto__: null,
      set(target, key, value) {
        target[key] = value;
        guard(() => {
          loaded(key);
          if (asksV8 && typeof key === 'string' && isEsm(key)) {
            asksV8 = false;
            watchScripts();
          }
        });
        return true;
      },
      defineProperty(target, key, descriptor) {
        guard(() => loaded(key));
        return defineProperty(target, key, descriptor);
      },
    });
  }

  function watchCommonJs() {
    for (const file of Object.keys(Module._cache)) loaded(file);
    const cache = watched(Module._cache);
    Module._cache = cache;
    if (Module._cache !== cache) throw new Error('the cache of modules cannot be replaced');
    // What was made before this hook keeps its own name for it.
    if (require.cache !== cache) require.cache = cache;
  }

  function watchEsm(isMainThread) {
    // The loaders' own thread tells without asking this one.
    if (silent) return;
    if (typeof Module.registerHooks === 'function') {
      Module.registerHooks({
        __proto__: null,
        load(url, context, next) {
          const result = next(url, context);
          guard(() => loadedUrl(url));
          return result;
        },
      });
    } else if (typeof Module.register === 'function' && hasOnlyQuietOptions(isMainThread)) {
      // On a thread of its own, which has this hook too, where it must not begin again.
      const loader = pathToFileURL(path.join(__dirname, 'loader_hook.mjs')).href;
      try {
        Module.register(loader, { __proto__: null, data: { __proto__: null, base } });
      } catch (error) {
        report('NF', `blind: the application's own loader did not start (${toText(error && error.message)})`, '');
      }
      // That thread is not asked for what an ECMAScript module imports that was taken by require.
      asksV8 = Boolean(process.features.require_module);
    } else {
      watchCompiled('loads ECMAScript modules', onlyStartsTests());
      // What V8 parses are scripts.
      if (includes(options(), '--experimental-wasm-modules')) {
        report('NF', 'blind: may import WebAssembly, which the module hook does not see beside these options', '');
      }
    }
  }

  // Words of NODE_OPTIONS without the hook's own.
  function without(given) {
    const own = `--require "${thisFile}"`;
    const at = indexOf(given, own);
    return at < 0 ? given : slice(given, 0, at) + slice(given, at + own.length);
  }

  // All options of this thread.
  function options() {
    return `${process.execArgv.join(' ')} ${without(toText(process.env.NODE_OPTIONS || ''))}`;
  }

  // Those that the process began with, as far as its first word that is none.
  function firstOptions() {
    const [program, ...words] = readFileSync('/proc/self/cmdline', 'utf8').split('\0');
    // The application's title stands there.
    if (!/(^|\/)node(js)?[\d.-]*$/.test(program)) return '--title';
    const end = words.findIndex((word) => word[0] !== '-');
    const name = 'NODE_OPTIONS=';
    const given = readFileSync('/proc/self/environ', 'utf8').split('\0').find((word) => startsWith(word, name));
    return `${words.slice(0, end).join(' ')} ${without(slice(given || name, name.length))}`;
  }

  // `node --test` has no V8 to ask (20 to 22.14). It starts a process for each file of tests, with the same `--require` and
  // `--import`, where V8 tells; for itself it loads nothing but what these options name.
  function onlyStartsTests() {
    const words = ` ${options()} `;
    const loads = /--test-reporter[= ](?!(spec|tap|dot|junit|lcov) )|--test-global-setup|test-isolation[= ]none/;
    return includes(words, ' --test ') && !loads.test(words);
  }

  // Node.js begins the thread of loaders as it began this one, or its first: it runs the application's `--require` files
  // once more, and warns, profiles and measures once more. So only where no option asks for any of that; a file that ran
  // before this one may have changed what the options are said to be.
  function hasOnlyQuietOptions(isMainThread) {
    if (process.env.NODE_V8_COVERAGE || Object.keys(Module._cache).some((file) => file !== thisFile)) return false;
    const all = isMainThread ? options() : `${options()} ${firstOptions()}`;
    return all.split(/\s+/).every((word) => word === '' || quietOption.test(word));
  }

  // Whether a file that require takes is an ECMAScript module, by its name and its package (nodejs.org/api/packages.html).
  const kinds = { __proto__: null };
  function isEsm(file) {
    const ending = slice(file, lastIndexOf(file, '.'));
    return ending === '.mjs' || (ending === '.js' && isOfEsm(dirname(file)));
  }

  function isOfEsm(directory) {
    if (kinds[directory] === undefined) {
      let type;
      try {
        type = parse(readFileSync(`${directory}/package.json`, 'utf8')).type === 'module';
      } catch {
        // The package begins further up.
      }
      const above = dirname(directory);
      kinds[directory] = type === undefined ? above !== directory && isOfEsm(above) : type;
    }
    return kinds[directory];
  }

  // What V8 itself says about each script that it parses, and has parsed: before 18.19, beside options that a second
  // thread would repeat, and where the application compiles.
  function watchScripts() {
    if (askedV8) return;
    askedV8 = true;
    const inspector = require('inspector');
    const session = new inspector.Session();
    session.connect();
    session.on('Debugger.scriptParsed', (message) => {
      guard(() => {
        const { url, hasSourceURL, embedderName } = message.params;
        loadedUrl(url);
        // Who names himself by `//# sourceURL=` has another name beside.
        if (hasSourceURL) loadedUrl(embedderName);
      });
    });
    // Scripts that nobody uses any more are not kept for us.
    session.post('Debugger.enable', { maxScriptsCacheSize: 0 });
    // A `debugger` statement stops nobody.
    session.post('Debugger.setSkipAllPauses', { skip: true });
  }

  function watchCompiled(what = 'compiles files by itself (vm)', mayFail = false) {
    if (silent) return;
    try {
      watchScripts();
    } catch (error) {
      const why = toText((error && error.message) || error);
      if (!mayFail) report('NF', `blind: ${what}, and V8 could not be asked which (${why})`, '');
    }
  }

  function put(object, name, value, enumerable) {
    defineProperty(object, name, { __proto__: null, value, writable: true, enumerable, configurable: true });
  }

  // The loader asks each module once for the function that compiles it, and so does who makes modules by himself
  // (rewire, require-from-string). An accessor is gone from the stack by the time that the function runs.
  function watchCompile(prototype) {
    let compile = prototype._compile;
    const { enumerable } = getOwnPropertyDescriptor(prototype, '_compile');
    const own = (module, name) => {
      const descriptor = getOwnPropertyDescriptor(module, name);
      return descriptor && descriptor.value;
    };
    const asked = (module) => {
      const known = typeof module === 'object' && module !== null && !isProxy(module);
      const file = known ? own(module, 'filename') : undefined;
      if (typeof file !== 'string' || file[0] !== '/' || own(module, 'loaded') || hasCompiled(compiled, module)) {
        // Under which name it compiles, the module does not say.
        watchCompiled();
        return;
      }
      addCompiled(compiled, module);
      // Not `[eval]` and its like, which are no files.
      if (file[file.length - 1] !== ']') loaded(file);
    };
    // Stack traces call the function by the enumerable property of which it is the value, there or further up.
    const named = create(getPrototypeOf(prototype));
    put(named, '_compile', compile, true);
    defineProperty(prototype, '_compile', {
      __proto__: null,
      get() {
        if (this !== prototype) guard(() => asked(this));
        return compile;
      },
      set(value) {
        if (this !== prototype) put(this, '_compile', value, true);
        else put(named, '_compile', (compile = value), true);
      },
      enumerable,
      configurable: true,
    });
    setPrototypeOf(prototype, named);
  }

  // What vm compiles carries the file's name in options alone: who takes one of its functions, has V8 asked from then on.
  function watchVm(vm) {
    const names = ['Script', 'createScript', 'runInContext', 'runInNewContext', 'runInThisContext', 'compileFunction'];
    names.push('SourceTextModule');
    const taken = [];
    const giveBack = () => {
      for (let at = 0; at < taken.length; at += 1) {
        const { name, get, value, enumerable } = taken[at];
        const now = getOwnPropertyDescriptor(vm, name);
        if (now && now.get === get) put(vm, name, value, enumerable);
      }
      watchCompiled();
    };
    for (const name of names) {
      const before = getOwnPropertyDescriptor(vm, name);
      if (!before || !before.configurable || !before.writable) continue;
      const { value, enumerable } = before;
      const get = () => {
        guard(giveBack);
        return value;
      };
      taken.push({ __proto__: null, name, get, value, enumerable });
      const set = (other) => put(vm, name, other, enumerable);
      defineProperty(vm, name, { __proto__: null, get, set, enumerable, configurable: true });
    }
  }

  // A thread with an environment of its own takes no hook from NODE_OPTIONS.
  function watchWorkers(threads) {
    const hooked = (env) => typeof env !== 'object' || env === null || includes(toText(env.NODE_OPTIONS), thisFile);
    const { Worker } = threads;
    threads.Worker = new Proxy(Worker, {
      __proto__: null,
      construct(target, values, made) {
        guard(() => {
          if (!hooked(values[1] && values[1].env)) {
            report('NF', 'blind: started a thread with an environment of its own, which has no module hook', '');
          }
        });
        return construct(target, values, made);
      },
    });
    // As ever: a thread's constructor is the one that the module has.
    defineProperty(Worker.prototype, 'constructor', {
      __proto__: null,
      value: threads.Worker,
      writable: true,
      configurable: true,
    });
    Module.syncBuiltinESMExports();
  }

  guard(() => {
    // Deno takes NODE_OPTIONS, too, and loads modules by itself; so may Bun once.
    const other = process.versions.deno ? 'Deno' : process.versions.bun ? 'Bun' : '';
    if (other !== '') {
      report('NF', `blind: is ${other}, which takes no hook of Node.js`, '');
      return;
    }
    const threads = require('worker_threads');
    const { isMainThread } = threads;
    report('NH', `node ${process.version}${isMainThread ? '' : ' worker'}`, process.execPath);
    watchCommonJs();
    // Node.js's own thread for the application's loaders takes no hooks of this kind: loading would fail.
    if (!threads.isInternalThread) watchEsm(isMainThread);
    watchWorkers(threads);
    watchCompile(Module.prototype);
    watchVm(require('vm'));
    // No trace of the hook among the modules.
    delete Module._cache[__filename];
  });
})();
// Code of this scheme is Node.js's own for tools that measure which lines a test covers.
//# sourceURL=node:plimsoll/module_hook
