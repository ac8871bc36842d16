import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';

import { base64, crc32, hex, unbase64, unhex, utf8 } from './bytes.mjs';
import { L25519, decodePoint, edwards, encodePoint, verifyEd25519 } from './curves.mjs';
import * as fixture from './fixture.mjs';
import { PublicKey, nativeEd25519, pae } from './keys.mjs';
import { Sha256, sha512 } from './sha2.mjs';
import { included, leafHash, Tree } from './tree.mjs';

const nodeHash = (name, bytes) => createHash(name).update(bytes).digest('hex');

test('hashes as node:crypto does, however the bytes are cut', () => {
  for (let length = 0; length < 400; length += 1) {
    const bytes = randomBytes(length);
    const hash = new Sha256();
    for (let at = 0; at < length; at += 1 + (length % 70)) hash.update(bytes.subarray(at, at + 1 + (length % 70)));
    assert.equal(hex(hash.digest()), nodeHash('sha256', bytes));
    assert.equal(hex(sha512(bytes)), nodeHash('sha512', bytes));
  }
});

test('decodes strict Base64 only', () => {
  for (let length = 0; length < 40; length += 1) {
    const bytes = randomBytes(length);
    assert.equal(base64(bytes), bytes.toString('base64'));
    assert.deepEqual(unbase64(base64(bytes)), new Uint8Array(bytes));
  }
  for (const text of ['A', 'AA', 'AAA', 'A===', '====', 'AB==', 'AAB=', 'AA=A', 'AA==AA==', 'AA-_', 'AAA\n', ' AAA', 'AAA=AAAA']) {
    assert.equal(unbase64(text), null, text);
  }
});

test('computes CRC-32 in one go and in parts', () => {
  assert.equal(crc32(utf8('123456789')), 0xcbf43926);
  const bytes = randomBytes(1000);
  assert.equal(crc32(bytes, 333, 1000, crc32(bytes, 0, 333)), fixture.crc32(bytes));
});

// RFC 8032 section 7.1, tests 1 to 3.
const RFC8032 = [
  ['d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b'],
  ['3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c', '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'],
  ['fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025', 'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a'],
];
const ed25519 = (raw) => new PublicKey('ed25519', Uint8Array.from([...unhex('302a300506032b6570032100'), ...raw]), raw);
/** WebCrypto where it decides, and our own arithmetic: both must say the same. */
async function both(key, message, signature) {
  const [native, own] = [await ed25519(key).verify(message, signature), verifyEd25519(key, message, signature)];
  assert.equal(native, own);
  return own;
}

test('verifies the samples of RFC 8032 and none of their bit flips', async () => {
  assert.equal(await nativeEd25519(), true);
  for (const [key, message, signature] of RFC8032.map((row) => row.map(unhex))) {
    assert.equal(await both(key, message, signature), true);
    for (const part of [key, signature, message]) {
      for (let bit = 0; bit < 8 * part.length; bit += 37) {
        part[bit >> 3] ^= 1 << (bit & 7);
        assert.equal(await both(key, message, signature), false);
        part[bit >> 3] ^= 1 << (bit & 7);
      }
    }
  }
});

test('refuses what is not strict: S of L or more, small order, other encodings', async () => {
  const little = (n) => Uint8Array.from({ length: 32 }, (_, i) => Number((n >> BigInt(8 * i)) & 255n));
  const [key, , signature] = RFC8032[0].map(unhex);
  const s = BigInt(`0x${hex(signature.slice(32).reverse())}`);
  assert.equal(await both(key, new Uint8Array(), Uint8Array.from([...signature.slice(0, 32), ...little(s + L25519)])), false);
  const p = 2n ** 255n - 19n;
  // With S = 0 and R = A = identity the equation holds for any message.
  const identities = [little(1n), little(p + 1n), little(1n | (1n << 255n))];
  for (const A of identities) {
    for (const R of identities) assert.equal(await both(A, utf8('x'), Uint8Array.from([...R, ...new Uint8Array(32)])), false);
  }
  // A good key, R of small order: also refused, whatever S is.
  assert.equal(await both(key, utf8('x'), Uint8Array.from([...little(1n), ...new Uint8Array(32)])), false);
});

test('decides by the cofactorless equation, natively and alone', async () => {
  const key = unhex('f1b288ef177741cf249c046c16c6008638e822c50fdca1fe57298909cb7c065c');
  const point = decodePoint(key);
  assert.notEqual(point, null);
  assert.deepEqual(encodePoint(point), key);
  assert.deepEqual(encodePoint(edwards.add(point, edwards.zero)), key);
  const [cofactorless, cofactored] = [
    '62deb14c0e21ef4c2db08ec0ebe7c06dcbfd6ed3ee324155937f72a2b0d101f6a85a5f92e443f846f0c87f8277d1fdfb2ee586c4003ef6afcdc827876e130c0d',
    '2bc439895429cda3af2d07a6cb2a45544de18a5a344b72f97c100ec6ed6b6253cc9465c53d9b03197dd3494a1c966d223c66869f54de0d0a17d611c2be64d607',
  ].map(unhex);
  assert.equal(await both(key, utf8('pef'), cofactorless), true);
  assert.equal(await both(key, utf8('pef'), cofactored), false);
});

