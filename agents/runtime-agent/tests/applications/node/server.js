// The application under test. `node --import ./truth.mjs server.js` also writes what was really loaded.
'use strict';
const fs = require('fs');
const path = require('path');
const { Worker } = require('worker_threads');
const { execFileSync } = require('child_process');
require('./truth.cjs');

const express = require('express'); // brings a second debug and a second ms
const debug = require('debug');
const fp = require('lodash/fp');
const licenses = require('spdx-license-ids'); // nothing but JSON
const below = path.join(__dirname, 'node_modules');

// Never loaded: read as data, read as metadata, listed, asked for, resolved.
const css = fs.readFileSync(path.join(below, 'normalize.css/normalize.css'), 'utf8').length;
JSON.parse(fs.readFileSync(path.join(below, 'zod/package.json')));
fs.readdirSync(path.join(below, 'moment'));
fs.statSync(path.join(below, 'jquery/dist/jquery.js'));
require.resolve('minimist');

const app = express();
app.get('/', (request, response) => response.send(fp.join('-', [css > 0, licenses.length > 0])));
const server = app.listen(0, '127.0.0.1', async () => {
  debug('test')('never shown');
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  const { default: chalk } = await import('chalk'); // an ECMAScript module
  const { v4 } = await import('uuid'); // by another door than require would take
  process.env.LATE = require('left-pad')('7', 3, '0'); // late
  await new Promise((done, failed) => {
    const worker = new Worker(path.join(__dirname, 'worker.js'));
    worker.on('error', failed).on('exit', done);
  });
  execFileSync(process.execPath, [path.join(__dirname, 'child.js')], { stdio: 'inherit' });
  console.log(await answer.text(), chalk.level >= 0, v4().length);
  server.close();
});
