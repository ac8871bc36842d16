// Verifying one receipt that was exported alone: SPEC section 14.

import { readEnvelope, verifyEnvelope } from './envelope.mjs';
import { ENTRY_TYPE } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { readEntry } from './run.mjs';

/** `keys` is what the reader trusts, by key id. Gives the entry. */
export async function verifyReceipt(bytes, keys) {
  const envelope = readEnvelope(bytes, ENTRY_TYPE);
  const key = keys.get(envelope.keyid);
  if (key === undefined || (key.use ?? 'receipt') !== 'receipt') throw new Refusal('M6', 'KEY_UNKNOWN');
  await verifyEnvelope(envelope, ENTRY_TYPE, key);
  const entry = readEntry(envelope.payload, {});
  const where = { seq: entry.seq };
  const named = entry.kid === key.kid && (key.iss ?? entry.iss) === entry.iss;
  if (!named) throw new Refusal('L8', 'KEY_MISMATCH', where);
  // A receipt alone has no log index that could lie below the revocation.
  if (key.revokedFromIndex !== undefined) throw new Refusal('K2', 'KEY_REVOKED', where);
  return entry;
}
