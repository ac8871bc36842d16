// Verifying a journal: SPEC section 13. The first frame, in the order of the bytes, that fails decides.

import { readBeginning } from './beginning.mjs';
import { equal, hex, isZero } from './bytes.mjs';
import { noteSigner, parseCheckpoint } from './note.mjs';
import { Refusal } from './refusal.mjs';
import { Recount, Run, Signatures, readEntry } from './run.mjs';
import { BLOB, CHECKPOINT, END, ENTRY, HEADER_BYTES, readFrame, readHeader } from './segment.mjs';
import { sha256, Tree } from './tree.mjs';

/** What a crash leaves of a segment that was being laid out; the next start removes it. */
const UNFINISHED = /^[0-9]{20}\.seg\.tmp$/;

/**
 * One journal on its way through the steps. `segments` are `{ name, head(), read() }`, `checkpoint` is the file
 * of that name or null, `against` a checkpoint that the reader has from elsewhere or null, `trust` the keys by id.
 */
export class Journal {
  decided = {};
  facts = { entries: 0, instance: null, runs: 0, sealed: 0, covered: 0 };
  #segments;
  /** What was before the first segment, where that was deleted. */
  #beginning = null;
  #beginningBytes;
  /** The file `checkpoint` and the reader's, as far as they are there: bytes, note, and root at the note's size. */
  #newest;
  #against;
  #keys;
  #watch;
  #tree = new Tree();
  #head = new Uint8Array(32);
  #runs = new Map();
  #recounts = new Map();
  #blobs = [];
  #waiting = new Signatures();
  /** Number of entries up to the last one that has no signature of its own. */
  #unsigned = 0;

  constructor({ segments, checkpoint, beginning = null }, { against, trust, watch }) {
    const started = segments.filter(({ name }) => !UNFINISHED.test(name));
    this.#segments = started.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#newest = [checkpoint, against].filter((note) => note !== null).map((bytes) => ({ note: parseCheckpoint(bytes), root: null }));
    this.#against = against;
    this.#beginningBytes = beginning;
    this.#keys = trust;
    this.#watch = watch;
  }

