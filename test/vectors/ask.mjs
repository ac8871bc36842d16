// Puts questions to the JavaScript verifier: one JSON list of arguments a line on stdin, one answer a line on stdout.

import { createInterface } from 'node:readline';

import { answerTo } from '../../spec/verifiers/javascript/cli.mjs';

for await (const line of createInterface({ input: process.stdin })) {
  const { text, exit } = await answerTo(['--json', ...JSON.parse(line)]);
  process.stdout.write(`${JSON.stringify({ exit, ...JSON.parse(text) })}\n`);
}
