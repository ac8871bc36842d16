// The verify page: takes files, runs the verifier, says in plain words what came of it.
//
// Text from evidence only ever becomes the text of a node, never markup. The page's policy allows no request.

import { verifyBundle } from '../../../spec/verifiers/javascript/pef-verify.mjs';
import { Sha256 } from '../../../spec/verifiers/javascript/sha2.mjs';
import { VERDICTS } from '../../../spec/verifiers/javascript/words.mjs';
import { headline, lists, tone } from './judgement.mjs';

/** Above this a browser may fail to hold the file; the command line does not. */
const BUNDLE_BYTES_MAX = 1024 * 1024 * 1024;
const ROWS_AT_ONCE = 200;
const ROWS_MAX = 100000;
const BREATH_MS = 40;
/** Entries that are shown beside the calls, because they say what is missing or who signs. */
const EVENTS = new Set(['interrupted', 'gap', 'key.rotate', 'journal.recover', 'policy.load', 'hold', 'approval', 'bypass', 'act', 'snapshot']);

const chosen = { bundle: null, trust: null, externals: new Map() };
/** Number of the newest verification; older ones stop when they see that they are not it. */
let newest = 0;

const $ = (id) => document.getElementById(id);

// ---- files in ----

$('bundle').addEventListener('change', (event) => take([...event.target.files], 'bundle'));
$('trust').addEventListener('change', (event) => take([...event.target.files], 'trust'));
$('externals').addEventListener('change', (event) => take([...event.target.files], 'externals'));
for (const input of document.querySelectorAll('.file')) {
  // Chromium opens a chooser on Space only.
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    input.click();
  });
}
$('form').addEventListener('submit', (event) => event.preventDefault());

let dragDepth = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
addEventListener('dragenter', (event) => {
  if (!carriesFiles(event)) return;
  dragDepth += 1;
  $('veil').hidden = false;
});
addEventListener('dragleave', () => {
  dragDepth = Math.max(0, dragDepth - 1);
  $('veil').hidden = dragDepth === 0;
});
addEventListener('dragover', (event) => { if (carriesFiles(event)) event.preventDefault(); });
addEventListener('drop', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  dragDepth = 0;
  $('veil').hidden = true;
  take([...event.dataTransfer.files], null);
});

/** Sorts files by what they are where the reader did not say, then verifies. */
function take(files, kind) {
  for (const file of files) {
    switch (kind ?? kindOf(file)) {
      case 'bundle':
        chosen.bundle = file;
        break;
      case 'trust':
        chosen.trust = file;
        break;
      default:
        chosen.externals.set(file.name, file);
    }
  }
  for (const input of ['bundle', 'trust', 'externals']) $(input).value = ''; // the same file may be chosen again
  showChosen();
  verify();
}

function kindOf({ name }) {
  if (/\.zip$/i.test(name)) return 'bundle';
  return /\.json$/i.test(name) ? 'trust' : 'externals';
}

function showChosen() {
  const row = (file, forget) => {
    const button = element('button', { type: 'button', 'aria-label': `Remove ${visible(file.name)}` }, 'Remove');
    button.addEventListener('click', () => { forget(); showChosen(); verify(); });
    return element('li', {}, element('span', {}, visible(file.name)), button);
  };
  $('trust-list').replaceChildren(...(chosen.trust === null ? [] : [row(chosen.trust, () => { chosen.trust = null; })]));
  $('externals-list').replaceChildren(...[...chosen.externals.values()].map((file) => row(file, () => chosen.externals.delete(file.name))));
}

// ---- verification ----

class Superseded extends Error {}

