// Public keys, and the one question they answer (SPEC section 3).

import { concat, equal, hex, unbase64, unhex, utf8 } from './bytes.mjs';
import { strictForm, verifyEd25519, verifyP256 } from './curves.mjs';
import { sha256 } from './tree.mjs';

const SPKI_ED25519 = unhex('302a300506032b6570032100');
const SPKI_P256 = unhex('3059301306072a8648ce3d020106082a8648ce3d03010703420004');

export const ENTRY_TYPE = 'application/vnd.estoppel.pef.entry.v0+json';
export const STATEMENT_TYPE = 'application/vnd.in-toto+json';
export const POSSESSION_TYPE = 'application/vnd.estoppel.pef.possession.v0+json';
export const APPROVAL_TYPE = 'application/vnd.estoppel.pef.approval.v0+json';

/** DSSE pre-authentication encoding: the bytes that a signature covers. */
export function pae(type, body) {
  return concat(utf8(`DSSEv1 ${utf8(type).length} ${type} ${body.length} `), body);
}

/** A public key; its algorithm is what its SPKI says. */
export class PublicKey {
  #native = null;

  /** Takes the Base64 of an SPKI. Gives null for anything but the two exact forms. */
  static fromBase64(text) {
    const spki = unbase64(text);
    return spki === null ? null : PublicKey.fromSpki(spki);
  }

  static fromSpki(spki) {
    if (spki.length === 44 && equal(spki.subarray(0, 12), SPKI_ED25519)) {
      return new PublicKey('ed25519', spki, spki.slice(12));
    }
    if (spki.length === 91 && equal(spki.subarray(0, 27), SPKI_P256)) {
      return new PublicKey('ecdsa-p256-sha256', spki, spki.slice(27));
    }
    return null;
  }

  constructor(alg, spki, raw) {
    this.alg = alg;
    this.spki = spki;
    this.raw = raw;
    this.kid = hex(sha256(spki));
  }

  /** `signature` has the form of `receipts.sig`: 64 bytes for either algorithm. */
  async verify(message, signature) {
    if (signature.length !== 64) return false;
    if (this.alg === 'ed25519') {
      // What is not strict never gets as far as an engine that may be less strict.
      if (!strictForm(this.raw, signature)) return false;
      if (!(await nativeEd25519())) return verifyEd25519(this.raw, message, signature);
    } else if (globalThis.crypto?.subtle === undefined) {
      return verifyP256(this.raw, message, signature);
    }
    return this.#verifyNative(message, signature);
  }

  async #verifyNative(message, signature) {
    const { subtle } = globalThis.crypto;
    const [name, way] = this.alg === 'ed25519'
      ? ['Ed25519', 'Ed25519']
      : [{ name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' }];
    // A key that is no point of its curve does not import: then nothing verifies with it.
    this.#native ??= subtle.importKey('spki', this.spki, name, false, ['verify']).catch(() => null);
    const key = await this.#native;
    return key !== null && subtle.verify(way, key, signature, message).catch(() => false);
  }

  /** The 64-byte form of a signature in a DSSE envelope, or null. */
  fromDsse(signature) {
    return this.alg === 'ed25519' ? signature : rawFromDer(signature);
  }

  /** C2SP id of a checkpoint key: the first four bytes of SHA-256(name ‖ LF ‖ 0x01 ‖ key). */
  noteId(name) {
    return sha256(concat(utf8(name), Uint8Array.of(0x0a, 0x01), this.raw)).subarray(0, 4);
  }
}

/** r ‖ s of a strict DER SEQUENCE of two positive integers below 2^256, or null. */
function rawFromDer(der) {
  if (der.length < 8 || der[0] !== 0x30 || der[1] !== der.length - 2) return null;
  const out = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    if (der[at] !== 0x02) return null;
    const length = der[at + 1];
    const digits = der.subarray(at + 2, at + 2 + length);
    if (!(length >= 1) || digits.length !== length || digits[0] & 0x80) return null;
    if (digits[0] === 0 && length > 1 && !(digits[1] & 0x80)) return null; // not the shortest form
    const magnitude = digits[0] === 0 ? digits.subarray(1) : digits;
    if (magnitude.length > 32) return null;
    out.set(magnitude, end - magnitude.length);
    at += 2 + length;
  }
  return at === der.length ? out : null;
}

/**
 * May WebCrypto decide Ed25519 here? It must have it, and must use the cofactorless equation: asked once, with a
 * key that has a small-order part. Of these two signatures both satisfy the cofactored equation, and only the
 * first the cofactorless one.
 */
const MIXED_KEY = 'f1b288ef177741cf249c046c16c6008638e822c50fdca1fe57298909cb7c065c';
const PROBES = [
  ['62deb14c0e21ef4c2db08ec0ebe7c06dcbfd6ed3ee324155937f72a2b0d101f6'
    + 'a85a5f92e443f846f0c87f8277d1fdfb2ee586c4003ef6afcdc827876e130c0d', true],
  ['2bc439895429cda3af2d07a6cb2a45544de18a5a344b72f97c100ec6ed6b6253'
    + 'cc9465c53d9b03197dd3494a1c966d223c66869f54de0d0a17d611c2be64d607', false],
];
let probed = null;

export function nativeEd25519() {
  probed ??= probe();
  return probed;
}

async function probe() {
  try {
    const { subtle } = globalThis.crypto;
    const key = await subtle.importKey('raw', unhex(MIXED_KEY), 'Ed25519', false, ['verify']);
    for (const [signature, wanted] of PROBES) {
      if ((await subtle.verify('Ed25519', key, unhex(signature), utf8('pef'))) !== wanted) return false;
    }
    return true;
  } catch {
    return false;
  }
}