test('verifies as before where there is no WebCrypto', async (t) => {
  const here = Object.getOwnPropertyDescriptor(globalThis, 'crypto');
  Object.defineProperty(globalThis, 'crypto', { value: {}, configurable: true });
  t.after(() => Object.defineProperty(globalThis, 'crypto', here));
  const p256 = fixture.makeKey('no WebCrypto', 'receipt', 'ecdsa-p256-sha256');
  const key = PublicKey.fromSpki(new Uint8Array(p256.spki));
  const signature = new Uint8Array(p256.sign(utf8('message')));
  assert.equal(await key.verify(utf8('message'), signature), true);
  assert.equal(await key.verify(utf8('messagf'), signature), false);
  for (const zeroed of [0, 32]) {
    const spoilt = signature.slice();
    spoilt.fill(0, zeroed, zeroed + 32);
    assert.equal(await key.verify(utf8('message'), spoilt), false);
  }
});

test('takes the two exact SPKI forms and no other', () => {
  const { spki } = fixture.KEYS.receipt;
  assert.equal(PublicKey.fromSpki(spki).alg, 'ed25519');
  assert.equal(PublicKey.fromSpki(spki.subarray(0, 43)), null);
  assert.equal(PublicKey.fromSpki(Buffer.concat([spki, Buffer.of(0)])), null);
  const p256 = fixture.makeKey('p', 'receipt', 'ecdsa-p256-sha256').spki;
  assert.equal(PublicKey.fromSpki(p256).alg, 'ecdsa-p256-sha256');
  const compressed = Buffer.from(p256);
  compressed[26] = 2;
  assert.equal(PublicKey.fromSpki(compressed), null);
});

test('reads strict DER of P-256 signatures', async () => {
  const made = fixture.makeKey('der', 'manifest', 'ecdsa-p256-sha256');
  const key = PublicKey.fromSpki(made.spki);
  for (let i = 0; i < 40; i += 1) {
    const message = utf8(String(i));
    const der = made.dsse(message);
    assert.equal(await key.verify(message, key.fromDsse(der)), true);
  }
  const int = (...bytes) => [2, bytes.length, ...bytes];
  const sequence = (...body) => Uint8Array.from([0x30, body.length, ...body]);
  assert.notEqual(key.fromDsse(sequence(...int(1), ...int(0, 0x80))), null);
  const refused = [
    [], [...int(1)], [...int(1), ...int(1), 0], [...int(1), ...int()], [...int(0, 1), ...int(1)], [...int(0x80), ...int(1)],
    [...int(...new Uint8Array(33).fill(1)), ...int(1)], [...int(1), 3, 1, 1], [...int(1), 2, 2, 1],
  ];
  for (const body of refused) assert.equal(key.fromDsse(sequence(...body)), null, String(body));
  assert.equal(key.fromDsse(Uint8Array.from([0x30, 0x81, 6, ...int(1), ...int(1)])), null);
});

test('encodes PAE as DSSE says', () => {
  assert.equal(new TextDecoder().decode(pae('http://example.com/HelloWorld', utf8('hello world'))),
    'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
});

// The eight leaves of the Certificate Transparency reference tests.
const CT_LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(unhex);
const CT_ROOTS = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];

test('grows the tree of RFC 6962', () => {
  const tree = new Tree();
  for (const [i, root] of CT_ROOTS.entries()) {
    assert.equal(hex(tree.root()), root);
    if (i < CT_LEAVES.length) tree.push(leafHash(CT_LEAVES[i]));
  }
  for (let size = 0; size < 70; size += 1) {
    const leaves = Array.from({ length: size }, (_, i) => fixture.leaf(Buffer.of(i)));
    const grown = new Tree();
    for (const leaf of leaves) grown.push(leaf);
    assert.equal(hex(grown.root()), hex(fixture.root(leaves)));
  }
});

test('takes an inclusion proof for one place in one tree only', () => {
  for (let size = 1; size < 34; size += 1) {
    const leaves = Array.from({ length: size }, (_, i) => fixture.leaf(Buffer.of(i)));
    const root = fixture.root(leaves);
    for (let index = 0; index < size; index += 1) {
      const path = fixture.path(index, leaves);
      assert.equal(included(leaves[index], BigInt(index), BigInt(size), path, root), true);
      assert.equal(included(leaves[index], BigInt(index), BigInt(size), [...path, root], root), false);
      if (path.length > 0) assert.equal(included(leaves[index], BigInt(index), BigInt(size), path.slice(1), root), false);
      for (const other of [index - 1, index + 1, size]) {
        if (other >= 0) assert.equal(included(leaves[index], BigInt(other), BigInt(size), path, root), false, `${size} ${index} ${other}`);
      }
      assert.equal(included(leaves[index], BigInt(index), 2n * BigInt(size) + 1n, path, root), false);
    }
  }
});
