// Signed notes, checkpoints and tlog-proofs (C2SP), in the narrow form of SPEC sections 3 and 5.

import { equal, unbase64, utf8, utf8Text } from './bytes.mjs';

const CHECKPOINT = /^([^\n]+)\n(0|[1-9][0-9]{0,19})\n([A-Za-z0-9+/]{43}=)\n$/;
/** The name: printable ASCII but the plus sign. */
const SIGNATURE_LINE = /^— ([!-*,-~]+) ([A-Za-z0-9+/=]+)\n$/u;
const PROOF = /^c2sp\.org\/tlog-proof@v1\nindex (0|[1-9][0-9]{0,19})\n((?:[A-Za-z0-9+/]{43}=\n){0,63})\n/;
/** Sizes and indexes have 64 bits, more than a number holds exactly. */
const COUNT_MAX = 2n ** 64n - 1n;
/** The key's id and an Ed25519 signature. */
const SIGNATURE_BYTES = 4 + 64;

/** Parses a checkpoint note with one signature. Gives `{ origin, size, root, name, signature, text }` or null. */
export function parseCheckpoint(bytes) {
  const note = utf8Text(bytes);
  const cut = note?.lastIndexOf('\n\n') ?? -1;
  if (cut < 0) return null;
  const text = note.slice(0, cut + 1);
  const head = CHECKPOINT.exec(text);
  const line = SIGNATURE_LINE.exec(note.slice(cut + 2));
  if (head === null || line === null) return null;
  const [origin, size, root] = [head[1], BigInt(head[2]), unbase64(head[3])];
  const signature = unbase64(line[2]);
  if (size > COUNT_MAX || root === null || signature?.length !== SIGNATURE_BYTES) return null;
  return { origin, size, root, name: line[1], signature, text: utf8(text) };
}

/** Parses a tlog-proof. Gives `{ index, path, note }`, the note as `parseCheckpoint` does, or null. */
export function parseProof(bytes) {
  const text = utf8Text(bytes);
  const head = text === null ? null : PROOF.exec(text);
  if (head === null) return null;
  const index = BigInt(head[1]);
  const path = head[2].split('\n').slice(0, -1).map(unbase64);
  const note = parseCheckpoint(utf8(text.slice(head[0].length)));
  if (index > COUNT_MAX || path.includes(null) || note === null) return null;
  return { index, path, note };
}

/** The key among `keys` that signed `note` in the name of `iss`, or null. */
export async function noteSigner(note, iss, keys) {
  if (note.name !== iss) return null;
  for (const key of keys) {
    const named = equal(key.noteId(iss), note.signature.subarray(0, 4));
    if (named && (await key.verify(note.text, note.signature.subarray(4)))) return key;
  }
  return null;
}
