// One run read line by line: steps L1 to L15 and S3 (SPEC section 11), for bundles and journals alike.

import { compareBytes, equal, hex, unbase64, utf8 } from './bytes.mjs';
import { Holds } from './holds.mjs';
import { admit, canonicalize } from './json.mjs';
import { ENTRY_TYPE, POSSESSION_TYPE, PublicKey, pae } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { compile, compileKinds } from './schema.mjs';
import { journal_event as eventSchema, receipt as receiptSchema } from './schemas.mjs';
import { leafHash, Tree } from './tree.mjs';

const LINE_BYTES_MAX = 16384;
const CLAIM_VALUES_MAX = 16;
const KINDS = compileKinds(eventSchema).set('call', compile(receiptSchema));

/**
 * Steps L1 (without the final LF), L2, L3 and L4. `place` is what a refusal names; where it has no `seq`, the one
 * that the line states is taken, as far as the line can be read.
 */
export function readEntry(line, place) {
  if (line.length < 1 || line.length > LINE_BYTES_MAX) throw new Refusal('L1', 'LINE_LENGTH', place);
  const document = admit(line);
  if (document === null) throw new Refusal('L2', 'LINE_MALFORMED', place);
  const entry = document.value;
  const where = { seq: Number.isInteger(entry.seq) && entry.seq >= 0 ? entry.seq : null, ...place };
  if (!document.canonical) throw new Refusal('L3', 'LINE_NOT_CANONICAL', where);
  if (!KINDS.get(entry.kind)?.(entry)) throw new Refusal('L4', 'LINE_SCHEMA', where);
  return entry;
}

/** A run that grows by `check` and `take`. Its keys come from `keyOf(kid, use)`, a PublicKey or undefined. */
export class Run {
  open = null;
  seal = null;
  size = 0;
  tree = new Tree();
  /** Entry hash of the last line. */
  head = null;
  /** Its first entries are not there any more. */
  carried = false;
  /** Key ids that a verified key.rotate brought in. */
  rotatedIn = new Set();
  #current = {};
  #holds = new Holds();
  /** The sources of snapshots that came too late for their calls' receipts, by call id. */
  #awaited = new Map();
  #monotonic = 0;
  #keyOf;

  constructor(keyOf) {
    this.#keyOf = keyOf;
  }

  /** Steps L5 to L9. `wanted` has the `run` and `iss` of the manifest (of the journal). Gives the signing key. */
  check(entry, wanted, where) {
    const first = this.size === 0;
    if (entry.seq !== this.size || (entry.kind === 'run.open') !== first) throw new Refusal('L5', 'SEQ_MISMATCH', where);
    if (entry.run !== wanted.run || entry.iss !== wanted.iss) throw new Refusal('L6', 'RUN_MISMATCH', where);
    if (entry.prev !== (first ? undefined : `leaf:${hex(this.head)}`)) throw new Refusal('L7', 'CHAIN_BROKEN', where);
    if (first) this.#current.receipt = entry.kid;
    const key = this.#keyOf(entry.kid, 'receipt');
    if (entry.kid !== this.#current.receipt || key === undefined) throw new Refusal('L8', 'KEY_MISMATCH', where);
    if (entry.mono_us < this.#monotonic) throw new Refusal('L9', 'TIME_REVERSED', where);
    return key;
  }

  /** Steps L11 to L15, and S3 for a seal; then the entry is part of the run. Gives its hash. */
  async take(entry, line, where) {
    if (entry.kind === 'key.rotate') await this.#rotate(entry, where);
    if (this.seal !== null) throw new Refusal('L12', 'SEAL_NOT_LAST', where);
    const leaf = leafHash(line);
    // What an entry names may have been before; the bundle of the run shows it.
    if (!this.carried) {
      await this.#holds.take(entry, leaf, where);
      this.#await(entry, where);
    }
    if (entry.kind === 'run.open') this.open = entry;
    if (entry.kind === 'run.seal') this.seal = { entry, size: this.size, head: this.head, root: this.tree.root() };
    this.head = leaf;
    this.tree.push(this.head);
    this.size += 1;
    this.#monotonic = entry.mono_us;
    return this.head;
  }

  /** Starts with what entries that are not there any more add up to (section 12). */
  begin({ size, peaks, head, sign, kid, mono_us }) {
    Object.assign(this, { size, head, open: { sign }, tree: Tree.resumed(size, peaks), carried: true });
    this.#current.receipt = kid;
    this.#monotonic = mono_us;
    return this;
  }

  /** Step L15. */
  #await(entry, where) {
    const { call, kind, snapshot, source } = entry;
    if (kind === 'call') {
      this.#awaited.delete(call);
      if (snapshot?.post?.code === 'POST_TIMEOUT') this.#awaited.set(call, snapshot.source);
    } else if (kind === 'snapshot') {
      if (this.#awaited.get(call) !== source) throw new Refusal('L15', 'SNAPSHOT_MISMATCH', where);
      this.#awaited.delete(call);
    }
  }

  async #rotate(entry, where) {
    const refuse = () => { throw new Refusal('L11', 'ROTATION_INVALID', where); };
    const { alg, iss, old, possession, run, spki, use } = entry;
    const current = this.#current[use];
    if (current !== undefined && current !== old) refuse();
    const key = this.#keyOf(entry.new, use);
    const stated = PublicKey.fromBase64(spki);
    if (key === undefined || stated === null || stated.alg !== alg || !equal(stated.spki, key.spki)) refuse();
    const proof = utf8(canonicalize({ iss, new: entry.new, old, run, use }));
    const signature = unbase64(possession);
    if (signature === null || !(await key.verify(pae(POSSESSION_TYPE, proof), signature))) refuse();
    this.#current[use] = entry.new;
    this.rotatedIn.add(entry.new);
  }

  /** Step S3, once the seal was taken. */
  checkSeal(counters, step, where) {
    const { entry, size, head, root } = this.seal;
    const fits = entry.count === size && entry.head === `leaf:${hex(head)}` && entry.root === `root:${hex(root)}`
      && canonicalize(entry.counters) === canonicalize(counters);
    if (!fits) throw new Refusal(step, 'SEAL_MISMATCH', where);
  }
}

/** What the manifest and the seal say of the entries, counted again. */
export class Recount {
  counters = { allow: 0, block: 0, calls: 0, hold: 0, incomplete: 0, interrupted: 0, repair: 0 };
  /** Policy hash to the `seq` of the first receipt that names it. */
  policies = new Map();
  /** The run.open's policy, which is listed but need not be in `policy/`. */
  #opened = null;
  #claims = new Map();
  #totals = [];

