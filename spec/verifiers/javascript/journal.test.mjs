import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ISS, KEYS, call, envelope, entryFrame, frame, header, items, jcs, leaf, makeJournal, makeKey, makeLines, note, rotate, sha256, trustOf, uuid, ENTRY_TYPE } from './fixture.mjs';
import { publicKeyOf, verifyJournal, verifyReceipt } from './pef-verify.mjs';

const input = ({ segments, ...rest }) => ({
  ...rest, segments: segments.map(({ name, bytes }) => ({ name, head: async () => bytes.subarray(0, 256), read: async () => bytes })),
});
const run = (n, more = {}) => items(makeLines({ run: uuid(n), ...more }));
const TRUST = trustOf(Object.values(KEYS));

async function accepts(journal, authenticity = 'self_asserted', options = {}) {
  const result = await verifyJournal(input(journal), options);
  assert.equal(result.reason, null, `${result.step} ${result.reason} ${result.index}`);
  assert.equal(result.verdicts.integrity, 'ok');
  assert.equal(result.verdicts.authenticity, authenticity);
  return result;
}

async function refuses(journal, reason, index, seq = null, options = {}) {
  const result = await verifyJournal(input(journal), options);
  assert.deepEqual([result.ok, result.reason, result.index, result.seq], [false, reason, index, seq], result.step);
  return result;
}

/** A journal of one run in one segment, whose frames `change` may replace. */
const withFrames = (change, list = run(1)) => makeJournal([list], { frames: change });
const withBytes = (change, segment = 0, journal = makeJournal([run(1), run(2)])) => {
  const bytes = Buffer.from(journal.segments[segment].bytes);
  journal.segments[segment].bytes = change(bytes) ?? bytes;
  return journal;
};

test('accepts good journals', async () => {
  await accepts(makeJournal([run(1)]));
  await accepts(makeJournal([[...run(1), { checkpoint: true }], [{ checkpoint: true }, ...run(2)]]), 'trusted', { trust: TRUST });
  await accepts(makeJournal([[]], { padding: 0 }));
  await accepts(makeJournal([run(1, { sealed: false })]));
  const [a, b] = [run(1), run(2)];
  await accepts(makeJournal([[a[0], b[0], b[1], a[1], b[2], b[3], a[2], a[3]]]));
  const older = { ...makeJournal([run(1)]), checkpoint: note(ISS, makeJournal([run(1)]).leaves.slice(0, 2), KEYS.checkpoint) };
  await accepts(older);
  await accepts({ ...makeJournal([run(1)]), checkpoint: null });
});

test('calls unsigned lines authentic only where a checkpoint covers them', async () => {
  const lines = run(1, { sign: 'checkpoint', open: { sign: 'checkpoint' } });
  await accepts(makeJournal([lines]), 'trusted', { trust: TRUST });
  await accepts(makeJournal([[...lines, { checkpoint: true }]]), 'trusted', { trust: TRUST });
  await accepts({ ...makeJournal([lines]), checkpoint: null }, 'unchecked', { trust: TRUST });
  const forged = withFrames((parts) => { parts[1] = entryFrame(0, lines[0].line, Buffer.alloc(64)); }, lines);
  await refuses(forged, 'SIGNATURE_SURPLUS', 0, 0);
});

test('J1: headers of segments', async () => {
  const cases = [(b) => { b[0] ^= 1; }, (b) => { b[8] ^= 1; }, (b) => { b[48] = 203; }, (b) => { b[50] ^= 1; }, (b) => { b[251] = 1; }, (b) => { b[255] ^= 1; }, (b) => b.subarray(0, 255)];
  for (const change of cases) await refuses(withBytes(change), 'SEGMENT_HEADER', null);
  await refuses({ ...makeJournal([run(1)]), segments: [] }, 'SEGMENT_HEADER', null);
  const other = makeJournal([run(1), run(2)]);
  other.segments[1].bytes = Buffer.concat([header(4, other.leaves[3], 'gateway.example/main/2'), other.segments[1].bytes.subarray(256)]);
  await refuses(other, 'SEGMENT_HEADER', null);
  const renamed = makeJournal([run(1)]);
  renamed.segments[0].name = '00000000000000000001.seg';
  await refuses(renamed, 'SEGMENT_HEADER', null);
});

