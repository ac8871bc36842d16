import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KEYS, POLICY, RUN, call, envelope, hex, jcs, leaf, makeBundle, makeKey, makeLines, makeZip, note, root, rotate, sha256, sorted, trustOf, uuid, zipOf,
  ENTRY_TYPE, ISS, STATEMENT_TYPE, pae } from './fixture.mjs';
import { verifyBundle } from './pef-verify.mjs';

const OK = { integrity: 'ok', authenticity: 'self_asserted', completeness: 'complete', anchoring: 'absent' };

async function accepts(files, verdicts = {}, options = {}) {
  const result = await verifyBundle({ zip: zipOf(files) }, options);
  assert.equal(result.reason, null, `${result.step} ${result.reason} ${result.seq}`);
  assert.deepEqual(result.verdicts, { ...OK, ...verdicts });
  return result;
}

async function refuses(input, step, reason, seq = null, options = {}) {
  const zip = input instanceof Map ? zipOf(input) : input;
  const result = await verifyBundle({ zip }, options);
  const { ok, exit } = result;
  assert.deepEqual({ ok, exit, step: result.step, reason: result.reason, seq: result.seq },
    { ok: false, exit: reason === 'TRUST_INVALID' ? 6 : 2, step, reason, seq });
  return result;
}

/** A bundle in which `entry` number `seq` was changed before everything after it was made. */
const withLine = (seq, change, more = {}) => makeBundle({ ...more, line: (entry, at) => (at === seq ? change(entry) : entry) });
const withText = (seq, change) => withLine(seq, (entry) => Buffer.from(change(jcs(entry).toString())));
/** A bundle whose file was changed after everything was made and signed. */
const withFile = (name, change, more = {}) => makeBundle({ ...more, late: (files) => files.set(name, change(files.get(name))) });
/** … or before the manifest listed it. */
const withListed = (name, change, more = {}) => makeBundle({ ...more, files: (files) => files.set(name, change(files.get(name))) });
const flip = (at) => (bytes) => Buffer.from(bytes.map((byte, i) => (i === (at + bytes.length) % bytes.length ? byte ^ 1 : byte)));

const TRUST = trustOf(Object.values(KEYS));

test('accepts good bundles of every kind', async () => {
  await accepts(makeBundle());
  await accepts(makeBundle({ open: { sign: 'checkpoint' }, sign: 'checkpoint' }));
  await accepts(makeBundle({ events: [] }));
  await accepts(makeBundle({ anchorBefore: 0 }), { anchoring: 'anchored' });
  await accepts(makeBundle({ anchorBefore: 6 }), { anchoring: 'anchored', authenticity: 'trusted' }, { trust: TRUST });
  const p256 = { ...KEYS, receipt: makeKey('r', 'receipt', 'ecdsa-p256-sha256'), manifest: makeKey('m', 'manifest', 'ecdsa-p256-sha256') };
  await accepts(makeBundle({ keys: p256 }), { authenticity: 'trusted' }, { trust: trustOf(Object.values(p256)) });
  await accepts(makeBundle({ open: { name: undefined } }));
  await accepts(makeBundle({ events: [call(1, { claims: { agent: 'b' } }), call(2, { claims: { agent: 'a', runtime: '\u{1f600}' } }),
    call(3, { outcome: { client: 'gone', code: 'CLIENT_GONE', complete: false }, verdict: { action: 'block', mode: 'enforce', reason: 'TOOL_DENIED' } })] }));
  await accepts(makeBundle({ events: Array.from({ length: 40 }, (_, i) => call(i + 1, { claims: { job_id: `job-${i}` } })) }));
  await accepts(makeBundle({ events: [call(1, { ext: { Any: [{ 'a b': 1 }] } })], manifest: (m) => ({ ...m, metrics: { ...m.metrics, snapshot_lag_bytes_max: 7 } }) }));
  await accepts(makeBundle({ more: { 'notes/read.me': Buffer.from('hello') } }));
});

test('reads a folder like a ZIP', async () => {
  const folder = sorted(makeBundle()).map(([path, bytes]) => ({ path, bytes: bytes.length, regular: true, read: async () => bytes }));
  const answer = async (files) => (await verifyBundle({ folder: files })).reason;
  assert.equal(await answer(folder), null);
  assert.equal(await answer([...folder.slice(1), { ...folder[0], regular: false }]), 'PATH_FORBIDDEN');
  assert.equal(await answer([...folder, { ...folder[0], path: 'a b' }]), 'PATH_FORBIDDEN');
  assert.equal(await answer([...folder, { ...folder[0], path: 'zz' }]), 'FILE_UNLISTED');
  assert.equal(await answer(folder.map((file) => ({ ...file, bytes: 2 ** 30 }))), 'CONTAINER_LIMIT');
});

