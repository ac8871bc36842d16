// Every flip, deletion and truncation of a small bundle and a small journal is refused with a code.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KEYS, call, items, makeBundle, makeJournal, makeLines, sha256, uuid, zipOf } from './fixture.mjs';
import { verifyBundle, verifyJournal } from './pef-verify.mjs';
import { REASONS } from './words.mjs';

function* mutations(bytes) {
  for (let at = 0; at < bytes.length; at += 1) {
    const flipped = Buffer.from(bytes);
    flipped[at] ^= 1 << (at % 8);
    yield [`byte ${at} flipped`, flipped];
    yield [`byte ${at} deleted`, Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])];
    yield [`cut at ${at}`, bytes.subarray(0, at)];
  }
}

async function refusesAll(bytes, verify) {
  const seen = new Map();
  for (const [what, mutated] of mutations(bytes)) {
    const result = await verify(mutated);
    assert.equal(result.ok, false, what);
    assert.ok(result.exit === 2 || result.reason === 'TRUST_INVALID', `${what}: ${result.reason}`);
    assert.ok(REASONS[result.reason] !== undefined, `${what}: ${result.reason}`);
    assert.ok(Object.values(result.verdicts).some((verdict) => verdict === 'failed' || verdict === 'open') || result.exit === 6, what);
    seen.set(result.reason, (seen.get(result.reason) ?? 0) + 1);
  }
  return seen;
}

test('of a bundle', async (t) => {
  const body = Buffer.from('x');
  const digest = sha256(body).toString('hex');
  const stored = call(1, { body: { mode: 'full', reason: 'test' }, request: { bytes: 1, method: 'POST', sha256: `sha256:${digest}` } });
  const zip = zipOf(makeBundle({ events: [stored], anchorBefore: 2, more: { [`bodies/${digest}`]: body } }));
  assert.equal((await verifyBundle({ zip })).ok, true);
  const seen = await refusesAll(zip, (mutated) => verifyBundle({ zip: mutated }));
  t.diagnostic(`${3 * zip.length} mutations: ${JSON.stringify(Object.fromEntries(seen))}`);
});

test('of a journal', async (t) => {
  const { receipt, checkpoint } = KEYS; // no manifest key: nothing here needs it, so nobody would miss it
  // No padding (zero bytes at the end may come and go), and an entry as the last frame: what is cut off behind
  // the newest checkpoint is not known to have been there.
  const [first, second] = [makeLines({ events: [call(1)] }), makeLines({ run: uuid(2), events: [] })];
  const made = makeJournal([[...items(first), { checkpoint: true }], items(second)], { padding: 0, keys: { receipt, checkpoint } });
  const verify = ({ segments, ...rest }) => verifyJournal({
    ...rest, segments: segments.map(({ name, bytes }) => ({ name, head: async () => bytes.subarray(0, 256), read: async () => bytes })),
  });
  assert.equal((await verify(made)).ok, true);
  const withSegment = (i) => (bytes) => ({ ...made, segments: made.segments.map((segment, at) => (at === i ? { ...segment, bytes } : segment)) });
  const parts = [
    [made.segments[0].bytes, withSegment(0)],
    [made.segments[1].bytes, withSegment(1)],
    [made.checkpoint, (bytes) => ({ ...made, checkpoint: bytes })],
    [made.trust, (trust) => ({ ...made, trust })],
  ];
  for (const [bytes, put] of parts) {
    const seen = await refusesAll(bytes, (mutated) => verify(put(mutated)));
    t.diagnostic(`${3 * bytes.length} mutations: ${JSON.stringify(Object.fromEntries(seen))}`);
  }
});
