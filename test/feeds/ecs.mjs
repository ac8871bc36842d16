// Holds documents against the field list of @elastic/ecs: `ecs.mjs < documents.ndjson` prints each fault and the number of
// fields that were looked at. What is not of ECS may only stand under `estoppel`.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(new URL('../', import.meta.url));
const { EcsFlat } = require('@elastic/ecs');
const OWN = 'estoppel';

const isTime = (value) => typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(value) && !Number.isNaN(Date.parse(value));
const isWhole = (value) => Number.isSafeInteger(value);
const TYPES = {
  boolean: (value) => typeof value === 'boolean',
  constant_keyword: (value) => typeof value === 'string',
  date: isTime,
  double: Number.isFinite,
  float: Number.isFinite,
  integer: isWhole,
  keyword: (value) => typeof value === 'string' && value.length <= 1024,
  long: isWhole,
  match_only_text: (value) => typeof value === 'string',
  wildcard: (value) => typeof value === 'string',
};

function* fields(value, path = '') {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    for (const [name, member] of Object.entries(value)) yield* fields(member, path === '' ? name : `${path}.${name}`);
  } else yield [path, value];
}

function* faults(document) {
  for (const [path, value] of fields(document)) {
    if (path.startsWith(`${OWN}.`)) continue;
    const field = EcsFlat[path];
    if (field === undefined) { yield `${path}: no field of ECS`; continue; }
    const list = field.normalize?.includes('array') ?? false;
    if (list !== Array.isArray(value)) yield `${path}: ${list ? 'must' : 'must not'} be a list`;
    const check = TYPES[field.type];
    if (check === undefined) yield `${path}: type ${field.type} is not known to this checker`;
    for (const one of [value].flat()) {
      if (check !== undefined && !check(one)) yield `${path}: ${JSON.stringify(one)} is no ${field.type}`;
      const allowed = field.allowed_values?.map(({ name }) => name);
      if (allowed?.length > 0 && !allowed.includes(one)) yield `${path}: ${one} is not one of ${allowed}`;
    }
  }
  for (const path of ['@timestamp', 'ecs', 'event', 'message']) if (!(path in document)) yield `${path}: missing`;
  // The types that go with a category are a list of their own.
  const categories = EcsFlat['event.category'].allowed_values;
  const expected = new Set((document.event?.category ?? []).flatMap((name) => categories.find((row) => row.name === name)?.expected_event_types ?? []));
  for (const type of document.event?.type ?? []) if (!expected.has(type)) yield `event.type: ${type} does not go with ${document.event.category}`;
}

const lines = readFileSync(0, 'utf8').split('\n').filter((line) => line !== '');
let looked = 0;
let found = 0;
for (const [at, line] of lines.entries()) {
  const document = JSON.parse(line);
  looked += [...fields(document)].length;
  for (const fault of faults(document)) {
    found += 1;
    console.log(`${at + 1}: ${fault}`);
  }
}
console.log(`${lines.length} documents, ${looked} fields, ${found} faults`);
process.exit(found === 0 && lines.length > 0 ? 0 : 1);
