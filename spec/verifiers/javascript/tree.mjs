// Hashes and RFC 6962 trees (SPEC sections 2, 5 and 7).

import { equal } from './bytes.mjs';
import { Sha256 } from './sha2.mjs';

/** From this size on, WebCrypto's digest (native, but asynchronous) is faster than ours. */
const NATIVE_FROM_BYTES = 32768;
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export const sha256 = (bytes) => new Sha256().update(bytes).digest();
export const leafHash = (entry) => new Sha256().update(LEAF).update(entry).digest();
export const nodeHash = (left, right) => new Sha256().update(NODE).update(left).update(right).digest();

/** SHA-256 of a file, by WebCrypto where that is there and pays off. */
export async function fileHash(bytes) {
  const subtle = globalThis.crypto?.subtle;
  if (subtle === undefined || bytes.length < NATIVE_FROM_BYTES) return sha256(bytes);
  return new Uint8Array(await subtle.digest('SHA-256', bytes));
}

/** A growing tree that keeps only the roots of its full subtrees, the largest first. */
export class Tree {
  size = 0;
  #peaks = [];

  /** A tree of which only the roots of the full subtrees are known. */
  static resumed(size, peaks) {
    const tree = new Tree();
    tree.size = size;
    tree.#peaks = peaks;
    return tree;
  }

  push(leaf) {
    let node = leaf;
    for (let n = this.size; n % 2 === 1; n = (n - 1) / 2) node = nodeHash(this.#peaks.pop(), node);
    this.#peaks.push(node);
    this.size += 1;
  }

  root() {
    if (this.size === 0) return sha256(new Uint8Array());
    return this.#peaks.reduceRight((right, left) => nodeHash(left, right));
  }
}

/** Does `path` lead from the leaf at `index` to the root of a tree of `size` (BigInts)? RFC 9162 section 2.1.3.2. */
export function included(leaf, index, size, path, root) {
  if (index >= size) return false;
  let [place, last, node] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) return false;
    if (place & 1n || place === last) {
      node = nodeHash(sibling, node);
      while (!(place & 1n) && place !== 0n) [place, last] = [place >> 1n, last >> 1n];
    } else {
      node = nodeHash(node, sibling);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  return last === 0n && equal(node, root);
}
