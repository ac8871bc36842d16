// Every published vector gets the answer that its expect.json states.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const VECTORS = fileURLToPath(new URL('../../pef/vectors', import.meta.url));
const PROGRAM = fileURLToPath(new URL('pef-verify.mjs', import.meta.url));
const INPUTS = ['bundle.pef.zip', 'bundle', 'journal', 'receipt.dsse.json'];

const names = !existsSync(VECTORS) ? [] : readdirSync(VECTORS, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(join(VECTORS, entry.name, 'expect.json'))).map(({ name }) => name);

function verify(folder) {
  const input = INPUTS.find((name) => existsSync(join(folder, name)));
  assert.notEqual(input, undefined, 'the vector has no input');
  const option = (flag, name) => (existsSync(join(folder, name)) ? [flag, join(folder, name)] : []);
  const args = [PROGRAM, '--json', ...option('--trust', 'trust.json'), ...option('--key', 'key.pem'), join(folder, input)];
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, stdout) => resolve({ exit: error?.code ?? 0, ...JSON.parse(stdout) }));
  });
}

test('vectors', { concurrency: 2, skip: names.length === 0 && `no vectors in ${VECTORS}` }, async (t) => {
  await Promise.all(names.map((name) => t.test(name, async () => {
    const folder = join(VECTORS, name);
    const expected = JSON.parse(readFileSync(join(folder, 'expect.json'), 'utf8'));
    const answer = await verify(folder);
    for (const member of ['exit', 'reason', 'seq', 'index', 'verdicts']) {
      if (Object.hasOwn(expected, member)) assert.deepEqual(answer[member], expected[member], `${member}: ${JSON.stringify(answer)}`);
    }
  })));
});