test('C1 to C5, Z1: the container', async () => {
  const files = sorted(makeBundle());
  const zip = makeZip(files);
  const header = (change) => makeZip(files, (local, central, i) => { if (i === 1) change(local, central); });
  await refuses({ length: 2 ** 32 }, 'C1', 'CONTAINER_LIMIT');
  await refuses(makeZip(Array.from({ length: 65535 }, (_, i) => [`f${String(i).padStart(5, '0')}`, Buffer.alloc(0)])), 'C1', 'CONTAINER_LIMIT');
  await refuses(header((local, central) => { local[8] = 8; central[10] = 8; }), 'C2', 'ENTRY_COMPRESSED');
  for (const name of ['../x', '/x', 'x//y', 'x/', 'x\\y', 'X', 'x/./y', 'x/..', '.', '', 'a'.repeat(201), 'a\0', 'sub/SHA256SUMS', 'ä']) {
    await refuses(makeZip([...files, [name, Buffer.alloc(0)]]), 'C3', 'PATH_FORBIDDEN');
  }
  await refuses(makeZip([...files, files[2]]), 'C4', 'ENTRY_DUPLICATE');
  await refuses(makeZip([...files].reverse()), 'C5', 'CONTAINER_MALFORMED');
  const offsets = { version: 4, flags: 6, time: 10, date: 12, extra: 28 };
  for (const at of Object.values(offsets)) await refuses(header((local) => { local[at] ^= 1; }), 'C5', 'CONTAINER_MALFORMED');
  for (const at of [18, 22]) await refuses(header((local) => { local[at] += 1; }), 'C5', 'CONTAINER_MALFORMED');
  for (let at = 0; at < 46; at += 1) await refuses(header((_, central) => { central[at] ^= 1; }), 'C5', 'CONTAINER_MALFORMED');
  for (let at = zip.length - 22; at < zip.length; at += 1) await refuses(flip(at)(zip), 'C5', 'CONTAINER_MALFORMED');
  await refuses(Buffer.concat([zip, Buffer.of(0)]), 'C5', 'CONTAINER_MALFORMED');
  await refuses(Buffer.concat([Buffer.of(0), zip]), 'C5', 'CONTAINER_MALFORMED');
  await refuses(Buffer.alloc(0), 'C5', 'CONTAINER_MALFORMED');
  await refuses(makeZip([]), 'F1', 'FILE_MISSING');
  await refuses(header((local, central) => { local[14] ^= 1; central[16] ^= 1; }), 'Z1', 'CRC_MISMATCH');
});

test('F1: the needed files', async () => {
  for (const name of ['manifest.json', 'manifest.dsse.json', 'receipts.ndjson', 'checkpoint', 'SHA256SUMS']) {
    await refuses(makeBundle({ late: (files) => files.delete(name) }), 'F1', 'FILE_MISSING');
  }
});

test('M1 to M4: the manifest', async () => {
  const changed = (change) => makeBundle({ manifest: change });
  await refuses(changed(() => Buffer.from('{"a":1,"a":1}')), 'M1', 'MANIFEST_MALFORMED');
  await refuses(changed((m) => Buffer.concat([jcs(m), Buffer.from('\n')])), 'M1', 'MANIFEST_MALFORMED');
  await refuses(changed((m) => ({ ...m, more: 1 })), 'M2', 'MANIFEST_SCHEMA');
  await refuses(changed((m) => ({ ...m, v: 'pef/v1' })), 'M2', 'MANIFEST_SCHEMA');
  await refuses(changed((m) => ({ ...m, keys: [...m.keys, m.keys[0]] })), 'M3', 'KEY_ID_MISMATCH');
  await refuses(changed((m) => ({ ...m, keys: m.keys.map((key) => ({ ...key, kid: key.kid.replace(/^./, (c) => (c === '0' ? '1' : '0')) })) })), 'M3', 'KEY_ID_MISMATCH');
  await refuses(changed((m) => ({ ...m, keys: m.keys.map((key) => ({ ...key, alg: 'ecdsa-p256-sha256' })) })), 'M4', 'ALGORITHM_MISMATCH');
  const odd = Buffer.concat([KEYS.receipt.spki, Buffer.of(0)]);
  await refuses(makeBundle({ moreKeys: [{ row: { alg: 'ed25519', kid: hex(sha256(odd)), spki: odd.toString('base64'), use: 'receipt' } }] }), 'M4', 'ALGORITHM_MISMATCH');
  await refuses(makeBundle({ moreKeys: [makeKey('c', 'checkpoint', 'ecdsa-p256-sha256')] }), 'M4', 'ALGORITHM_MISMATCH');
});

