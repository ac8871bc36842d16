// Holds of a run and the decisions on them: steps L13 and L14 (SPEC section 11).

import { hex, unbase64, utf8 } from './bytes.mjs';
import { canonicalize } from './json.mjs';
import { APPROVAL_TYPE, PublicKey, pae } from './keys.mjs';
import { Refusal } from './refusal.mjs';

const SIGNED = ['by', 'comment', 'decision', 'expires', 'hold', 'iss', 'nonce', 'payload', 'policy', 'run'];

/** What the entries so far have said of holds. */
export class Holds {
  #holds = new Map();

  /** Steps L13 and L14 for one entry, whose hash is `leaf`. */
  async take(entry, leaf, where) {
    if (entry.kind === 'hold') this.#open(entry, leaf, where);
    else if (entry.kind === 'approval') await this.#decide(entry, where);
    else if (entry.kind === 'call' && entry.approval !== undefined) this.#use(entry, where);
  }

  #open(entry, leaf, where) {
    const { approvers, needs } = entry;
    check(new Set(approvers).size === approvers.length && needs <= approvers.length && !this.#holds.has(entry.hold), 'L14', where);
    const state = { approved: new Set(), decided: new Set(), nonces: new Set(), denied: false, used: false };
    this.#holds.set(entry.hold, { ...state, entry, leaf: `leaf:${hex(leaf)}` });
  }

  async #decide(entry, where) {
    const refuseUnless = (holds) => check(holds, 'L13', where);
    const hold = this.#holds.get(entry.hold);
    refuseUnless(hold !== undefined);
    const { approver, payload, policy } = entry;
    refuseUnless(payload === hold.entry.payload && policy === hold.entry.policy);
    refuseUnless(hold.entry.approvers.includes(approver) && !hold.decided.has(approver) && !hold.nonces.has(entry.nonce));
    refuseUnless(entry.ts <= entry.expires && entry.expires <= hold.entry.expires);
    const key = PublicKey.fromBase64(entry.spki);
    refuseUnless(key !== null && key.kid === approver && key.alg === entry.alg);
    const statement = Object.fromEntries(SIGNED.filter((name) => entry[name] !== undefined).map((name) => [name, entry[name]]));
    const signature = unbase64(entry.signature);
    refuseUnless(signature !== null && (await key.verify(pae(APPROVAL_TYPE, utf8(canonicalize(statement))), signature)));
    hold.decided.add(approver);
    hold.nonces.add(entry.nonce);
    if (entry.decision === 'approve') hold.approved.add(approver);
    else hold.denied = true;
  }

  #use(entry, where) {
    const { approved = [], call_tag: callTag, hold: id, leaf } = entry.approval;
    const hold = this.#holds.get(id);
    check(hold !== undefined && !hold.used, 'L14', where);
    hold.used = true;
    const ofCall = 'of' in hold.entry;
    const fits = (ofCall ? callTag : entry.request.tag) === hold.entry.payload
      && (ofCall || callTag === undefined)
      && entry.policy.hash === hold.entry.policy
      && (leaf === undefined || leaf === hold.leaf)
      && new Set(approved).size === approved.length
      && approved.length >= hold.entry.needs
      && approved.every((approver) => hold.approved.has(approver))
      && !hold.denied;
    check(fits, 'L14', where);
  }
}

function check(holds, step, where) {
  if (!holds) throw new Refusal(step, 'APPROVAL_INVALID', where);
}
