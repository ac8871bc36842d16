// Segments of a journal and the frames in them (SPEC section 12).

import { crc32, isZero, utf8Text } from './bytes.mjs';
import { Refusal } from './refusal.mjs';

export const HEADER_BYTES = 256;
const FRAME_HEAD_BYTES = 17;
/** A blob of as many nodes as a stream has at most. */
const PAYLOAD_BYTES_MAX = 32 + 32 * 65536;
/** Payload bytes that the search for a later frame may look at; past that, the journal counts as damaged. */
const SEARCH_BYTES_MAX = 2 ** 30;
const NAME_BYTES_MAX = 202;
export const ENTRY = 1;
export const BLOB = 2;
export const CHECKPOINT = 3;
export const END = 4;

/** Step J1 for one header. Gives `{ first, before, instance }`. */
export function readHeader(bytes, name) {
  const refuse = () => { throw new Refusal('J1', 'SEGMENT_HEADER'); };
  if (bytes.length < HEADER_BYTES) refuse();
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const length = view.getUint16(48, true);
  const instance = length <= NAME_BYTES_MAX ? utf8Text(bytes.subarray(50, 50 + length)) : null;
  const first = view.getBigUint64(8, true);
  const formed = utf8Text(bytes.subarray(0, 8)) === 'PEFSEG0\n'
    && instance !== null && /^[a-z0-9.-]{1,64}\/[a-z0-9._-]{1,64}\/[0-9]{1,9}$/.test(instance)
    && isZero(bytes.subarray(50 + length, 252))
    && view.getUint32(252, true) === crc32(bytes, 0, 252)
    && name === `${String(first).padStart(20, '0')}.seg`;
  if (!formed) refuse();
  return { first, before: bytes.slice(16, 48), instance };
}

/**
 * Step J2. Takes a segment and an offset, gives the frame that is there: `{ type, index, payload, next }`.
 * `index` is the log index that a bad frame is reported with, `last` whether this is the last segment.
 */
export function readFrame(segment, at, { last, index }) {
  const frame = frameAt(segment, at);
  if (frame !== null && crc32(segment, frame.start, frame.next, crc32(segment, at, at + 13)) === frame.crc) return frame;
  const torn = last && !frameFollows(segment.subarray(at + 1));
  throw new Refusal('J2', torn ? 'JOURNAL_TORN' : 'FRAME_INVALID', { index });
}

/** What could be a frame at `at`, but for its CRC; or null. */
function frameAt(segment, at) {
  if (at + FRAME_HEAD_BYTES > segment.length) return null;
  const type = segment[at + 4];
  if (type < ENTRY || type > END) return null;
  const view = new DataView(segment.buffer, segment.byteOffset + at, FRAME_HEAD_BYTES);
  const start = at + FRAME_HEAD_BYTES;
  const next = start + view.getUint32(0, true);
  if (next === start || next > segment.length || next - start > PAYLOAD_BYTES_MAX) return null;
  return { type, index: view.getBigUint64(5, true), crc: view.getUint32(13, true), payload: segment.subarray(start, next), start, next };
}

/**
 * Is there a valid frame at any offset of `bytes`, as far as section 13 has it searched? Any four bytes may look
 * like a length, so the CRC of a range comes from the CRCs of two prefixes.
 */
function frameFollows(bytes) {
  let left = SEARCH_BYTES_MAX;
  const STEP = 64;
  const prefixes = new Uint32Array(Math.floor(bytes.length / STEP) + 1);
  for (let i = 1; i < prefixes.length; i += 1) {
    prefixes[i] = crc32(bytes, (i - 1) * STEP, i * STEP, prefixes[i - 1]);
  }
  const prefix = (end) => {
    const i = Math.floor(end / STEP);
    return crc32(bytes, i * STEP, end, prefixes[i]);
  };
  const crc = (from, to, before) => (prefix(to) ^ shifted(prefix(from) ^ before, to - from)) >>> 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const frame = frameAt(bytes, at);
    if (frame === null) continue;
    if (left < frame.payload.length) return true;
    if (crc(frame.start, frame.next, crc32(bytes, at, at + 13)) === frame.crc) return true;
    left -= frame.payload.length;
  }
  return false;
}

/** Product of two polynomials modulo that of CRC-32, bits reflected. */
function product(a, b) {
  let sum = 0;
  for (let bit = 31; bit >= 0; bit -= 1) {
    if ((a >>> bit) & 1) sum ^= b;
    b = b & 1 ? (b >>> 1) ^ 0xedb88320 : b >>> 1;
  }
  return sum;
}

/** POWERS[i] is x to the power of 8·2^i. */
const POWERS = [1 << 23];
while (POWERS.length < 32) POWERS.push(product(POWERS.at(-1), POWERS.at(-1)));

/** What a CRC becomes when `count` bytes follow, as far as it depends on the CRC. */
function shifted(crc, count) {
  for (let i = 0; count > 0; i += 1, count = Math.floor(count / 2)) if (count % 2 === 1) crc = product(POWERS[i], crc);
  return crc;
}
