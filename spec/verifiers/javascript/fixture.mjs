// Small evidence for the tests, written with node:crypto and nothing of the verifier.
//
// Each maker takes hooks that spoil one thing while everything after it is made right again: what a test then
// sees is the one step that it is about.

import { createHash, createPrivateKey, createPublicKey, sign as nodeSign } from 'node:crypto';

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');

export const ISS = 'gateway.example/main/1';
export const RUN = '0190f2a0-7c1e-7000-8000-0123456789ab';
export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
export const hex = (bytes) => Buffer.from(bytes).toString('hex');
export const uuid = (n) => `0190f2a0-7c1e-7000-9000-${String(n).padStart(12, '0')}`;
const digest = (text) => `sha256:${hex(sha256(text))}`;
const time = (n) => `2026-11-21T04:00:${String(n % 60).padStart(2, '0')}.000000Z`;

/** Canonical JSON of plain values. */
export function jcs(value) {
  const sorted = (item) => {
    if (Array.isArray(item)) return item.map(sorted);
    if (typeof item !== 'object') return item;
    return Object.fromEntries(Object.keys(item).sort().filter((name) => item[name] !== undefined).map((name) => [name, sorted(item[name])]));
  };
  return Buffer.from(JSON.stringify(sorted(value)));
}

/** A key from a seed text: `{ kid, alg, use, spki, sign(message), dsse(message), row }`. */
export function makeKey(seed, use, alg = 'ed25519', iss = undefined) {
  const secret = alg === 'ed25519' ? ed25519Secret(seed) : p256Secret(seed);
  const spki = createPublicKey(secret).export({ type: 'spki', format: 'der' });
  const kid = hex(sha256(spki));
  const raw = (message) => (alg === 'ed25519'
    ? nodeSign(null, message, secret)
    : nodeSign('sha256', message, { key: secret, dsaEncoding: 'ieee-p1363' }));
  const dsse = (message) => (alg === 'ed25519' ? raw(message) : nodeSign('sha256', message, secret));
  return { kid, alg, use, spki, iss, sign: raw, dsse, public: spki.subarray(-32), row: { alg, kid, spki: spki.toString('base64'), use } };
}

function ed25519Secret(seed) {
  return createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, sha256(seed)]), type: 'pkcs8', format: 'der' });
}

function p256Secret(seed) {
  const head = Buffer.from('3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420', 'hex');
  return createPrivateKey({ key: Buffer.concat([head, sha256(seed)]), type: 'pkcs8', format: 'der' });
}

export const KEYS = {
  receipt: makeKey('receipt', 'receipt'),
  checkpoint: makeKey('checkpoint', 'checkpoint'),
  manifest: makeKey('manifest', 'manifest'),
};