test('J2: torn at the end, damaged before it', async () => {
  const journal = makeJournal([run(1)], { padding: 0 });
  const whole = journal.segments[0].bytes;
  const last = whole.length - entryFrame(3, run(1)[3].line, run(1)[3].signature).length;
  for (const cut of [last + 1, last + 5, last + 16, last + 17, last + 300, whole.length - 1]) {
    await refuses({ ...journal, segments: [{ ...journal.segments[0], bytes: whole.subarray(0, cut) }] }, 'JOURNAL_TORN', 3);
  }
  await refuses({ ...journal, segments: [{ ...journal.segments[0], bytes: whole.subarray(0, last) }] }, 'JOURNAL_TRUNCATED', 3);
  await refuses(withBytes((b) => { b[b.length - 1] = 1; }, 1), 'JOURNAL_TORN', 8);
  await refuses(withBytes((b) => { b[300] ^= 1; }), 'FRAME_INVALID', 0);
  await refuses(withBytes((b) => { b[300] ^= 1; }, 1), 'FRAME_INVALID', 4);
  await refuses(withBytes((b) => { b.fill(0, 256, 260); }, 1), 'FRAME_INVALID', 4);
  await refuses(withBytes((b) => { b.fill(255, 256, 260); }, 1), 'FRAME_INVALID', 4);
  await refuses(withFrames((parts) => { parts[4] = frame(9, 3, Buffer.of(0)); }), 'JOURNAL_TORN', 3);
  await refuses(withFrames((parts) => { parts[3] = frame(1, 2, Buffer.of(63, 1, 2)); }), 'FRAME_INVALID', 2);
  await refuses(withFrames((parts) => { parts[3] = frame(1, 2, Buffer.concat([Buffer.of(64), Buffer.alloc(10)])); }), 'FRAME_INVALID', 2);
  await refuses(withFrames((parts) => { parts.push(frame(4, 4, Buffer.of(1))); }), 'FRAME_INVALID', 4);
});

test('J2: finds a whole frame far behind a bad one, and does not search for ever', async () => {
  const journal = (tail) => makeJournal([run(1)], { padding: 0, frames: (parts) => parts.push(tail) });
  const claims = (length, bytes) => {
    const noise = Buffer.alloc(bytes);
    for (let i = 0; i + 5 <= noise.length; i += 5) noise.writeUIntLE(0x02_00_00_00_00 + length, i, 5); // a blob each
    return noise;
  };
  const noise = claims(5 << 8, 3 << 20);
  await refuses(journal(noise), 'JOURNAL_TORN', 4);
  await refuses(journal(claims(1 << 20, 3 << 20)), 'FRAME_INVALID', 4); // more than 1 GiB to look at
  await refuses(journal(claims((32 << 16) + 33, 6 << 20)), 'JOURNAL_TORN', 4); // longer than any frame
  await refuses(journal(Buffer.concat([noise, frame(2, 77, Buffer.from('whole')), Buffer.alloc(1000, 7)])), 'FRAME_INVALID', 4);
  await refuses(journal(Buffer.concat([Buffer.alloc(99, 7), frame(2, 77, noise.subarray(0, 200000))])), 'FRAME_INVALID', 4);
});

test('J3: indexes and segments in their places', async () => {
  const [, , c, d] = run(1);
  await refuses(withFrames((parts) => { parts[3] = entryFrame(3, c.line, c.signature); }), 'INDEX_MISMATCH', 2);
  await refuses(withFrames((parts) => { parts.splice(3, 1); }), 'INDEX_MISMATCH', 2);
  await refuses(withFrames((parts) => { parts.push(frame(4, 5, Buffer.of(0))); }), 'INDEX_MISMATCH', 4);
  await refuses(withFrames((parts) => { parts.push(frame(3, 3, note(ISS, [], KEYS.checkpoint))); }), 'INDEX_MISMATCH', 4);
  await refuses(withFrames((parts) => { parts.push(frame(4, 4, Buffer.of(0)), entryFrame(4, d.line, d.signature)); }), 'INDEX_MISMATCH', 4);
  await refuses(withFrames((parts) => { parts.push(frame(4, 4, Buffer.of(0)), Buffer.of(0, 0, 1)); }), 'INDEX_MISMATCH', 4);
  const unended = makeJournal([run(1), run(2)], { frames: (parts, s) => { if (s === 0) parts.pop(); } });
  await refuses(unended, 'INDEX_MISMATCH', 4);
  const missing = makeJournal([run(1), run(2), run(3)]);
  missing.segments.splice(1, 1);
  await refuses(missing, 'INDEX_MISMATCH', 4);
  const first = makeJournal([run(1), run(2)]);
  first.segments.shift();
  await refuses(first, 'INDEX_MISMATCH', 0);
  const relinked = makeJournal([run(1), run(2)]);
  relinked.segments[1].bytes = Buffer.concat([header(4, relinked.leaves[2]), relinked.segments[1].bytes.subarray(256)]);
  await refuses(relinked, 'INDEX_MISMATCH', 4);
  const nonzero = makeJournal([run(1)]);
  nonzero.segments[0].bytes = Buffer.concat([header(0, leaf(Buffer.of(1))), nonzero.segments[0].bytes.subarray(256)]);
  await refuses(nonzero, 'INDEX_MISMATCH', 0);
});

