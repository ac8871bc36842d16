// DSSE envelopes with exactly one signature (SPEC section 3).

import { unbase64 } from './bytes.mjs';
import { admit } from './json.mjs';
import { pae } from './keys.mjs';
import { Refusal } from './refusal.mjs';
import { compile } from './schema.mjs';
import { signature as signatureSchema } from './schemas.mjs';

const isEnvelope = compile(signatureSchema);

/** Step M5 without the payload's own JSON. Gives `{ payload, keyid, signature }`. */
export function readEnvelope(bytes, type) {
  const malformed = new Refusal('M5', 'ENVELOPE_MALFORMED');
  const document = admit(bytes);
  if (!document?.canonical || !isEnvelope(document.value) || document.value.payloadType !== type) throw malformed;
  const [{ keyid, sig }] = document.value.signatures;
  const [payload, signature] = [unbase64(document.value.payload), unbase64(sig)];
  if (payload === null || signature === null) throw malformed;
  return { payload, keyid, signature };
}

/** Step M7. */
export async function verifyEnvelope({ payload, signature }, type, key) {
  const raw = key.fromDsse(signature);
  if (raw === null || !(await key.verify(pae(type, payload), raw))) throw new Refusal('M7', 'ENVELOPE_SIGNATURE');
}