async function verify() {
  if (chosen.bundle === null) return;
  newest += 1;
  const mine = newest;
  const { bundle } = chosen;
  const rows = [];
  const failed = (message) => { if (mine === newest) show(failure(message), rows, bundle); };
  $('result').hidden = true;
  progress(`Reading ${visible(bundle.name)} …`);
  let breath = performance.now();
  const watch = async (entry, seq) => {
    if (rows.length < ROWS_MAX && (entry.kind === 'call' || EVENTS.has(entry.kind))) rows.push(rowOf(entry, seq));
    if (performance.now() - breath < BREATH_MS) return;
    progress(`Checking entry ${number(seq + 1)} …`);
    await new Promise((resolve) => setTimeout(resolve));
    breath = performance.now();
    if (mine !== newest) throw new Superseded();
  };
  try {
    if (bundle.size > BUNDLE_BYTES_MAX) return failed('This file is too large for a page. Use the command line verifier.');
    const zip = new Uint8Array(await bundle.arrayBuffer());
    const trust = chosen.trust === null ? null : new Uint8Array(await chosen.trust.arrayBuffer());
    const result = await verifyBundle({ zip }, { trust, externals, watch });
    if (mine === newest) show(result, rows, bundle);
  } catch (error) {
    if (error instanceof Superseded) return undefined;
    failed(error?.name === 'NotReadableError' || error?.name === 'NotFoundError'
      ? 'The file cannot be read. It may have been moved or changed since you chose it.'
      : `The verifier itself failed, which says nothing about the evidence: ${error?.message}`);
  }
  return undefined;
}

const failure = (message) => ({
  ok: false, exit: 1, reason: 'INTERNAL', step: null, seq: null, index: null, run: null, entries: null, kind: 'bundle', message, facts: {},
  verdicts: Object.fromEntries(Object.keys(VERDICTS).map((name) => [name, 'unchecked'])),
});

async function externals(digest) {
  const file = chosen.externals.get(digest);
  return file === undefined ? null : { bytes: file.size, hash: () => hashOf(file) };
}

async function hashOf(file) {
  const hash = new Sha256();
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return hash.digest();
    hash.update(value);
  }
}

function rowOf(entry, seq) {
  const { kind, ts } = entry;
  if (kind !== 'call') return { seq, ts, kind, note: eventNote(entry) };
  return {
    seq, ts, kind, operation: entry.operation, model: entry.facts?.model_served ?? entry.facts?.model ?? '',
    action: entry.verdict.action, shadow: entry.verdict.mode === 'shadow', reason: entry.verdict.reason,
    code: entry.outcome.code, complete: entry.outcome.complete, status: entry.response.client.status,
  };
}

function eventNote(entry) {
  switch (entry.kind) {
    case 'gap':
      return `gap: nothing could be recorded${entry.from ? ` from ${moment(entry.from)}` : ''}${entry.to ? ` to ${moment(entry.to)}` : ''} (${entry.reason})`;
    case 'interrupted':
      return `interrupted: a call has no result (${entry.reason})`;
    case 'key.rotate':
      return `key.rotate: another ${entry.use} key signs from here on`;
    case 'journal.recover':
      return `journal.recover: ${number(entry.dropped_bytes)} bytes of a torn end were cut off`;
    case 'hold':
      return `hold: a call waits until ${moment(entry.expires)} for ${number(entry.needs)} of ${number(entry.approvers.length)} approvers`;
    case 'approval':
      return `approval: ${entry.by ?? entry.approver.slice(0, 8)} decided ${entry.decision}`;
    case 'bypass':
      return `bypass: traffic without a receipt was found (${entry.source}, ${entry.reason})`;
    case 'act':
      return `act: ${entry.by} did ${entry.act}${entry.on ? ` on ${entry.on}` : ''}`;
    case 'snapshot':
      return `snapshot: what ${entry.source} looked like after a call came after its receipt`;
    default:
      return `policy.load: ${entry.state}${entry.version ? `, version ${entry.version}` : ''}`;
  }
}

// ---- answer out ----

