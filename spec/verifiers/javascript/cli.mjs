// Command line of the verifier: the only part that touches files.

import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, lstatSync, openSync, readSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { publicKeyOf, verifyBody, verifyBundle, verifyEvents, verifyJournal, verifyReceipt } from './pef-verify.mjs';
import { BODY, REASONS, STREAM, VERDICTS } from './words.mjs';

const USAGE = `usage: pef-verify [--trust FILE | --key FILE] [--against FILE] [--json] PATH

PATH is a bundle (.pef.zip or folder), a journal folder, or one exported receipt.
  --trust FILE    the keys you accept, as a trust document from elsewhere than PATH
  --key FILE      PATH is a receipt; verify it with this public key (PEM or DER SubjectPublicKeyInfo)
  --against FILE  PATH is a journal; it must still hold what this checkpoint, kept elsewhere, signs
  --stream CALL   PATH is a bundle; are --events FILE what the client of this call was streamed?
    --disclosure FILE   the key of that stream, as the operator disclosed it
    --place N           the events are units from number N on (counted from 0), not the whole stream
  --body CALL     PATH is a bundle; is --content FILE the body of this call that --part names?
    --part PART         request, upstream or client
    --disclosure FILE   the key of that call or run
  --json          one line of JSON instead of words
Exit code: 0 verified, 2 refused, 6 unreadable or bad arguments, 1 internal error.`;

/** Above this the ZIP is refused unread, so that no one has to hold it in memory first. */
const ZIP_BYTES_MAX = 0xffffffff;

/** Runs the program when the module at `url` is what Node was started with, be it through a link. */
export async function runAsMain(url) {
  if (realpathSync(process.argv[1]) !== fileURLToPath(url)) return;
  const { text, exit } = await answerTo(process.argv.slice(2));
  console.log(text);
  process.exitCode = exit;
}

/** Takes the arguments, gives what to print and the exit code. */
export async function answerTo(args) {
  let json = args.includes('--json');
  let result;
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        ...Object.fromEntries(['trust', 'key', 'against', 'stream', 'disclosure', 'events', 'place', 'body', 'part', 'content'].map((name) => [name, { type: 'string' }])),
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
    if (values.help) return { text: USAGE, exit: 0 };
    json = values.json === true;
    if (positionals.length !== 1) throw new Unusable('ARGUMENT_INVALID', USAGE);
    result = await verifyPath(positionals[0], values);
  } catch (error) {
    result = failure(error);
  }
  return { text: json ? jsonLine(result) : inWords(result), exit: result.exit };
}

class Unusable extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

function failure(error) {
  let [exit, reason] = [1, 'INTERNAL'];
  if (error instanceof Unusable) [exit, reason] = [6, error.reason];
  else if (error.code?.startsWith('ERR_PARSE_ARGS')) [exit, reason] = [6, 'ARGUMENT_INVALID'];
  else if (error.syscall !== undefined) [exit, reason] = [6, 'FILE_UNREADABLE'];
  const verdicts = Object.fromEntries(Object.keys(VERDICTS).map((name) => [name, 'unchecked']));
  const detail = exit === 1 ? error.stack : error.message;
  return { ok: false, exit, reason, seq: null, index: null, verdicts, run: null, entries: null, kind: null, detail };
}

async function verifyPath(path, { trust: trustPath, key: keyPath, against: againstPath, ...asked }) {
  const [trust, against] = [trustPath, againstPath].map((file) => (file === undefined ? null : readWhole(file)));
  const names = statSync(path).isDirectory() ? readdirSync(path) : null;
  const journal = names !== null && isJournal(names);
  if (keyPath !== undefined && (trust !== null || names !== null)) {
    throw new Unusable('ARGUMENT_INVALID', '--key goes with a receipt, and without --trust');
  }
  if (against !== null && !journal) throw new Unusable('ARGUMENT_INVALID', '--against goes with a journal');
  const question = questionOf(asked);
  const isReceipt = names === null && readWhole(path, 1)[0] === 0x7b;
  if (question !== null && (journal || isReceipt || keyPath !== undefined)) {
    throw new Unusable('ARGUMENT_INVALID', '--stream and --body go with a bundle');
  }
  if (keyPath !== undefined) return verifyReceipt(readWhole(path), { key: keyOf(readWhole(keyPath)) });
  if (journal) return verifyJournal(journalAt(path, names), { trust, against });
  if (isReceipt) {
    if (trust === null) throw new Unusable('ARGUMENT_INVALID', 'a receipt is verified with --key or --trust');
    return verifyReceipt(readWhole(path), { trust });
  }
  const input = names === null ? { zip: zipAt(path) } : { folder: filesUnder(path) };
  const options = { trust, externals: externalsBeside(path) };
  if (question === null) return verifyBundle(input, options);
  return (question.part === undefined ? verifyEvents : verifyBody)(input, question, options);
}

const PARTS = ['request', 'upstream', 'client'];

/** What is asked of a stream or a body, or null. */
function questionOf({ body, part, content, ...asked }) {
  const given = [body, part, content].filter((value) => value !== undefined).length;
  if (given === 0) return streamQuestionOf(asked);
  const { stream, disclosure, events, place } = asked;
  if (given < 3 || disclosure === undefined || !PARTS.includes(part) || (stream ?? events ?? place) !== undefined) {
    throw new Unusable('ARGUMENT_INVALID', '--body, --part (request, upstream or client), --content and --disclosure go together');
  }
  return { call: body, part, disclosure: readWhole(disclosure), content: readWhole(content) };
}