test('M5 to M7: the envelope', async () => {
  const changed = (change) => withFile('manifest.dsse.json', (bytes) => {
    const value = change(JSON.parse(bytes));
    return Buffer.isBuffer(value) ? value : jcs(value);
  });
  const malformed = [
    () => Buffer.from('[]'),
    (e) => Buffer.concat([jcs(e), Buffer.from(' ')]),
    (e) => ({ ...e, more: 1 }),
    (e) => ({ ...e, signatures: [] }),
    (e) => ({ ...e, signatures: [e.signatures[0], e.signatures[0]] }),
    (e) => ({ ...e, payloadType: ENTRY_TYPE }),
    (e) => ({ ...e, payload: `${e.payload}=` }),
    (e) => ({ ...e, payload: e.payload.replaceAll('A', '-') }),
    (e) => ({ ...e, signatures: [{ ...e.signatures[0], sig: e.signatures[0].sig.replace(/.==$/, (end) => (end[0] === 'B' ? 'C==' : 'B==')) }] }),
    () => envelope(STATEMENT_TYPE, Buffer.from('{"b":1,"a":1}'), KEYS.manifest),
    () => envelope(STATEMENT_TYPE, Buffer.from('{'), KEYS.manifest),
  ];
  for (const change of malformed) await refuses(changed(change), 'M5', 'ENVELOPE_MALFORMED');
  await refuses(makeBundle({ manifestKey: makeKey('stranger', 'manifest') }), 'M6', 'KEY_UNKNOWN');
  await refuses(makeBundle({ manifestKey: KEYS.receipt }), 'M6', 'KEY_UNKNOWN');
  const { verdicts } = await refuses(changed((e) => ({ ...e, signatures: [{ ...e.signatures[0], sig: Buffer.alloc(64).toString('base64') }] })), 'M7', 'ENVELOPE_SIGNATURE');
  assert.equal(verdicts.authenticity, 'failed');
  await refuses(changed((e) => ({ ...e, signatures: [{ ...e.signatures[0], sig: 'AAAA' }] })), 'M7', 'ENVELOPE_SIGNATURE');
  const p256 = makeKey('m', 'manifest', 'ecdsa-p256-sha256');
  const raw = withFile('manifest.dsse.json', (bytes) => {
    const value = JSON.parse(bytes);
    const signature = p256.sign(pae(STATEMENT_TYPE, Buffer.from(value.payload, 'base64')));
    return jcs({ ...value, signatures: [{ keyid: p256.kid, sig: signature.toString('base64') }] });
  }, { keys: { ...KEYS, manifest: p256 } });
  await refuses(raw, 'M7', 'ENVELOPE_SIGNATURE');
});

test('L1 to L4: each line by itself', async () => {
  const lines = (change) => withFile('receipts.ndjson', (bytes) => Buffer.from(change(bytes.toString())));
  await refuses(lines(() => ''), 'L1', 'LINE_LENGTH', 0);
  await refuses(lines((text) => text.slice(0, -1)), 'L1', 'LINE_LENGTH', 3);
  await refuses(lines((text) => text.slice(0, -40)), 'L1', 'LINE_LENGTH', 3);
  await refuses(lines((text) => `${text}\n`), 'L1', 'LINE_LENGTH', 4);
  await refuses(lines((text) => text.replace('\n', '\n\n')), 'L1', 'LINE_LENGTH', 1);
  const padded = (bytes) => call(1, { ext: { pad: 'x'.repeat(bytes) } });
  const base = makeLines({ events: [padded(0)] }).lines[1].length;
  await accepts(makeBundle({ events: [padded(16384 - base)] }));
  await refuses(makeBundle({ events: [padded(16385 - base)] }), 'L1', 'LINE_LENGTH', 1);
  await refuses(withText(2, (text) => text.replace('"attempt":1', '"attempt":1,"attempt":1')), 'L2', 'LINE_MALFORMED', 2);
  await refuses(withText(2, (text) => text.replace('"attempt":1', '"attempt":1.0')), 'L2', 'LINE_MALFORMED', 2);
  await refuses(lines((text) => text.replaceAll('\n', '\r\n')), 'L3', 'LINE_NOT_CANONICAL', 0);
  await refuses(withText(1, (text) => text.replace(':', ': ')), 'L3', 'LINE_NOT_CANONICAL', 1);
  await refuses(withLine(1, (entry) => ({ ...entry, more: true })), 'L4', 'LINE_SCHEMA', 1);
  for (const kind of ['hold', 'uuid', 'toString', '__proto__']) {
    await refuses(withLine(1, (entry) => ({ ...entry, kind })), 'L4', 'LINE_SCHEMA', 1);
  }
  await refuses(withText(1, (text) => text.replace('"kind":"call"', '"kind":1')), 'L4', 'LINE_SCHEMA', 1);
});

