// The subset of JSON Schema 2020-12 that PEF uses (SPEC section 1), compiled to functions.
//
// A keyword that is not in the subset is an error of the schema, never silently ignored.

import { canonicalize } from './json.mjs';

const IGNORED = new Set(['$schema', '$id', '$defs', 'title', 'description']);

const TYPES = {
  object: (value) => typeof value === 'object' && !Array.isArray(value),
  array: (value) => Array.isArray(value),
  string: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  integer: (value) => Number.isInteger(value),
};

/** Each keyword takes its operand and gives a check; what it does not apply to passes, as the standard has it. */
const KEYWORDS = {
  type: (name) => TYPES[name] ?? unsupported(`type ${name}`),
  const: (wanted) => (value) => value === scalar(wanted),
  enum: (wanted) => {
    const allowed = new Set(wanted.map(scalar));
    return (value) => allowed.has(value);
  },
  minimum: (limit) => (value) => typeof value !== 'number' || value >= limit,
  maximum: (limit) => (value) => typeof value !== 'number' || value <= limit,
  pattern: (source) => {
    const pattern = new RegExp(source, 'u');
    return (value) => typeof value !== 'string' || pattern.test(value);
  },
  minLength: (limit) => (value) => typeof value !== 'string' || codePoints(value) >= limit,
  maxLength: (limit) => (value) => typeof value !== 'string' || value.length <= limit || codePoints(value) <= limit,
  minItems: (limit) => (value) => !Array.isArray(value) || value.length >= limit,
  maxItems: (limit) => (value) => !Array.isArray(value) || value.length <= limit,
  uniqueItems: (wanted) => (value) => !wanted || !Array.isArray(value) || new Set(value.map(canonicalize)).size === value.length,
  items: (schema, root) => {
    const check = compile(schema, root);
    return (value) => !Array.isArray(value) || value.every(check);
  },
  required: (names) => (value) => !TYPES.object(value) || names.every((name) => Object.hasOwn(value, name)),
  properties: (schemas, root) => {
    const checks = new Map(Object.entries(schemas).map(([name, schema]) => [name, compile(schema, root)]));
    return (value) =>
      !TYPES.object(value) || Object.keys(value).every((name) => checks.get(name)?.(value[name]) ?? true);
  },
  $ref: (pointer, root) => {
    const name = /^#\/\$defs\/(.+)$/.exec(pointer)?.[1];
    const target = root.$defs?.[name] ?? unsupported(`$ref ${pointer}`);
    return compile(target, root);
  },
};

/** A check of `schema`, whose references are looked up in `root`. */
export function compile(schema, root = schema) {
  const checks = [];
  for (const [keyword, operand] of Object.entries(schema)) {
    if (IGNORED.has(keyword)) continue;
    if (keyword === 'additionalProperties') {
      if (operand !== false) unsupported('additionalProperties other than false');
      const known = new Set(Object.keys(schema.properties ?? {}));
      checks.push((value) => !TYPES.object(value) || Object.keys(value).every((name) => known.has(name)));
    } else {
      checks.push((KEYWORDS[keyword] ?? unsupported(keyword))(operand, root));
    }
  }
  return (value) => checks.every((check) => check(value));
}

/** The checks of a schema that is only `oneOf` references, by the name they refer to. */
export function compileKinds(schema) {
  const names = schema.oneOf.map(({ $ref }) => $ref.slice('#/$defs/'.length));
  return new Map(names.map((name) => [name, compile(schema.$defs[name], schema)]));
}

function scalar(value) {
  return typeof value === 'object' ? unsupported('a const or enum that is not a scalar') : value;
}

function unsupported(what) {
  throw new TypeError(`the schema uses ${what}, which is outside of the PEF subset`);
}

function codePoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
