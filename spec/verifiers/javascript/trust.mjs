// Trust documents (SPEC section 10) and what they say of the keys that signed (steps K1 and K2).

import { hex, unbase64 } from './bytes.mjs';
import { admit } from './json.mjs';
import { PublicKey } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { compile } from './schema.mjs';
import { trust as trustSchema } from './schemas.mjs';
import { sha256 } from './tree.mjs';

const isTrust = compile(trustSchema);

/**
 * Keys by id, from rows that the schema has passed: steps M3, then M4. Each key gets the members of its row.
 * `refuse(step, reason)` throws.
 */
export function readKeys(rows, refuse) {
  const keys = new Map();
  for (const row of rows) {
    const spki = unbase64(row.spki);
    const fits = spki !== null && !keys.has(row.kid) && row.kid === hex(sha256(spki));
    if (!fits) refuse('M3', 'KEY_ID_MISMATCH');
    keys.set(row.kid, { row, key: PublicKey.fromSpki(spki) });
  }
  for (const { row, key } of keys.values()) {
    const fits = key?.alg === row.alg && (row.use !== 'checkpoint' || row.alg === 'ed25519');
    if (!fits) refuse('M4', 'ALGORITHM_MISMATCH');
    Object.assign(key, { use: row.use, iss: row.iss, revokedFromIndex: row.revoked_from_index });
  }
  return new Map([...keys].map(([kid, { key }]) => [kid, key]));
}

/** The keys of a trust document, by id. */
export function readTrust(bytes) {
  const refuse = () => { throw new Refusal('K1', 'TRUST_INVALID', { exit: 6 }); };
  const document = admit(bytes);
  if (!document?.canonical || !isTrust(document.value)) refuse();
  return readKeys(document.value.keys, refuse);
}

/**
 * Steps K1 and K2 of a bundle.
 *
 * A key that a `key.rotate` brought in is trusted through it, but only where the entry itself stands on a key of
 * the reader's: with `sign: each` on the first receipt key, with `sign: checkpoint` (where the lines carry no
 * signatures) on the manifest key or the checkpoint key. Else a bundle could introduce all its keys to itself.
 */
export function checkTrust(trust, { iss, sign, manifest, receipt, checkpoint, others, rotatedIn, anchorIndex }) {
  // Both key ids are known to be hashes of their SPKI, so equal ids are equal keys.
  const given = (key) => {
    const known = trust.get(key.kid);
    return known !== undefined && known.use === key.use && known.iss === iss;
  };
  const chained = sign === 'each' || given(manifest) || given(checkpoint);
  const through = (key) => given(key) || (chained && rotatedIn.has(key.kid));
  if (!given(receipt) || ![manifest, checkpoint, ...others].every(through)) throw new Refusal('K1', 'KEY_UNTRUSTED');
  for (const key of [manifest, receipt, checkpoint, ...others].filter(given)) {
    const from = trust.get(key.kid).revokedFromIndex;
    const stands = from === undefined || (anchorIndex !== null && anchorIndex < from);
    if (!stands) throw new Refusal('K2', 'KEY_REVOKED');
  }
}