function show(result, rows, file) {
  $('progress').hidden = true;
  $('form').classList.add('compact');
  const head = headlineBox(result, file);
  const parts = [head, verdictCards(result)];
  if (result.exit === 0 || result.exit === 2) parts.push(provenLists(result));
  if (result.facts.manifest) parts.push(factsPanel(result));
  const failsAtLine = /^L/.test(result.step ?? '');
  const read = failsAtLine ? rows.filter(({ seq }) => seq <= result.seq) : rows;
  if (read.length > 0) parts.push(callsPanel(result, read, failsAtLine ? ' Only the entries up to the failing one were read.' : ''));
  parts.push(jsonPanel(result));
  $('result').replaceChildren(...parts);
  $('result').hidden = false;
  head.focus({ preventScroll: true });
  head.scrollIntoView({ block: 'nearest' });
}

function headlineBox(result, file) {
  const { state, title, why } = headline(result);
  const words = element('div', {},
    element('h2', { id: 'headline' }, title),
    element('p', { class: 'file-name' }, visible(file.name), ` · ${size(file.size)}`),
    element('p', { class: 'why' }, why));
  if (!result.ok && result.step !== null) {
    const where = result.seq === null ? [] : [' at ', element('b', { id: 'failing-seq' }, `seq ${result.seq}`)];
    words.append(element('p', { class: 'at' }, 'Step ', element('b', { id: 'failing-step' }, result.step), ...where, ' · ', element('code', { id: 'reason' }, result.reason)));
  }
  if (state === 'self_asserted') {
    words.append(element('p', { class: 'act' }, element('label', { class: 'button small', for: 'trust' }, 'Add a trust document')));
  }
  return element('section', { class: `headline ${tone(state)}`, tabindex: '-1', 'aria-labelledby': 'headline', 'data-state': state }, sign(state), words);
}

function verdictCards(result) {
  const names = { integrity: 'Integrity', authenticity: 'Authenticity', completeness: 'Completeness', anchoring: 'Anchoring' };
  return element('dl', { class: 'verdicts', 'aria-label': 'Verdicts' }, ...Object.entries(result.verdicts).map(([name, value]) => {
    const state = cardState(result, value);
    return element('div', { class: `verdict ${tone(state)}`, id: `verdict-${name}`, 'data-value': value, 'data-state': state },
      element('dt', {}, names[name]),
      element('dd', { class: 'value' }, sign(state), value.replace('_', '-')),
      element('dd', {}, firstSentence(VERDICTS[name][value])));
  }));
}

/** A single good verdict is not green: unless the keys are trusted, somebody else may have made all of it. */
function cardState(result, value) {
  if (value === 'failed') return 'refused';
  if (value === 'self_asserted' || value === 'open') return 'self_asserted';
  if (value === 'unchecked' || value === 'absent') return 'none';
  return headline(result).state === 'proven' ? 'proven' : 'agrees';
}

function provenLists(result) {
  const { proven, unproven } = lists(result, { moment, number });
  const list = (id, title, items) => element('section', { class: 'panel', id }, element('h2', {}, title), element('ul', {}, ...items.map((item) => element('li', {}, visible(item)))));
  return element('div', { class: 'columns' },
    list('proven', proven.title, proven.items), list('unproven', unproven.title, unproven.items));
}

function caveat(result) {
  const { state } = headline(result);
  if (state === 'proven') return [];
  const text = state === 'self_asserted' ? 'This is what the bundle says of itself.' : 'This is what the file says. Nothing of it is proven.';
  return [element('p', { class: `caveat ${tone(state)}` }, text)];
}

