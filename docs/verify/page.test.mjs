// The page in a real browser: what it says of good, forged and unvouched bundles, and that it asks nobody.
//
// Needs Debian's chromium and the playwright-core of test/package.json. Where one is missing the tests skip;
// with REQUIRE_REAL=1 they fail.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { KEYS, call, makeBundle, sha256, trustOf, zipOf } from '../../spec/verifiers/javascript/fixture.mjs';
import { headline, lists, tone } from './src/judgement.mjs';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PAGE = new URL('index.html', import.meta.url);
const VECTORS = fileURLToPath(new URL('../../spec/pef/vectors', import.meta.url));

const playwright = (() => {
  try {
    return createRequire(new URL('../../test/package.json', import.meta.url))('playwright-core');
  } catch {
    return null;
  }
})();
const missing = playwright === null ? 'playwright-core is not installed in test/' : existsSync(CHROMIUM) ? null : `${CHROMIUM} is missing`;
const skip = missing !== null && process.env.REQUIRE_REAL !== '1' && `PAGE NOT TESTED: ${missing}`;

const folder = mkdtempSync(join(tmpdir(), 'pef-page-'));
const put = (name, bytes) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
let context;
let page;
let requests;
let troubles;

before(async () => {
  if (missing !== null) {
    assert.notEqual(process.env.REQUIRE_REAL, '1', missing);
    console.log(skip);
    return;
  }
  context = await playwright.chromium.launchPersistentContext(mkdtempSync(join(folder, 'profile-')), { executablePath: CHROMIUM, headless: true, args: FLAGS });
  context.on('request', (request) => requests.push(request.url()));
});

after(async () => {
  await context?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(url = PAGE.href) {
  await page?.close();
  requests = [];
  troubles = [];
  page = await context.newPage();
  page.on('pageerror', (error) => troubles.push(error.message));
  page.on('console', (message) => troubles.push(message.text()));
  await page.goto(url);
}

/** Gives the page a file and waits for the answer to that. */
async function give(input, file) {
  await page.evaluate(() => { document.getElementById('result').hidden = true; });
  await page.setInputFiles(input, file);
  return answer();
}

async function answer() {
  await page.waitForSelector('#result:not([hidden])', { timeout: 30000 });
  const texts = await page.$$eval('.verdict', (cards) => Object.fromEntries(cards.map((card) => [card.id.slice('verdict-'.length), card.querySelector('.value').textContent])));
  return {
    state: await page.getAttribute('.headline', 'data-state'), title: await page.textContent('.headline h2'), texts,
    json: JSON.parse(await page.textContent('#json')),
  };
}

/** Drops files on the page as a person would. */
async function drop(...files) {
  await page.evaluate(() => { document.getElementById('result').hidden = true; });
  const contents = files.map((file) => ({ name: file.split('/').pop(), base64: readFileSync(file).toString('base64') }));
  await page.evaluate((dropped) => {
    const dataTransfer = new DataTransfer();
    for (const { name, base64 } of dropped) dataTransfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    for (const type of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
  }, contents);
  return answer();
}

/** Colours of the page that are rather green than anything else. */
const greens = () => page.evaluate(() => {
  const found = new Set();
  for (const node of document.querySelectorAll('body *')) {
    const style = getComputedStyle(node);
    for (const colour of [style.color, style.backgroundColor, style.borderTopColor, style.stroke, ...(style.boxShadow.match(/rgba?\([^)]*\)/g) ?? [])]) {
      const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) ?? []).map(Number);
      if (a > 0 && g > r + 6 && g > b + 6) found.add(`${node.tagName}.${node.getAttribute('class')} ${colour}`);
    }
  }
  return [...found];
});

const askedNobody = () => {
  assert.deepEqual(requests.filter((url) => !url.startsWith('data:')), [PAGE.href]);
  assert.deepEqual(troubles, []);
};

