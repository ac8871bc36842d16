// Writes schemas.mjs from spec/pef/schemas; with --check, tells whether it is still what it would write.
import { readFileSync, writeFileSync } from 'node:fs';

const NAMES = ['receipt', 'journal_event', 'manifest', 'signature', 'trust', 'disclosure', 'beginning'];
const target = new URL('schemas.mjs', import.meta.url);

const text = [
  '// Made from spec/pef/schemas by embed-schemas.mjs. Do not edit.\n',
  ...NAMES.map((name) => {
    const source = readFileSync(new URL(`../../pef/schemas/${name}.schema.json`, import.meta.url), 'utf8');
    return `\nexport const ${name} = ${JSON.stringify(JSON.parse(source))};\n`;
  }),
].join('');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error('schemas.mjs is stale: run node spec/verifiers/javascript/embed-schemas.mjs');
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
