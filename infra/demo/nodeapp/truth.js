// What this process has really loaded, told by Node.js itself: the demo's check compares with it.
// It must never load a package, or it would change what it tells.
'use strict';

const path = require('path');
const { fileURLToPath, pathToFileURL } = require('url');
const { register } = require('module');
const { MessageChannel } = require('worker_threads');

const imported = new Set();
const { port1, port2 } = new MessageChannel();
port1.on('message', (url) => imported.add(url));
port1.unref();
register('./truth-loader.mjs', pathToFileURL(__filename), { data: { port: port2 }, transferList: [port2] });

/** Files of modules: CommonJS by require.cache, ES modules by a loader that only listens. JSON alone is no code. */
exports.modules = () => {
  const urls = [...imported].filter((url) => url.startsWith('file:')).map((url) => fileURLToPath(url));
  const files = [...Object.keys(require.cache), ...urls].filter((file) => path.extname(file) !== '.json');
  return { modules: [...new Set(files)].map((file) => path.relative(__dirname, file)).sort() };
};