test('J4: the steps of lines, each in its run', async () => {
  const line = (seq, change, more = {}) => makeJournal([run(1, { ...more, spoil: (entry, at) => (at === seq ? change(entry) : entry) })]);
  await refuses(line(1, (entry) => Buffer.from(`${jcs(entry)} `)), 'LINE_NOT_CANONICAL', 1, 1);
  await refuses(line(1, () => Buffer.from('{')), 'LINE_MALFORMED', 1);
  await refuses(line(1, () => Buffer.alloc(0)), 'LINE_LENGTH', 1);
  await refuses(line(1, (entry) => ({ ...entry, more: 1 })), 'LINE_SCHEMA', 1, 1);
  await refuses(line(2, (entry) => ({ ...entry, seq: 3 })), 'SEQ_MISMATCH', 2, 3);
  await refuses(line(2, (entry) => ({ ...entry, run: uuid(7) })), 'SEQ_MISMATCH', 2, 2);
  await refuses(line(2, (entry) => ({ ...entry, iss: 'gateway.example/main/2' })), 'RUN_MISMATCH', 2, 2);
  await refuses(line(2, (entry) => ({ ...entry, prev: `leaf:${'0'.repeat(64)}` })), 'CHAIN_BROKEN', 2, 2);
  await refuses(line(2, (entry) => ({ ...entry, kid: KEYS.checkpoint.kid })), 'KEY_MISMATCH', 2, 2);
  await refuses(makeJournal([run(1, { receipt: makeKey('x', 'receipt') })]), 'KEY_MISMATCH', 0, 0);
  await refuses(line(2, (entry) => ({ ...entry, mono_us: 0 })), 'TIME_REVERSED', 2, 2);
  const [, b] = run(1);
  await refuses(withFrames((parts) => { parts[2] = entryFrame(1, b.line, Buffer.alloc(64)); }), 'SIGNATURE_INVALID', 1, 1);
  await refuses(withFrames((parts) => { parts[2] = entryFrame(1, b.line, Buffer.alloc(0)); }), 'SIGNATURE_MISSING', 1, 1);
  // The bad signature is at 1, the damaged frame at 3: the first decides.
  const both = withFrames((parts) => { parts[2] = entryFrame(1, b.line, Buffer.alloc(64)); parts[4] = parts[4].subarray(0, 50); });
  await refuses(both, 'SIGNATURE_INVALID', 1, 1);
  const again = run(1);
  const after = withFrames((parts) => { parts.splice(5, 0, entryFrame(4, again[2].line, again[2].signature)); });
  await refuses(after, 'SEQ_MISMATCH', 4, 2);
  const next = makeKey('next', 'receipt');
  const rotated = [run(1, { events: [rotate(next, KEYS.receipt), call(1)] })];
  await accepts(makeJournal(rotated, { keys: { ...KEYS, next } }));
  await refuses(makeJournal(rotated), 'ROTATION_INVALID', 1, 1);
});

test('J5: blobs', async () => {
  const nodes = Buffer.concat([sha256('a'), sha256('b')]);
  const sse = { events: 2, level: 0, nodes: `sha256:${sha256(nodes).toString('hex')}`, root: `root:${sha256(Buffer.of(1), nodes).toString('hex')}`, units: 2 };
  const [a, b, c] = run(1, { events: [call(1, { sse })] });
  await accepts(makeJournal([[a, { blob: nodes }, b, c]]));
  await refuses(makeJournal([[a, { blob: nodes, digest: sha256('x') }, b, c]]), 'BLOB_MISMATCH', 1);
  await refuses(makeJournal([[{ blob: nodes }, a, b, c]]), 'BLOB_MISMATCH', 0, 0);
  await refuses(makeJournal([[a, b, c, { blob: nodes }]]), 'BLOB_MISMATCH', 3);
  await accepts(makeJournal([[a, { blob: nodes }, { checkpoint: true }, b, c]]));
  await accepts(makeJournal([[a, { blob: nodes }], [b, c]]));
  await refuses(makeJournal([[a, { raw: frame(2, 1, Buffer.alloc(31)) }, b, c]]), 'FRAME_INVALID', 1);
});

