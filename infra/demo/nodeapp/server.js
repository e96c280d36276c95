// The demo's Node.js service: loopback only, and some of its packages load only when asked for.
'use strict';

const fs = require('fs');
const path = require('path');
const express = require('express');
const lodash = require('lodash');
const minimist = require('minimist');
const yaml = require('js-yaml');
const truth = require('./truth');

const { port } = minimist(process.argv.slice(2), { default: { port: process.env.PORT || 8000 } });
const config = yaml.safeLoad(fs.readFileSync(path.join(__dirname, 'config.yaml'), 'utf8'));
const app = express();

const pages = {
  '/health': () => 'ok',
  '/': () => lodash.upperFirst(config.title),
  '/template': () => require('ejs').render('<p><%= title %></p>', config),
  '/text': () => require('marked')('# loaded on request'),
  '/directory': () => require('mkdirp').sync(require('os').tmpdir()) || 'there',
  '/self-check': async () => (await require('node-fetch')(`http://127.0.0.1:${port}/health`)).text(),
  // An ES module, by dynamic import.
  '/id': async () => (await import('uuid')).v4().length.toString(),
  // Reads a package's data, and another package's description: neither is a use.
  '/data': () => {
    const map = fs.readFileSync(path.join(__dirname, 'node_modules/jquery/dist/jquery.min.map'));
    const version = require('handlebars/package.json').version;
    return `${map.length} ${version}`;
  },
  // Loads a package that nothing has loaded yet, and says when it began to.
  '/library': () => {
    const began = Date.now();
    const year = require('moment')(0).utc().year();
    return JSON.stringify({ began_ms: began, year });
  },
  '/modules': () => JSON.stringify(truth.modules()),
};

for (const [address, page] of Object.entries(pages)) {
  app.get(address, async (request, response) => {
    try {
      response.send(await page());
    } catch (error) {
      response.status(500).send(String(error));
    }
  });
}

const server = app.listen(port, '127.0.0.1', () => console.log(`serving on http://127.0.0.1:${port}`));
app.post('/quit', (request, response) => {
  response.send('stopping');
  server.close();
  server.closeAllConnections?.();
});
