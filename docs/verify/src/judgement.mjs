// From an answer to what may be said about it. Pure: what is green, amber or red is decided here and nowhere else.

import { REASONS } from '../../../spec/verifiers/javascript/words.mjs';

const TONES = { proven: 'proven', self_asserted: 'doubt', refused: 'broken', unusable: 'plain', agrees: 'plain', none: 'plain' };

export const tone = (state) => TONES[state];

/** The answer in one sentence. Its state is `proven` only when nothing that matters is left open. */
export function headline({ ok, exit, step, reason, verdicts, message }) {
  if (exit === 6) return { state: 'unusable', title: 'Not verified', why: REASONS[reason] };
  if (exit === 1) return { state: 'unusable', title: 'Not verified', why: message };
  if (!ok) return { state: 'refused', title: refusal(verdicts, step), why: REASONS[reason] };
  const { integrity, authenticity, completeness } = verdicts;
  if (integrity === 'ok' && completeness === 'complete' && authenticity === 'trusted') {
    return {
      state: 'proven', title: 'Verified',
      why: 'The record is whole, unchanged since it was sealed, and signed by keys in your trust document.',
    };
  }
  return {
    state: 'self_asserted', title: 'Consistent, but nobody has vouched for it',
    why: 'Everything in the bundle agrees, and its signatures fit its keys. But the keys came with the bundle: anyone can '
      + 'make one like it. To find out who signed, add a trust document that you got from somewhere else.',
  };
}

/** What is proven and what is not, for an answer with exit code 0 or 2. */
export function lists(result, { moment, number }) {
  const { state } = headline(result);
  if (state === 'refused') return { proven: found(result), unproven: refused(result) };
  const { facts: { manifest, anchor } } = result;
  const { tree, counters, sealed, iss } = manifest;
  const sealedOnce = `The ${number(tree.size)} entries are exactly those that were sealed: none was changed, removed, added or moved.`;
  const counted = `They record ${number(counters.calls)} ${counters.calls === 1 ? 'call' : 'calls'}, counted again from the entries: ${split(counters, number)}.`;
  const unproven = [
    `That the clock was right: ${moment(sealed)} is what the gateway’s clock said.`,
    'That all calls went through the gateway. What went past it is not in here.',
    'What was in bodies that are recorded only as keyed tags or sizes, and whether what callers claimed of themselves is true.',
    anchor === null
      ? 'That the run has a place in the instance’s log, or that no other version of it was sealed.'
      : 'That the instance shows everyone the same log. Compare its checkpoint with one that you got another way.',
  ];
  if (state === 'proven') {
    const signed = `They were signed by ${iss}, with keys that you said you trust.`;
    return {
      proven: { title: 'What is proven', items: [sealedOnce, signed, counted, ...placed(anchor, number)] },
      unproven: { title: 'What is not proven', items: unproven },
    };
  }
  return {
    proven: {
      title: 'What can be said',
      items: ['The bundle agrees with itself: entries, chain, tree, seal, manifest and files.', counted, 'Whoever holds the keys in it made it.'],
    },
    unproven: {
      title: 'What is not proven',
      items: [`Who made it, and when. It says ${iss}; so could anyone.`, 'That it was not made again as a whole, with other content and other keys.', ...unproven.slice(1, 3)],
    },
  };
}

function placed(anchor, number) {
  return anchor === null ? [] : [`The seal is entry ${number(anchor.index)} of the instance’s signed log of ${number(anchor.size)} entries.`];
}

function split(counters, number) {
  const parts = ['allow', 'repair', 'hold', 'block'].filter((name) => counters[name] > 0).map((name) => `${number(counters[name])} ${name}`);
  if (counters.incomplete > 0) parts.push(`${number(counters.incomplete)} incomplete`);
  if (counters.interrupted > 0) parts.push(`${number(counters.interrupted)} interrupted`);
  return parts.length === 0 ? 'none' : parts.join(', ');
}

function refusal({ authenticity, completeness, anchoring }, step) {
  if (completeness === 'open') return 'Refused: the record has no end';
  if (completeness === 'failed') return 'Refused: a part is missing or wrong';
  if (authenticity === 'failed') return step.startsWith('K') ? 'Refused: not signed by keys that you trust' : 'Refused: the signatures do not hold';
  if (anchoring === 'failed') return 'Refused: its place in the log does not hold';
  return 'Refused: the record does not hold together';
}

function found({ step, seq }) {
  const place = seq === null ? '' : `, at the entry with seq ${seq}`;
  return {
    title: 'What was found',
    items: [
      `Step ${step} of the specification failed${place}.`,
      'The steps run in a fixed order, and the first that fails decides. What comes after it was not looked at.',
    ],
  };
}

const ADVICE = {
  MISSING_EXTERNAL: ['Choose the missing file under “Large files”. Its name is its SHA-256, and it is kept beside the bundle.'],
  KEY_UNTRUSTED: ['If you expected this signer, get its current trust document from it, not from whoever gave you the bundle.'],
  KEY_REVOKED: ['Ask the signer from when on the key was not in its hands alone, and for an anchored copy.'],
};

function refused({ reason }) {
  return {
    title: 'What follows',
    items: [
      ...(ADVICE[reason] ?? []),
      'Do not rely on anything in this bundle as it stands, also not on the parts that look unchanged.',
      ...(ADVICE[reason] !== undefined ? [] : ['A damaged copy and a forged one look the same. Ask for the bundle again, or take it from another store.', 'Keep this file: it is evidence of the damage.']),
    ],
  };
}
