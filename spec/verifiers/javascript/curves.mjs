// Ed25519 (RFC 8032, strict) and ECDSA P-256 with SHA-256, in plain BigInt arithmetic.
//
// keys.mjs uses WebCrypto where it may and this everywhere else: some browsers lack Ed25519, and a page that
// came over plain http has no WebCrypto at all. Nothing secret passes through here, so time may vary.

import { hex } from './bytes.mjs';
import { Sha256, sha512 } from './sha2.mjs';

const modulo = (n, m) => ((n % m) + m) % m;
const bigEndian = (bytes) => BigInt(`0x${hex(bytes) || '0'}`);
const littleEndian = (bytes) => bigEndian(Uint8Array.from(bytes).reverse());

function power(base, exponent, m) {
  let result = 1n;
  for (let square = modulo(base, m), left = exponent; left > 0n; left >>= 1n, square = (square * square) % m) {
    if (left & 1n) result = (result * square) % m;
  }
  return result;
}

const inverse = (n, m) => power(n, m - 2n, m); // both m are prime

/** `a`·A + `b`·B, two bits of each a step, with the curve's own addition. */
function sumOfTwo(curve, a, A, b, B) {
  const multiples = (P) => {
    const double = curve.add(P, P);
    return [curve.zero, P, double, curve.add(double, P)];
  };
  const [as, bs] = [multiples(A), multiples(B)];
  let sum = curve.zero;
  for (let shift = 254n; shift >= 0n; shift -= 2n) {
    sum = curve.add(sum, sum);
    sum = curve.add(sum, sum);
    const [x, y] = [Number((a >> shift) & 3n), Number((b >> shift) & 3n)];
    if (x > 0) sum = curve.add(sum, as[x]);
    if (y > 0) sum = curve.add(sum, bs[y]);
  }
  return sum;
}

// ---- Ed25519: a = -1 twisted Edwards curve, points as (X : Y : Z : T), T = XY/Z ----

const P25519 = 2n ** 255n - 19n;
/** Order of the base point. */
export const L25519 = 2n ** 252n + 27742317777372353535851937790883648493n;
const D = modulo(-121665n * inverse(121666n, P25519), P25519);
const SQRT_MINUS_1 = power(2n, (P25519 - 1n) / 4n, P25519);

export const edwards = {
  zero: [0n, 1n, 1n, 0n],
  /** The unified formulas of RFC 8032 section 5.1.4; complete, so doubling needs no case of its own. */
  add([x1, y1, z1, t1], [x2, y2, z2, t2]) {
    const a = ((y1 - x1) * (y2 - x2)) % P25519;
    const b = ((y1 + x1) * (y2 + x2)) % P25519;
    const c = (((2n * t1 * t2) % P25519) * D) % P25519;
    const d = (2n * z1 * z2) % P25519;
    const [e, f, g, h] = [b - a, d - c, d + c, b + a];
    return [(e * f) % P25519, (g * h) % P25519, (f * g) % P25519, (e * h) % P25519];
  },
};

/** The point that 32 canonical bytes encode, or null. */
export function decodePoint(bytes) {
  const encoded = littleEndian(bytes);
  const sign = encoded >> 255n;
  const y = BigInt.asUintN(255, encoded);
  if (y >= P25519) return null;
  const y2 = (y * y) % P25519;
  const x2 = modulo((y2 - 1n) * inverse(D * y2 + 1n, P25519), P25519);
  let x = power(x2, (P25519 + 3n) / 8n, P25519);
  if ((x * x) % P25519 !== x2) x = (x * SQRT_MINUS_1) % P25519;
  if ((x * x) % P25519 !== x2) return null;
  if (x === 0n && sign === 1n) return null;
  if ((x & 1n) !== sign) x = P25519 - x;
  return [x, y, 1n, (x * y) % P25519];
}

export function encodePoint([x, y, z]) {
  const scale = inverse(modulo(z, P25519), P25519);
  const [ax, ay] = [modulo(x * scale, P25519), modulo(y * scale, P25519)];
  const encoded = ay | ((ax & 1n) << 255n);
  return Uint8Array.from({ length: 32 }, (_, i) => Number((encoded >> BigInt(8 * i)) & 255n));
}

const BASE = decodePoint(Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 0x58 : 0x66)));

/** The eight points of small order, encoded canonically. */
const SMALL_ORDER = new Set(smallOrderPoints());

