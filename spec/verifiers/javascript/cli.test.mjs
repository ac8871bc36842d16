import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { ENTRY_TYPE, KEYS, RUN, call, envelope, items, makeBundle, makeJournal, makeLines, sha256, sorted, trustOf, zipOf } from './fixture.mjs';

const PROGRAM = fileURLToPath(new URL('pef-verify.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'pef-verify-'));
after(() => rmSync(folder, { recursive: true }));

function put(name, bytes) {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  return file;
}

function putFolder(name, files) {
  for (const [path, bytes] of files) put(join(name, path), bytes);
  return join(folder, name);
}

function run(...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8' });
  assert.equal(stderr, '');
  return { status, stdout };
}

function json(...args) {
  const { status, stdout } = run('--json', ...args);
  assert.match(stdout, /^\{.*\}\n$/);
  const answer = JSON.parse(stdout);
  assert.deepEqual(Object.keys(answer), ['ok', 'reason', 'seq', 'index', 'verdicts', 'run', 'entries', 'kind']);
  assert.deepEqual(Object.keys(answer.verdicts), ['integrity', 'authenticity', 'completeness', 'anchoring']);
  return { status, ...answer };
}

const TRUST = put('trust.json', trustOf(Object.values(KEYS)));
const zip = zipOf(makeBundle());
const good = put('good.pef.zip', zip);

test('answers in one line of JSON', () => {
  assert.deepEqual(json(good), {
    status: 0, ok: true, reason: null, seq: null, index: null, run: RUN, entries: 4, kind: 'bundle',
    verdicts: { integrity: 'ok', authenticity: 'self_asserted', completeness: 'complete', anchoring: 'absent' },
  });
  const torn = put('torn.pef.zip', zipOf(makeBundle({ sealed: false })));
  assert.deepEqual(json('--trust', TRUST, torn), {
    status: 2, ok: false, reason: 'SEAL_MISSING', seq: 3, index: null, run: RUN, entries: 3, kind: 'bundle',
    verdicts: { integrity: 'unchecked', authenticity: 'unchecked', completeness: 'open', anchoring: 'unchecked' },
  });
});

test('answers in words: who vouched, and where it failed', () => {
  const self = run(good);
  assert.equal(self.status, 0);
  assert.match(self.stdout, /^VERIFIED: bundle of run \S+, 4 entries\n/);
  assert.match(self.stdout, /self_asserted .*nobody has vouched for them/);
  const trusted = run('--trust', TRUST, good);
  assert.match(trusted.stdout, /authenticity +trusted/);
  assert.doesNotMatch(trusted.stdout, /self_asserted/);
  const edited = makeBundle({ late: (files) => files.set('receipts.ndjson', Buffer.from(files.get('receipts.ndjson').toString().replace('"total_us":2000', '"total_us":2001'))) });
  const refused = run(put('edited.pef.zip', zipOf(edited)));
  assert.equal(refused.status, 2);
  assert.match(refused.stdout, /^REFUSED: SIGNATURE_INVALID at seq 2\n/);
});

test('reads folders, journals, receipts and externals', () => {
  assert.equal(json(putFolder('bundle', makeBundle())).status, 0);
  const linked = putFolder('linked', makeBundle());
  symlinkSync(join(linked, 'checkpoint'), join(linked, 'zz'));
  assert.equal(json(linked).reason, 'PATH_FORBIDDEN');
  assert.equal(json(putFolder('latin', [...makeBundle(), ['Ä', Buffer.alloc(0)]])).reason, 'PATH_FORBIDDEN');

  const made = makeJournal([items(makeLines())]);
  const journal = putFolder('journal', [['checkpoint', made.checkpoint], ['trust.json', made.trust], ...made.segments.map(({ name, bytes }) => [`segments/${name}`, bytes])]);
  assert.deepEqual([json(journal).status, json(journal).kind, json(journal).entries], [0, 'journal', 4]);
  assert.equal(json('--trust', TRUST, journal).verdicts.authenticity, 'trusted');

  const receipt = put('receipt.dsse.json', envelope(ENTRY_TYPE, makeLines().lines[1], KEYS.receipt));
  const pem = put('key.pem', createPublicKey({ key: KEYS.receipt.spki, type: 'spki', format: 'der' }).export({ type: 'spki', format: 'pem' }));
  assert.equal(json('--key', pem, receipt).status, 0);
  assert.equal(json('--key', put('key.der', KEYS.receipt.spki), receipt).kind, 'receipt');
  assert.equal(json('--key', pem, good).reason, 'ENVELOPE_MALFORMED');
  assert.deepEqual([json('--trust', TRUST, receipt).status, json('--trust', TRUST, receipt).kind], [0, 'receipt']);
  assert.equal(json('--trust', put('not-trust.json', '{}'), receipt).reason, 'TRUST_INVALID');
  const kept = put('kept', made.checkpoint);
  assert.deepEqual([json('--against', kept, journal).status, json('--against', kept, journal).verdicts.completeness], [0, 'complete']);
  for (const args of [[receipt], ['--key', pem, '--trust', TRUST, receipt], ['--key', TRUST, receipt], ['--key', pem, journal], ['--against', kept, good]]) {
    assert.deepEqual([json(...args).status, json(...args).reason], [6, 'ARGUMENT_INVALID']);
  }

  const body = Buffer.alloc(100, 'b');
  const digest = sha256(body).toString('hex');
  const bundle = zipOf(makeBundle({
    events: [call(1, { body: { mode: 'full' }, request: { bytes: 100, method: 'POST', sha256: `sha256:${digest}` } })],
    externals: [{ bytes: 100, role: 'body', sha256: `sha256:${digest}` }],
  }));
  const external = put('external.pef.zip', bundle);
  assert.equal(json(external).reason, 'MISSING_EXTERNAL');
  put(`external.pef.zip.d/${digest}`, body);
  assert.equal(json(external).status, 0);
  put(`external.pef.zip.d/${digest}`, Buffer.alloc(100, 'c'));
  assert.equal(json(external).reason, 'EXTERNAL_DIGEST');
});

test('answers 6 where an argument is at fault', () => {
  assert.equal(json(join(folder, 'none.pef.zip')).status, 6);
  assert.equal(json('--trust', join(folder, 'none'), good).status, 6);
  assert.equal(json(good, good).status, 6);
  assert.equal(json().status, 6);
  assert.equal(json('--nonsense', good).status, 6);
  assert.equal(json('--key', TRUST, folder).status, 6);
  const invalid = json('--trust', put('bad-trust.json', '{}'), good);
  assert.deepEqual([invalid.status, invalid.reason], [6, 'TRUST_INVALID']);
  assert.equal(run().status, 6);
  assert.match(run('--help').stdout, /^usage: /);
});

test('refuses an input above 4 GiB unread, and runs through a link', () => {
  const huge = put('huge.pef.zip', '');
  truncateSync(huge, 2 ** 32);
  assert.equal(json(huge).reason, 'CONTAINER_LIMIT');
  const link = join(folder, 'pef-verify');
  symlinkSync(PROGRAM, link);
  const { status, stdout } = spawnSync(process.execPath, [link, good], { encoding: 'utf8' });
  assert.equal(status, 0);
  assert.match(stdout, /^VERIFIED/);
});