test('L5 to L9: each line in its run', async () => {
  const swapped = withFile('receipts.ndjson', (bytes) => {
    const [a, b, c, d] = bytes.toString().split('\n');
    return Buffer.from([a, c, b, d, ''].join('\n'));
  });
  await refuses(swapped, 'L5', 'SEQ_MISMATCH', 1);
  await refuses(withLine(2, (entry) => ({ ...entry, seq: 3 })), 'L5', 'SEQ_MISMATCH', 2);
  await refuses(withFile('receipts.ndjson', (bytes) => bytes.subarray(bytes.indexOf(10) + 1)), 'L5', 'SEQ_MISMATCH', 0);
  await refuses(withLine(2, (entry) => ({ ...entry, run: uuid(3) })), 'L6', 'RUN_MISMATCH', 2);
  await refuses(withLine(0, (entry) => ({ ...entry, iss: 'gateway.example/main/2' })), 'L6', 'RUN_MISMATCH', 0);
  await refuses(withLine(2, (entry) => ({ ...entry, prev: `leaf:${'0'.repeat(64)}` })), 'L7', 'CHAIN_BROKEN', 2);
  await refuses(withLine(2, (entry) => ({ ...entry, kid: KEYS.manifest.kid })), 'L8', 'KEY_MISMATCH', 2);
  await refuses(makeBundle({ keys: { ...KEYS, receipt: makeKey('x', 'checkpoint') } }), 'L8', 'KEY_MISMATCH', 0);
  const { verdicts } = await refuses(withLine(2, (entry) => ({ ...entry, mono_us: 999 })), 'L9', 'TIME_REVERSED', 2);
  assert.equal(verdicts.integrity, 'failed');
});

test('L10: signatures of the lines, before anything that follows them', async () => {
  const signatures = (change) => withFile('receipts.sig', change);
  await refuses(signatures(flip(70)), 'L10', 'SIGNATURE_INVALID', 1);
  await refuses(signatures((bytes) => bytes.subarray(0, 130)), 'L10', 'SIGNATURE_MISSING', 2);
  await refuses(signatures((bytes) => Buffer.concat([flip(3)(bytes.subarray(0, 64)), bytes.subarray(64, 100)])), 'L10', 'SIGNATURE_INVALID', 0);
  await refuses(makeBundle({ late: (files) => files.delete('receipts.sig') }), 'L10', 'SIGNATURE_MISSING', 0);
  await refuses(signatures((bytes) => Buffer.concat([bytes.subarray(64, 128), bytes.subarray(0, 64), bytes.subarray(128)])), 'L10', 'SIGNATURE_INVALID', 0);
  // The line was changed, which also breaks the chain of the next: its own signature comes first.
  const edited = withFile('receipts.ndjson', (bytes) => Buffer.from(bytes.toString().replace('"total_us":1000', '"total_us":1001')));
  const { verdicts } = await refuses(edited, 'L10', 'SIGNATURE_INVALID', 1);
  assert.deepEqual(verdicts, { integrity: 'unchecked', authenticity: 'failed', completeness: 'unchecked', anchoring: 'unchecked' });
  const many = makeBundle({ events: Array.from({ length: 600 }, (_, i) => call(i + 1)), late: (files) => {
    files.set('receipts.sig', flip(64 * 300)(files.get('receipts.sig')));
    files.set('receipts.ndjson', Buffer.concat([files.get('receipts.ndjson'), Buffer.from('x')]));
  } });
  await refuses(many, 'L10', 'SIGNATURE_INVALID', 300);
});

