'use strict';
require('./truth.cjs');
require('picocolors');
require('nanoid');
