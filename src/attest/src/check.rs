//! Checks: named functions over evidence that was verified. Only they make a control pass or fail.

use estoppel_evidence::time::UnixMicros;

use crate::evidence::Evidence;
use crate::kind::Kind;

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Holds,
    /// There is nothing of the kind that it looks at.
    Lacks(&'static str),
    /// There is something of a kind that there may not be.
    Against(&'static str),
    /// It cannot be said by this evidence, and why.
    Undecided(String),
}

/// A check.
pub struct Check {
    pub name: &'static str,
    /// What holds where it passes.
    pub about: &'static str,
    judge: fn(&Evidence, UnixMicros) -> Finding,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Check {
    pub fn of_name(name: &str) -> Option<&'static Self> {
        CHECKS.iter().find(|check| check.name == name)
    }

    /// What it comes to at that time.
    pub fn judge(&self, evidence: &Evidence, made: UnixMicros) -> Finding {
        (self.judge)(evidence, made)
    }
}

fn count(evidence: &Evidence, kind: &str, made: UnixMicros) -> u64 {
    Kind::of_name(kind).map(|kind| evidence.pointers(kind, made).count).unwrap_or_default()
}

/// There is something of `needs`, and nothing of `never`.
fn all(evidence: &Evidence, made: UnixMicros, needs: &'static str, never: &'static str) -> Finding {
    if count(evidence, needs, made) == 0 {
        return Finding::Lacks(needs);
    }
    if count(evidence, never, made) == 0 { Finding::Holds } else { Finding::Against(never) }
}

/// The oldest evidence is that old, and no seal since is known to be left out.
fn reaches_back(evidence: &Evidence, made: UnixMicros, days: u64) -> Finding {
    const DAY_US: u64 = 86_400_000_000;
    match all(evidence, made, "bundles", "unlinked_bundles") {
        Finding::Holds => {}
        other => return other,
    }
    let oldest = evidence.runs().iter().filter_map(|run| UnixMicros::parse(run.opened())).min();
    let age = made.0.saturating_sub(oldest.unwrap_or(made).0) / DAY_US;
    match age >= days {
        true => Finding::Holds,
        false => Finding::Undecided(format!("the oldest evidence is {age} days old, asked are {days}")),
    }
}

/// The evidence reaches so far back, or nobody can remove a copy of any bundle until it does.
fn kept(evidence: &Evidence, made: UnixMicros, days: u64) -> Finding {
    let told = match reaches_back(evidence, made, days) {
        Finding::Undecided(told) => told,
        other => return other,
    };
    match evidence.runs().iter().find(|run| !evidence.cited.is_kept_for(run, days)) {
        None => Finding::Holds,
        Some(run) => Finding::Undecided(format!("{told}, and no copy of run {} is kept so long", run.run)),
    }
}

/// Every check, by name.
pub const CHECKS: &[Check] = &[
    Check {
        name: "blocks_are_explained",
        about: "every refused call names a reason; where none was refused, nothing is said",
        judge: |evidence, made| match all(evidence, made, "blocked_calls", "unexplained_blocks") {
            Finding::Lacks(_) => Finding::Undecided("no call was refused".into()),
            other => other,
        },
    },
    Check {
        name: "bodies_are_withheld",
        about: "of no call the body is kept as it was",
        judge: |evidence, made| all(evidence, made, "calls", "stored_bodies"),
    },
    Check {
        name: "callers_are_known",
        about: "of every call that passed the caller is proven",
        judge: |evidence, made| all(evidence, made, "calls", "anonymous_calls"),
    },
    Check {
        name: "calls_have_receipts",
        about: "the runs are sealed, and their journal knows of no call and no time without a receipt",
        judge: |evidence, made| all(evidence, made, "calls", "missing_receipts"),
    },
    Check {
        name: "copies_are_locked",
        about: "of every bundle a copy is under object lock at that time, and a trusted custodian signed for it",
        judge: |evidence, made| match evidence.cited.has_archive() {
            true => all(evidence, made, "archived_copies", "unlocked_bundles"),
            false => Finding::Undecided("no index of an archive was given".into()),
        },
    },
    Check {
        name: "evidence_is_intact",
        about: "every bundle is whole and signed by keys of the trust document that was given",
        judge: |evidence, made| all(evidence, made, "bundles", "untrusted_bundles"),
    },
    Check {
        name: "evidence_of_12_months",
        about: "the oldest evidence is 365 days old and whole, and no seal since is known to be left out",
        judge: |evidence, made| reaches_back(evidence, made, 365),
    },
    Check {
        name: "evidence_of_6_years",
        about: "the oldest evidence is 2192 days old and whole, and no seal since is known to be left out",
        judge: |evidence, made| reaches_back(evidence, made, 2192),
    },
    Check {
        name: "kept_for_12_months",
        about: "as `evidence_of_12_months`, or of every bundle a copy is locked in compliance mode until 365 days after its seal, and a trusted custodian signed for it",
        judge: |evidence, made| kept(evidence, made, 365),
    },
    Check {
        name: "kept_for_6_years",
        about: "as `evidence_of_6_years`, or the same with 2192 days",
        judge: |evidence, made| kept(evidence, made, 2192),
    },
    Check {
        name: "policy_is_enforced",
        about: "the verdict of every call was carried out",
        judge: |evidence, made| all(evidence, made, "calls", "unenforced_calls"),
    },
    Check {
        name: "seals_are_anchored",
        about: "the seal of every bundle has a place in the instance's log",
        judge: |evidence, made| all(evidence, made, "bundles", "unanchored_bundles"),
    },
    Check {
        name: "seals_are_linked",
        about: "every seal that a run names as the one before it was given, but for the earliest",
        judge: |evidence, made| all(evidence, made, "bundles", "unlinked_bundles"),
    },
    Check {
        name: "traffic_is_evaluated",
        about: "of every call that passed both sides were looked at",
        judge: |evidence, made| all(evidence, made, "calls", "unevaluated_calls"),
    },
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cited::Further;
    use crate::cited::tests::{further, with_copy};
    use crate::evidence::tests::{followed_by, published, runs_mut, seal_of, with};

    /// A call with nothing against it.
    fn call() -> Value {
        json!({
            "kind": "call", "identity": { "kind": "mtls" }, "verdict": { "action": "allow", "mode": "enforce" },
            "outcome": { "code": "OK" }, "body": { "mode": "hmac" },
            "evaluated": { "request": { "state": "recognized" }, "response": { "state": "judged" } },
        })
    }

    fn but(at: &str, value: Value) -> Value {
        let mut call = call();
        *call.pointer_mut(at).unwrap() = value;
        call
    }

    fn refused() -> Value {
        let mut call = but("/verdict/action", json!("block"));
        call["verdict"]["reason"] = json!("TOOL_DENIED");
        call["outcome"]["code"] = json!("TOOL_DENIED");
        call
    }

    fn judge(check: &str, evidence: &Evidence) -> Finding {
        Check::of_name(check).unwrap().judge(evidence, UnixMicros(0))
    }

    fn holds(check: &str, entries: &[Value]) {
        assert_eq!(judge(check, &with(entries)), Finding::Holds, "{check}");
    }

    fn fails(check: &str, entry: Value, against: &'static str) {
        assert_eq!(judge(check, &with(&[call(), entry])), Finding::Against(against), "{check}");
    }

    #[test]
    fn checks_of_calls_fail_by_one_call_and_lack_evidence_without_any() {
        let anonymous = but("/identity/kind", json!("none"));
        let unread = but("/evaluated/response/state", json!("not_evaluated"));
        for (check, against, kind) in [
            ("callers_are_known", anonymous, "anonymous_calls"),
            ("traffic_is_evaluated", unread, "unevaluated_calls"),
            ("policy_is_enforced", but("/verdict/mode", json!("shadow")), "unenforced_calls"),
            ("bodies_are_withheld", but("/body/mode", json!("full")), "stored_bodies"),
            ("calls_have_receipts", json!({ "kind": "gap", "reason": "EVIDENCE_FULL" }), "missing_receipts"),
            ("calls_have_receipts", json!({ "kind": "bypass", "source": "canary" }), "missing_receipts"),
            ("calls_have_receipts", json!({ "kind": "interrupted", "call": "c" }), "missing_receipts"),
        ] {
            holds(check, &[call(), call()]);
            fails(check, against, kind);
            assert_eq!(judge(check, &with(&[])), Finding::Lacks("calls"), "{check}");
        }
    }

    #[test]
    fn who_was_refused_need_not_be_known_and_what_was_refused_need_not_be_read() {
        let mut nobody = refused();
        nobody["identity"]["kind"] = json!("none");
        nobody["evaluated"]["response"]["state"] = json!("not_evaluated");
        holds("callers_are_known", &[call(), nobody.clone()]);
        holds("traffic_is_evaluated", &[call(), nobody]);
    }

    #[test]
    fn a_refused_call_without_a_reason_fails_and_without_refused_calls_nothing_is_said() {
        holds("blocks_are_explained", &[call(), refused()]);
        fails("blocks_are_explained", but("/verdict/action", json!("block")), "unexplained_blocks");
        assert!(matches!(judge("blocks_are_explained", &with(&[call()])), Finding::Undecided(_)));
    }

    #[test]
    fn keys_that_nobody_vouched_for_fail() {
        assert_eq!(judge("evidence_is_intact", &published()), Finding::Holds);
        let mut evidence = published();
        runs_mut(&mut evidence)[0].report.verdicts.authenticity = estoppel_verify::Authenticity::SelfAsserted;
        assert_eq!(judge("evidence_is_intact", &evidence), Finding::Against("untrusted_bundles"));
        assert_eq!(judge("evidence_is_intact", &Evidence::default()), Finding::Lacks("bundles"));
    }

    #[test]
    fn a_seal_without_a_place_in_a_log_fails() {
        let mut evidence = published();
        let mut judged = |anchoring| {
            runs_mut(&mut evidence)[0].report.verdicts.anchoring = anchoring;
            judge("seals_are_anchored", &evidence)
        };
        assert_eq!(judged(estoppel_verify::Anchoring::Anchored), Finding::Holds);
        assert_eq!(judged(estoppel_verify::Anchoring::Absent), Finding::Against("unanchored_bundles"));
    }

    #[test]
    fn a_seal_that_a_run_names_and_that_was_not_given_fails() {
        let linked = followed_by(published(), &seal_of(&published()));
        assert_eq!(judge("seals_are_linked", &linked), Finding::Holds);
        let torn = followed_by(published(), &format!("leaf:{}", "0".repeat(64)));
        assert_eq!(judge("seals_are_linked", &torn), Finding::Against("unlinked_bundles"));
        assert_eq!(judge("evidence_of_12_months", &torn), Finding::Against("unlinked_bundles"));
    }

    #[test]
    fn only_old_evidence_reaches_back() {
        let evidence = published();
        let opened = UnixMicros::parse(evidence.runs()[0].opened()).unwrap().0;
        for (check, days) in [("evidence_of_12_months", 365), ("evidence_of_6_years", 2192)] {
            let check = Check::of_name(check).unwrap();
            let at = |days: u64| check.judge(&evidence, UnixMicros(opened + days * 86_400_000_000));
            assert_eq!(at(days), Finding::Holds);
            assert!(matches!(at(days - 1), Finding::Undecided(why) if why.contains(&days.to_string())));
        }
        assert_eq!(judge("evidence_of_6_years", &Evidence::default()), Finding::Lacks("bundles"));
    }

    #[test]
    fn a_copy_counts_while_it_is_locked_and_where_a_trusted_custodian_signed_for_it() {
        let until = "2033-01-01T00:00:00.000000Z";
        let at = |time: &str, evidence: &Evidence| {
            Check::of_name("copies_are_locked").unwrap().judge(evidence, UnixMicros::parse(time).unwrap())
        };
        let before = "2032-12-31T00:00:00.000000Z";
        let locked = with_copy("GOVERNANCE", until);
        assert_eq!(at(before, &locked), Finding::Holds);
        assert_eq!(at(until, &locked), Finding::Against("unlocked_bundles"), "it is over");
        let cited = |change: fn(&mut Further)| {
            let (mut evidence, mut given) = (published(), further("GOVERNANCE", until));
            change(&mut given);
            evidence.cite(&given).unwrap();
            evidence
        };
        let unvouched = cited(|given| given.custodians.clear());
        assert_eq!(at(before, &unvouched), Finding::Against("unlocked_bundles"));
        let unsigned = cited(|given| given.custody.clear());
        assert_eq!(at(before, &unsigned), Finding::Against("unlocked_bundles"));
        let empty = cited(|given| given.archive = Some(Vec::new()));
        assert_eq!(at(before, &empty), Finding::Lacks("archived_copies"));
        assert!(matches!(at(before, &published()), Finding::Undecided(_)), "no archive was given");
    }

    #[test]
    fn retention_is_shown_by_old_evidence_or_by_copies_that_nobody_can_remove_so_long() {
        let sealed = UnixMicros::parse(published().runs()[0].sealed()).unwrap().0;
        for (check, days) in [("kept_for_12_months", 365), ("kept_for_6_years", 2192)] {
            let check = Check::of_name(check).unwrap();
            let young = |evidence: &Evidence| check.judge(evidence, UnixMicros(sealed + 1));
            let second = (sealed / 1_000_000 + 1) * 1_000_000; // retention is of whole seconds
            let until = |days: u64| UnixMicros(second + days * 86_400_000_000).to_string();
            assert_eq!(young(&with_copy("COMPLIANCE", &until(days))), Finding::Holds);
            for short in [
                with_copy("COMPLIANCE", &until(days - 1)),
                with_copy("GOVERNANCE", &until(days)),
                published(),
            ] {
                assert!(matches!(young(&short), Finding::Undecided(why) if why.contains(&days.to_string())));
            }
            let old = UnixMicros(sealed + days * 86_400_000_000);
            assert_eq!(check.judge(&published(), old), Finding::Holds);
            let torn =
                followed_by(with_copy("COMPLIANCE", &until(days)), &format!("leaf:{}", "0".repeat(64)));
            assert_eq!(young(&torn), Finding::Against("unlinked_bundles"));
            assert_eq!(young(&Evidence::default()), Finding::Lacks("bundles"));
        }
    }

    #[test]
    fn checks_are_in_order_and_told_in_the_specification() {
        assert!(CHECKS.is_sorted_by(|one, other| one.name < other.name));
        let spec = include_str!("../../../spec/attestation.md");
        for check in CHECKS {
            let row = format!("| `{}` | {} |", check.name, check.about);
            assert!(spec.contains(&row), "spec/attestation.md lacks `{row}`");
        }
    }
}
