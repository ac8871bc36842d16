import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { admit, canonicalize } from './json.mjs';
import { compile } from './schema.mjs';

const bytes = (text) => new TextEncoder().encode(text);
const state = (input) => {
  const document = admit(typeof input === 'string' ? bytes(input) : Uint8Array.from(input));
  return document === null ? 'malformed' : document.canonical ? 'canonical' : 'admitted';
};
const inString = (text) => state(`{"a":"${text}"}`);
const nested = (depth) => `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`;

test('admits what section 1 admits and calls canonical only what RFC 8785 writes', () => {
  const cases = [
    ['{}', 'canonical'],
    ['{"a":1,"b":[true,false,"x"]}', 'canonical'],
    ['{"b":1,"a":1}', 'admitted'],
    [' {}', 'admitted'],
    ['{}\n', 'admitted'],
    ['{"a": 1}', 'admitted'],
    ['{"a":1}x', 'malformed'],
    ['{}{}', 'malformed'],
    ['', 'malformed'],
    ['[]', 'malformed'],
    ['"a"', 'malformed'],
    ['{"a":null}', 'malformed'],
    ['{"a":nul}', 'malformed'],
    ['{"a":1,"a":1}', 'malformed'],
    ['{"a":1,"\\u0061":1}', 'malformed'],
    ['{"a":1,}', 'malformed'],
    ['{"a":[1,]}', 'malformed'],
    ['{"a":[,1]}', 'malformed'],
    ['{a:1}', 'malformed'],
    ["{'a':1}", 'malformed'],
    ['{"a":1', 'malformed'],
    ['{"__proto__":{"x":1},"constructor":1}', 'canonical'],
    ['{"__proto__":1,"__proto__":1}', 'malformed'],
    [nested(32), 'canonical'],
    [nested(33), 'malformed'],
    [`{"a":${'['.repeat(31)}${']'.repeat(31)}}`, 'canonical'],
    [`{"a":${'['.repeat(32)}${']'.repeat(32)}}`, 'malformed'],
    [`{"a":${'['.repeat(5000)}`, 'malformed'],
    // UTF-16 order: U+E000 comes after the surrogates of U+1F600, unlike in UTF-8.
    ['{"\u{1f600}":1,"\ue000":1}', 'canonical'],
    ['{"\ue000":1,"\u{1f600}":1}', 'admitted'],
  ];
  for (const [text, wanted] of cases) assert.equal(state(text), wanted, text.slice(0, 60));
});

test('takes integers of 53 bits and no other number', () => {
  for (const number of ['0', '-1', '9007199254740991', '-9007199254740991']) {
    assert.equal(state(`{"a":${number}}`), 'canonical', number);
  }
  const refused = ['-0', '00', '01', '-', '+1', '1.0', '1e2', '1E2', '.5', '0x1', 'NaN', 'Infinity',
    '9007199254740992', '9007199254740993', '-9007199254740992', '1'.repeat(400)];
  for (const number of refused) assert.equal(state(`{"a":${number}}`), 'malformed', number);
});

test('takes strings of scalar values that are characters, in their shortest escape', () => {
  const cases = [
    ['\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\u007f', 'canonical'],
    ['\\/', 'admitted'],
    ['\\u0041', 'admitted'],
    ['\\u0008', 'admitted'],
    ['\\u001F', 'admitted'],
    ['\\u2028', 'admitted'],
    ['\u2028', 'canonical'],
    ['\\ud83d\\ude00', 'admitted'],
    ['\u{1f600}', 'canonical'],
    ['\\ud83d', 'malformed'],
    ['\\ude00\\ud83d', 'malformed'],
    ['\\ud83d\\u0041', 'malformed'],
    ['\\ud83dx', 'malformed'],
    ['\\u12', 'malformed'],
    ['\\u 123', 'malformed'],
    ['\\x41', 'malformed'],
    ['\\U0041', 'malformed'],
    ['\n', 'malformed'],
    ['\u0000', 'malformed'],
    ['\ufdd0', 'malformed'],
    ['\ufdef', 'malformed'],
    ['\ufdf0', 'canonical'],
    ['\ufffd', 'canonical'],
    ['\ufffe', 'malformed'],
    ['\uffff', 'malformed'],
    ['\\uffff', 'malformed'],
    ['\\ufdd0', 'malformed'],
    ['\u{1fffe}', 'malformed'],
    ['\u{10ffff}', 'malformed'],
    ['\u{10fffd}', 'canonical'],
    ['\\ud83f\\udffe', 'malformed'],
    ['e\u0301', 'canonical'],
    ['\u00e9', 'canonical'],
    ['\ufeff', 'canonical'],
  ];
  for (const [text, wanted] of cases) assert.equal(inString(text), wanted, JSON.stringify(text));
  assert.equal(state('{"\uffff":1}'), 'malformed');
});

test('refuses bytes that are not UTF-8, and a byte order mark', () => {
  const wrap = (...middle) => [...bytes('{"a":"'), ...middle, ...bytes('"}')];
  const refused = [[0xff], [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x80, 0xaf], [0xed, 0xa0, 0x80], [0xf0, 0x80, 0x80, 0xaf],
    [0xf4, 0x90, 0x80, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xe2, 0x82]];
  for (const middle of refused) assert.equal(state(wrap(...middle)), 'malformed', String(middle));
  assert.equal(state([0xef, 0xbb, 0xbf, ...bytes('{}')]), 'malformed');
});