const nasty = '<img src=x onerror="window.hit=1">\u202egnp';
const options = {
  anchorBefore: 5, open: { name: '<script>window.hit=1</script>' },
  events: [call(1), call(2, { operation: nasty, facts: { model: '<b>m</b>' }, claims: { agent: nasty } }),
    call(3, { verdict: { action: 'block', mode: 'enforce', reason: 'TOOL_DENIED' }, outcome: { client: 'refused', code: 'TOOL_DENIED', complete: true } })],
};
const GOOD = put('good.pef.zip', zipOf(makeBundle(options)));
const FORGED = put('forged.pef.zip', zipOf(makeBundle({
  ...options, late: (files) => files.set('receipts.ndjson', Buffer.from(files.get('receipts.ndjson').toString().replace('"total_us":2000', '"total_us":2001'))),
})));
const TRUST = put('trust.json', trustOf(Object.values(KEYS)));
const STRANGERS = put('strangers.json', trustOf([KEYS.receipt]));

test('the page is what build.mjs makes', () => {
  execFileSync(process.execPath, [fileURLToPath(new URL('build.mjs', import.meta.url)), '--check']);
});

test('only a trusted, whole and complete record is called proven', () => {
  const values = { integrity: ['ok', 'failed', 'unchecked'], authenticity: ['trusted', 'self_asserted', 'failed', 'unchecked'], completeness: ['complete', 'open', 'failed', 'unchecked'], anchoring: ['anchored', 'absent', 'failed'] };
  for (const integrity of values.integrity) for (const authenticity of values.authenticity) for (const completeness of values.completeness) for (const anchoring of values.anchoring) {
    const verdicts = { integrity, authenticity, completeness, anchoring };
    for (const ok of [true, false]) {
      const { state } = headline({ ok, exit: ok ? 0 : 2, step: 'L2', reason: 'LINE_MALFORMED', verdicts });
      const proven = ok && integrity === 'ok' && authenticity === 'trusted' && completeness === 'complete';
      assert.equal(state === 'proven', proven, JSON.stringify(verdicts));
      assert.equal(tone(state) === 'proven', proven);
    }
  }
  assert.equal(typeof lists, 'function');
});

test('a valid bundle through the file input: amber, until its keys are vouched for', { skip }, async () => {
  await open();
  const self = await give('#bundle', GOOD);
  assert.equal(self.state, 'self_asserted');
  assert.equal(self.title, 'Consistent, but nobody has vouched for it');
  assert.deepEqual(self.texts, { integrity: 'ok', authenticity: 'self-asserted', completeness: 'complete', anchoring: 'anchored' });
  assert.deepEqual(await greens(), []);
  const trusted = await give('#trust', TRUST);
  assert.equal(trusted.state, 'proven');
  assert.equal(trusted.title, 'Verified');
  assert.deepEqual(trusted.texts, { integrity: 'ok', authenticity: 'trusted', completeness: 'complete', anchoring: 'anchored' });
  assert.notDeepEqual(await greens(), []);
  assert.match(await page.textContent('#proven'), /signed by gateway\.example\/main\/1/);
  assert.match(await page.textContent('#unproven'), /clock was right/);
  const strangers = await give('#trust', STRANGERS);
  assert.equal(strangers.title, 'Refused: not signed by keys that you trust');
  assert.equal(strangers.json.reason, 'KEY_UNTRUSTED');
  assert.deepEqual(await greens(), []);
  askedNobody();
});

test('a forged bundle: where it failed, and nothing green', { skip }, async () => {
  await open();
  await page.setInputFiles('#trust', TRUST); // alone it gives no answer
  const forged = await give('#bundle', FORGED);
  assert.equal(forged.state, 'refused');
  assert.deepEqual(forged.texts, { integrity: 'unchecked', authenticity: 'failed', completeness: 'unchecked', anchoring: 'unchecked' });
  assert.equal(await page.textContent('#reason'), 'SIGNATURE_INVALID');
  assert.equal(await page.textContent('#failing-step'), 'L10');
  assert.equal(await page.textContent('#failing-seq'), 'seq 2');
  assert.match(await page.textContent('#facts'), /Nothing of it is proven/);
  assert.equal(await page.locator('tr.failing').count(), 1);
  assert.deepEqual(await greens(), []);
  askedNobody();
});

