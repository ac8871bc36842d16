// Every published vector gets the answer that its expect.json states.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { answerTo } from './cli.mjs';

const VECTORS = fileURLToPath(new URL('../../pef/vectors', import.meta.url));
const INPUTS = ['bundle.pef.zip', 'bundle', 'journal', 'receipt.dsse.json'];

const names = !existsSync(VECTORS) ? [] : readdirSync(VECTORS).filter((name) => existsSync(join(VECTORS, name, 'expect.json')));

async function verify(folder) {
  const input = INPUTS.find((name) => existsSync(join(folder, name)));
  assert.notEqual(input, undefined, 'the vector has no input');
  const option = (flag, name) => (existsSync(join(folder, name)) ? [flag, join(folder, name)] : []);
  const asked = existsSync(join(folder, 'ask.json')) ? JSON.parse(readFileSync(join(folder, 'ask.json'), 'utf8')) : {};
  const question = [[asked.part === undefined ? '--stream' : '--body', asked.call], ['--part', asked.part], ['--place', asked.place]].filter(([, value]) => value !== undefined).flat().map(String);
  const files = [['--trust', 'trust.json'], ['--key', 'key.pem'], ['--against', 'against'], ['--disclosure', 'disclosure.json'], ['--events', 'events'], ['--content', 'content']];
  const { text, exit } = await answerTo(['--json', ...files.flatMap(([flag, name]) => option(flag, name)), ...question, join(folder, input)]);
  return { exit, ...JSON.parse(text) };
}

test('vectors', { skip: names.length === 0 && `no vectors in ${VECTORS}` }, async (t) => {
  for (const name of names) {
    await t.test(name, async () => {
      const corrected = join(VECTORS, name, 'expect-2.json');
      const stated = existsSync(corrected) ? corrected : join(VECTORS, name, 'expect.json');
      const { about, ...expected } = JSON.parse(readFileSync(stated, 'utf8'));
      const answer = await verify(join(VECTORS, name));
      const told = Object.fromEntries(Object.keys(expected).map((member) => [member, answer[member]]));
      assert.deepEqual(told, expected, about);
    });
  }
});
