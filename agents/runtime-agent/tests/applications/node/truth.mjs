// Appends what the loader of ECMAScript modules loads to the file that TRUTH names.
import { register } from 'node:module';

register('./truth-loader.mjs', import.meta.url);