  add(entry, seq) {
    if (entry.kind === 'run.open') this.#opened = entry.policy;
    if (entry.kind === 'interrupted') this.counters.interrupted += 1;
    if (entry.kind !== 'call') return;
    this.counters.calls += 1;
    this.counters[entry.verdict.action] += 1;
    if (!entry.outcome.complete) this.counters.incomplete += 1;
    if (!this.policies.has(entry.policy.hash)) this.policies.set(entry.policy.hash, seq);
    for (const [name, value] of Object.entries(entry.claims ?? {})) this.#claim(name, value);
    this.#totals.push(entry.time.total_us);
  }

  /** Keeps the smallest values only: those are the ones that are listed. */
  #claim(name, value) {
    const values = this.#claims.get(name) ?? [];
    const full = values.length === CLAIM_VALUES_MAX;
    if (values.includes(value) || (full && compareBytes(value, values.at(-1)) > 0)) return;
    values.push(value);
    values.sort(compareBytes);
    this.#claims.set(name, values.slice(0, CLAIM_VALUES_MAX));
  }

  claims() {
    return Object.fromEntries(this.#claims);
  }

  policyList() {
    return [...new Set([this.#opened, ...this.policies.keys()])].sort();
  }

  /** Nearest-rank percentiles; undefined where there was no call. */
  metrics() {
    const sorted = Float64Array.from(this.#totals).sort();
    const rank = (percent) => sorted[Math.ceil((percent * sorted.length) / 100) - 1];
    return sorted.length === 0 ? undefined : { total_p50_us: rank(50), total_p95_us: rank(95), total_p99_us: rank(99) };
  }
}

/**
 * Signatures that are being verified while later lines are read. WebCrypto works on several at once; what
 * decides is still the first failing step, so nothing else may refuse before `settle`.
 */
export class Signatures {
  static #WINDOW = 256;
  #waiting = [];

  async add(key, line, signature, where) {
    this.#waiting.push({ answer: key.verify(pae(ENTRY_TYPE, line), signature), where });
    if (this.#waiting.length >= Signatures.#WINDOW) await this.settle();
  }

  /** Step L10 of every line so far. */
  async settle() {
    const waiting = this.#waiting;
    this.#waiting = [];
    const answers = await Promise.all(waiting.map(({ answer }) => answer));
    const failed = answers.indexOf(false);
    if (failed >= 0) throw new Refusal('L10', 'SIGNATURE_INVALID', waiting[failed].where);
  }

  /** Runs `work`; when it refuses, an earlier line's signature still goes first. */
  async ahead(work) {
    try {
      await work();
    } catch (refusal) {
      await this.settle();
      throw refusal;
    }
    await this.settle();
  }
}