test('L11: rotations', async () => {
  const next = makeKey('next', 'receipt');
  const later = makeKey('later', 'receipt', 'ecdsa-p256-sha256');
  const good = { events: [call(1), rotate(next, KEYS.receipt), call(2), rotate(later, next), call(3)], moreKeys: [next, later] };
  await accepts(makeBundle(good));
  await accepts(makeBundle(good), { authenticity: 'trusted' }, { trust: TRUST });
  const events = (event) => ({ ...good, events: [call(1), event, call(2)] });
  await refuses(makeBundle({ ...good, moreKeys: [later] }), 'L11', 'ROTATION_INVALID', 2);
  await refuses(makeBundle(events(rotate(next, later))), 'L11', 'ROTATION_INVALID', 2);
  await refuses(makeBundle(events(rotate(next, KEYS.receipt, { possession: Buffer.alloc(64).toString('base64') }))), 'L11', 'ROTATION_INVALID', 2);
  await refuses(makeBundle(events(rotate(next, KEYS.receipt, { spki: later.row.spki }))), 'L11', 'ROTATION_INVALID', 2);
  await refuses(makeBundle(events(rotate(next, KEYS.receipt, { alg: 'ecdsa-p256-sha256' }))), 'L11', 'ROTATION_INVALID', 2);
  await refuses(makeBundle(events(rotate(next, KEYS.receipt, { use: 'manifest' }))), 'L11', 'ROTATION_INVALID', 2);
  const silent = Object.assign(rotate(next, KEYS.receipt), { rotates: undefined });
  await refuses(makeBundle(events(silent)), 'L8', 'KEY_MISMATCH', 3);
});

test('L12, S1 to S3: the seal', async () => {
  const afterSeal = makeBundle({ late: (files, made) => {
    const line = jcs({ ...call(9), v: 'pef/v0', iss: ISS, kid: KEYS.receipt.kid, run: RUN, seq: 4, ts: made.entries[3].ts, mono_us: 9000, prev: `leaf:${hex(made.leaves[3])}` });
    files.set('receipts.ndjson', Buffer.concat([files.get('receipts.ndjson'), line, Buffer.from('\n')]));
    files.set('receipts.sig', Buffer.concat([files.get('receipts.sig'), KEYS.receipt.sign(pae(ENTRY_TYPE, line))]));
  } });
  await refuses(afterSeal, 'L12', 'SEAL_NOT_LAST', 4);
  const open = await refuses(makeBundle({ sealed: false }), 'S1', 'SEAL_MISSING', 3);
  assert.equal(open.verdicts.completeness, 'open');
  await refuses(withFile('receipts.sig', (bytes) => Buffer.concat([bytes, Buffer.alloc(64)])), 'S2', 'SIGNATURE_SURPLUS');
  await refuses(withFile('receipts.sig', (bytes) => Buffer.concat([bytes, Buffer.of(1)])), 'S2', 'SIGNATURE_SURPLUS');
  const unsigned = { open: { sign: 'checkpoint' }, sign: 'checkpoint' };
  await refuses(makeBundle({ ...unsigned, more: { 'receipts.sig': Buffer.alloc(0) } }), 'S2', 'SIGNATURE_SURPLUS');
  const seal = (change) => withLine(3, (entry) => ({ ...entry, ...change(entry) }));
  await refuses(seal(() => ({ count: 2 })), 'S3', 'SEAL_MISMATCH', 3);
  await refuses(seal(() => ({ head: `leaf:${'0'.repeat(64)}` })), 'S3', 'SEAL_MISMATCH', 3);
  await refuses(seal(() => ({ root: `root:${'0'.repeat(64)}` })), 'S3', 'SEAL_MISMATCH', 3);
  await refuses(seal(({ counters }) => ({ counters: { ...counters, block: 1 } })), 'S3', 'SEAL_MISMATCH', 3);
});

test('S4: what the manifest says of the lines', async () => {
  const wrong = {
    tree: { root: `root:${'0'.repeat(64)}`, size: 4 }, counters: { allow: 1, block: 1, calls: 2, hold: 0, incomplete: 0, interrupted: 0, repair: 0 },
    claims: { agent: ['x'] }, policies: [], sign: 'checkpoint', durability: 'sync', class: 'ambient', name: 'other',
    opened: '2026-11-21T04:00:00.000001Z', sealed: '2026-11-21T04:00:09.000000Z', seal_reason: 'timeout', build: { name: 'estoppel', version: '0.1.1' },
    metrics: { total_p50_us: 1000, total_p95_us: 2000, total_p99_us: 2001 },
  };
  for (const [member, value] of Object.entries(wrong)) {
    await refuses(makeBundle({ manifest: (m) => ({ ...m, [member]: value }) }), 'S4', 'MANIFEST_MISMATCH');
  }
  for (const member of ['name', 'metrics']) {
    await refuses(makeBundle({ manifest: ({ [member]: _, ...m }) => m }), 'S4', 'MANIFEST_MISMATCH');
  }
  for (const metrics of [{ total_p50_us: 0 }, {}, { snapshot_lag_bytes_max: 1 }]) {
    await refuses(makeBundle({ events: [], manifest: (m) => ({ ...m, metrics }) }), 'S4', 'MANIFEST_MISMATCH');
  }
});