test('files that are dropped are taken for what they are', { skip }, async () => {
  await open();
  assert.equal((await drop(FORGED)).json.reason, 'SIGNATURE_INVALID');
  assert.equal((await drop(GOOD, TRUST)).state, 'proven');
  assert.equal((await drop(put('noise.pef.zip', Buffer.alloc(100, 7)))).json.reason, 'CONTAINER_MALFORMED');
  assert.equal((await drop(put('bad.json', '{}'))).state, 'unusable');
  const body = Buffer.alloc(2000, 'b');
  const digest = sha256(body).toString('hex');
  const external = put('external.pef.zip', zipOf(makeBundle({
    events: [call(1, { body: { mode: 'full' }, request: { bytes: 2000, method: 'POST', sha256: `sha256:${digest}` } })],
    externals: [{ bytes: 2000, role: 'body', sha256: `sha256:${digest}` }],
  })));
  await open();
  assert.equal((await drop(external)).json.reason, 'MISSING_EXTERNAL');
  assert.equal((await drop(put(digest, body))).state, 'self_asserted');
  assert.equal((await drop(put(digest, Buffer.alloc(2000, 'c')))).json.reason, 'EXTERNAL_DIGEST');
  askedNobody();
});

test('text from evidence stays text, and hidden characters are shown', { skip }, async () => {
  await open();
  await give('#bundle', GOOD);
  const table = await page.textContent('#calls table');
  assert.ok(table.includes('<img src=x onerror="window.hit=1">\\u{202e}gnp'), table);
  assert.ok(table.includes('<b>m</b>'));
  assert.ok((await page.textContent('#facts')).includes('<script>window.hit=1</script>'));
  assert.equal(await page.locator('#result img, #result script, #result b:not(li b)').count(), 0);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  askedNobody();
});

test('works with the keyboard alone, and on a narrow dark screen', { skip }, async () => {
  await open();
  page.on('filechooser', () => {}); // from here on they are caught: a listener of its own per key may come too late
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'bundle');
  for (const key of ['Space', 'Enter']) {
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press(key)]);
    if (key === 'Enter') await chooser.setFiles(GOOD);
  }
  await answer();
  assert.equal(await page.evaluate(() => document.activeElement.classList.contains('headline')), true);
  await page.setViewportSize({ width: 320, height: 640 });
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page is wider than the screen');
  assert.deepEqual(await greens(), []);
});

test('from a server it asks for itself and nothing else, and could not', { skip }, async (t) => {
  const seen = [];
  const server = createServer((request, response) => {
    seen.push(request.url);
    response.writeHead(200, { 'content-type': 'text/html' }).end(readFileSync(PAGE));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const origin = `http://127.0.0.1:${server.address().port}`;
  await open(`${origin}/verify/`);
  assert.equal((await give('#bundle', GOOD)).state, 'self_asserted');
  assert.deepEqual(seen, ['/verify/']);
  const tries = await page.evaluate(async (url) => {
    const image = new Promise((resolve) => { const node = new Image(); node.onload = () => resolve('sent'); node.onerror = () => resolve('refused'); node.src = `${url}/image`; });
    return [await fetch(`${url}/fetch`).then(() => 'sent', () => 'refused'), await image, navigator.sendBeacon(`${url}/beacon`)];
  }, origin);
  assert.deepEqual(tries.slice(0, 2), ['refused', 'refused']);
  assert.deepEqual(seen, ['/verify/']);
});

test('gives every vector the answer that is published for it', { skip }, async (t) => {
  const names = existsSync(VECTORS) ? readdirSync(VECTORS).filter((name) => existsSync(join(VECTORS, name, 'bundle.pef.zip')) && !existsSync(join(VECTORS, name, 'ask.json'))) : [];
  if (names.length === 0) return t.skip(`no vectors in ${VECTORS}`);
  await open();
  for (const name of names) {
    const at = (...parts) => join(VECTORS, name, ...parts);
    const expected = JSON.parse(readFileSync(at(existsSync(at('expect-2.json')) ? 'expect-2.json' : 'expect.json')));
    requests = [];
    troubles = [];
    await page.goto(PAGE.href);
    const beside = at('bundle.pef.zip.d');
    const files = [at('bundle.pef.zip'), ...(existsSync(beside) ? readdirSync(beside).map((file) => join(beside, file)) : [])];
    if (existsSync(at('trust.json'))) files.push(at('trust.json'));
    const { json, state } = await drop(...files);
    assert.deepEqual([json.reason, json.seq, json.verdicts], [expected.reason ?? null, expected.seq ?? null, expected.verdicts], name);
    assert.equal(state === 'proven', expected.exit === 0 && expected.verdicts.authenticity === 'trusted', name);
    assert.deepEqual([requests.filter((url) => !url.startsWith('data:')), troubles], [[PAGE.href], []], name);
  }
  return undefined;
});
