// Proving an event or a body: SPEC sections 16 and 17, step by step, and how a stream is cut into units (section 7).

import { concat, equal, hex, unhex, utf8 } from './bytes.mjs';
import { admit } from './json.mjs';
import { Refusal } from './refusal.mjs';
import { compile } from './schema.mjs';
import { disclosure as disclosureSchema } from './schemas.mjs';
import { Sha256 } from './sha2.mjs';
import { Tree, sha256 } from './tree.mjs';

const [CR, LF] = [0x0d, 0x0a];
const isDisclosure = compile(disclosureSchema);

/** E1. Gives the document. */
export function readDisclosure(bytes) {
  const document = admit(bytes);
  const fits = document?.canonical && isDisclosure(document.value)
    && (document.value.call === undefined) === (document.value.scope === 'run');
  if (!fits) throw new Refusal('E1', 'DISCLOSURE_INVALID', { exit: 6 });
  return document.value;
}

/** The units of `bytes`; `before` is the byte before them, null where the stream begins. */
export function unitsOf(bytes, before) {
  const units = [];
  let from = 0;
  let line = 0;
  if (before === null && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) line = 3;
  if (before === CR && bytes[0] === LF) line = 1;
  for (let at = line; at < bytes.length; at += 1) {
    if (bytes[at] !== CR && bytes[at] !== LF) continue;
    const crlf = bytes[at] === CR && bytes[at + 1] === LF;
    if (at === line) {
      units.push(bytes.subarray(from, at + 1));
      from = at + 1;
    }
    if (crlf) at += 1; // of a blank line it is the first byte of the next unit
    line = at + 1;
  }
  if (from < bytes.length) units.push(bytes.subarray(from));
  return units;
}

/** HMAC-SHA-256 (RFC 2104) under a key of 32 bytes. */
export function hmac(key, ...parts) {
  const pad = (byte) => Uint8Array.from({ length: 64 }, (_, i) => (key[i] ?? 0) ^ byte);
  return sha256(concat(pad(0x5c), sha256(concat(pad(0x36), ...parts))));
}

/** K_call, of a key that is not K_events. */
function callKey({ key, scope }, call) {
  return scope === 'run' ? hmac(unhex(key), utf8('pef/v0/call-key\0'), unhex(call.replaceAll('-', ''))) : unhex(key);
}

/** K_events of a call. */
function eventsKey(disclosure, call) {
  return disclosure.scope === 'events' ? unhex(disclosure.key) : hmac(callKey(disclosure, call), utf8('pef/v0/sse-events'));
}

/** Whether the key is said to be of this call, and is what the run committed to. */
function isOf(disclosure, { open }, call) {
  const committed = sha256(concat(utf8('pef/v0/capture-key\0'), unhex(disclosure.key)));
  return disclosure.run === open.run && (disclosure.call ?? call) === call
    && (disclosure.scope !== 'run' || open.capture.commitment === `commit:${hex(committed)}`);
}

/** D2 to D5. `found` is what a bundle that passed has of the call: `{ seq, commits, open }`, or null. Throws a Refusal. */
export function proveBody(found, { call, part, disclosure, content }) {
  if (found === null) throw new Refusal('D2', 'CALL_UNKNOWN');
  const { seq, commits } = found;
  const refuse = (step, reason, exit) => { throw new Refusal(step, reason, { seq, exit }); };
  if (commits[part] === undefined) refuse('D3', 'BODY_ABSENT', 6);
  if (disclosure.scope === 'events' || !isOf(disclosure, found, call)) refuse('D4', 'DISCLOSURE_MISMATCH', 6);
  const label = utf8(`pef/v0/${part === 'request' ? 'request' : 'response'}-body\0`);
  const mac = hmac(callKey(disclosure, call), label, sha256(content));
  if (commits[part] !== `commit:${hex(mac)}`) refuse('D5', 'BODY_UNKNOWN', 2);
}