  /** `trusted`: the keys came from the reader. */
  async verify(trusted) {
    const headers = await this.#begin(await this.#readHeaders());
    this.#markRoots();
    await this.#waiting.ahead(async () => {
      for (const [i, segment] of this.#segments.entries()) {
        await this.#readSegment(await segment.read(), headers[i], i === headers.length - 1);
      }
      const index = this.#tree.size;
      if (this.#blobs.length > 0) throw new Refusal('J5', 'BLOB_MISMATCH', { index }); // no entry follows that names it
    });
    this.facts.entries = this.#tree.size;
    for (const newest of this.#newest) await this.#verifyNewest(newest);
    this.#beginning?.checkRecorded(this.#tree.size);
    this.decided.integrity = 'ok';
    // The file `checkpoint` can be set back together with the segments; only one from elsewhere says more.
    this.decided.anchoring = this.#against === null ? 'absent' : 'anchored';
    if (this.#against !== null) this.decided.completeness = 'complete';
    // Lines of a run with `sign: checkpoint` stand on checkpoints alone. Where none covers them, nobody signed them.
    if (this.#unsigned <= this.facts.covered) this.decided.authenticity = trusted ? 'trusted' : 'self_asserted';
  }

  /** J1. */
  async #readHeaders() {
    const headers = [];
    for (const { name, head } of this.#segments) headers.push(readHeader(await head(), name));
    const [first] = headers;
    const one = first !== undefined && headers.every(({ instance }) => instance === first.instance);
    if (!one) throw new Refusal('J1', 'SEGMENT_HEADER');
    return headers;
  }

  /** G1 to G5. Gives the headers of the segments that are read. */
  async #begin(headers) {
    this.facts.instance = headers[0].instance;
    if (this.#beginningBytes === null) return headers;
    this.#beginning = await readBeginning(this.#beginningBytes, this.facts.instance, (kid, use) => this.#keyOf(kid, use));
    const { size, head, tree, runs, facts } = this.#beginning;
    this.facts.begins = facts;
    const stays = headers.map(({ first }) => first >= BigInt(size));
    this.#segments = this.#segments.filter((_, i) => stays[i]);
    if (this.#segments.length === 0) throw new Refusal('J3', 'INDEX_MISMATCH', { index: size });
    [this.#tree, this.#head] = [tree, head];
    for (const run of runs) {
      this.#runs.set(run.run, new Run((kid, use) => this.#keyOf(kid, use)).begin(run));
      this.#recounts.set(run.run, Object.assign(new Recount(), { counters: run.counters }));
    }
    return headers.filter((_, i) => stays[i]);
  }

  async #readSegment(segment, header, last) {
    const misplaced = () => new Refusal('J3', 'INDEX_MISMATCH', { index: this.#tree.size });
    if (header.first !== BigInt(this.#tree.size) || !equal(header.before, this.#head)) throw misplaced();
    let ended = false;
    for (let at = HEADER_BYTES; !isZero(segment.subarray(at));) {
      if (ended) throw misplaced();
      const frame = readFrame(segment, at, { last, index: this.#tree.size });
      // Entries, blobs and ends have the index of the next entry; a checkpoint has its tree's size: the same.
      if (frame.index !== BigInt(this.#tree.size)) throw misplaced();
      await this.#readPayload(frame);
      ended = frame.type === END;
      at = frame.next;
    }
    if (!ended && !last) throw misplaced();
  }

  async #readPayload({ type, payload }) {
    const index = this.#tree.size;
    if (type === ENTRY) return this.#readEntry(payload, index);
    if (type === BLOB) return this.#readBlob(payload, index);
    if (type === CHECKPOINT) return this.#readCheckpoint(payload, { index });
    if (payload.length !== 1 || payload[0] !== 0) throw new Refusal('J2', 'FRAME_INVALID', { index });
  }

  /** J4, J5 for the blobs before it, and J7. */
  async #readEntry(payload, index) {
    const bytes = payload[0];
    const whole = (bytes === 0 || bytes === 64) && payload.length >= 1 + bytes;
    if (!whole) throw new Refusal('J2', 'FRAME_INVALID', { index });
    const [signature, line] = [payload.subarray(1, 1 + bytes), payload.subarray(1 + bytes)];
    const entry = readEntry(line, { index });
    const where = { index, seq: entry.seq };
    const run = this.#runs.get(entry.run) ?? new Run((kid, use) => this.#keyOf(kid, use));
    const key = run.check(entry, { run: entry.run, iss: this.facts.instance }, where);
    if ((run.open ?? entry).sign === 'each') {
      if (bytes === 0) throw new Refusal('L10', 'SIGNATURE_MISSING', where);
      await this.#waiting.add(key, line, signature, where);
    } else {
      if (bytes !== 0) throw new Refusal('S2', 'SIGNATURE_SURPLUS', where);
      this.#unsigned = index + 1;
    }
    if (index >= (key.revokedFromIndex ?? Infinity)) throw new Refusal('K2', 'KEY_REVOKED', where);
    this.#head = await run.take(entry, line, where);
    this.#runs.set(entry.run, run);
    this.#nameBlobs(entry, where);
    this.#recount(run, entry, where);
    this.#beginning?.see(entry, index);
    this.#tree.push(this.#head);
    this.#markRoots();
    await this.#watch?.(entry, index);
  }

  #keyOf(kid, use) {
    const key = this.#keys.get(kid);
    return key?.use === use && key.iss === this.facts.instance ? key : undefined;
  }

  #recount(run, entry, where) {
    const recount = this.#recounts.get(entry.run) ?? new Recount();
    recount.add(entry, entry.seq);
    this.#recounts.set(entry.run, recount);
    if (entry.kind === 'run.open') this.facts.runs += 1;
    if (entry.kind !== 'run.seal') return;
    run.checkSeal(recount.counters, 'J7', where);
    this.#recounts.delete(entry.run);
    this.facts.sealed += 1;
  }

  /** J5: the blob's own hash. */
  #readBlob(payload, index) {
    const [stated, content] = [payload.subarray(0, 32), payload.subarray(32)];
    if (payload.length < 32) throw new Refusal('J2', 'FRAME_INVALID', { index });
    if (!equal(stated, sha256(content))) throw new Refusal('J5', 'BLOB_MISMATCH', { index });
    this.#blobs.push(hex(stated));
  }

  /** … and the next entry names it. */
  #nameBlobs(entry, where) {
    const named = entry.sse?.nodes;
    const fits = this.#blobs.every((digest) => named === `sha256:${digest}`);
    if (!fits) throw new Refusal('J5', 'BLOB_MISMATCH', where);
    this.#blobs = [];
  }

  /** J6. */
  async #readCheckpoint(payload, where) {
    const note = parseCheckpoint(payload);
    if (note?.origin !== this.facts.instance) throw new Refusal('T1', 'CHECKPOINT_MALFORMED', where);
    const fits = note.size === BigInt(this.#tree.size) && equal(note.root, this.#tree.root());
    if (!fits) throw new Refusal('T2', 'CHECKPOINT_MISMATCH', where);
    await this.#verifyNote(note, where);
    this.facts.covered = this.#tree.size;
  }

  /** T3. */
  async #verifyNote(note, where) {
    const { instance } = this.facts;
    const keys = [...this.#keys.values()].filter(({ use, iss }) => use === 'checkpoint' && iss === instance);
    const key = await noteSigner(note, instance, keys);
    if (key === null) throw new Refusal('T3', 'CHECKPOINT_SIGNATURE', where);
    if (note.size > (key.revokedFromIndex ?? Infinity)) throw new Refusal('K2', 'KEY_REVOKED', where);
  }

  #markRoots() {
    for (const newest of this.#newest) {
      if (newest.note?.size === BigInt(this.#tree.size)) newest.root = this.#tree.root();
    }
  }

  /** J8 and J9. */
  async #verifyNewest({ note, root }) {
    const where = { index: this.#tree.size };
    if (note?.origin !== this.facts.instance) throw new Refusal('T1', 'CHECKPOINT_MALFORMED', where);
    await this.#verifyNote(note, where);
    if (note.size > this.#tree.size) throw new Refusal('J8', 'JOURNAL_TRUNCATED', where);
    if (note.size < (this.#beginning?.size ?? 0)) throw new Refusal('J8', 'JOURNAL_BEGINS_LATER', where);
    if (!equal(note.root, root)) throw new Refusal('J9', 'CHECKPOINT_MISMATCH', where);
    this.facts.covered = Math.max(this.facts.covered, Number(note.size));
  }
}
