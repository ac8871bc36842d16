// Verifying a bundle: SPEC section 11, step by step and in its order.

import { compareBytes, equal, hex, utf8, utf8Text } from './bytes.mjs';
import { readEnvelope, verifyEnvelope } from './envelope.mjs';
import { admit, canonicalize } from './json.mjs';
import { STATEMENT_TYPE } from './keys.mjs';
import { noteSigner, parseCheckpoint, parseProof } from './note.mjs';
import { Refusal } from './refusal.mjs';
import { Recount, Run, Signatures, readEntry } from './run.mjs';
import { compile } from './schema.mjs';
import { manifest as manifestSchema } from './schemas.mjs';
import { fileHash, included, Tree } from './tree.mjs';
import { checkTrust, readKeys } from './trust.mjs';

const MANIFEST_BYTES_MAX = 64 * 1024 * 1024;
const STREAM_NODES_MAX = 65536;
const NEEDED = ['manifest.json', 'manifest.dsse.json', 'receipts.ndjson', 'checkpoint', 'SHA256SUMS'];
/** Files that `manifest.files` does not list. */
const UNLISTED = ['manifest.json', 'manifest.dsse.json', 'SHA256SUMS'];
const isManifest = compile(manifestSchema);

/**
 * One bundle on its way through the steps.
 *
 * `files` is what readZip or readFolder gave, `externals(hex)` gives `{ bytes, hash() }` or null, `trust` is what
 * readTrust gave or null. `facts` is filled as the steps pass: whoever shows it knows how far they got.
 */
export class Bundle {
  decided = {};
  facts = { entries: null, manifest: null, signers: [], anchor: null };
  #files;
  #externals;
  #trust;
  #watch;
  #manifest;
  #keys;
  #envelope;
  #run;
  #recount = new Recount();
  /** Receipts that name a stream's nodes, and the first receipt of each stored body. */
  #streams = [];
  #bodies = new Map();
  /** The first receipt of each call: `{ seq, sse }`. */
  #calls = new Map();
  #digests = new Map();
  #signers = {};

  constructor(files, { externals, trust, watch }) {
    this.#files = files;
    this.#externals = externals;
    this.#trust = trust;
    this.#watch = watch;
  }

  async verify() {
    for (const path of NEEDED) if (!this.#files.has(path)) throw new Refusal('F1', 'FILE_MISSING');
    await this.#readManifest();
    await this.#readEnvelope();
    await this.#readLines();
    this.#compareManifest();
    await this.#verifyCheckpoint();
    await this.#verifyFiles();
    this.#compareStatement();
    await this.#compareSums();
    await this.#verifyStreams();
    this.#findBodies();
    await this.#verifyExternals();
    this.decided.completeness = 'complete';
    const anchorIndex = await this.#verifyAnchor();
    this.decided.anchoring = anchorIndex === null ? 'absent' : 'anchored';
    this.#verifyTrust(anchorIndex);
    this.decided.authenticity = this.#trust === null ? 'self_asserted' : 'trusted';
    this.#files.checkSums(); // Z1
    this.decided.integrity = 'ok';
  }

  /** Of a bundle that passed: what sections 16 and 17 ask of a call, or null. `nodes` is null where none were kept. */
  async stream(call) {
    const found = this.#calls.get(call);
    if (found === undefined) return null;
    const bytes = found.sse?.nodes === undefined ? null : await this.#files.read(`streams/${call}.nodes`);
    const nodes = bytes && Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(32 * i, 32 * i + 32));
    return { ...found, nodes, open: this.#run.open };
  }

  /** M1 to M4. */
  async #readManifest() {
    const bytes = await this.#files.read('manifest.json');
    const document = bytes.length > MANIFEST_BYTES_MAX ? null : admit(bytes);
    if (!document?.canonical) throw new Refusal('M1', 'MANIFEST_MALFORMED');
    if (!isManifest(document.value)) throw new Refusal('M2', 'MANIFEST_SCHEMA');
    this.#manifest = document.value;
    this.facts.manifest = document.value;
    this.#keys = readKeys(document.value.keys, (step, reason) => { throw new Refusal(step, reason); });
  }

