// The bundle's container: a stored ZIP that is a function of its content, or a folder (SPEC section 9).

import { crc32, equal, utf8 } from './bytes.mjs';
import { Refusal } from './refusal.mjs';

const BYTES_MAX = 0xffffffff;
const ENTRIES_MAX = 65534;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;

export function isPath(path) {
  if (path === 'SHA256SUMS') return true;
  return path.length <= 200 && /^[a-z0-9._-]+(?:\/[a-z0-9._-]+)*$/.test(path)
    && path.split('/').every((segment) => segment !== '.' && segment !== '..');
}

/** Steps C1 to C5 for the bytes of a ZIP. */
export function readZip(zip) {
  if (zip.length > BYTES_MAX) throw new Refusal('C1', 'CONTAINER_LIMIT');
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const entries = new Map();
  let at = 0;
  while (at + 4 <= zip.length && view.getUint32(at, true) === LOCAL_SIGNATURE) {
    if (entries.size === ENTRIES_MAX) throw new Refusal('C1', 'CONTAINER_LIMIT');
    const entry = readLocal(zip, view, at);
    if (entries.has(entry.path)) throw new Refusal('C4', 'ENTRY_DUPLICATE');
    if (entry.malformed) throw new Refusal('C5', 'CONTAINER_MALFORMED');
    entries.set(entry.path, entry);
    at += LOCAL_BYTES + entry.path.length + entry.data.length;
  }
  const list = [...entries.values()];
  const ordered = list.every((entry, i) => i === 0 || list[i - 1].path < entry.path); // ASCII only: byte order
  if (!ordered || !equal(zip.subarray(at), directoryOf(list, at))) throw new Refusal('C5', 'CONTAINER_MALFORMED');
  return new ZipFiles(entries);
}

/** C2 and C3 of the local header at `at`; whether the rest of it is as C5 demands is left in `malformed`. */
function readLocal(zip, view, at) {
  if (at + LOCAL_BYTES > zip.length) throw new Refusal('C5', 'CONTAINER_MALFORMED');
  const u16 = (offset) => view.getUint16(at + offset, true);
  const u32 = (offset) => view.getUint32(at + offset, true);
  if (u16(8) !== 0) throw new Refusal('C2', 'ENTRY_COMPRESSED');
  const nameBytes = u16(26);
  const start = at + LOCAL_BYTES + nameBytes;
  if (start > zip.length) throw new Refusal('C5', 'CONTAINER_MALFORMED');
  const path = String.fromCharCode(...zip.subarray(at + LOCAL_BYTES, Math.min(start, at + LOCAL_BYTES + 201)));
  if (!isPath(path)) throw new Refusal('C3', 'PATH_FORBIDDEN');
  const size = u32(18);
  const malformed = u16(4) !== 10 || u16(6) !== 0 || u16(10) !== 0 || u16(12) !== 0x21 || u32(22) !== size
    || u16(28) !== 0 || start + size > zip.length;
  return { path, offset: at, crc: u32(14), data: zip.subarray(start, start + size), malformed };
}

/** Central directory and end record of the local entries, which end at `offset`. */
function directoryOf(entries, offset) {
  const central = entries.reduce((sum, { path }) => sum + 46 + path.length, 0);
  const out = new Uint8Array(central + 22);
  const view = new DataView(out.buffer);
  let at = 0;
  const u16 = (value) => { view.setUint16(at, value, true); at += 2; };
  const u32 = (value) => { view.setUint32(at, value, true); at += 4; };
  for (const entry of entries) {
    u32(0x02014b50);
    for (const field of [0x0314, 10, 0, 0, 0, 0x21]) u16(field);
    for (const field of [entry.crc, entry.data.length, entry.data.length]) u32(field);
    for (const field of [entry.path.length, 0, 0, 0, 0]) u16(field);
    u32(0x81a40000);
    u32(entry.offset);
    out.set(utf8(entry.path), at);
    at += entry.path.length;
  }
  u32(0x06054b50);
  for (const field of [0, 0, entries.length, entries.length]) u16(field);
  u32(central);
  u32(offset);
  u16(0);
  return out;
}

class ZipFiles {
  #entries;

  constructor(entries) {
    this.#entries = entries;
    this.paths = [...entries.keys()];
  }

  has(path) {
    return this.#entries.has(path);
  }

  async read(path) {
    return this.#entries.get(path).data;
  }

  /** Step Z1. */
  checkSums() {
    for (const { crc, data } of this.#entries.values()) {
      if (crc32(data) !== crc) throw new Refusal('Z1', 'CRC_MISMATCH');
    }
  }
}

/** Steps C1 and C3 for a folder, given as `{ path, bytes, regular, read() }` of everything in it but folders. */
export function readFolder(files) {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  if (total > BYTES_MAX || files.length > ENTRIES_MAX) throw new Refusal('C1', 'CONTAINER_LIMIT');
  if (!files.every((file) => isPath(file.path) && file.regular)) throw new Refusal('C3', 'PATH_FORBIDDEN');
  const byPath = new Map(files.map((file) => [file.path, file]));
  if (byPath.size < files.length) throw new Refusal('C4', 'ENTRY_DUPLICATE');
  return {
    paths: [...byPath.keys()].sort(),
    has: (path) => byPath.has(path),
    read: (path) => byPath.get(path).read(),
    checkSums() {}, // no CRC in a folder
  };
}
