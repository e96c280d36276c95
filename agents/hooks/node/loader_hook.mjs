// Reports what the loader of ECMAScript modules loads, from its own thread. For Node.js 18.19 to 22.14, which have no
// hooks in the application's thread. It must never change what is loaded, throw, or print.
import fs from 'node:fs';
import url from 'node:url';

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

function loaded(place) {
  try {
    if (!startsWith(place, 'file:')) return;
    let end = indexOf(place, '?');
    const hash = indexOf(place, '#');
    if (end < 0 || (hash >= 0 && hash < end)) end = hash;
    const file = fileURLToPath(end < 0 ? place : slice(place, 0, end));
    if (has(reported, file) || startsWith(file, base)) return;
    add(reported, file);
    const bytes = toBytes(file);
    const head = toBytes(`\x1eNM ${pid} ${lost} - 0 ${bytes.length}\n`);
    const before = lost;
    let written = false;
    try {
      const fits = head.length + bytes.length <= 4096;
      written = fits && writeOnce(fifo, toFifo, concat([head, bytes]));
    } catch {
      // Full, or nobody is there any more.
    }
    if (written) lost -= before;
    else if (!noteLoss()) lost += 1;
  } catch {
    // The application's loading goes on.
  }
}

export async function load(place, context, next) {
  const result = await next(place, context);
  loaded(place);
  return result;
}