function smallOrderPoints() {
  // L·P keeps only the part of P that is of small order. Try points until that part has the full order of 8.
  for (let y = 2; ; y += 1) {
    const point = decodePoint(Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? y : 0)));
    if (point === null) continue;
    const torsion = sumOfTwo(edwards, L25519, point, 0n, edwards.zero);
    const multiples = [edwards.zero];
    while (multiples.length < 8) multiples.push(edwards.add(multiples.at(-1), torsion));
    const encodings = new Set(multiples.map((multiple) => hex(encodePoint(multiple))));
    if (encodings.size === 8) return encodings;
  }
}

/**
 * What SPEC section 3 demands of a signature before any equation: S < L, and A and R canonical and not of
 * small order. (That A and R are points at all is left to the equation: R is compared with an encoded point.)
 */
export function strictForm(key, signature) {
  return signature.length === 64 && littleEndian(signature.subarray(32)) < L25519
    && strictPoint(key) && strictPoint(signature.subarray(0, 32));
}

function strictPoint(bytes) {
  const encoded = littleEndian(bytes);
  // The only other encodings with y < p that are not canonical are those of x = 0 with the sign bit set.
  const y = BigInt.asUintN(255, encoded);
  if (y >= P25519 || ((y === 1n || y === P25519 - 1n) && encoded >> 255n === 1n)) return false;
  return !SMALL_ORDER.has(hex(bytes));
}

/** Strict verification with the cofactorless equation [S]B = R + [k]A. */
export function verifyEd25519(key, message, signature) {
  const A = decodePoint(key);
  if (A === null || !strictForm(key, signature)) return false;
  const input = new Uint8Array(64 + message.length);
  input.set(signature.subarray(0, 32));
  input.set(key, 32);
  input.set(message, 64);
  const k = littleEndian(sha512(input)) % L25519;
  const S = littleEndian(signature.subarray(32));
  const minusA = [P25519 - A[0], A[1], A[2], P25519 - A[3]];
  const R = encodePoint(sumOfTwo(edwards, S, BASE, k, minusA));
  return R.every((byte, i) => byte === signature[i]);
}

// ---- P-256: short Weierstrass curve, points as (X : Y : Z) ----

const P256 = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const N256 = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const B256 = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;
const G256 = [
  0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296n,
  0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5n,
  1n,
];

const weierstrass = {
  zero: [0n, 1n, 0n],
  /** Complete addition for a = -3: Renes, Costello and Batina, 2015, algorithm 4. */
  add([x1, y1, z1], [x2, y2, z2]) {
    const m = (n) => n % P256;
    const [xx, yy, zz] = [m(x1 * x2), m(y1 * y2), m(z1 * z2)];
    const xy = m((x1 + y1) * (x2 + y2)) - xx - yy;
    const yz = m((y1 + z1) * (y2 + z2)) - yy - zz;
    const xz = m((x1 + z1) * (x2 + z2)) - xx - zz;
    const u = 3n * (xz - m(B256 * zz));
    const v = 3n * (m(B256 * xz) - 3n * zz - xx);
    const w = 3n * (xx - zz);
    const [minus, plus] = [m(yy - u), m(yy + u)];
    return [m(xy * plus) - m(yz * v), m(plus * minus) + m(w * v), m(yz * minus) + m(xy * w)];
  },
};

/** `key` is x ‖ y, `signature` is r ‖ s, both big-endian. */
export function verifyP256(key, message, signature) {
  const [x, y] = [bigEndian(key.subarray(0, 32)), bigEndian(key.subarray(32))];
  if (x >= P256 || y >= P256 || modulo(y * y - (x * x * x - 3n * x + B256), P256) !== 0n) return false;
  const [r, s] = [bigEndian(signature.subarray(0, 32)), bigEndian(signature.subarray(32))];
  if (signature.length !== 64 || r === 0n || r >= N256 || s === 0n || s >= N256) return false;
  const digest = bigEndian(new Sha256().update(message).digest());
  const w = inverse(s, N256);
  const sum = sumOfTwo(weierstrass, (digest * w) % N256, G256, (r * w) % N256, [x, y, 1n]);
  const z = modulo(sum[2], P256);
  if (z === 0n) return false;
  return modulo(sum[0] * inverse(z, P256), P256) % N256 === r;
}
