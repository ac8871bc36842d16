//! What a receipt says of a call.

use estoppel_evidence::time::UnixMicros;
use estoppel_policy::Verdict;
use estoppel_wire::dialect::Dialect;
use serde_json::Value;

use super::{Bodies, RecordedAnswer, RecordedCall, Retrial, Ruling};

/// Codes of blocks that come from the policy's own defaults.
const DEFAULTS: [&str; 2] = ["POLICY_BLOCK", "NOT_EVALUATED"];

impl Ruling {
    /// What the rules said, by the receipt; none where something else stood in the way.
    pub fn of_receipt(entry: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let (rule, reason) = (text(&entry["policy"]["rule"]), text(&entry["verdict"]["reason"]));
        let verdict = match entry["verdict"]["action"].as_str()? {
            "allow" | "repair" => Verdict::Allow,
            "hold" => Verdict::Hold,
            "block" if reason.as_deref().is_some_and(|reason| reason.starts_with("HOLD_")) => return None,
            "block" => Verdict::Block,
            _ => return None,
        };
        let by_policy = rule.is_some() || reason.as_deref().is_some_and(|reason| DEFAULTS.contains(&reason));
        (verdict.lets_go() || by_policy).then_some(Self { verdict, rule, reason })
    }
}

impl RecordedCall {
    /// What its receipt and its bodies say, which `own`, the policy that judged it, completes. `approved` is the rule that held the
    /// call, if people let it pass; its receipt names the rule that decided last.
    pub fn of_receipt(entry: &Value, bodies: Bodies, approved: Option<&str>, own: &Retrial) -> Self {
        let recorded = Ruling::of_receipt(entry);
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let names = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(text).collect()
        };
        let facts = &entry["facts"];
        let dialect = entry["dialect"].as_str().and_then(|name| name.parse().ok());
        let is_mcp = entry["dialect"] == "mcp";
        let (offered, called) = (names(&facts["tools_offered"]), names(&facts["tools_called"]));
        let singles =
            [&facts["model"], &facts["model_served"], &entry["identity"]["subject"], &entry["operation"]];
        let is_cut = |name: &str| name.ends_with('…');
        let names_left_out = facts["more"].as_u64().unwrap_or_default() > 0
            || singles.iter().filter_map(|value| value.as_str()).any(is_cut)
            || offered.iter().chain(&called).any(|name| is_cut(name));
        let upstream = &entry["response"]["upstream"];
        // What was given is what came where both have one tag.
        let is_stream = !entry["sse"].is_null();
        let is_judged_whole = !is_stream && !matches!(dialect, None | Some(Dialect::Json | Dialect::Bytes));
        let is_given = entry["outcome"]["client"] == "handed_over";
        let answer = (!upstream.is_null()).then(|| RecordedAnswer {
            status: upstream["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .unwrap_or_default(),
            model_served: text(&facts["model_served"]),
            tools_called: if is_mcp { Vec::new() } else { called.clone() },
            evaluated: read(&entry["evaluated"]["response"]),
            is_unread: is_unread(&entry["evaluated"]["response"]),
            is_stream,
            is_whole: entry["outcome"]["complete"] == true && (is_given || is_judged_whole),
            has_body: upstream["bytes"].as_u64().unwrap_or_default() > 0,
            usage: serde_json::from_value(facts["usage"].clone()).unwrap_or_default(),
            body: bodies.answer,
        });
        let was_read = read(&entry["evaluated"]["request"]);
        let is_empty = entry["evaluated"]["request"]["state"] == "empty";
        // A body that streams through is not read before the verdict: after a block nobody knows whether there was one.
        let was_blocked = is_empty && upstream.is_null();
        let is_plain = matches!(dialect, None | Some(Dialect::Json | Dialect::Bytes));
        let is_recognized = dialect == Some(Dialect::Json) && !is_empty && was_read;
        let is_unknown = is_plain && was_blocked || is_recognized;
        let route = entry["request"]["route"].as_str().unwrap_or_default();
        let mut call = Self {
            route: route.to_owned(),
            operation: text(&entry["operation"]).unwrap_or_default(),
            operations_listed: own.policy().route(route).operations.iter().next().is_some(),
            listed: entry["operation"]
                .as_str()
                .and_then(|id| own.policy().route(route).operations.get(id).cloned()),
            dialect,
            method: text(&entry["request"]["method"]).unwrap_or_default(),
            identity: text(&entry["identity"]["subject"]),
            tenant: text(&entry["tenant"]),
            model: text(&facts["model"]),
            approved: approved.map(ToOwned::to_owned),
            tools_offered: if is_mcp { called } else { offered },
            names_left_out,
            request_evaluated: (!is_unknown).then_some(was_read),
            is_recognized,
            has_body: is_unknown || entry["request"]["bytes"].as_u64().unwrap_or_default() > 0,
            is_unread: is_unread(&entry["evaluated"]["request"]),
            began_us: began_us(entry),
            request_body: bodies.request,
            answer,
        };
        // Whether such a body counted as read is not recorded, but its own policy may tell: by what it said in the end, or by
        // having let the request go.
        if call.request_evaluated.is_none() {
            let as_if =
                |evaluated| Self { request_evaluated: Some(evaluated), is_recognized: false, ..call.clone() };
            let fits = |evaluated| {
                let assumed = as_if(evaluated);
                own.rules(&assumed).ok() == recorded
            };
            let goes = |evaluated| {
                let assumed = Self { answer: None, ..as_if(evaluated) };
                call.answer.is_some() && own.rules(&assumed).is_ok_and(|ruling| ruling.verdict.lets_go())
            };
            call.request_evaluated = match ((fits(true), fits(false)), (goes(true), goes(false))) {
                ((true, false), _) | (_, (true, false)) => Some(true),
                ((false, true), _) | (_, (false, true)) => Some(false),
                _ => None,
            };
        }
        call
    }
}

fn read(evaluated: &Value) -> bool {
    let whole = evaluated["skipped"].as_u64().unwrap_or_default() == 0 && evaluated["defect"].is_null();
    match evaluated["state"].as_str() {
        Some("empty") => true,
        Some("recognized" | "judged") => whole,
        _ => false,
    }
}

fn is_unread(evaluated: &Value) -> bool {
    evaluated["state"] == "not_evaluated"
}

fn began_us(entry: &Value) -> u64 {
    let written = entry["ts"].as_str().and_then(UnixMicros::parse).map(|ts| ts.0).unwrap_or_default();
    written.saturating_sub(entry["time"]["total_us"].as_u64().unwrap_or_default())
}