function factsPanel(result) {
  const { manifest, signers, anchor } = result.facts;
  const mono = (text) => element('span', { class: 'mono' }, visible(text));
  const facts = [
    ['Run', manifest.name === undefined ? mono(manifest.run) : element('span', {}, element('bdi', {}, visible(manifest.name)), ' · ', mono(manifest.run))],
    ['Instance', mono(manifest.iss)],
    ['Opened', moment(manifest.opened)],
    ['Sealed', `${moment(manifest.sealed)} (${manifest.seal_reason})${lasting(manifest)}`],
    ['Calls', counts(manifest.counters)],
    ['Entries', `${number(manifest.tree.size)}, ${manifest.sign === 'each' ? 'each signed by itself' : 'signed together by the checkpoint'}`],
    ['Gateway', `${manifest.build.name} ${manifest.build.version} · durability ${manifest.durability} · class ${manifest.class}`],
  ];
  if (manifest.metrics?.total_p50_us !== undefined) facts.push(['Call times', percentiles(manifest.metrics)]);
  for (const [name, values] of Object.entries(manifest.claims)) facts.push([`Claimed ${name}`, values.join(', ')]);
  facts.push(['Policies', number(manifest.policies.length)]);
  if (manifest.externals.length > 0) facts.push(['Large files', externalList(manifest.externals)]);
  if (anchor) facts.push(['Place in the log', `entry ${number(anchor.index)} of ${number(anchor.size)}`]);
  facts.push(['Tree root', mono(manifest.tree.root)]);
  facts.push(['Keys', keyList(signers.length > 0 ? signers : manifest.keys)]);
  return element('section', { class: 'panel', id: 'facts' }, element('h2', {}, 'The run'), ...caveat(result),
    element('dl', { class: 'facts' }, ...facts.flatMap(([name, value]) => [
      element('dt', {}, visible(name)), element('dd', {}, typeof value === 'string' ? visible(value) : value)])));
}

function counts(counters) {
  const shown = ['calls', 'allow', 'repair', 'hold', 'block', 'interrupted', 'incomplete'];
  return element('ul', { class: 'counts' }, ...shown.map((name) =>
    element('li', counters[name] === 0 ? { class: 'none' } : {}, element('b', {}, number(counters[name])), ` ${name}`)));
}

function externalList(rows) {
  return element('ul', { class: 'keys' }, ...rows.map((row) => {
    const name = row.sha256.slice('sha256:'.length);
    const state = chosen.externals.has(name) ? 'chosen' : 'not chosen';
    return element('li', {}, `${size(row.bytes)} · ${state}`, element('br', {}), element('span', { class: 'mono' }, name));
  }));
}

function keyList(keys) {
  const sources = {
    trust: 'in your trust document', rotation: 'brought in by a signed change of keys', bundle: 'only the bundle’s own word',
  };
  return element('ul', { class: 'keys' }, ...keys.map(({ kid, alg, use, source }) => element('li', {},
    `${use} key, ${alg}`, source === undefined ? '' : element('span', { class: 'source' }, ` · ${sources[source]}`),
    element('br', {}), element('span', { class: 'mono' }, kid))));
}

function callsPanel(result, rows, limit) {
  const calls = rows.filter(({ kind }) => kind === 'call').length;
  const body = element('tbody', { role: 'rowgroup' });
  const head = ['seq', 'Time', 'Operation', 'Model', 'Verdict', 'Outcome'];
  const days = new Set(rows.map(({ ts }) => ts.slice(0, 10)));
  const day = days.size === 1 ? ` of ${[...days][0]}` : '';
  const cut = rows.length >= ROWS_MAX ? ` Only the first ${number(ROWS_MAX)} rows are shown.` : '';
  // The roles are those that the elements have anyway; a narrow screen's layout would take them away.
  const table = element('table', { role: 'table' },
    element('caption', {}, `${number(calls)} ${calls === 1 ? 'call' : 'calls'} in order of seq. Times are UTC${day}.${limit}${cut}`),
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...head.map((name) => element('th', { scope: 'col', role: 'columnheader' }, name)))), body);
  const more = element('button', { class: 'button small', type: 'button' });
  let shown = 0;
  const grow = () => {
    body.append(...rows.slice(shown, shown + ROWS_AT_ONCE).map((row) => tableRow(row, result.seq, day !== '')));
    shown = Math.min(shown + ROWS_AT_ONCE, rows.length);
    more.textContent = `Show more (${number(rows.length - shown)} left)`;
    more.hidden = shown === rows.length;
  };
  more.addEventListener('click', grow);
  grow();
  return element('section', { class: 'panel', id: 'calls' }, element('h2', {}, 'The calls'), ...caveat(result),
    element('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table of calls' }, table),
    element('p', { class: 'more' }, more));
}