export const pae = (type, body) => Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${body.length} `), body]);
export const ENTRY_TYPE = 'application/vnd.estoppel.pef.entry.v0+json';
export const STATEMENT_TYPE = 'application/vnd.in-toto+json';
const POSSESSION_TYPE = 'application/vnd.estoppel.pef.possession.v0+json';

export const leaf = (line) => sha256(Buffer.of(0), line);
const node = (left, right) => sha256(Buffer.of(1), left, right);

/** RFC 6962 section 2.1 as it is written there. */
export function root(leaves) {
  if (leaves.length === 0) return sha256('');
  if (leaves.length === 1) return leaves[0];
  const k = split(leaves.length);
  return node(root(leaves.slice(0, k)), root(leaves.slice(k)));
}

/** RFC 6962 section 2.1.1. */
export function path(index, leaves) {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return index < k
    ? [...path(index, leaves.slice(0, k)), root(leaves.slice(k))]
    : [...path(index - k, leaves.slice(k)), root(leaves.slice(0, k))];
}

const split = (n) => 2 ** Math.floor(Math.log2(n - 1));

export function note(origin, leaves, key, name = ISS) {
  const text = `${origin}\n${leaves.length}\n${root(leaves).toString('base64')}\n`;
  const id = sha256(name, Buffer.of(0x0a, 1), key.public).subarray(0, 4);
  return Buffer.from(`${text}\n— ${name} ${Buffer.concat([id, key.sign(Buffer.from(text))]).toString('base64')}\n`);
}

export function envelope(type, payload, key) {
  const sig = key.dsse(pae(type, payload)).toString('base64');
  return jcs({ payload: payload.toString('base64'), payloadType: type, signatures: [{ keyid: key.kid, sig }] });
}

export const POLICY = jcs({ name: 'fixture', v: 'policy/v0' });

/** Entries of one run, linked and signed. `events` are `{ kind, … }` after run.open; the seal is added. */
export function makeLines(options = {}) {
  const { events = [call(1), call(2)], run = RUN, sign = 'each', sealed = true, receipt = KEYS.receipt, spoil = (entry) => entry } = options;
  const lines = [];
  const signatures = [];
  const leaves = [];
  const entries = [];
  const counters = { allow: 0, block: 0, calls: 0, hold: 0, incomplete: 0, interrupted: 0, repair: 0 };
  let signer = receipt;
  const push = (entry, key = signer) => {
    const seq = lines.length;
    const whole = spoil({
      ...entry, v: 'pef/v0', iss: ISS, kid: signer.kid, run, seq, ts: time(seq), mono_us: seq * 1000,
      ...(seq > 0 && { prev: `leaf:${hex(leaves.at(-1))}` }),
    }, seq);
    const line = Buffer.isBuffer(whole) ? whole : jcs(whole);
    lines.push(line);
    signatures.push(key.sign(pae(ENTRY_TYPE, line)));
    leaves.push(leaf(line));
    entries.push(whole);
  };
  push({
    kind: 'run.open', build: { name: 'estoppel', version: '0.1.0' },
    capture: { commitment: `commit:${'0'.repeat(64)}`, id: '0'.repeat(16) }, class: 'caller', name: 'fixture',
    config: digest('config'), durability: 'group', policy: digest(POLICY), sign, ...options.open,
  });
  for (const event of events) {
    push(typeof event === 'function' ? event({ run }) : event);
    if (event.kind === 'call') {
      counters.calls += 1;
      counters[event.verdict.action] += 1;
      if (!event.outcome.complete) counters.incomplete += 1;
    }
    if (event.kind === 'interrupted') counters.interrupted += 1;
    if (event.rotates?.use === 'receipt') signer = event.rotates;
  }
  const seal = () => push({
    kind: 'run.seal', count: lines.length, counters, head: `leaf:${hex(leaves.at(-1))}`, reason: 'clean', root: `root:${hex(root(leaves))}`,
  });
  if (sealed) seal();
  return { lines, signatures, leaves, entries, counters, sign, run, signer };
}

export function call(n, more = {}) {
  const evaluated = { bytes: 10, skipped: 0, state: 'judged' };
  return {
    kind: 'call', attempt: 1, body: { mode: 'none' }, call: uuid(n), evaluated: { request: evaluated, response: evaluated },
    operation: 'chat.completions', outcome: { client: 'handed_over', code: 'OK', complete: true },
    policy: { hash: digest(POLICY) }, request: { bytes: 10, method: 'POST' }, response: { client: { bytes: 20, status: 200 } },
    time: { total_us: 1000 * n }, verdict: { action: 'allow', mode: 'enforce' }, facts: { model: 'm-1' }, ...more,
  };
}

/** A key.rotate event to `key`; the run's maker fills in the rest. */
export function rotate(key, old, more = {}) {
  const event = ({ run }) => {
    const proof = jcs({ iss: ISS, new: key.kid, old: old.kid, run, use: key.use });
    const possession = key.sign(pae(POSSESSION_TYPE, proof)).toString('base64');
    return { kind: 'key.rotate', alg: key.alg, new: key.kid, old: old.kid, possession, spki: key.row.spki, use: key.use, ...more };
  };
  return Object.assign(event, { rotates: key });
}

/**
 * A bundle: Map of path to bytes, sealed right. Hooks: `line(entry, seq)`, `manifest(value)`, `files(map)` before
 * the manifest is made, `statement(value)`, `late(map)` after everything.
 */
export function makeBundle(options = {}) {
  const { keys = KEYS, anchorBefore = null, anchor = {}, externals = [], late = () => {} } = options;
  const made = makeLines({ ...options, receipt: keys.receipt, spoil: options.line });
  const open = made.entries[0];
  const seal = made.entries.at(-1);
  const files = new Map([
    ['receipts.ndjson', Buffer.concat(made.lines.flatMap((line) => [line, Buffer.from('\n')]))],
    ['checkpoint', note(`${ISS}/run/${made.run}`, made.leaves, keys.checkpoint)],
    [`policy/${hex(sha256(POLICY))}.json`, POLICY],
  ]);
  if (made.sign === 'each') files.set('receipts.sig', Buffer.concat(made.signatures));
  if (anchorBefore !== null) files.set('anchor.tlog-proof', makeAnchor(made, anchorBefore, keys.checkpoint, anchor));
  for (const [name, bytes] of Object.entries(options.more ?? {})) files.set(name, bytes);
  options.files?.(files, made);
  const roles = { 'receipts.ndjson': 'entries', 'receipts.sig': 'signatures', checkpoint: 'checkpoint', 'anchor.tlog-proof': 'anchor' };
  const folders = { policy: 'policy', contracts: 'contract', streams: 'stream', bodies: 'body' };
  const list = [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, bytes]) => ({
    bytes: bytes.length, path: name, role: roles[name] ?? folders[name.split('/')[0]] ?? 'other', sha256: digest(bytes),
  }));
  const calls = made.entries.filter(({ kind }) => kind === 'call');
  const totals = calls.map(({ time: { total_us } }) => total_us).sort((a, b) => a - b);
  const rank = (p) => totals[Math.ceil((p * totals.length) / 100) - 1];
  const claims = {};
  for (const { claims: stated = {} } of calls) {
    for (const [name, value] of Object.entries(stated)) claims[name] = [...new Set([...(claims[name] ?? []), value])].sort().slice(0, 16);
  }
  const tree = { root: `root:${hex(root(made.leaves))}`, size: made.leaves.length };
  let manifest = {
    v: 'pef/v0', run: made.run, iss: ISS, class: open.class, name: open.name, opened: open.ts, sealed: seal.ts,
    seal_reason: seal.reason ?? 'clean', build: open.build, sign: open.sign, durability: open.durability, tree,
    counters: made.counters, claims, policies: [...new Set([open.policy, ...calls.map((entry) => entry.policy.hash)])].sort(),
    keys: [...Object.values(keys), ...(options.moreKeys ?? [])].map(({ row }) => row), files: list, externals,
    ...(totals.length > 0 && { metrics: { total_p50_us: rank(50), total_p95_us: rank(95), total_p99_us: rank(99) } }),
  };
  manifest = options.manifest?.(manifest) ?? manifest;
  files.set('manifest.json', Buffer.isBuffer(manifest) ? manifest : jcs(manifest));
  const subjects = [...list, { path: 'manifest.json', sha256: digest(files.get('manifest.json')) }];
  let statement = {
    _type: 'https://in-toto.io/Statement/v1', predicateType: 'urn:estoppel:pef:manifest:v0',
    predicate: { root: tree.root, run: made.run, size: tree.size, v: 'pef/v0' },
    subject: subjects.map(({ path: name, sha256: d }) => ({ digest: { sha256: d.slice(7) }, name })).sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
  statement = options.statement?.(statement) ?? statement;
  files.set('manifest.dsse.json', envelope(STATEMENT_TYPE, Buffer.isBuffer(statement) ? statement : jcs(statement), options.manifestKey ?? keys.manifest));
  files.set('SHA256SUMS', Buffer.from([...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, bytes]) => `${hex(sha256(bytes))}  ${name}\n`).join('')));
  late(files, made);
  return files;
}

/** The seal as the entry after `before` others in the instance log. */
function makeAnchor(made, before, key, { index = before, spoil = (leaves) => leaves } = {}) {
  const others = Array.from({ length: before }, (_, i) => leaf(Buffer.from(`other ${i}`)));
  const leaves = [...others, made.leaves.at(-1), leaf(Buffer.from('after'))];
  const hashes = path(before, leaves).map((hash) => `${hash.toString('base64')}\n`).join('');
  return Buffer.concat([Buffer.from(`c2sp.org/tlog-proof@v1\nindex ${index}\n${hashes}\n`), note(ISS, spoil(leaves), key)]);
}

export function trustOf(keys, more = {}) {
  return jcs({ v: 'pef-trust/v0', keys: keys.map(({ row }) => ({ ...row, iss: ISS, ...more })) });
}

const CRC_TABLE = Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});
export const crc32 = (bytes) => ~bytes.reduce((c, byte) => CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8), 0xffffffff) >>> 0;

/** Stored ZIP of `[name, bytes]` pairs, in their order. `spoil(local, central, i)` may change the headers. */
export function makeZip(entries, spoil = () => {}) {
  const locals = [];
  const centrals = [];
  let offset = 0;
  [...entries].forEach(([name, bytes], i) => {
    const local = Buffer.alloc(30);
    const central = Buffer.alloc(46);
    const fields = [[10, 2], [0, 2], [0, 2], [0, 2], [0x21, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [Buffer.from(name, 'latin1').length, 2], [0, 2]];
    let at = 4;
    for (const [value, width] of fields) {
      local.writeUIntLE(value, at, width);
      central.writeUIntLE(value, at + 2, width);
      at += width;
    }
    local.writeUInt32LE(0x04034b50);
    central.writeUInt32LE(0x02014b50);
    central.writeUInt16LE(0x0314, 4);
    central.writeUInt32LE(0x81a40000, 38);
    central.writeUInt32LE(offset, 42);
    spoil(local, central, i);
    locals.push(local, Buffer.from(name, 'latin1'), bytes);
    centrals.push(central, Buffer.from(name, 'latin1'));
    offset += 30 + Buffer.from(name, 'latin1').length + bytes.length;
  });
  const central = Buffer.concat(centrals);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(locals.length / 3, 8);
  end.writeUInt16LE(locals.length / 3, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, central, end]);
}

export const sorted = (files) => [...files].sort(([a], [b]) => (a < b ? -1 : 1));
export const zipOf = (files) => makeZip(sorted(files));

// ---- journals ----

export function frame(type, index, payload) {
  const head = Buffer.alloc(13);
  head.writeUInt32LE(payload.length);
  head[4] = type;
  head.writeBigUInt64LE(BigInt(index), 5);
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(crc32(Buffer.concat([head, payload])));
  return Buffer.concat([head, crc, payload]);
}

export function header(first, before, name = ISS) {
  const bytes = Buffer.alloc(256);
  bytes.write('PEFSEG0\n');
  bytes.writeBigUInt64LE(BigInt(first), 8);
  before.copy(bytes, 16);
  bytes.writeUInt16LE(name.length, 48);
  bytes.write(name, 50);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 252)), 252);
  return bytes;
}

export const entryFrame = (index, line, signature) => frame(1, index, Buffer.concat([Buffer.of(signature.length), signature, line]));

/** A journal of whole runs, one segment per element of `segments` (lists of items), with a checkpoint. */
export function makeJournal(segments, { keys = KEYS, padding = 64, frames = () => {} } = {}) {
  const leaves = [];
  const files = [];
  segments.forEach((items, s) => {
    const before = leaves.at(-1) ?? Buffer.alloc(32);
    const first = leaves.length;
    const parts = [header(first, before)];
    for (const item of items) {
      if (item.line !== undefined) {
        parts.push(entryFrame(leaves.length, item.line, item.signature));
        leaves.push(leaf(item.line));
      } else if (item.blob !== undefined) {
        parts.push(frame(2, leaves.length, Buffer.concat([item.digest ?? sha256(item.blob), item.blob])));
      } else if (item.checkpoint) {
        parts.push(frame(3, leaves.length, item.bytes ?? note(ISS, leaves, keys.checkpoint)));
      } else if (item.raw !== undefined) {
        parts.push(item.raw);
      }
    }
    if (s < segments.length - 1) parts.push(frame(4, leaves.length, Buffer.of(0)));
    frames(parts, s);
    parts.push(Buffer.alloc(padding));
    files.push({ name: `${String(first).padStart(20, '0')}.seg`, bytes: Buffer.concat(parts) });
  });
  return {
    segments: files, leaves, checkpoint: note(ISS, leaves, keys.checkpoint), trust: trustOf(Object.values(keys)),
  };
}

/** The frames' items of a run that makeLines made. */
export const items = ({ lines, signatures, sign }) => lines.map((line, i) => ({ line, signature: sign === 'each' ? signatures[i] : Buffer.alloc(0) }));