test('J6 to J9: checkpoints and seals', async () => {
  const leaves = makeJournal([run(1)]).leaves;
  const checkpoint = (bytes) => makeJournal([[...run(1), { checkpoint: true, bytes }, ...run(2)]]);
  await refuses(checkpoint(Buffer.from('x')), 'CHECKPOINT_MALFORMED', 4);
  await refuses(checkpoint(note(`${ISS}/run/${uuid(1)}`, leaves, KEYS.checkpoint)), 'CHECKPOINT_MALFORMED', 4);
  await refuses(checkpoint(note(ISS, leaves.slice(0, 3), KEYS.checkpoint)), 'CHECKPOINT_MISMATCH', 4);
  await refuses(checkpoint(note(ISS, leaves, makeKey('x', 'checkpoint'))), 'CHECKPOINT_SIGNATURE', 4);
  await refuses(makeJournal([run(1, { spoil: (entry, at) => (at === 3 ? { ...entry, count: 2 } : entry) })]), 'SEAL_MISMATCH', 3, 3);
  const newest = (bytes) => ({ ...makeJournal([run(1)]), checkpoint: bytes });
  await refuses(newest(Buffer.from('x')), 'CHECKPOINT_MALFORMED', 4);
  await refuses(newest(note(ISS, leaves, makeKey('x', 'checkpoint'))), 'CHECKPOINT_SIGNATURE', 4);
  const truncated = await refuses(newest(note(ISS, [...leaves, leaves[0]], KEYS.checkpoint)), 'JOURNAL_TRUNCATED', 4);
  assert.equal(truncated.verdicts.completeness, 'failed');
  await refuses(newest(note(ISS, [leaves[0], leaves[0]], KEYS.checkpoint)), 'CHECKPOINT_MISMATCH', 4);
});

test('keys: own, given, revoked', async () => {
  const journal = makeJournal([[...run(1), { checkpoint: true }, ...run(2)]]);
  await accepts(journal, 'trusted', { trust: TRUST });
  await refuses(journal, 'KEY_MISMATCH', 0, 0, { trust: trustOf([KEYS.checkpoint, KEYS.manifest]) });
  await refuses(journal, 'KEY_MISMATCH', 0, 0, { trust: trustOf(Object.values(KEYS), { iss: 'gateway.example/main/2' }) });
  await refuses(journal, 'TRUST_INVALID', null, null, { trust: Buffer.from('{}') });
  await refuses({ ...journal, trust: null }, 'TRUST_INVALID', null);
  const revoked = (key, from) => jcs({ v: 'pef-trust/v0', keys: Object.values(KEYS).map((k) => ({ ...k.row, iss: ISS, ...(k === key && { revoked_from_index: from }) })) });
  await accepts(journal, 'trusted', { trust: revoked(KEYS.receipt, 8) });
  await refuses(journal, 'KEY_REVOKED', 6, 2, { trust: revoked(KEYS.receipt, 6) });
  await refuses(journal, 'KEY_REVOKED', 4, null, { trust: revoked(KEYS.checkpoint, 3) });
});

test('one exported receipt', async () => {
  const { lines } = makeLines();
  const good = envelope(ENTRY_TYPE, lines[1], KEYS.receipt);
  const keyOf = (made) => publicKeyOf(new Uint8Array(made.spki));
  const answer = async (bytes, made = KEYS.receipt) => {
    const { reason, seq, exit, verdicts } = await verifyReceipt(bytes, { key: keyOf(made) });
    if (exit === 0) assert.deepEqual(verdicts, { integrity: 'ok', authenticity: 'trusted', completeness: 'unchecked', anchoring: 'unchecked' });
    return [exit, reason, seq];
  };
  assert.deepEqual(await answer(good), [0, null, null]);
  const p256 = makeKey('p', 'receipt', 'ecdsa-p256-sha256');
  const other = makeLines({ receipt: p256 });
  assert.deepEqual(await answer(envelope(ENTRY_TYPE, other.lines[1], p256), p256), [0, null, null]);
  assert.deepEqual(await answer(Buffer.concat([good, Buffer.from('\n')])), [2, 'ENVELOPE_MALFORMED', null]);
  assert.deepEqual(await answer(envelope('application/vnd.in-toto+json', lines[1], KEYS.receipt)), [2, 'ENVELOPE_MALFORMED', null]);
  assert.deepEqual(await answer(good, p256), [2, 'KEY_UNKNOWN', null]);
  assert.deepEqual(await answer(Buffer.from(good.toString().replace(/"sig":"..../, '"sig":"AAAA'))), [2, 'ENVELOPE_SIGNATURE', null]);
  assert.deepEqual(await answer(envelope(ENTRY_TYPE, Buffer.from('{'), KEYS.receipt)), [2, 'LINE_MALFORMED', null]);
  assert.deepEqual(await answer(envelope(ENTRY_TYPE, Buffer.from('{"seq":5,"a":1}'), KEYS.receipt)), [2, 'LINE_NOT_CANONICAL', 5]);
  assert.deepEqual(await answer(envelope(ENTRY_TYPE, Buffer.from('{}'), KEYS.receipt)), [2, 'LINE_SCHEMA', null]);
  assert.deepEqual(await answer(envelope(ENTRY_TYPE, other.lines[1], KEYS.receipt)), [2, 'KEY_MISMATCH', 1]);
});
