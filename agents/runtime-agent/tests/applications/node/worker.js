'use strict';
require('./truth.cjs');
require('yaml').parse('a: 1');
