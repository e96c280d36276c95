// Reports what the loader of ECMAScript modules loads, from its own thread. For Node.js 18.19 to 22.14, which have no
// hooks in the application's thread. It must never change what is loaded, throw, or print.
import fs from 'node:fs';
import url from 'node:url';

// What a FIFO takes in one piece (PIPE_BUF).
const REPORT_MAX_BYTES = 4096;

// Taken now: loaders of the application run in this thread, too.
const { openSync, writeSync, closeSync, constants } = fs;
const { fileURLToPath } = url;
const { from: toBytes, concat } = Buffer;
const { pid } = process;
const uncurried = Function.prototype.bind.bind(Function.prototype.call);
const startsWith = uncurried(String.prototype.startsWith);
const indexOf = uncurried(String.prototype.indexOf);
const slice = uncurried(String.prototype.slice);
const has = uncurried(Set.prototype.has);
const add = uncurried(Set.prototype.add);
const toFifo = constants.O_RDWR | constants.O_NONBLOCK;
const toLosses = constants.O_WRONLY | constants.O_APPEND;
const reported = new Set();
let fifo = '';
let losses = '';
let base = '';
let lost = 0;

export function initialize(data) {
  base = `${data.base}/`;
  fifo = `${base}reports`;
  losses = `${base}losses`;
}

function writeOnce(file, how, bytes) {
  const descriptor = openSync(file, how);
  try {
    return writeSync(descriptor, bytes, 0, bytes.length) === bytes.length;
  } finally {
    closeSync(descriptor);
  }
}

function noteLoss() {
  try {
    return writeOnce(losses, toLosses, toBytes('N'));
  } catch {
    // Counted with the next report.
    return false;
  }
}

function report(kind, text, file) {
  const name = toBytes(text);
  const bytes = toBytes(file);
  const head = toBytes(`\x1e${kind} ${pid} ${lost} - ${name.length} ${bytes.length}\n`);
  const before = lost;
  let written = false;
  try {
    const fits = head.length + name.length + bytes.length <= REPORT_MAX_BYTES;
    written = fits && writeOnce(fifo, toFifo, concat([head, name, bytes]));
  } catch {
    // Full, or nobody is there any more.
  }
  if (written) lost -= before;
  else if (!noteLoss()) lost += 1;
}

// These read modules and evaluate them by themselves.
const runners = ['vite-node/', 'vitest/dist/'];

function loaded(place) {
  try {
    if (!startsWith(place, 'file:')) return;
    let end = indexOf(place, '?');
    const hash = indexOf(place, '#');
    if (end < 0 || (hash >= 0 && hash < end)) end = hash;
    const file = fileURLToPath(end < 0 ? place : slice(place, 0, end));
    if (has(reported, file) || startsWith(file, base)) return;
    add(reported, file);
    report('NM', '', file);
    for (let at = 0; at < runners.length; at += 1) {
      if (runners[at] === '' || indexOf(file, `/node_modules/${runners[at]}`) < 0) continue;
      const name = slice(runners[at], 0, indexOf(runners[at], '/'));
      // Said once.
      runners[at] = '';
      report('NF', `blind: runs modules by itself (${name}), which the module hook does not see`, '');
    }
  } catch {
    // The application's loading goes on.
  }
}

export async function load(place, context, next) {
  const result = await next(place, context);
  loaded(place);
  return result;
}
//# sourceURL=node:plimsoll/loader_hook
