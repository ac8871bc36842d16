// SHA-256 and SHA-512 (FIPS 180-4), synchronous.
//
// A bundle has many short lines. WebCrypto's digest is asynchronous and costs about 50 µs a call, most of it
// spent on waiting, while a line of 800 bytes takes about 5 µs here. Large files go to WebCrypto: see hash.mjs.
// SHA-512 serves only the Ed25519 of curves.mjs, where WebCrypto has none.

/** The first `count` primes. */
function primes(count) {
  const found = [];
  for (let n = 2n; found.length < count; n += 1n) if (found.every((p) => n % p !== 0n)) found.push(n);
  return found;
}

/** The largest integer whose `power`-th power is at most `n`. */
function integerRoot(n, power) {
  let low = 0n;
  let high = 1n << BigInt(Math.ceil(n.toString(2).length / power) + 1);
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** BigInt(power) <= n) low = middle;
    else high = middle;
  }
  return low;
}

// The constants are what the standard says they are: the first 64 bits of the fractional parts of the cube
// roots (rounds) and square roots (initial state) of the first primes. SHA-256 takes the upper 32 of the 64.
const ROUNDS = primes(80).map((p) => BigInt.asUintN(64, integerRoot(p << 192n, 3)));
const INITIAL = primes(8).map((p) => BigInt.asUintN(64, integerRoot(p << 128n, 2)));
const high32 = (list) => Int32Array.from(list, (n) => Number(n >> 32n) | 0);
const low32 = (list) => Int32Array.from(list, (n) => Number(n & 0xffffffffn) | 0);
const K_HIGH = high32(ROUNDS);
const K_LOW = low32(ROUNDS);
const H_HIGH = high32(INITIAL);
const H_LOW = low32(INITIAL);
/** Scratch of one block, shared: nothing here waits in the middle of a block. */
const SCHEDULE = new Int32Array(64);

/** A running SHA-256: `update` any number of times, then `digest` once. */
export class Sha256 {
  #state = Int32Array.from(H_HIGH);
  #block = new Uint8Array(64);
  #used = 0;
  #bytes = 0;