test('T1 to T3: the run checkpoint', async () => {
  const { leaves } = makeLines();
  const origin = `${ISS}/run/${RUN}`;
  const checkpoint = (bytes) => withListed('checkpoint', () => Buffer.from(bytes));
  const good = note(origin, leaves, KEYS.checkpoint).toString();
  await accepts(checkpoint(good));
  const malformed = [
    '', `${good}\n`, good.slice(0, -1), good.replace('\n4\n', '\n04\n'), good.replace('\n4\n', '\n4\nextra\n'), good.replace('—', '-'),
    good.replace(/(— .*\n)$/, '$1$1'), good.replace(/=\n\n/, '\n\n'), good.replaceAll('\n', '\r\n'), note(ISS, leaves, KEYS.checkpoint).toString(),
    good.replace(/ ([^ ]+)\n$/, ' !$1\n'), `\ufeff${good}`,
  ];
  for (const text of malformed) await refuses(checkpoint(text), 'T1', 'CHECKPOINT_MALFORMED');
  await refuses(checkpoint(Buffer.concat([Buffer.of(0xff), Buffer.from(good)])), 'T1', 'CHECKPOINT_MALFORMED');
  await refuses(checkpoint(note(origin, leaves.slice(0, 3), KEYS.checkpoint)), 'T2', 'CHECKPOINT_MISMATCH');
  await refuses(checkpoint(note(origin, [...leaves.slice(0, 3), leaf(Buffer.of(1))], KEYS.checkpoint)), 'T2', 'CHECKPOINT_MISMATCH');
  for (const bytes of [note(origin, leaves, makeKey('x', 'checkpoint')), note(origin, leaves, KEYS.checkpoint, 'other'), note(origin, leaves, KEYS.receipt)]) {
    const { verdicts } = await refuses(checkpoint(bytes), 'T3', 'CHECKPOINT_SIGNATURE');
    assert.equal(verdicts.authenticity, 'failed');
  }
  await refuses(checkpoint(good.replace(/.{8}\n$/, 'AAAAAA==\n')), 'T1', 'CHECKPOINT_MALFORMED');
});

