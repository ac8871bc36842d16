// Verifying one receipt that was exported alone: SPEC section 14.

import { readEnvelope, verifyEnvelope } from './envelope.mjs';
import { ENTRY_TYPE } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { readEntry } from './run.mjs';

/** Verifies the envelope with `key`, a PublicKey that the reader has from elsewhere. Gives the entry. */
export async function readReceipt(bytes, key) {
  const envelope = readEnvelope(bytes, ENTRY_TYPE);
  if (envelope.keyid !== key.kid) throw new Refusal('M6', 'KEY_UNKNOWN');
  await verifyEnvelope(envelope, ENTRY_TYPE, key);
  const entry = readEntry(envelope.payload, {});
  if (entry.kid !== key.kid) throw new Refusal('L8', 'KEY_MISMATCH', { seq: entry.seq });
  return entry;
}