test('writes the samples of RFC 8785', () => {
  const { value } = admit(bytes('{"literals":[true,false],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"}'));
  assert.equal(canonicalize(value), '{"literals":[true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}');
  const names = admit(bytes('{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh",'
    + '"1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}'));
  assert.deepEqual([...canonicalize(names.value).matchAll(/:"([A-Z][a-z]+)/g)].map(([, word]) => word),
    ['Carriage', 'One', 'Control', 'Latin', 'Euro', 'Emoji', 'Hebrew']);
});

test('one pass calls canonical exactly what equals its own serialization', () => {
  let seed = 7;
  const below = (n) => { seed = (seed * 48271) % 2147483647; return seed % n; };
  const strings = ['a', 'b', '\u20ac', '\n', '"', '\\', '\u0001', '\u{1f600}', '\ue000', '', '/', 'é'];
  const write = (depth) => {
    const gap = below(8) === 0 ? ' ' : '';
    const text = (s) => {
      const plain = canonicalize(s);
      if (below(8) === 0) return plain.replace('a', '\\u0061').replace('/', '\\/');
      return plain;
    };
    switch (below(depth > 3 ? 3 : 5)) {
      case 0: return String(below(2000) - 1000) + gap;
      case 1: return text(strings[below(strings.length)]);
      case 2: return below(2) ? 'true' : 'false';
      case 3: return `[${Array.from({ length: below(4) }, () => write(depth + 1)).join(`,${gap}`)}]`;
      default: {
        const names = [...new Set(Array.from({ length: below(4) }, () => strings[below(strings.length)]))];
        if (below(2) > 0) names.sort();
        return `{${names.map((name) => `${text(name)}:${write(depth + 1)}`).join(',')}}`;
      }
    }
  };
  const seen = { canonical: 0, admitted: 0 };
  for (let i = 0; i < 5000; i += 1) {
    const text = `{"a":${write(0)}}`;
    const document = admit(bytes(text));
    assert.equal(document.canonical, canonicalize(document.value) === text, text);
    assert.deepEqual(JSON.parse(JSON.stringify(document.value)), JSON.parse(text));
    seen[document.canonical ? 'canonical' : 'admitted'] += 1;
  }
  assert.ok(seen.canonical > 1000 && seen.admitted > 500, JSON.stringify(seen));
});

test('validates the schema subset and refuses a schema outside of it', () => {
  const check = (schema, value) => compile(schema)(admit(bytes(`{"a":${JSON.stringify(value)}}`)).value.a);
  const cases = [
    [{ type: 'integer', minimum: 1, maximum: 3 }, [1, 3], [0, 4, '1', true]],
    [{ type: 'string', minLength: 2, maxLength: 3 }, ['ab', '\u{1f600}\u{1f600}\u{1f600}'], ['a', 'abcd', '\u{1f600}', 1]],
    [{ type: 'string', pattern: '^[a-z0-9.-]{1,3}$' }, ['a.-'], ['', 'abcd', 'A', 'a\n']],
    [{ type: 'boolean' }, [true], [0, 'true']],
    [{ const: 0 }, [0], [false, '', 1]],
    [{ enum: ['a', 'b'] }, ['a'], ['c', ['a']]],
    [{ type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 2, uniqueItems: true }, [[1], [1, 2]], [[], [1, 2, 3], ['1'], [1, 1], {}]],
    [{ type: 'object', properties: { x: { const: 1 } }, required: ['x'], additionalProperties: false }, [{ x: 1 }], [{}, { x: 2 }, { x: 1, y: 1 }, []]],
    [{ type: 'object', properties: {}, additionalProperties: false }, [{}], [{ constructor: 1 }, { toString: 1 }]],
    [{ type: 'object', required: ['constructor'] }, [{ constructor: 1 }], [{}]],
    [{ $ref: '#/$defs/n', $defs: { n: { type: 'integer' } } }, [1], ['1']],
  ];
  for (const [schema, good, bad] of cases) {
    for (const value of good) assert.equal(check(schema, value), true, JSON.stringify([schema, value]));
    for (const value of bad) assert.equal(check(schema, value), false, JSON.stringify([schema, value]));
  }
  for (const schema of [{ format: 'date' }, { not: {} }, { type: 'number' }, { additionalProperties: true }, { $ref: '#/$defs/x' }]) {
    assert.throws(() => compile(schema), TypeError);
  }
});

test('the embedded schemas are those of spec/pef/schemas', () => {
  execFileSync(process.execPath, [new URL('embed-schemas.mjs', import.meta.url).pathname, '--check']);
});

test('nothing but the command line and the tests knows of Node', () => {
  for (const name of ['pef-verify', 'bundle', 'bytes', 'container', 'curves', 'envelope', 'journal', 'json', 'keys', 'note',
    'receipt', 'refusal', 'run', 'schema', 'schemas', 'segment', 'sha2', 'tree', 'trust', 'words']) {
    const source = readFileSync(new URL(`${name}.mjs`, import.meta.url), 'utf8');
    assert.doesNotMatch(source, /from 'node:|require\(|\bBuffer\b|JSON\.parse\(/, name);
  }
});
