// Verifying one receipt that was exported alone: SPEC section 14.

import { readEnvelope, verifyEnvelope } from './envelope.mjs';
import { ENTRY_TYPE } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { readEntry } from './run.mjs';

/** Verifies the envelope with the keys that `keyOf(kid)` gives (PublicKey or undefined). Gives the entry. */
export async function readReceipt(bytes, keyOf) {
  const envelope = readEnvelope(bytes, ENTRY_TYPE);
  const key = keyOf(envelope.keyid);
  if (key === undefined) throw new Refusal('M6', 'KEY_UNKNOWN');
  await verifyEnvelope(envelope, ENTRY_TYPE, key);
  const entry = readEntry(envelope.payload, {});
  const where = { seq: entry.seq };
  if (entry.kid !== key.kid || entry.iss !== (key.iss ?? entry.iss)) throw new Refusal('L8', 'KEY_MISMATCH', where);
  // Nothing says where in the log this entry stands, so a key that was ever revoked vouches for none.
  if (key.revokedFromIndex !== undefined) throw new Refusal('K2', 'KEY_REVOKED', where);
  return entry;
}