test('F2 to F6: the files', async () => {
  await refuses(makeBundle({ late: (files) => files.set('zz', Buffer.alloc(0)) }), 'F2', 'FILE_UNLISTED');
  await refuses(makeBundle({ more: { zz: Buffer.alloc(0) }, late: (files) => files.delete('zz') }), 'F2', 'FILE_MISSING');
  const both = makeBundle({ more: { zz: Buffer.alloc(0) }, late: (files) => { files.delete('zz'); files.set('aa', Buffer.alloc(0)); } });
  await refuses(both, 'F2', 'FILE_MISSING');
  const listed = (change) => makeBundle({ manifest: (m) => ({ ...m, files: change(m.files) }) });
  await refuses(listed((files) => [...files].reverse()), 'F2', 'FILE_UNLISTED');
  await refuses(listed((files) => [files[0], ...files]), 'F2', 'FILE_UNLISTED');
  await refuses(listed((files) => [...files, { bytes: 1, path: 'x/../y', role: 'other', sha256: files[0].sha256 }]), 'F2', 'FILE_MISSING');
  await refuses(listed((files) => files.map((file) => ({ ...file, bytes: file.bytes + 1 }))), 'F3', 'FILE_DIGEST');
  await refuses(withFile(`policy/${hex(sha256(POLICY))}.json`, flip(0)), 'F3', 'FILE_DIGEST');
  for (const name of ['policy/x.json', 'contracts/x.json', 'bodies/x', `bodies/${hex(sha256('x'))}.json`, `policy/sub/${hex(sha256('x'))}.json`]) {
    await refuses(makeBundle({ more: { [name]: Buffer.from('x') } }), 'F4', 'FILE_NAME_DIGEST');
  }
  await accepts(makeBundle({ more: { [`bodies/${hex(sha256('x'))}`]: Buffer.from('x') } }));
  await refuses(makeBundle({ files: (files) => files.delete(`policy/${hex(sha256(POLICY))}.json`) }), 'F4', 'POLICY_MISSING', 1);
  const statement = (change) => makeBundle({ statement: change });
  await refuses(statement((s) => ({ ...s, predicateType: 'urn:x' })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(statement((s) => ({ ...s, _type: 'https://in-toto.io/Statement/v0.1' })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(statement((s) => ({ ...s, predicate: { ...s.predicate, size: 5 } })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(statement((s) => ({ ...s, subject: s.subject.slice(1) })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(statement((s) => ({ ...s, subject: [...s.subject].reverse() })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(statement((s) => ({ ...s, more: 1 })), 'F5', 'STATEMENT_MISMATCH');
  await refuses(withFile('SHA256SUMS', (bytes) => bytes.subarray(0, -1)), 'F6', 'SUMS_MISMATCH');
  await refuses(withFile('SHA256SUMS', flip(2)), 'F6', 'SUMS_MISMATCH');
});

/** Nodes of a stream of `units` units, and the receipt's `sse`. */
function stream(units, level) {
  const leaves = Array.from({ length: units }, (_, i) => leaf(Buffer.from(`unit ${i}`)));
  const nodes = Buffer.concat(Array.from({ length: Math.ceil(units / 2 ** level) }, (_, i) => root(leaves.slice(i * 2 ** level, (i + 1) * 2 ** level))));
  return { nodes, sse: { events: units, level, nodes: `sha256:${hex(sha256(nodes))}`, root: `root:${hex(root(leaves))}`, units } };
}

test('N1: streams', async () => {
  const path = `streams/${uuid(1)}.nodes`;
  const bundle = ({ nodes, sse }, change = {}) => makeBundle({ events: [call(1, { sse: { ...sse, ...change } })], more: { [path]: nodes } });
  for (const units of [0, 1, 2, 5, 100]) await accepts(bundle(stream(units, 0)));
  await accepts(bundle(stream(65537, 1)));
  await accepts(makeBundle({ events: [call(1, { sse: { events: 1, root: stream(1, 0).sse.root, units: 1 } })] }));
  await refuses(bundle(stream(5, 1)), 'N1', 'STREAM_MISMATCH', 1);
  await refuses(bundle(stream(5, 0), { units: 6 }), 'N1', 'STREAM_MISMATCH', 1);
  await refuses(bundle(stream(5, 0), { level: undefined }), 'N1', 'STREAM_MISMATCH', 1);
  await refuses(bundle(stream(5, 0), { root: `root:${'0'.repeat(64)}` }), 'N1', 'STREAM_MISMATCH', 1);
  await refuses(bundle(stream(5, 0), { nodes: `sha256:${'0'.repeat(64)}` }), 'N1', 'STREAM_MISMATCH', 1);
  await refuses(makeBundle({ events: [call(1, { sse: stream(5, 0).sse })] }), 'N1', 'STREAM_MISMATCH', 1);
});

test('B1, X1, X2: bodies in and beside the bundle', async () => {
  const body = Buffer.from('a body');
  const digest = hex(sha256(body));
  const stored = call(1, { body: { mode: 'full', reason: 'debug' }, request: { bytes: 6, method: 'POST', sha256: `sha256:${digest}` } });
  const external = { bytes: 6, role: 'body', sha256: `sha256:${digest}` };
  const beside = (bytes) => ({ externals: async (name) => (name === digest ? { bytes: bytes.length, hash: async () => sha256(bytes) } : null) });
  await accepts(makeBundle({ events: [stored], more: { [`bodies/${digest}`]: body } }));
  await refuses(makeBundle({ events: [call(5), stored] }), 'B1', 'BODY_MISSING', 2);
  await accepts(makeBundle({ events: [stored], externals: [external] }), {}, beside(body));
  await refuses(makeBundle({ externals: [external] }), 'B1', 'EXTERNAL_UNKNOWN', null, beside(body));
  const { verdicts } = await refuses(makeBundle({ events: [stored], externals: [external] }), 'X1', 'MISSING_EXTERNAL');
  assert.equal(verdicts.completeness, 'failed');
  await refuses(makeBundle({ events: [stored], externals: [external] }), 'X2', 'EXTERNAL_DIGEST', null, beside(Buffer.from('b body')));
  await refuses(makeBundle({ events: [stored], externals: [{ ...external, bytes: 7 }] }), 'X2', 'EXTERNAL_DIGEST', null, beside(body));
});

test('A1 to A3: the anchor', async () => {
  const anchored = (change, more = {}) => withListed('anchor.tlog-proof', (bytes) => Buffer.from(change(bytes.toString())), { anchorBefore: 5, ...more });
  await accepts(anchored((text) => text), { anchoring: 'anchored' });
  const malformed = [() => '', (t) => t.replace('@v1', '@v2'), (t) => t.replace('index 5', 'index 05'), (t) => t.replace('=\n', '\n'), (t) => `${t}\n`,
    (t) => t.replace('\n\n', '\nextra AAAA\n\n')];
  for (const change of malformed) await refuses(anchored(change), 'A1', 'ANCHOR_MALFORMED');
  const origin = withListed('anchor.tlog-proof', (bytes) => Buffer.concat([bytes.subarray(0, bytes.indexOf('\n\n') + 2), note(`${ISS}/x`, [leaf(Buffer.of(1))], KEYS.checkpoint)]), { anchorBefore: 5 });
  await refuses(origin, 'A1', 'ANCHOR_MALFORMED');
  await refuses(makeBundle({ anchorBefore: 5, anchor: { index: 4 } }), 'A2', 'ANCHOR_MISMATCH');
  await refuses(makeBundle({ anchorBefore: 5, anchor: { index: 99 } }), 'A2', 'ANCHOR_MISMATCH');
  await refuses(makeBundle({ anchorBefore: 5, anchor: { spoil: (leaves) => [...leaves.slice(1), leaves[0]] } }), 'A2', 'ANCHOR_MISMATCH');
  const stranger = withListed('anchor.tlog-proof', (bytes) => Buffer.from(bytes.toString().replace(/.{12}\n$/, 'AAAAAAAAAAA=\n')), { anchorBefore: 5 });
  const { verdicts } = await refuses(stranger, 'A3', 'ANCHOR_SIGNATURE');
  assert.equal(verdicts.anchoring, 'failed');
});

test('K1 and K2: what the reader trusts', async () => {
  const bundle = makeBundle({ anchorBefore: 5 });
  const anchored = { anchoring: 'anchored', authenticity: 'trusted' };
  await accepts(bundle, anchored, { trust: TRUST });
  await accepts(bundle, anchored, { trust: trustOf([...Object.values(KEYS), makeKey('other', 'receipt')]) });
  for (const missing of Object.keys(KEYS)) {
    const { verdicts } = await refuses(bundle, 'K1', 'KEY_UNTRUSTED', null, { trust: trustOf(Object.values(KEYS).filter((key) => key !== KEYS[missing])) });
    assert.equal(verdicts.authenticity, 'failed');
    assert.equal(verdicts.anchoring, 'anchored');
  }
  await refuses(bundle, 'K1', 'KEY_UNTRUSTED', null, { trust: trustOf(Object.values(KEYS), { iss: 'gateway.example/main/2' }) });
  const swapped = Object.values(KEYS).map((key) => (key.use === 'checkpoint' ? key : { row: { ...key.row, use: key.use === 'receipt' ? 'manifest' : 'receipt' } }));
  await refuses(bundle, 'K1', 'KEY_UNTRUSTED', null, { trust: trustOf(swapped) });
  const invalid = [Buffer.from('{}'), Buffer.from('x'), Buffer.concat([TRUST, Buffer.from('\n')]), trustOf([KEYS.receipt, KEYS.receipt]),
    trustOf([{ row: { ...KEYS.receipt.row, alg: 'ecdsa-p256-sha256' } }]), trustOf([{ row: { ...KEYS.receipt.row, kid: '0'.repeat(64) } }])];
  for (const trust of invalid) await refuses(bundle, 'K1', 'TRUST_INVALID', null, { trust });
  await accepts(bundle, anchored, { trust: trustOf(Object.values(KEYS), { revoked_from_index: 6 }) });
  await refuses(bundle, 'K2', 'KEY_REVOKED', null, { trust: trustOf(Object.values(KEYS), { revoked_from_index: 5 }) });
  await refuses(makeBundle(), 'K2', 'KEY_REVOKED', null, { trust: trustOf(Object.values(KEYS), { revoked_from_index: 9 }) });
});

test('K1: a bundle cannot rotate its own keys into trust', async () => {
  const mine = Object.fromEntries(Object.values(KEYS).map(({ use }) => [use, makeKey(`forger ${use}`, use)]));
  const all = (old) => [rotate(mine.receipt, old), rotate(mine.checkpoint, KEYS.checkpoint), rotate(mine.manifest, KEYS.manifest)];
  // Signs with its own key throughout, and rotates that key to itself.
  await refuses(makeBundle({ keys: mine, events: [...all(mine.receipt), call(1)] }), 'K1', 'KEY_UNTRUSTED', null, { trust: TRUST });
  // Names the real receipt key, which never signs anything with `sign: checkpoint`.
  const unsigned = { open: { sign: 'checkpoint' }, sign: 'checkpoint', moreKeys: [mine.receipt] };
  const forged = makeBundle({ ...unsigned, keys: { ...mine, receipt: KEYS.receipt }, events: [...all(KEYS.receipt), call(1)] });
  await refuses(forged, 'K1', 'KEY_UNTRUSTED', null, { trust: TRUST });
  // An honest change of the checkpoint key, vouched for by the manifest key.
  const honest = makeBundle({ ...unsigned, keys: { ...KEYS, checkpoint: mine.checkpoint }, events: [rotate(mine.checkpoint, KEYS.checkpoint), call(1)] });
  await accepts(honest, { authenticity: 'trusted' }, { trust: TRUST });
});
