import { appendFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export async function load(url, context, next) {
  const loaded = await next(url, context);
  if (process.env.TRUTH && url.startsWith('file:')) appendFileSync(process.env.TRUTH, `${fileURLToPath(url)}\n`);
  return loaded;
}
