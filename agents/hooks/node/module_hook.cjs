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
  // Taken now: an application may replace functions of these modules.
  const { openSync, writeSync, closeSync, constants } = require('fs');
  const path = require('path');
  const { fileURLToPath, pathToFileURL } = require('url');
  const Module = require('module');
  const base = path.dirname(__dirname);
  const fifo = path.join(base, 'reports');
  const losses = path.join(base, 'losses');
  // For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now.
  const flags = constants.O_RDWR | constants.O_NONBLOCK;
  const reported = new Set();
  const has = Set.prototype.has.bind(reported);
  const add = Set.prototype.add.bind(reported);
  let lost = 0;
  let failures = 0;

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
      if (writeOnce(losses, constants.O_WRONLY | constants.O_APPEND, Buffer.from('N'))) return;
    } catch {
      // Counted with the next report.
    }
    lost += 1;
  }

  function report(kind, name, file) {
    const nameBytes = Buffer.from(name).subarray(0, 512);
    let pathBytes = Buffer.from(file);
    const room = REPORT_MAX_BYTES - HEAD_MAX_BYTES - nameBytes.length;
    const cut = pathBytes.length > room;
    if (cut) pathBytes = pathBytes.subarray(0, room);
    const head = `\x1e${kind} ${process.pid} ${lost} ${cut ? 't' : '-'} ${nameBytes.length} ${pathBytes.length}\n`;
    const before = lost;
    try {
      if (writeOnce(fifo, flags, Buffer.concat([Buffer.from(head), nameBytes, pathBytes]))) {
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
          report('NF', String((error && error.message) || error), '');
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

  function loaded(file) {
    if (typeof file !== 'string' || file[0] !== '/' || has(file) || silent) return;
    add(file);
    if (file.startsWith(base + '/')) return;
    report('NM', '', file);
    // These read modules and evaluate them by themselves.
    for (const name of ['/jest-runtime/', '/vite-node/', '/vitest/dist/']) {
      if (file.includes('/node_modules' + name)) {
        report('NF', `blind: runs modules by itself (${name.split('/')[1]}), which the module hook does not see`, '');
      }
    }
  }

  function loadedUrl(url) {
    if (typeof url === 'string' && url.startsWith('file:')) loaded(fileURLToPath(url.split(/[?#]/)[0]));
  }

  function watchCommonJs() {
    const cache = Module._cache;
    for (const file of Object.keys(cache)) loaded(file);
    // Node.js takes the cache from here whenever it looks for a module; an application sees the same object.
    const watched = new Proxy(cache, {
      set(target, key, value) {
        target[key] = value;
        guard(() => loaded(key));
        return true;
      },
      defineProperty(target, key, descriptor) {
        guard(() => loaded(key));
        return Reflect.defineProperty(target, key, descriptor);
      },
    });
    Module._cache = watched;
    if (Module._cache !== watched) throw new Error('the cache of modules cannot be replaced');
    // What was made before this hook keeps its own name for it.
    if (require.cache !== watched) require.cache = watched;
  }

  function watchEsm() {
    if (typeof Module.registerHooks === 'function') {
      Module.registerHooks({
        load(url, context, next) {
          const result = next(url, context);
          guard(() => loadedUrl(url));
          return result;
        },
      });
      return;
    }
    if (typeof Module.register === 'function') {
      // On a thread of its own, which has this hook too, where it must not begin again.
      Module.register(pathToFileURL(path.join(__dirname, 'loader_hook.mjs')).href, { data: { base } });
      return;
    }
    watchScripts();
  }

  // Before 18.19: what V8 itself says about each script that it parses.
  function watchScripts() {
    const inspector = require('inspector');
    const session = new inspector.Session();
    session.connect();
    session.on('Debugger.scriptParsed', (message) => guard(() => loadedUrl(message.params.url)));
    session.post('Debugger.enable');
    // A `debugger` statement stops nobody.
    session.post('Debugger.setSkipAllPauses', { skip: true });
  }

  // A thread with an environment of its own takes no hook from NODE_OPTIONS.
  function watchWorkers(threads) {
    const hooked = (env) => typeof env !== 'object' || env === null || String(env.NODE_OPTIONS).includes(__filename);
    threads.Worker = new Proxy(threads.Worker, {
      construct(target, values, made) {
        guard(() => {
          if (!hooked(values[1] && values[1].env)) {
            report('NF', 'blind: started a thread with an environment of its own, which has no module hook', '');
          }
        });
        return Reflect.construct(target, values, made);
      },
    });
    Module.syncBuiltinESMExports();
  }

  guard(() => {
    const threads = require('worker_threads');
    const { isMainThread } = threads;
    report('NH', `node ${process.version}${isMainThread ? '' : ' worker'}`, process.execPath);
    watchCommonJs();
    watchEsm();
    watchWorkers(threads);
    // No trace of the hook among the modules.
    delete Module._cache[__filename];
  });
})();