function streamQuestionOf({ stream: call, disclosure, events, place }) {
  const given = [call, disclosure, events].filter((value) => value !== undefined).length;
  if (given === 0 && place === undefined) return null;
  if (given < 3) throw new Unusable('ARGUMENT_INVALID', '--stream, --disclosure and --events go together, --place with them');
  if (place !== undefined && !/^(0|[1-9]\d{0,19})$/.test(place)) throw new Unusable('ARGUMENT_INVALID', 'a place is a number, counted from 0');
  return { call, disclosure: readWhole(disclosure), events: readWhole(events), place: place === undefined ? null : BigInt(place) };
}

/** By what is in a folder: the journal of an instance, or a bundle. */
function isJournal(names) {
  const has = (...some) => some.some((name) => names.includes(name));
  return has('segments', 'trust.json') && !has('manifest.json', 'receipts.ndjson');
}

function zipAt(path) {
  // A length alone decides step C1; nothing of a larger file is read.
  return statSync(path).size > ZIP_BYTES_MAX ? { length: Infinity } : readWhole(path);
}

/** Large content beside the bundle, in the folder that is named as the bundle with `.d` appended. */
function externalsBeside(path) {
  const folder = `${resolve(path)}.d`;
  return async (digest) => {
    const file = join(folder, digest);
    const stat = statSync(file, { throwIfNoEntry: false });
    return stat?.isFile() ? { bytes: stat.size, hash: () => hashOf(file) } : null;
  };
}

async function hashOf(file) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest();
}

function filesUnder(root) {
  const files = [];
  const walk = (folder, prefix) => {
    for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })) {
      // Latin-1 keeps every byte of a name that is no UTF-8; such names are forbidden all the same.
      const path = prefix + entry.name.toString('latin1');
      const file = Buffer.concat([Buffer.from(folder), Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) walk(file, `${path}/`);
      else files.push({ path, bytes: lstatSync(file).size, regular: entry.isFile(), read: async () => readWhole(file) });
    }
  };
  walk(Buffer.from(resolve(root)), '');
  return files;
}

function journalAt(root, names) {
  const segments = (names.includes('segments') ? readdirSync(join(root, 'segments')) : []).map((name) => {
    const file = join(root, 'segments', name);
    // What is no regular file has no header.
    const head = async () => (lstatSync(file).isFile() ? readWhole(file, 256) : new Uint8Array());
    return { name, head, read: async () => readWhole(file) };
  });
  const optional = (name) => (names.includes(name) ? readWhole(join(root, name)) : null);
  return { segments, checkpoint: optional('checkpoint'), beginning: optional('beginning.json'), trust: optional('trust.json') };
}

/** The bytes of a file, in pieces: Node reads at most 2 GiB at once. */
function readWhole(file, most = Infinity) {
  const fd = openSync(file, 'r');
  try {
    const bytes = new Uint8Array(Math.min(fstatSync(fd).size, most));
    let at = 0;
    while (at < bytes.length) {
      const count = readSync(fd, bytes, at, Math.min(bytes.length - at, 1 << 30), at);
      if (count === 0) return bytes.subarray(0, at);
      at += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** The key of a PEM or DER file. */
function keyOf(bytes) {
  const text = Buffer.from(bytes).toString('latin1');
  const pem = /^-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/.exec(text);
  const key = publicKeyOf(pem === null ? bytes : new Uint8Array(Buffer.from(pem[1], 'base64')));
  if (key === null) throw new Unusable('ARGUMENT_INVALID', 'the key is no Ed25519 or P-256 SubjectPublicKeyInfo');
  return key;
}

function jsonLine({ ok, reason, seq, index, verdicts, run, entries, kind, stream, unit, body }) {
  return JSON.stringify({ ok, reason, seq, index, verdicts, run, entries, kind, stream, unit, body });
}

function inWords(result) {
  const { ok, reason, verdicts, run, entries, kind, detail } = result;
  const lines = [];
  if (ok) lines.push(`VERIFIED: ${kind}${run === null ? '' : ` of run ${run}`}, ${entries} ${entries === 1 ? 'entry' : 'entries'}`);
  else lines.push(`${result.exit === 2 ? 'REFUSED' : 'NOT VERIFIED'}: ${reason}${place(result)}`, detail ?? REASONS[reason]);
  for (const [name, value] of Object.entries(verdicts)) {
    if (result.exit === 0 || result.exit === 2) lines.push(`  ${name.padEnd(13)} ${value.padEnd(14)} ${VERDICTS[name][value]}`);
  }
  if (result.facts?.begins !== undefined) lines.push(...beginsInWords(result.facts.begins));
  if (result.stream !== undefined) lines.push(`  ${'stream'.padEnd(13)} ${result.stream.padEnd(14)} ${STREAM[result.stream]}`);
  if (result.body !== undefined) lines.push(`  ${'body'.padEnd(13)} ${result.body.padEnd(14)} ${BODY[result.body]}`);
  return lines.join('\n');
}

function beginsInWords({ size, segments, plan, copies }) {
  return [
    `  ${'begins'.padEnd(13)} at entry ${size}; ${segments} earlier segments were deleted by plan ${plan}`,
    `  ${'copies'.padEnd(13)} in bucket ${copies.join(', ').replace(/[^\x20-\x7e]/g, '?')}`,
  ];
}

function place({ seq, index, unit = null }) {
  const parts = [];
  if (unit !== null) parts.push(`unit ${unit}`);
  if (index !== null) parts.push(`log index ${index}`);
  if (seq !== null) parts.push(`seq ${seq}`);
  return parts.length === 0 ? '' : ` at ${parts.join(', ')}`;
}
