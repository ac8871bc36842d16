// Puts the verify page together: index.html, one file that works from a disk and from any server.
// With --check, tells whether index.html is still what this would write.
//
// ES modules do not load from file:// in Chromium, so each module becomes a function that gives its exports.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

const target = new URL('index.html', import.meta.url);
const read = (url) => readFileSync(url, 'utf8');
const source = (name) => new URL(`src/${name}`, import.meta.url);

/** The modules that `entry` needs, each after those it imports. */
function modulesOf(entry, found = new Map()) {
  if (found.has(entry.href)) return found;
  found.set(entry.href, null); // a cycle would be seen as a name that is not there yet
  const text = withoutProgram(read(entry));
  for (const [, path] of text.matchAll(/^import [^;]* from '(\.[^']+)';$/gm)) modulesOf(new URL(path, entry), found);
  found.delete(entry.href);
  found.set(entry.href, asFunction(text, entry));
  return found;
}

/** Drops what only Node runs: the first line of a program, and its last part. */
const withoutProgram = (text) => text.replace(/^#!.*\n/, '').replace(/\n\/\/ Run as a program[\s\S]*$/, '\n');

const nameOf = (url) => `$${url.pathname.split('/').pop().replace('.mjs', '').replaceAll('-', '_')}`;

function asFunction(text, url) {
  const exported = [];
  const body = text
    .replace(/^import \{([^}]*)\} from '([^']+)';$/gm, (_, names, path) => (
      `const {${names.replace(/ as /g, ': ')}} = ${nameOf(new URL(path, url))};`))
    .replace(/^export ((?:async )?(?:function|class|const) (\w+))/gm, (_, declaration, name) => {
      exported.push(name);
      return declaration;
    });
  const left = /^(?:import|export)\b.*$|\bimport\s*\(/m.exec(body);
  if (left !== null) throw new Error(`${url.pathname}: cannot inline \`${left[0]}\``);
  return `// ---- ${url.pathname.split('/').pop()} ----\nconst ${nameOf(url)} = (() => {\n${body}\nreturn { ${exported.join(', ')} };\n})();\n`;
}

function page() {
  const script = `\n${[...modulesOf(source('page.mjs')).values()].join('\n')}`;
  const style = read(source('page.css'));
  if (/<\/(?:script|style)|<!--/i.test(script + style)) throw new Error('the sources would end their own element');
  const digest = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  // Only this script and this style, and no request of any kind; the icon is in the page (else some server is asked).
  const csp = `default-src 'none'; script-src ${digest(script)}; style-src ${digest(style)}; img-src data:; base-uri 'none'; form-action 'none'`;
  const parts = { csp, style, script };
  return read(source('page.html')).replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
}

const html = page();
if (process.argv.includes('--check')) {
  if (read(target) !== html) {
    console.error('index.html is stale: run node docs/verify/build.mjs');
    process.exit(1);
  }
} else {
  writeFileSync(target, html);
}
