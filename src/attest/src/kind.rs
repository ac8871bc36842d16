//! Kinds of evidence: what a control can point at.

use serde_json::Value;

use crate::evidence::Run;

/// What evidence of a kind is.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// Entries, by their hash.
    Entries(fn(&Value) -> bool),
    /// Bundles, by the digest of their manifest.
    Bundles(fn(&Run) -> bool),
    /// Documents that receipts name, by their digest.
    Documents(&'static [&'static str]),
    /// Entries of chains of custody, by their hash: those of an action, or all.
    Acts(Option<&'static str>),
    /// Copies of the bundles, by the hash of their entry in the index of the archive.
    Copies,
    /// Bundles of which the archive that was given keeps no copy.
    Unlocked,
    /// Events of the ledger of releases, by their id.
    Events(&'static [&'static str]),
}

/// A kind of evidence.
pub struct Kind {
    pub name: &'static str,
    pub about: &'static str,
    pub(crate) of: Of,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Kind {
    pub fn of_name(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

fn is(entry: &Value, kind: &str) -> bool {
    entry["kind"] == kind
}

fn is_call(entry: &Value, holds: impl FnOnce(&Value) -> bool) -> bool {
    is(entry, "call") && holds(entry)
}

fn has_items(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
}

fn verdict(entry: &Value, action: &str) -> bool {
    is_call(entry, |call| call["verdict"]["action"] == action)
}

fn is_anonymous(call: &Value) -> bool {
    matches!(call["identity"]["kind"].as_str(), None | Some("none"))
}

fn is_unread(call: &Value) -> bool {
    ["request", "response"].iter().any(|side| call["evaluated"][side]["state"] == "not_evaluated")
}

/// Codes of calls that were refused for who called.
const REFUSED_CALLERS: &[&str] = &[
    "CONTEXT_UNSIGNED",
    "IDENTITY_REQUIRED",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "TOKEN_AUDIENCE",
    "API_KEY_INVALID",
    "IDENTITY_REVOKED",
    "SCOPE_MISSING",
    "CREDENTIAL_MISSING",
];

const fn entries(name: &'static str, about: &'static str, holds: fn(&Value) -> bool) -> Kind {
    Kind { name, about, of: Of::Entries(holds) }
}

const fn bundles(name: &'static str, about: &'static str, holds: fn(&Run) -> bool) -> Kind {
    Kind { name, about, of: Of::Bundles(holds) }
}

const fn documents(name: &'static str, about: &'static str, at: &'static [&'static str]) -> Kind {
    Kind { name, about, of: Of::Documents(at) }
}

const fn events(name: &'static str, about: &'static str, kinds: &'static [&'static str]) -> Kind {
    Kind { name, about, of: Of::Events(kinds) }
}

/// Every kind, by name.
pub const KINDS: &[Kind] = &[
    bundles("anchored_bundles", "bundles whose seal has a place in the instance's log", Run::is_anchored),
    entries("anonymous_calls", "calls that passed and of whose caller nothing is proven", |entry| {
        is_call(entry, |call| is_anonymous(call) && call["verdict"]["action"] != "block")
    }),
    entries("approvals", "signed decisions of people on calls that waited", |entry| is(entry, "approval")),
    Kind {
        name: "archived_copies",
        about: "copies of these bundles under object lock, as the index of the archive says",
        of: Of::Copies,
    },
    entries("authenticated_calls", "calls whose caller is proven", |entry| {
        is_call(entry, |call| !is_anonymous(call))
    }),
    entries("blocked_calls", "calls that were refused", |entry| verdict(entry, "block")),
    bundles("bundles", "sealed runs", |_| true),
    entries("bypasses", "traffic that was found to have gone round the gateway", |entry| is(entry, "bypass")),
    entries("calls", "receipts of calls", |entry| is(entry, "call")),
    documents(
        "contracts",
        "contracts that values were held against",
        &["/contract/request/digest", "/contract/response/digest"],
    ),
    Kind {
        name: "custody_entries",
        about: "what was done with these bundles, as custodians signed it",
        of: Of::Acts(None),
    },
    entries("destinations", "calls of which it is known where they went", |entry| {
        is_call(entry, |call| call["destination"].is_string())
    }),
    Kind {
        name: "disclosures",
        about: "bundles and keys that custodians gave away",
        of: Of::Acts(Some("disclosed")),
    },
    entries("evaluated_calls", "calls of which both sides were looked at", |entry| {
        is_call(entry, |call| !is_unread(call))
    }),
    events("evolutions", "runs of the steps that prove a version", &["evolution.finished"]),
    entries("found_data", "calls in which detectors found classes of data", |entry| {
        is_call(entry, |call| has_items(&call["data_class"]) || has_items(&call["ext"]["findings"]))
    }),
    events(
        "generations",
        "contracts of versions: what changes, and what has to be shown for it",
        &["generation.sealed", "generation.amended"],
    ),
    entries("held_calls", "calls that waited for people, and answers to those", |entry| {
        is_call(entry, |call| {
            call["verdict"]["action"] == "hold" || call["hold"].is_object() || call["approval"].is_object()
        })
    }),
    entries("judged_calls", "calls with values that were held against contracts", |entry| {
        is_call(entry, |call| {
            ["request", "response"].iter().any(|side| call["evaluated"][side]["state"] == "judged")
        })
    }),
    entries("key_rotations", "keys that were replaced", |entry| is(entry, "key.rotate")),
    entries("lapses", "times and calls that have no receipt, and repairs of the journal", |entry| {
        ["gap", "interrupted", "journal.recover"].iter().any(|kind| is(entry, kind))
    }),
    entries("limited_calls", "calls that were counted against a limit", |entry| {
        is_call(entry, |call| has_items(&call["limits"]))
    }),
    entries(
        "missing_receipts",
        "calls and times that have no receipt, as the journal itself says",
        |entry| ["bypass", "gap", "interrupted"].iter().any(|kind| is(entry, kind)),
    ),
    entries("model_calls", "calls of models", |entry| {
        is_call(entry, |call| call["facts"]["model"].is_string())
    }),
    entries("operator_acts", "what operators did to the gateway", |entry| is(entry, "act")),
    documents("policies", "policies that judged calls", &["/policy/hash"]),
    entries("policy_loads", "policies that were put in force or refused", |entry| is(entry, "policy.load")),
    events("promotions", "versions that were promoted", &["promotion.finished"]),
    entries("refused_callers", "calls that were refused for who called", |entry| {
        is_call(entry, |call| {
            call["outcome"]["code"].as_str().is_some_and(|code| REFUSED_CALLERS.contains(&code))
        })
    }),
    events("refused_promotions", "versions that were not promoted, with each gate", &["promotion.refused"]),
    events("release_approvals", "versions that people approved", &["approval.given"]),
    entries("repaired_calls", "calls in which a value was repaired", |entry| verdict(entry, "repair")),
    events("role_changes", "who may do what to releases", &["roles.set"]),
    events("rollbacks", "promoted versions that were taken back", &["rollback.done"]),
    entries("seals", "ends of runs, which commit to all before", |entry| is(entry, "run.seal")),
    entries("shadow_calls", "calls that policies on trial were asked about", |entry| {
        is_call(entry, |call| has_items(&call["shadow"]))
    }),
    documents(
        "snapshots",
        "what databases looked like around calls",
        &["/snapshot/pre/digest", "/snapshot/post/digest"],
    ),
    entries("stored_bodies", "calls whose bodies are kept as they were", |entry| {
        is_call(entry, |call| call["body"]["mode"] == "full")
    }),
    entries("threat_calls", "calls that a rule or detector set down as a threat", |entry| {
        is_call(entry, |call| has_items(&call["threat"]["ids"]))
    }),
    entries("tool_calls", "calls in which a model called tools", |entry| {
        is_call(entry, |call| has_items(&call["facts"]["tools_called"]))
    }),
    bundles("unanchored_bundles", "bundles without a place in the instance's log", |run| !run.is_anchored()),
    entries("unenforced_calls", "calls whose verdict was only noted", |entry| {
        is_call(entry, |call| call["verdict"]["mode"] != "enforce")
    }),
    entries("unevaluated_calls", "calls that passed without a look at one of their sides", |entry| {
        is_call(entry, |call| is_unread(call) && call["verdict"]["action"] != "block")
    }),
    entries("unexplained_blocks", "refused calls that name no reason", |entry| {
        verdict(entry, "block")
            && !entry["verdict"]["reason"].is_string()
            && matches!(entry["outcome"]["code"].as_str(), None | Some("OK"))
    }),
    bundles("unlinked_bundles", "bundles that name a seal before theirs which was not given", |run| {
        !run.is_linked
    }),
    Kind {
        name: "unlocked_bundles",
        about: "bundles of which the archive keeps no copy at that time that a trusted custodian signed for",
        of: Of::Unlocked,
    },
    bundles("untrusted_bundles", "bundles whose keys nobody has vouched for", |run| !run.is_trusted()),
    entries("usage", "calls with counts of tokens", |entry| {
        is_call(entry, |call| call["facts"]["usage"].is_object())
    }),
    events("waivers", "gates of releases that people waived", &["approval.waiver"]),
    entries("withheld_bodies", "calls of whose bodies only tags are kept, or what redaction left", |entry| {
        is_call(entry, |call| call["body"]["mode"] != "full")
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_order_and_told_in_the_specification() {
        assert!(KINDS.is_sorted_by(|one, other| one.name < other.name));
        let spec = include_str!("../../../spec/attestation.md");
        for kind in KINDS {
            let row = format!("| `{}` | {} |", kind.name, kind.about);
            assert!(spec.contains(&row), "spec/attestation.md lacks `{row}`");
        }
    }

    #[test]
    fn codes_of_refused_callers_are_reasons() {
        for code in REFUSED_CALLERS {
            assert!(estoppel_evidence::Reason::ALL.iter().any(|reason| reason.code() == *code), "{code}");
        }
    }

    /// For each kind an entry that is of it; none of the others of the same kind of entry is, unless it says so.
    #[test]
    fn each_kind_takes_what_it_says_and_a_plain_call_only_where_it_should() {
        use crate::evidence::tests::with;
        use estoppel_evidence::time::UnixMicros;
        use serde_json::json;
        let sha256 = format!("sha256:{}", "5".repeat(64));
        let call = |more: Value| {
            let mut call = json!({
                "kind": "call", "identity": { "kind": "mtls" }, "verdict": { "action": "allow", "mode": "enforce" },
                "outcome": { "code": "OK" }, "body": { "mode": "hmac" },
                "evaluated": { "request": { "state": "recognized" }, "response": { "state": "recognized" } },
            });
            for (name, value) in more.as_object().unwrap() {
                call[name] = value.clone();
            }
            call
        };
        let of_plain = ["authenticated_calls", "calls", "evaluated_calls", "withheld_bodies"];
        let plain = with(&[call(json!({}))]);
        for kind in KINDS.iter().filter(|kind| !matches!(kind.of, Of::Bundles(_))) {
            assert_eq!(
                plain.pointers(kind, UnixMicros(0)).count > 0,
                of_plain.contains(&kind.name),
                "{}",
                kind.name
            );
        }
        let evaluated =
            |state: &str| json!({ "request": { "state": "recognized" }, "response": { "state": state } });
        for (name, entry) in [
            ("anonymous_calls", call(json!({ "identity": { "kind": "none" } }))),
            ("approvals", json!({ "kind": "approval", "decision": "approve" })),
            ("blocked_calls", call(json!({ "verdict": { "action": "block" } }))),
            ("bypasses", json!({ "kind": "bypass" })),
            ("contracts", call(json!({ "contract": { "response": { "digest": sha256 } } }))),
            ("destinations", call(json!({ "destination": "api.test" }))),
            ("found_data", call(json!({ "data_class": ["pii"] }))),
            ("held_calls", call(json!({ "verdict": { "action": "hold" } }))),
            ("held_calls", call(json!({ "approval": { "hold": "h" } }))),
            ("judged_calls", call(json!({ "evaluated": evaluated("judged") }))),
            ("key_rotations", json!({ "kind": "key.rotate" })),
            ("lapses", json!({ "kind": "journal.recover" })),
            ("limited_calls", call(json!({ "limits": [{ "rule": "r" }] }))),
            ("missing_receipts", json!({ "kind": "gap" })),
            ("model_calls", call(json!({ "facts": { "model": "m" } }))),
            ("operator_acts", json!({ "kind": "act", "act": "kill" })),
            ("policies", call(json!({ "policy": { "hash": sha256 } }))),
            ("policy_loads", json!({ "kind": "policy.load" })),
            ("refused_callers", call(json!({ "outcome": { "code": "API_KEY_INVALID" } }))),
            ("repaired_calls", call(json!({ "verdict": { "action": "repair" } }))),
            ("seals", json!({ "kind": "run.seal" })),
            ("shadow_calls", call(json!({ "shadow": [{ "policy": sha256 }] }))),
            ("snapshots", call(json!({ "snapshot": { "pre": { "digest": sha256 } } }))),
            ("stored_bodies", call(json!({ "body": { "mode": "full" } }))),
            ("threat_calls", call(json!({ "threat": { "ids": ["x:1/Y"] } }))),
            ("tool_calls", call(json!({ "facts": { "tools_called": ["shell"] } }))),
            ("unenforced_calls", call(json!({ "verdict": { "action": "allow", "mode": "shadow" } }))),
            ("unevaluated_calls", call(json!({ "evaluated": evaluated("not_evaluated") }))),
            ("unexplained_blocks", call(json!({ "verdict": { "action": "block" } }))),
            ("usage", call(json!({ "facts": { "usage": { "input": 3 } } }))),
        ] {
            assert_eq!(
                with(&[entry]).pointers(Kind::of_name(name).unwrap(), UnixMicros(0)).count,
                1,
                "{name}"
            );
        }
    }
}
