// Strict admission of evidence documents and their canonical form (SPEC section 1).
//
// One pass over the text decides both questions: is it admitted, and is it byte for byte what RFC 8785 would
// write. The scanner is our own: JSON.parse keeps the last of two equal names and rounds large numbers.

const DEPTH_MAX = 32;
const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
/** Anything in a string that needs a second look; what is before it is taken as it stands. */
const PLAIN = /[^"\\\u0000-\u001f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)/y;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

class Malformed extends Error {}

/**
 * Takes stored bytes. Gives `{ value, canonical }`, or null where they are malformed.
 * Objects have no prototype, so that a member `__proto__` is a member like any other.
 */
export function admit(bytes) {
  let text;
  try {
    text = UTF8.decode(bytes);
  } catch {
    return null;
  }
  const scan = new Scan(text);
  try {
    const value = scan.document();
    return { value, canonical: scan.canonical };
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

class Scan {
  canonical = true;
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  document() {
    this.#space();
    if (this.#text[this.#at] !== '{') throw new Malformed();
    const value = this.#object(1);
    this.#space();
    if (this.#at !== this.#text.length) throw new Malformed();
    return value;
  }

  #value(depth) {
    const text = this.#text;
    switch (text[this.#at]) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      default:
        return this.#number();
    }
  }

  #object(depth) {
    if (depth > DEPTH_MAX) throw new Malformed();
    const object = Object.create(null);
    let before = null;
    this.#at += 1;
    this.#space();
    if (this.#take('}')) return object;
    do {
      this.#space();
      if (this.#text[this.#at] !== '"') throw new Malformed();
      const name = this.#string();
      if (name in object) throw new Malformed();
      // `<` compares UTF-16 code units, which is the order of RFC 8785 section 3.2.3.
      if (before !== null && name < before) this.canonical = false;
      before = name;
      this.#space();
      this.#expect(':');
      this.#space();
      object[name] = this.#value(depth);
      this.#space();
    } while (this.#take(','));
    this.#expect('}');
    return object;
  }

  #array(depth) {
    if (depth > DEPTH_MAX) throw new Malformed();
    const array = [];
    this.#at += 1;
    this.#space();
    if (this.#take(']')) return array;
    do {
      this.#space();
      array.push(this.#value(depth));
      this.#space();
    } while (this.#take(','));
    this.#expect(']');
    return array;
  }

  #string() {
    const text = this.#text;
    let value = '';
    this.#at += 1;
    for (;;) {
      PLAIN.lastIndex = this.#at;
      const plain = PLAIN.exec(text)[0];
      value += plain;
      this.#at += plain.length;
      const unit = text.charCodeAt(this.#at);
      if (unit === 0x22) {
        this.#at += 1;
        return value;
      }
      if (unit === 0x5c) value += this.#escape();
      else if (unit >= 0xd800 && unit <= 0xdbff) value += this.#pair(unit, text.charCodeAt(this.#at + 1), 2);
      else throw new Malformed(); // end of text, raw control, noncharacter
    }
  }

  #escape() {
    const letter = this.#text[this.#at + 1];
    if (letter !== 'u') {
      const plain = ESCAPES[letter];
      if (plain === undefined) throw new Malformed();
      if (letter === '/') this.canonical = false;
      this.#at += 2;
      return plain;
    }
    const unit = this.#hex4(this.#at + 2);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      this.canonical = false;
      if (!this.#text.startsWith('\\u', this.#at + 6)) throw new Malformed();
      return this.#pair(unit, this.#hex4(this.#at + 8), 12);
    }
    if ((unit >= 0xdc00 && unit <= 0xdfff) || isNoncharacter(unit)) throw new Malformed();
    const digits = this.#text.slice(this.#at + 2, this.#at + 6);
    if (unit >= 0x20 || '\b\t\n\f\r'.includes(String.fromCharCode(unit)) || digits !== digits.toLowerCase()) {
      this.canonical = false;
    }
    this.#at += 6;
    return String.fromCharCode(unit);
  }

  /** One character above U+FFFF, which takes `width` units of the text. */
  #pair(high, low, width) {
    if (!(low >= 0xdc00 && low <= 0xdfff)) throw new Malformed();
    if (isNoncharacter(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))) throw new Malformed();
    this.#at += width;
    return String.fromCharCode(high, low);
  }

  #hex4(at) {
    const digits = this.#text.slice(at, at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new Malformed();
    return Number.parseInt(digits, 16);
  }

  #number() {
    NUMBER.lastIndex = this.#at;
    const digits = NUMBER.exec(this.#text)?.[0];
    // A number too large for a double's 53 bits parses to at least 2^53, never to something that passes.
    if (digits === undefined || digits === '-0' || !Number.isSafeInteger(Number(digits))) throw new Malformed();
    this.#at += digits.length; // a fraction or exponent stays behind and is not a `,`, `]` or `}`
    return Number(digits);
  }

  #word(word, value) {
    if (!this.#text.startsWith(word, this.#at)) throw new Malformed();
    this.#at += word.length;
    return value;
  }

  #space() {
    const text = this.#text;
    for (;;) {
      const unit = text.charCodeAt(this.#at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.canonical = false;
      this.#at += 1;
    }
  }

  #take(mark) {
    if (this.#text[this.#at] !== mark) return false;
    this.#at += 1;
    return true;
  }

  #expect(mark) {
    if (!this.#take(mark)) throw new Malformed();
  }
}

function isNoncharacter(point) {
  return (point >= 0xfdd0 && point <= 0xfdef) || (point & 0xfffe) === 0xfffe;
}

/** RFC 8785 text of an admitted value. */
export function canonicalize(value) {
  if (typeof value === 'string') return `"${value.replace(/["\\\u0000-\u001f]/g, escaped)}"`;
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `[${value.map((item) => canonicalize(item)).join(',')}]`;
  // Array.prototype.sort compares UTF-16 code units.
  const members = Object.keys(value).sort().map((name) => `${canonicalize(name)}:${canonicalize(value[name])}`);
  return `{${members.join(',')}}`;
}

const SHORT = { '"': '\\"', '\\': '\\\\', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r' };
const escaped = (unit) => SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