  #keyOf(kid, use) {
    const key = this.#keys.get(kid);
    return key?.use === use ? key : undefined;
  }

  /** M5 to M7. */
  async #readEnvelope() {
    this.#envelope = readEnvelope(await this.#files.read('manifest.dsse.json'), STATEMENT_TYPE);
    if (!admit(this.#envelope.payload)?.canonical) throw new Refusal('M5', 'ENVELOPE_MALFORMED');
    const key = this.#keyOf(this.#envelope.keyid, 'manifest');
    if (key === undefined) throw new Refusal('M6', 'KEY_UNKNOWN');
    await verifyEnvelope(this.#envelope, STATEMENT_TYPE, key);
    this.#signers.manifest = key;
  }

  /** L1 to L15, S1 to S3. */
  async #readLines() {
    const receipts = await this.#files.read('receipts.ndjson');
    const present = this.#files.has('receipts.sig');
    const signatures = present ? await this.#files.read('receipts.sig') : new Uint8Array();
    const waiting = new Signatures();
    this.#run = new Run((kid, use) => this.#keyOf(kid, use));
    await waiting.ahead(async () => {
      let at = 0;
      do {
        const end = receipts.indexOf(0x0a, at);
        if (end < 0) throw new Refusal('L1', 'LINE_LENGTH', { seq: this.#run.size });
        await this.#readLine(receipts.subarray(at, end), signatures, waiting);
        at = end + 1;
      } while (at < receipts.length);
      this.facts.entries = this.#run.size;
      if (this.#run.seal === null) throw new Refusal('S1', 'SEAL_MISSING', { seq: this.#run.size });
    });
    const wanted = this.#run.open.sign === 'each' ? 64 * this.#run.size : 0;
    const surplus = signatures.length !== wanted || present !== (this.#run.open.sign === 'each');
    if (surplus) throw new Refusal('S2', 'SIGNATURE_SURPLUS');
    this.#run.checkSeal(this.#recount.counters, 'S3', { seq: this.#run.size - 1 });
  }

  async #readLine(line, signatures, waiting) {
    const seq = this.#run.size;
    const where = { seq };
    const entry = readEntry(line, where);
    const key = this.#run.check(entry, this.#manifest, where);
    this.#signers.receipt ??= key;
    if ((this.#run.open ?? entry).sign === 'each') {
      const signature = signatures.subarray(64 * seq, 64 * seq + 64);
      if (signature.length < 64) throw new Refusal('L10', 'SIGNATURE_MISSING', where);
      await waiting.add(key, line, signature, where);
    }
    await this.#run.take(entry, line, where);
    this.#recount.add(entry, seq);
    this.#note(entry, seq);
    await this.#watch?.(entry, seq);
  }

  /** Remembers what N1 and B1 ask for. */
  #note(entry, seq) {
    if (entry.kind !== 'call') return;
    if (!this.#calls.has(entry.call)) this.#calls.set(entry.call, { seq, sse: entry.sse, commits: commitsOf(entry) });
    if (entry.sse?.nodes !== undefined) this.#streams.push({ seq, call: entry.call, sse: entry.sse });
    for (const body of [entry.request, entry.response.upstream, entry.response.client]) {
      const digest = body?.sha256?.slice('sha256:'.length);
      if (digest !== undefined && !this.#bodies.has(digest)) this.#bodies.set(digest, seq);
    }
  }

  /** S4. */
  #compareManifest() {
    const { open, seal, size, tree } = this.#run;
    const { snapshot_lag_bytes_max: _, ...metrics } = this.#manifest.metrics ?? {};
    const stated = {
      tree: { root: `root:${hex(tree.root())}`, size },
      counters: this.#recount.counters,
      claims: this.#recount.claims(),
      policies: this.#recount.policyList(),
      sign: open.sign,
      durability: open.durability,
      class: open.class,
      name: open.name,
      opened: open.ts,
      sealed: seal.entry.ts,
      seal_reason: seal.entry.reason,
      build: open.build,
      metrics: this.#recount.metrics(),
    };
    const same = (a, b) => (a === undefined || b === undefined ? a === b : canonicalize(a) === canonicalize(b));
    for (const [member, value] of Object.entries(stated)) {
      const said = member === 'metrics' && this.#manifest.metrics !== undefined ? metrics : this.#manifest[member];
      if (!same(value, said)) throw new Refusal('S4', 'MANIFEST_MISMATCH');
    }
  }

  #checkpointKeys() {
    return [...this.#keys.values()].filter((key) => key.use === 'checkpoint');
  }

  /** T1 to T3. */
  async #verifyCheckpoint() {
    const { iss, run } = this.#manifest;
    const note = parseCheckpoint(await this.#files.read('checkpoint'));
    if (note?.origin !== `${iss}/run/${run}`) throw new Refusal('T1', 'CHECKPOINT_MALFORMED');
    const fits = note.size === BigInt(this.#run.size) && equal(note.root, this.#run.tree.root());
    if (!fits) throw new Refusal('T2', 'CHECKPOINT_MISMATCH');
    this.#signers.checkpoint = await noteSigner(note, iss, this.#checkpointKeys());
    if (this.#signers.checkpoint === null) throw new Refusal('T3', 'CHECKPOINT_SIGNATURE');
  }

  /** F2 to F4. */
  async #verifyFiles() {
    const listed = this.#manifest.files;
    for (const { path } of listed) if (!this.#files.has(path)) throw new Refusal('F2', 'FILE_MISSING');
    const known = new Set([...UNLISTED, ...listed.map(({ path }) => path)]);
    // A list that is out of order, or that names a file twice or one of the three, does not list the files.
    const sorted = listed.every(({ path }, i) => i === 0 || listed[i - 1].path < path);
    const exact = sorted && known.size === UNLISTED.length + listed.length;
    if (!exact || !this.#files.paths.every((path) => known.has(path))) throw new Refusal('F2', 'FILE_UNLISTED');
    for (const file of listed) {
      const bytes = await this.#files.read(file.path);
      this.#digests.set(file.path, hex(await fileHash(bytes)));
      const fits = bytes.length === file.bytes && file.sha256 === `sha256:${this.#digests.get(file.path)}`;
      if (!fits) throw new Refusal('F3', 'FILE_DIGEST');
    }
    for (const [path, digest] of this.#digests) {
      const folder = /^(policy|contracts|bodies)\//.exec(path)?.[1];
      const named = folder === 'bodies' ? `bodies/${digest}` : `${folder}/${digest}.json`;
      if (folder !== undefined && path !== named) throw new Refusal('F4', 'FILE_NAME_DIGEST');
    }
    for (const [hash, seq] of this.#recount.policies) {
      const path = `policy/${hash.slice('sha256:'.length)}.json`;
      if (!this.#files.has(path)) throw new Refusal('F4', 'POLICY_MISSING', { seq });
    }
    this.#digests.set('manifest.json', hex(await fileHash(await this.#files.read('manifest.json'))));
  }

  /** F5. The payload is canonical, so it is compared as bytes with what a right one looks like. */
  #compareStatement() {
    const { run, v } = this.#manifest;
    const subject = [...this.#digests].map(([name, sha256]) => ({ digest: { sha256 }, name }));
    const statement = canonicalize({
      _type: 'https://in-toto.io/Statement/v1',
      predicate: { root: `root:${hex(this.#run.tree.root())}`, run, size: this.#run.size, v },
      predicateType: 'urn:estoppel:pef:manifest:v0',
      subject: subject.sort((a, b) => compareBytes(a.name, b.name)),
    });
    if (!equal(this.#envelope.payload, utf8(statement))) throw new Refusal('F5', 'STATEMENT_MISMATCH');
  }

  /** F6. */
  async #compareSums() {
    const envelope = await this.#files.read('manifest.dsse.json');
    this.#digests.set('manifest.dsse.json', hex(await fileHash(envelope)));
    const lines = [...this.#digests].sort(([a], [b]) => compareBytes(a, b));
    const sums = lines.map(([path, digest]) => `${digest}  ${path}\n`).join('');
    if (utf8Text(await this.#files.read('SHA256SUMS')) !== sums) throw new Refusal('F6', 'SUMS_MISMATCH');
  }

  /** N1. */
  async #verifyStreams() {
    for (const { seq, call, sse } of this.#streams) {
      const path = `streams/${call}.nodes`;
      const nodes = this.#files.has(path) ? await this.#files.read(path) : null;
      const right = nodes !== null && sse.nodes === `sha256:${this.#digests.get(path)}` && nodesFit(nodes, sse);
      if (!right) throw new Refusal('N1', 'STREAM_MISMATCH', { seq });
    }
  }

  /** B1. */
  #findBodies() {
    const external = new Set(this.#manifest.externals.map(({ sha256 }) => sha256.slice('sha256:'.length)));
    for (const [digest, seq] of this.#bodies) {
      const kept = external.has(digest) || this.#files.has(`bodies/${digest}`);
      if (!kept) throw new Refusal('B1', 'BODY_MISSING', { seq });
    }
    for (const digest of external) if (!this.#bodies.has(digest)) throw new Refusal('B1', 'EXTERNAL_UNKNOWN');
  }

  /** X1, then X2. */
  async #verifyExternals() {
    const found = [];
    for (const row of this.#manifest.externals) {
      const digest = row.sha256.slice('sha256:'.length);
      const external = await this.#externals(digest);
      if (external === null) throw new Refusal('X1', 'MISSING_EXTERNAL');
      found.push({ row, digest, external });
    }
    for (const { row, digest, external } of found) {
      const fits = external.bytes === row.bytes && hex(await external.hash()) === digest;
      if (!fits) throw new Refusal('X2', 'EXTERNAL_DIGEST');
    }
  }

  /** A1 to A3. Gives the seal's index in the instance log, or null where there is no anchor. */
  async #verifyAnchor() {
    if (!this.#files.has('anchor.tlog-proof')) return null;
    const { iss } = this.#manifest;
    const proof = parseProof(await this.#files.read('anchor.tlog-proof'));
    if (proof?.note.origin !== iss) throw new Refusal('A1', 'ANCHOR_MALFORMED');
    const { index, path, note } = proof;
    if (!included(this.#run.head, index, note.size, path, note.root)) throw new Refusal('A2', 'ANCHOR_MISMATCH');
    this.#signers.anchor = await noteSigner(note, iss, this.#checkpointKeys());
    if (this.#signers.anchor === null) throw new Refusal('A3', 'ANCHOR_SIGNATURE');
    this.facts.anchor = { index, size: note.size };
    return index;
  }

  /** K1 and K2. */
  #verifyTrust(anchorIndex) {
    const { manifest, receipt, checkpoint, anchor } = this.#signers;
    const rotated = [...this.#run.rotatedIn].map((kid) => this.#keys.get(kid));
    const others = anchor === undefined ? rotated : [anchor, ...rotated];
    const { iss, sign } = this.#manifest;
    const { rotatedIn } = this.#run;
    if (this.#trust !== null) {
      checkTrust(this.#trust, { iss, sign, manifest, receipt, checkpoint, others, rotatedIn, anchorIndex });
    }
    const unique = new Set([manifest, receipt, checkpoint, ...others]);
    this.facts.signers = [...unique].map(({ kid, alg, use }) => ({
      kid, alg, use, source: this.#trust === null ? 'bundle' : this.#trust.has(kid) ? 'trust' : 'rotation',
    }));
  }
}

/** Do the stored nodes have the number and level that `units` asks for, and the root that the receipt has? */
function nodesFit(nodes, { units, level, root }) {
  const count = (height) => Math.ceil(units / 2 ** height);
  let least = 0;
  while (count(least) > STREAM_NODES_MAX) least += 1;
  if (level !== least || nodes.length !== 32 * count(level)) return false;
  const tree = new Tree();
  for (let at = 0; at < nodes.length; at += 32) tree.push(nodes.subarray(at, at + 32));
  return root === `root:${hex(tree.root())}`;
}

/** What a receipt commits to, by body. */
function commitsOf({ request, response }) {
  return { request: request.commit, upstream: response.upstream?.commit, client: response.client.commit };
}