function tableRow(row, failingSeq, oneDay) {
  const look = row.seq === failingSeq ? 'failing' : row.kind === 'call' ? 'call' : 'event';
  const start = [cell('seq', String(row.seq)), cell('time', clock(row.ts).slice(oneDay ? 11 : 0))];
  const line = (...cells) => element('tr', { role: 'row', class: look }, ...start, ...cells);
  if (row.kind !== 'call') {
    const note = cell('note', row.note);
    note.setAttribute('colspan', '4');
    return line(note);
  }
  const verdict = [element('span', { class: row.action === 'allow' ? 'chip' : 'chip strong' }, row.action)];
  if (row.shadow) verdict.push(' ', element('span', { class: 'chip' }, 'shadow'));
  if (row.reason !== undefined) verdict.push(' ', visible(row.reason));
  const outcome = [row.code, row.status === undefined ? '' : `, ${row.status}`, row.complete ? '' : ', incomplete'].join('');
  return line(cell('operation', row.operation), cell('model', row.model),
    element('td', { role: 'cell' }, ...verdict), cell('outcome', outcome));
}

const cell = (name, text) => element('td', { class: name, role: 'cell' }, ...(text === '' ? [] : [element('bdi', {}, visible(text))]));

function jsonPanel({ ok, reason, seq, index, verdicts, run, entries, kind }) {
  const line = JSON.stringify({ ok, reason, seq, index, verdicts, run, entries, kind });
  return element('details', {}, element('summary', {}, 'The answer as the command line gives it'), element('pre', { id: 'json' }, line));
}

// ---- small things ----

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children); // strings become text nodes
  return node;
}

const SIGNS = {
  proven: 'M12 3l7.5 3v5.5c0 4.6-3.1 8-7.5 9.5-4.4-1.5-7.5-4.9-7.5-9.5V6zM8.5 12l2.5 2.5 4.5-5',
  agrees: 'M6 12.5l4 4 8-9',
  self_asserted: 'M12 4l9 16H3zM12 10v4.5m0 2.7v.1',
  refused: 'M12 3a9 9 0 100 18 9 9 0 000-18zM9 9l6 6m0-6l-6 6',
  none: 'M7 12h10',
};

function sign(state) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  for (const [key, value] of Object.entries({ class: 'sign', viewBox: '0 0 24 24', 'aria-hidden': 'true' })) svg.setAttribute(key, value);
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', SIGNS[state] ?? SIGNS.none);
  svg.append(path);
  return svg;
}

/** Shows characters that would hide, move or reverse text as their code points. */
function visible(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu, (unit) => `\\u{${unit.codePointAt(0).toString(16)}}`);
}

const firstSentence = (text) => text.replace(/(?<=\.) [\s\S]*/, '');

function progress(text) {
  $('progress').textContent = text;
  $('progress').hidden = false;
}

const number = (n) => n.toLocaleString('en-US');
const moment = (ts) => `${ts.slice(0, 10)} ${ts.slice(11, 19)} UTC`;
const clock = (ts) => `${ts.slice(0, 10)} ${ts.slice(11, 23)}`;
const percentiles = (metrics) => ['p50', 'p95', 'p99'].map((p) => `${p} ${milliseconds(metrics[`total_${p}_us`])}`).join(' · ');
const milliseconds = (us) => `${number(Math.round(us / 10) / 100)} ms`;

function lasting({ opened, sealed }) {
  const seconds = Math.round((Date.parse(sealed) - Date.parse(opened)) / 1000);
  if (!(seconds >= 0)) return '';
  if (seconds < 120) return `, ${seconds} s later`;
  return seconds < 7200 ? `, ${Math.round(seconds / 60)} min later` : `, ${number(Math.round(seconds / 3600))} h later`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
