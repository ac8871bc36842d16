use estoppel_evidence::time::UnixMicros;
use serde_json::Value;

use crate::row::Tokens;

/// How a call ended of which nobody knows whether the upstream had got it.
const PERHAPS_SENT: [&str; 9] = [
    "CLIENT_GONE",
    "CLIENT_STALLED",
    "REQUEST_BROKEN",
    "REQUEST_STALLED",
    "SHUTDOWN",
    "TIMEOUT_HEADERS",
    "TIMEOUT_TOTAL",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_RESET",
];

/// What a receipt says of a call that the upstream has seen, or may have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub call: String,
    pub upstream: Option<String>,
    /// What the upstream called the request.
    pub request: Option<String>,
    /// Microseconds since 1970.
    pub began_us: u64,
    pub ended_us: u64,
    /// The model that answered.
    pub served: Option<String>,
    /// The model that was asked for.
    pub asked: Option<String>,
    pub tokens: Option<Tokens>,
    /// The upstream answered; else nobody knows whether it had got the call.
    pub answered: bool,
    /// It answered with an error, so that no model worked for it.
    pub failed: bool,
}

impl Receipt {
    /// Reads an entry; none if it is no call, or one that never left the gateway.
    pub fn read(entry: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        if entry["kind"] != "call" {
            return None;
        }
        let upstream = &entry["response"]["upstream"];
        let answered = !upstream.is_null();
        let passed = matches!(entry["verdict"]["action"].as_str(), Some("allow" | "repair"));
        let perhaps = passed && PERHAPS_SENT.contains(&entry["outcome"]["code"].as_str()?);
        if !answered && !perhaps {
            return None;
        }
        let ended_us = UnixMicros::parse(entry["ts"].as_str()?)?.0;
        let facts = &entry["facts"];
        let tokens = (facts["usage"]["input"].as_u64(), facts["usage"]["output"].as_u64());
        Some(Self {
            call: text(&entry["call"])?,
            upstream: text(&entry["upstream"]),
            request: text(&entry["ext"]["upstream_request"]),
            began_us: ended_us.saturating_sub(entry["time"]["total_us"].as_u64().unwrap_or_default()),
            ended_us,
            served: text(&facts["model_served"]),
            asked: text(&facts["model"]),
            tokens: match tokens {
                // Of an answer that was not read to its end they may not be the last.
                (Some(input), Some(output)) if passed && entry["outcome"]["complete"] == true => {
                    Some(Tokens { input, output })
                }
                _ => None,
            },
            answered,
            failed: upstream["status"].as_u64().is_some_and(|status| !(200..300).contains(&status)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(action: &str, code: &str, upstream: Value) -> Value {
        let mut response = json!({ "client": { "bytes": 0 } });
        if !upstream.is_null() {
            response["upstream"] = upstream;
        }
        json!({
            "kind": "call", "call": "c", "ts": "1970-01-01T00:00:09.000000Z", "time": { "total_us": 2_000_000 },
            "verdict": { "action": action }, "outcome": { "code": code, "complete": true }, "response": response,
            "facts": { "usage": { "input": 3, "output": 4 } },
        })
    }

    #[test]
    fn only_calls_that_may_have_reached_the_upstream_answer_for_a_row() {
        let bytes = || json!({ "bytes": 1, "status": 200 });
        let answered = Receipt::read(&entry("block", "CONTRACT_VIOLATED", bytes())).unwrap();
        assert_eq!((answered.answered, answered.began_us, answered.ended_us), (true, 7_000_000, 9_000_000));
        assert_eq!(answered.tokens, None, "it may not have been read to its end");
        let mut passed = entry("repair", "OK", bytes());
        assert_eq!(Receipt::read(&passed).unwrap().tokens, Some(Tokens { input: 3, output: 4 }));
        passed["outcome"]["complete"] = json!(false);
        assert_eq!(Receipt::read(&passed).unwrap().tokens, None);
        let lost = Receipt::read(&entry("allow", "TIMEOUT_HEADERS", Value::Null)).unwrap();
        assert!(!lost.answered && !lost.failed && !answered.failed);
        let refused = Receipt::read(&entry("allow", "OK", json!({ "bytes": 1, "status": 400 }))).unwrap();
        assert!(refused.answered && refused.failed);
        for (action, code) in [
            ("block", "TOOL_DENIED"),
            ("block", "CLIENT_GONE"),
            ("hold", "CLIENT_GONE"),
            ("allow", "UPSTREAM_CONNECT"),
            ("allow", "CREDENTIAL_MISSING"),
            ("allow", "OK"),
        ] {
            assert_eq!(Receipt::read(&entry(action, code, Value::Null)), None, "{action} {code}");
        }
        assert_eq!(Receipt::read(&json!({ "kind": "intent", "call": "c" })), None);
    }
}
