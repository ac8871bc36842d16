// Bytes and the texts they are written in: hexadecimal, Base64, UTF-8, CRC-32.

const ENCODER = new TextEncoder();
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const SEXTETS = new Map([...BASE64].map((letter, value) => [letter, value]));

export const utf8 = (text) => ENCODER.encode(text);

/** Text of bytes that must be UTF-8; null where they are not. */
export function utf8Text(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

export function hex(bytes) {
  let text = '';
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** Bytes of lower-case hexadecimal that is known to be well-formed. */
export function unhex(text) {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** Strict RFC 4648 section 4: padding, no breaks, zero trailing bits. Null for anything else. */
export function unbase64(text) {
  if (text.length % 4 !== 0) return null;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const letters = text.length - padding;
  const out = new Uint8Array((text.length / 4) * 3 - padding);
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < letters; i += 1) {
    const sextet = SEXTETS.get(text[i]);
    if (sextet === undefined) return null;
    held = ((held << 6) | sextet) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[at] = held >> bits;
      at += 1;
    }
  }
  return (held & ((1 << bits) - 1)) === 0 ? out : null;
}

export function base64(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const word = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += BASE64[word >> 18] + BASE64[(word >> 12) & 63] + BASE64[(word >> 6) & 63] + BASE64[word & 63];
  }
  const left = bytes.length % 3;
  return left === 0 ? text : text.slice(0, left - 3) + '='.repeat(3 - left);
}

export function equal(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Order of the bytes of two texts; differs from `<` where one has a character above U+FFFF. */
export function compareBytes(a, b) {
  const [x, y] = [utf8(a), utf8(b)];
  const common = Math.min(x.length, y.length);
  for (let i = 0; i < common; i += 1) if (x[i] !== y[i]) return x[i] - y[i];
  return x.length - y.length;
}

export const isZero = (bytes) => bytes.every((byte) => byte === 0);

// CRC-32 (IEEE), four tables so that four bytes go in one step.
const CRC = [new Int32Array(256), new Int32Array(256), new Int32Array(256), new Int32Array(256)];
for (let i = 0; i < 256; i += 1) {
  let word = i;
  for (let bit = 0; bit < 8; bit += 1) word = word & 1 ? (word >>> 1) ^ 0xedb88320 : word >>> 1;
  CRC[0][i] = word;
}
for (let table = 1; table < 4; table += 1) {
  for (let i = 0; i < 256; i += 1) CRC[table][i] = (CRC[table - 1][i] >>> 8) ^ CRC[0][CRC[table - 1][i] & 255];
}

/** CRC-32 of `bytes` from `from` up to `to`, going on from `before`. */
export function crc32(bytes, from = 0, to = bytes.length, before = 0) {
  const [t0, t1, t2, t3] = CRC;
  let crc = ~before;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    crc = t3[crc & 255] ^ t2[(crc >>> 8) & 255] ^ t1[(crc >>> 16) & 255] ^ t0[crc >>> 24];
  }
  for (; at < to; at += 1) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]) & 255];
  return ~crc >>> 0;
}
