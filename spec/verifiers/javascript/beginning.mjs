// What a journal says of segments that were deleted: beginning.json (SPEC sections 12 and 13, G1 to G6).

import { equal, unhex, utf8 } from './bytes.mjs';
import { readEnvelope, verifyEnvelope } from './envelope.mjs';
import { admit, canonicalize } from './json.mjs';
import { Refusal } from './refusal.mjs';
import { compile } from './schema.mjs';
import { beginning as beginningSchema } from './schemas.mjs';
import { Tree } from './tree.mjs';

const BYTES_MAX = 2 ** 26;
const STATEMENT_TYPE = 'application/vnd.in-toto+json';

const isBeginning = compile(beginningSchema);
const hashOf = (text) => unhex(text.slice(text.indexOf(':') + 1));
const bitsOf = (number) => BigInt(number).toString(2).replaceAll('0', '').length;

/** G1 to G5. `keyOf(kid, use)` gives a PublicKey or undefined. */
export async function readBeginning(bytes, iss, keyOf) {
  if (bytes.length > BYTES_MAX) throw new Refusal('G1', 'ENVELOPE_MALFORMED');
  const envelope = readEnvelope(bytes, STATEMENT_TYPE);
  const key = keyOf(envelope.keyid, 'manifest');
  if (key === undefined) throw new Refusal('G2', 'KEY_UNKNOWN');
  await verifyEnvelope(envelope, STATEMENT_TYPE, key);
  const document = admit(envelope.payload);
  if (!document?.canonical || !isBeginning(document.value)) throw new Refusal('G4', 'ENVELOPE_MALFORMED');
  const { predicate, subject } = document.value;
  if (predicate.iss !== iss || !addsUp(predicate, subject)) throw new Refusal('G5', 'STATEMENT_MISMATCH');
  return new Beginning(predicate, key);
}

function addsUp({ size, head, peaks, runs, segments }, subject) {
  let due = 0;
  for (const { first, entries } of segments) {
    if (first !== due) return false;
    due += entries;
  }
  const subjects = segments.map(({ first, sha256 }) => ({
    digest: { sha256: sha256.slice('sha256:'.length) }, name: `segments/${String(first).padStart(20, '0')}.seg`,
  }));
  return due === size && head === segments.at(-1).head
    && equal(utf8(canonicalize(subject)), utf8(canonicalize(subjects)))
    && runs.every(({ run }, i) => i === 0 || runs[i - 1].run < run)
    && [{ size, peaks }, ...runs].every((tree) => bitsOf(tree.size) === tree.peaks.length);
}

class Beginning {
  #plan;
  #key;
  /** Index of the first entry that says that the deletion was begun. */
  #recorded = null;

  constructor({ size, head, peaks, plan, runs, segments }, key) {
    const treeOf = (tree) => Tree.resumed(tree.size, tree.peaks.map(hashOf));
    Object.assign(this, { size, head: hashOf(head), tree: treeOf({ size, peaks }) });
    this.runs = runs.map((run) => ({ ...run, head: hashOf(run.head), peaks: run.peaks.map(hashOf) }));
    const copies = new Set(segments.map(({ copy }) => `${copy.bucket} at ${copy.endpoint}`));
    this.facts = { size, segments: segments.length, plan, copies: [...copies].sort() };
    this.#plan = plan;
    this.#key = key;
  }

  see({ kind, act, on }, index) {
    if (kind === 'act' && act === 'retention_planned' && on === this.#plan) this.#recorded ??= index;
  }

  /** G6. */
  checkRecorded(entries) {
    const index = this.#recorded;
    if (index === null) throw new Refusal('G6', 'BEGINNING_UNRECORDED', { index: entries });
    if (index >= (this.#key.revokedFromIndex ?? Infinity)) throw new Refusal('K2', 'KEY_REVOKED', { index });
  }
}