  update(bytes) {
    this.#bytes += bytes.length;
    let at = 0;
    if (this.#used > 0) {
      at = Math.min(64 - this.#used, bytes.length);
      this.#block.set(bytes.subarray(0, at), this.#used);
      this.#used += at;
      if (this.#used < 64) return this;
      this.#compress(this.#block, 0);
      this.#used = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    this.#used = bytes.length - at;
    return this;
  }

  digest() {
    const block = this.#block;
    block[this.#used] = 0x80;
    block.fill(0, this.#used + 1);
    if (this.#used >= 56) {
      this.#compress(block, 0);
      block.fill(0);
    }
    const view = new DataView(block.buffer);
    view.setUint32(56, Math.floor(this.#bytes / 0x20000000));
    view.setUint32(60, (this.#bytes << 3) >>> 0);
    this.#compress(block, 0);
    const out = new Uint8Array(32);
    const words = new DataView(out.buffer);
    this.#state.forEach((word, i) => words.setInt32(4 * i, word));
    return out;
  }

  #compress(p, at) {
    const w = SCHEDULE;
    for (let i = 0; i < 16; i += 1, at += 4) {
      w[i] = (p[at] << 24) | (p[at + 1] << 16) | (p[at + 2] << 8) | p[at + 3];
    }
    for (let i = 16; i < 64; i += 1) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    const state = this.#state;
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K_HIGH[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

/** SHA-512 of all of `bytes`. Each 64-bit word is two 32-bit halves. */
export function sha512(bytes) {
  const blocks = new Uint8Array(Math.ceil((bytes.length + 17) / 128) * 128);
  blocks.set(bytes);
  blocks[bytes.length] = 0x80;
  const view = new DataView(blocks.buffer);
  view.setBigUint64(blocks.length - 8, BigInt(bytes.length) * 8n);
  const high = Int32Array.from(H_HIGH);
  const low = Int32Array.from(H_LOW);
  for (let at = 0; at < blocks.length; at += 128) compress512(view, at, high, low);
  const out = new DataView(new ArrayBuffer(64));
  for (let i = 0; i < 8; i += 1) {
    out.setInt32(8 * i, high[i]);
    out.setInt32(8 * i + 4, low[i]);
  }
  return new Uint8Array(out.buffer);
}

/** Upper and lower half of `h:l` turned right by `n` bits. */
const turnHigh = (h, l, n) => (n < 32 ? (h >>> n) | (l << (32 - n)) : (l >>> (n - 32)) | (h << (64 - n)));
const turnLow = (h, l, n) => turnHigh(l, h, n);
/** What the unsigned sum of lower halves carries over to the upper ones. */
const carry = (sum) => Math.floor(sum / 0x100000000);

function compress512(view, at, high, low) {
  const wh = new Int32Array(80);
  const wl = new Int32Array(80);
  for (let i = 0; i < 16; i += 1) {
    wh[i] = view.getInt32(at + 8 * i);
    wl[i] = view.getInt32(at + 8 * i + 4);
  }
  for (let i = 16; i < 80; i += 1) {
    const [xh, xl, yh, yl] = [wh[i - 15], wl[i - 15], wh[i - 2], wl[i - 2]];
    const s0h = turnHigh(xh, xl, 1) ^ turnHigh(xh, xl, 8) ^ (xh >>> 7);
    const s0l = turnLow(xh, xl, 1) ^ turnLow(xh, xl, 8) ^ ((xl >>> 7) | (xh << 25));
    const s1h = turnHigh(yh, yl, 19) ^ turnHigh(yh, yl, 61) ^ (yh >>> 6);
    const s1l = turnLow(yh, yl, 19) ^ turnLow(yh, yl, 61) ^ ((yl >>> 6) | (yh << 26));
    const sum = (wl[i - 16] >>> 0) + (s0l >>> 0) + (wl[i - 7] >>> 0) + (s1l >>> 0);
    wl[i] = sum | 0;
    wh[i] = (wh[i - 16] + s0h + wh[i - 7] + s1h + carry(sum)) | 0;
  }
  let [ah, bh, ch, dh, eh, fh, gh, hh] = high;
  let [al, bl, cl, dl, el, fl, gl, hl] = low;
  for (let i = 0; i < 80; i += 1) {
    const s1h = turnHigh(eh, el, 14) ^ turnHigh(eh, el, 18) ^ turnHigh(eh, el, 41);
    const s1l = turnLow(eh, el, 14) ^ turnLow(eh, el, 18) ^ turnLow(eh, el, 41);
    const choose = (el & fl) ^ (~el & gl);
    const t1l = (hl >>> 0) + (s1l >>> 0) + (choose >>> 0) + (K_LOW[i] >>> 0) + (wl[i] >>> 0);
    const t1h = (hh + s1h + ((eh & fh) ^ (~eh & gh)) + K_HIGH[i] + wh[i] + carry(t1l)) | 0;
    const s0h = turnHigh(ah, al, 28) ^ turnHigh(ah, al, 34) ^ turnHigh(ah, al, 39);
    const s0l = turnLow(ah, al, 28) ^ turnLow(ah, al, 34) ^ turnLow(ah, al, 39);
    const most = (al & bl) ^ (al & cl) ^ (bl & cl);
    const t2l = (s0l >>> 0) + (most >>> 0);
    const t2h = (s0h + ((ah & bh) ^ (ah & ch) ^ (bh & ch)) + carry(t2l)) | 0;
    [hh, hl, gh, gl, fh, fl] = [gh, gl, fh, fl, eh, el];
    const e = (dl >>> 0) + (t1l % 0x100000000);
    [eh, el] = [(dh + t1h + carry(e)) | 0, e | 0];
    [dh, dl, ch, cl, bh, bl] = [ch, cl, bh, bl, ah, al];
    const a = (t1l % 0x100000000) + (t2l % 0x100000000);
    [ah, al] = [(t1h + t2h + carry(a)) | 0, a | 0];
  }
  [ah, bh, ch, dh, eh, fh, gh, hh].forEach((word, i) => {
    const sum = (low[i] >>> 0) + ([al, bl, cl, dl, el, fl, gl, hl][i] >>> 0);
    low[i] = sum | 0;
    high[i] = (high[i] + word + carry(sum)) | 0;
  });
}
