#!/usr/bin/env node
// Verifier of PEF v0 evidence: bundles, journals, single receipts (spec/pef/SPEC.md).
//
// Independent of every program that writes it, without dependencies, and the same in Node and in a browser:
// nothing here but the last lines knows of files. Nothing is ever written and nothing is asked of a network.
//
// An answer is
//   { ok, exit, reason, step, seq, index, verdicts, run, entries, kind, facts }
// of events also `stream` and `unit`, of a body also `body`. `reason` is null when no step failed. `facts` is what the steps before a failure found; it is for showing,
// and proves nothing by itself.

import { Bundle } from './bundle.mjs';
import { readFolder, readZip } from './container.mjs';
import { proveBody, proveEvents, readDisclosure } from './events.mjs';
import { Journal } from './journal.mjs';
import { PublicKey } from './keys.mjs';
import { readReceipt } from './receipt.mjs';
import { Refusal, verdictsOf } from './refusal.mjs';
import { readTrust } from './trust.mjs';

/** The PublicKey of an SPKI in DER, or null for anything but the two forms of section 3. */
export const publicKeyOf = (spki) => PublicKey.fromSpki(spki);

/**
 * Verifies a bundle, given as `{ zip: bytes }` or `{ folder: [{ path, bytes, regular, read() }] }`.
 *
 * Options: `trust`, the bytes of a trust document; `externals(hex)`, which gives `{ bytes, hash() }` or null;
 * `watch(entry, seq)`, called for each line as it is read, before its signature is known to be good.
 */
export async function verifyBundle({ zip, folder }, { trust = null, externals = async () => null, watch } = {}) {
  let bundle = null;
  return answer('bundle', async () => {
    const keys = trust === null ? null : readTrust(trust);
    bundle = new Bundle(zip === undefined ? readFolder(folder) : readZip(zip), { externals, trust: keys, watch });
    await bundle.verify();
  }, () => ({ ...bundle, run: bundle?.facts.manifest?.run }));
}

/**
 * Verifies a bundle as above, then that `events` are what the client of `call` got: as its whole stream, or from the unit
 * at `place` (a BigInt) on. `disclosure` is the bytes of a disclosed key.
 */
export async function verifyEvents({ zip, folder }, { call, disclosure, events, place = null }, { trust = null, externals = async () => null, watch } = {}) {
  let bundle = null;
  let [stream, unit] = ['unchecked', null];
  const result = await answer('bundle', async () => {
    const keys = trust === null ? null : readTrust(trust);
    const key = readDisclosure(disclosure);
    bundle = new Bundle(zip === undefined ? readFolder(folder) : readZip(zip), { externals, trust: keys, watch });
    await bundle.verify();
    try {
      proveEvents(await bundle.stream(call), { call, disclosure: key, events, place });
      stream = 'proven';
    } catch (error) {
      if (error.exit === 2) stream = 'failed';
      unit = error.unit ?? null;
      throw error;
    }
  }, () => ({ ...bundle, run: bundle?.facts.manifest?.run }));
  return { ...result, stream, unit };
}

/** Verifies a bundle as above, then that `content` is the body of `call` that `part` names: request, upstream or client. */
export async function verifyBody({ zip, folder }, { call, part, disclosure, content }, { trust = null, externals = async () => null, watch } = {}) {
  let bundle = null;
  let body = 'unchecked';
  const result = await answer('bundle', async () => {
    const keys = trust === null ? null : readTrust(trust);
    const key = readDisclosure(disclosure);
    bundle = new Bundle(zip === undefined ? readFolder(folder) : readZip(zip), { externals, trust: keys, watch });
    await bundle.verify();
    try {
      proveBody(await bundle.stream(call), { call, part, disclosure: key, content });
      body = 'proven';
    } catch (error) {
      if (error.exit === 2) body = 'failed';
      throw error;
    }
  }, () => ({ ...bundle, run: bundle?.facts.manifest?.run }));
  return { ...result, body };
}

/**
 * Verifies a journal, given as `{ segments: [{ name, head(), read() }], checkpoint, beginning, trust }` (bytes or null).
 *
 * Options: `trust` and `watch` as for a bundle; `against`, an instance checkpoint from elsewhere than the journal.
 */
export async function verifyJournal(journal, { trust = null, against = null, watch } = {}) {
  let reading = null;
  return answer('journal', async () => {
    const own = trust === null;
    const keys = readTrust(trust ?? journal.trust ?? new Uint8Array());
    reading = new Journal(journal, { against, trust: keys, watch });
    await reading.verify(!own);
  }, () => ({ ...reading }));
}

/** Verifies one exported receipt with `key`, a PublicKey, or with `trust`, the bytes of a trust document. */
export async function verifyReceipt(envelope, { key = null, trust = null }) {
  const decided = {};
  const facts = { entries: null };
  return answer('receipt', async () => {
    const keys = key === null ? readTrust(trust) : new Map([[key.kid, key]]);
    const usable = (kid) => (keys.get(kid)?.use ?? 'receipt') === 'receipt' ? keys.get(kid) : undefined;
    const entry = await readReceipt(envelope, usable);
    Object.assign(facts, { entries: 1, entry });
    Object.assign(decided, { integrity: 'ok', authenticity: 'trusted' });
  }, () => ({ decided, facts, run: facts.entry?.run }));
}

async function answer(kind, work, found) {
  let refusal = null;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refusal = error;
  }
  const { decided, facts = {}, run = null } = found();
  const { step = null, reason = null, seq = null, index = null, exit = 0 } = refusal ?? {};
  // Where a line fails, the entries are those before it, not what was read ahead of its signature.
  const before = kind === 'journal' ? index : kind === 'bundle' && step?.startsWith('L') ? seq : null;
  return {
    ok: refusal === null, exit, reason, step, seq, index, verdicts: verdictsOf(decided, refusal), run,
    entries: before ?? facts.entries ?? null, kind, facts,
  };
}

// Run as a program: not awaited, since cli.mjs imports this module.
if (/pef-verify(?:\.mjs)?$/.test(globalThis.process?.argv?.[1] ?? '')) {
  import('./cli.mjs').then(({ runAsMain }) => runAsMain(import.meta.url));
}
