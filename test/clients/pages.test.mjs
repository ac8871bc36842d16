// The pages of `estoppel diff` and `estoppel incident` in a real browser: what they show of hostile names, and that they ask nobody
// and run nothing.
//
// Needs Debian's chromium and the playwright-core of test/package.json. Where one is missing the tests skip; with REQUIRE_REAL=1
// they fail.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { makeBundle, zipOf } from '../../spec/verifiers/javascript/fixture.mjs';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const ESTOPPEL = join(process.env.ESTOPPEL_BIN_DIR ?? fileURLToPath(new URL('../../target/debug', import.meta.url)), 'estoppel');
const HOSTILE = '</td><img src=x onerror="document.title=1"><script>document.title=2</script>\u202e&amp;';

const playwright = (() => {
  try {
    return createRequire(new URL('../package.json', import.meta.url))('playwright-core');
  } catch {
    return null;
  }
})();
const missing = playwright === null ? 'playwright-core is not installed in test/' : existsSync(CHROMIUM) ? null : `${CHROMIUM} is missing`;
const skip = missing !== null && process.env.REQUIRE_REAL !== '1' && `PAGES NOT TESTED: ${missing}`;
const folder = mkdtempSync(join(tmpdir(), 'estoppel-pages-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const put = (name, bytes) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};

function run(code, ...words) {
  const done = spawnSync(ESTOPPEL, words, { encoding: 'utf8' });
  assert.equal(done.status, code, `${words.join(' ')}: ${done.error ?? done.stderr}`);
}

function schema(columns) {
  const names = ['columns', 'constraints', 'extensions', 'functions', 'indexes', 'namespaces', 'policies', 'relations', 'rules', 'sequences', 'triggers', 'types', 'views'];
  const parts = Object.fromEntries(names.map((name) => [name, {}]));
  parts.columns = { public: { orders: columns } };
  return JSON.stringify({ format: 'estoppel-schema/1', parts, uncovered: {} });
}

async function opened(file) {
  assert.equal(missing, null);
  const browser = await playwright.chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
  try {
    const page = await browser.newPage();
    const seen = [];
    const troubles = [];
    page.on('request', (request) => seen.push(request.url()));
    page.on('pageerror', (error) => troubles.push(String(error)));
    await page.goto(pathToFileURL(file).href);
    const found = await page.evaluate(() => ({
      title: document.title,
      text: document.body.innerText,
      foreign: document.querySelectorAll('script, img, iframe, object, embed, link, form').length,
      tables: document.querySelectorAll('table').length,
    }));
    return { ...found, seen, troubles };
  } finally {
    await browser.close();
  }
}

test('a diff shows both sides, hostile names as text, and asks nobody', { skip }, async () => {
  const one = put('one.json', schema({ [HOSTILE]: { place: 1, type: 'text' }, b: { place: 2, type: 'text' } }));
  const two = put('two.json', schema({ b: { place: 2, type: 'bigint' } }));
  const html = join(folder, 'diff.html');
  run(5, 'diff', one, two, '--html', html);
  const page = await opened(html);
  assert.deepEqual(page.seen, [pathToFileURL(html).href]);
  assert.deepEqual(page.troubles, []);
  assert.equal(page.title, 'estoppel diff');
  assert.equal(page.foreign, 0);
  assert.equal(page.tables, 2);
  assert.ok(page.text.includes('</td><img src=x onerror="document.title=1">'.replace('/', '~1')), page.text);
  assert.ok(page.text.includes('\\u202e&amp;') && page.text.includes('"text"') && page.text.includes('"bigint"'), page.text);
});

test('the page of an incident shows the timeline and asks nobody', { skip }, async () => {
  const bundle = put('run.pef.zip', zipOf(makeBundle()));
  const out = join(folder, 'a.incident.zip');
  run(0, 'incident', '--from', bundle, '--out', out);
  const bytes = readFileSync(out);
  const [from, to] = [bytes.indexOf('<!doctype html>'), bytes.indexOf('</html>\n') + 8];
  const page = await opened(put('timeline.html', bytes.subarray(from, to)));
  assert.equal(page.seen.length, 1);
  assert.deepEqual(page.troubles, []);
  assert.equal(page.title, 'estoppel incident');
  assert.equal(page.foreign, 0);
  assert.ok(page.tables >= 2 && page.text.includes('run.seal'), page.text);
});