/**
 * E2 to E10. `found` is what a bundle that passed has of the call: `{ seq, sse, nodes, open }`, or null. `place` is
 * a BigInt, or null where `events` are the whole stream. Throws a Refusal, with `unit` where a step names one.
 */
export function proveEvents(found, { call, disclosure, events, place }) {
  if (found === null) throw new Refusal('E2', 'CALL_UNKNOWN');
  const { seq, sse, nodes } = found;
  const refuse = (step, reason, { unit = null, exit = 2 } = {}) => {
    throw Object.assign(new Refusal(step, reason, { seq, exit }), { unit });
  };
  if (sse === undefined) refuse('E3', 'STREAM_ABSENT');
  if (!isOf(disclosure, found, call)) refuse('E4', 'DISCLOSURE_MISMATCH', { exit: 6 });
  const stream = { sse, nodes, key: eventsKey(disclosure, call), refuse };
  if (place === null) return compare(stream, unitsOf(events, null), null);
  if (nodes === null) refuse('E5', 'STREAM_NODES_ABSENT', { exit: 6 });
  // Beyond any stream, but still to be counted from.
  const at = Number(place < 2n ** 53n ? place : 2n ** 53n);
  if (at > 0 && events[0] === LF) {
    try {
      return compare(stream, unitsOf(events, CR), at);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
  }
  return compare(stream, unitsOf(events, at === 0 ? null : LF), at);
}

function compare({ sse, nodes, key, refuse }, given, place) {
  const leaves = given.map((unit) => new Sha256().update(Uint8Array.of(0)).update(key).update(unit).digest());
  const from = place ?? 0;
  const end = from + leaves.length;
  const block = 2 ** (sse.level ?? 0);
  if (place !== null) checkPlace({ sse, block, from, end, refuse });
  if (nodes === null) {
    checkCount(sse, end, () => null, refuse);
    if (`root:${hex(rootOf(leaves))}` !== sse.root) refuse('E8', 'EVENTS_UNKNOWN');
    return;
  }
  const blocks = block === 1 ? leaves : joined(leaves.slice(0, sse.units - from), block, end >= sse.units);
  const known = new Set(nodes.map(hex));
  if (blocks.length > 0 && !blocks.some((hash) => known.has(hex(hash)))) refuse('E8', 'EVENTS_UNKNOWN');
  blocks.forEach((hash, i) => {
    const node = nodes[from / block + i];
    if (node !== undefined && !equal(hash, node)) refuse('E9', 'EVENT_MISMATCH', { unit: from + i * block });
  });
  if (place === null) checkCount(sse, end, (unit) => unit, refuse);
}

/** E6 and E7. */
function checkPlace({ sse, block, from, end, refuse }) {
  if (end === from) refuse('E6', 'EVENT_MISSING', { unit: from });
  if (end > sse.units) refuse('E6', 'EVENT_SURPLUS', { unit: sse.units });
  const cut = [from, end].find((at) => at % block !== 0 && at !== sse.units);
  if (cut !== undefined) refuse('E7', 'EVENT_BLOCK', { unit: cut - (cut % block), exit: 6 });
}

/** E10. */
function checkCount({ units }, count, at, refuse) {
  if (count < units) refuse('E10', 'EVENT_MISSING', { unit: at(count) });
  if (count > units) refuse('E10', 'EVENT_SURPLUS', { unit: at(units) });
}

/** The hashes of blocks; the last is taken when it is full, or when the stream `ends` in it. */
function joined(leaves, block, ends) {
  const hashes = [];
  for (let at = 0; at < leaves.length; at += block) {
    const some = leaves.slice(at, at + block);
    if (some.length === block || ends) hashes.push(rootOf(some));
  }
  return hashes;
}

function rootOf(leaves) {
  const tree = new Tree();
  for (const leaf of leaves) tree.push(leaf);
  return tree.root();
}
