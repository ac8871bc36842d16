// A refusal: the first step that failed, and what it says about the four verdicts (SPEC section 11).

/** Thrown by a step that fails. `exit` is 2, or 6 where an argument and not the evidence is at fault. */
export class Refusal extends Error {
  constructor(step, reason, { seq = null, index = null, exit = 2 } = {}) {
    super(`${step} ${reason}`);
    Object.assign(this, { step, reason, seq, index, exit });
  }
}

const INTEGRITY = /^(C\d|G[145]|F\d|M[1-5]|L[1-7]|L9|L12|L15|S[2-4]|T[12]|N1|B1|Z1|J[123579])$/;
const AUTHENTICITY = /^(G[23]|M[67]|L8|L10|L11|L13|L14|T3|K\d)$/;

/** The four verdicts of an answer: `decided` ones, and the one that `refusal` (or null) settles. */
export function verdictsOf(decided, refusal) {
  const verdicts = {
    integrity: 'unchecked', authenticity: 'unchecked', completeness: 'unchecked', anchoring: 'unchecked', ...decided,
  };
  if (refusal === null || refusal.exit === 6) return verdicts;
  if (INTEGRITY.test(refusal.step)) verdicts.integrity = 'failed';
  else if (AUTHENTICITY.test(refusal.step)) verdicts.authenticity = 'failed';
  else if (refusal.step === 'S1') verdicts.completeness = 'open';
  else if (/^(X\d|J8|G6)$/.test(refusal.step)) verdicts.completeness = 'failed';
  else if (/^A\d$/.test(refusal.step)) verdicts.anchoring = 'failed';
  return verdicts;
}
