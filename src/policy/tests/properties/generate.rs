//! Random policies as JSON values, and random ways to write one as YAML.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

pub const ROUTES: [&str; 3] = ["llm", "mcp", "tools"];
pub const NAMES: [&str; 8] = ["bash", "Bash", "shell_exec", "search", "sh", "gpt-4o", "gpt-4o-2024", "evil"];
const PATTERNS: [&str; 11] =
    ["bash", "sh*", "*a*", "search", "*", "S*h", "gpt-4o", "gpt*", "ev*l", "*ASH", "*h"];
const TEXTS: [&str; 6] = ["why not", "a # b", "é: \"x\"", "it's", "- {x}", "yes"];

fn verdict() -> impl Strategy<Value = Value> {
    select(vec![json!("allow"), json!("block")])
}

fn text() -> impl Strategy<Value = Value> {
    select(TEXTS.to_vec()).prop_map(Value::from)
}

fn storage() -> impl Strategy<Value = Value> {
    let full = text().prop_map(|reason| json!({ "full": { "reason": reason } }));
    let redacted = (text(), "(/[a-z*]{0,5}){1,4}")
        .prop_map(|(reason, path)| json!({ "full": { "reason": reason, "redact": [path] } }));
    prop_oneof![Just(json!("none")), Just(json!("hmac")), full, redacted]
}

fn disconnect() -> impl Strategy<Value = Value> {
    let drain = (0..9u64, 1..9u64)
        .prop_map(|(bytes, seconds)| json!({ "drain": { "bytes": bytes, "seconds": seconds } }));
    prop_oneof![Just(json!("cancel")), drain]
}

fn judge() -> impl Strategy<Value = Value> {
    let terms = members(vec![
        ("unknown_tools", select(vec![json!("json"), json!("block")]).boxed()),
        ("changed_tools", select(vec![json!("allow"), json!("block")]).boxed()),
        ("repair", select(vec![json!("none"), json!("r1"), json!({ "r1": ["prose"] })]).boxed()),
        (
            "reask",
            select(vec![json!("none"), json!("once"), json!({ "once": { "bytes_max": 2048 } })]).boxed(),
        ),
        ("release", select(vec![json!("hold_all"), json!("observe")]).boxed()),
        ("tools", Just(json!({ "search": "value" })).boxed()),
        ("text", Just(json!("value")).boxed()),
        ("answer", select(vec![json!("value"), json!("rows")]).boxed()),
    ]);
    prop_oneof![Just(json!("none")), terms]
}

fn route_detectors() -> impl Strategy<Value = Value> {
    let own = members(vec![
        ("mode", select(vec![json!("enforce"), json!("none")]).boxed()),
        ("surfaces", select(vec![json!(["tools"]), json!(["request", "answer"])]).boxed()),
    ]);
    members(vec![("secrets", own.boxed())])
}

fn detectors() -> impl Strategy<Value = Value> {
    let pii = members(vec![
        ("min_confidence", select(vec![json!("low"), json!("medium")]).boxed()),
        ("except", Just(json!(["pii.email"])).boxed()),
        ("severity", Just(json!("low")).boxed()),
    ]);
    let external = members(vec![
        ("timeout_ms", (1..99u64).prop_map(Value::from).boxed()),
        ("on_timeout", verdict().boxed()),
    ]);
    (pii, external).prop_map(|(pii, mut external)| {
        external["url"] = "http://127.0.0.1:9".into();
        json!({ "secrets": {}, "pii": pii, "dlp": external })
    })
}

fn operations() -> impl Strategy<Value = Value> {
    let paths = ["/", "/v1/orders", "/v1/orders/{id}"];
    let operations = paths.map(|path| {
        let optional = (
            proptest::option::of(judge()),
            proptest::option::of(snapshot()),
            proptest::option::of(determinism()),
        );
        (optional, select(vec!["GET", "POST"])).prop_map(move |((judge, snapshot, determinism), method)| {
            let mut operation = json!({ "id": format!("{}{}", method.to_lowercase(), path.len()) });
            operation["method"] = method.into();
            operation["path"] = path.into();
            if let Some(judge) = judge {
                operation["judge"] = judge;
            }
            if let Some(snapshot) = snapshot {
                operation["snapshot"] = snapshot;
            }
            if let Some(determinism) = determinism {
                operation["determinism"] = determinism;
            }
            operation
        })
    });
    Vec::from(operations).prop_map(Value::from)
}

fn determinism() -> impl Strategy<Value = Value> {
    let tolerance = select(vec![
        json!({ "answer": [{ "at": "/price", "absolute": "0.01" }, { "at": "/tags", "as": "any_order" }] }),
        json!({ "request": [{ "at": "/**/trace", "as": "ignored" }], "rows": [{ "at": "/*/eta", "relative": "0.1" }] }),
    ]);
    proptest::option::of(tolerance).prop_map(|tolerance| match tolerance {
        None => json!({ "class": "E0" }),
        Some(tolerance) => json!({ "class": "E1", "tolerance": tolerance }),
    })
}

fn snapshot() -> impl Strategy<Value = Value> {
    select(vec![
        json!("none"),
        json!({ "source": "shop", "mode": "enforce" }),
        json!({ "source": "stock", "mode": "observe" }),
    ])
}

fn limits() -> impl Strategy<Value = Value> {
    members(vec![
        ("request_bytes_max", (1024..2000u64).prop_map(Value::from).boxed()),
        ("held_bytes_max", (1024..2000u64).prop_map(Value::from).boxed()),
        ("total_ms", (1..99u64).prop_map(Value::from).boxed()),
    ])
}

/// An object with some of the members.
fn members(of: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let options =
        of.into_iter().map(|(key, value)| proptest::option::of(value).prop_map(move |value| (key, value)));
    options.collect::<Vec<_>>().prop_map(|members| {
        let present = members.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        Value::Object(present.collect())
    })
}

fn settings(with_limits: bool) -> impl Strategy<Value = Value> {
    let mut of = vec![
        ("verdict", verdict().boxed()),
        ("body_storage", storage().boxed()),
        ("on_not_evaluated", verdict().boxed()),
        ("disconnect", disconnect().boxed()),
        ("tool_lists", select(vec!["filter", "as_is"]).prop_map(Value::from).boxed()),
        ("judge", judge().boxed()),
        ("snapshot", snapshot().boxed()),
    ];
    if with_limits {
        of.push(("limits", limits().boxed()));
        of.push(("detectors", route_detectors().boxed()));
        of.push(("operations", operations().boxed()));
        of.push(("determinism", determinism().boxed()));
    }
    members(of)
}

fn patterns(of: Vec<&'static str>) -> BoxedStrategy<Value> {
    proptest::collection::vec(select(of), 1..3).prop_map(Value::from).boxed()
}

/// Tests that a predicate may have.
fn test() -> impl Strategy<Value = Value> {
    select(vec![
        json!({ "equals": "/srv/x" }),
        json!({ "equals": 5 }),
        json!({ "equals": null }),
        json!({ "equals": true }),
        json!({ "in": ["/srv/x", 500, false] }),
        json!({ "not_in": ["/srv/x", 5] }),
        json!({ "matches": ["/etc/*", "*x"] }),
        json!({ "not_matches": ["/srv/*"] }),
        json!({ "exists": true }),
        json!({ "exists": false }),
        json!({ "greater_than": -3 }),
        json!({ "greater_than": 100 }),
        json!({ "less_than": 100 }),
        json!({ "longer_than": 6 }),
        json!({ "contains": "rm" }),
        json!({ "tenant": "own" }),
        json!({ "tenant": "other" }),
    ])
}

fn predicates(at: Vec<&'static str>) -> BoxedStrategy<Value> {
    let predicate = (select(at), test()).prop_map(|(at, mut test)| {
        test["at"] = at.into();
        test
    });
    proptest::collection::vec(predicate, 1..3).prop_map(Value::from).boxed()
}

const NARROW: [&str; 4] = ["/path", "/n", "/deep/0/n", "/none"];
const HOSTS: [&str; 9] = [
    "a.example",
    "*.example",
    "10.0.0.0/8",
    "ip:private",
    "ip:loopback",
    "ip:link_local",
    "ip:any",
    "*",
    "b.c",
];

fn when() -> impl Strategy<Value = Value> {
    let wide: Vec<&str> = NARROW.into_iter().chain(["/*", "/**/n", "/deep/*/n"]).collect();
    let seldom = |strategy: BoxedStrategy<Value>| {
        proptest::option::weighted(0.3, strategy).prop_map(|value| value.unwrap_or(Value::Null)).boxed()
    };
    members(vec![
        ("route", patterns(vec!["llm", "mcp", "*", "LLM"])),
        ("identity", patterns(vec!["agent", "a*", "Agent"])),
        ("tenant", seldom(patterns(vec!["t1", "t*"]))),
        ("model", patterns(PATTERNS.to_vec())),
        ("tool", patterns(PATTERNS.to_vec())),
        ("arguments", seldom(predicates(wide.clone()))),
        ("body", seldom(predicates(wide))),
        ("data", seldom(patterns(vec!["pii.card", "pii.*", "secret.*"]))),
        ("destination", seldom(patterns(HOSTS.to_vec()))),
        ("destination_not", seldom(patterns(HOSTS.to_vec()))),
        (
            "provenance",
            proptest::option::weighted(0.1, provenance())
                .prop_map(|value| value.unwrap_or(Value::Null))
                .boxed(),
        ),
        ("after", seldom(patterns(PATTERNS.to_vec()))),
    ])
    .prop_map(without_null)
}

fn provenance() -> impl Strategy<Value = Value> {
    let paths = || select(vec!["/to", "/parts/*", "/**/text"]);
    members(vec![
        ("min_length", (12_u64..=256).prop_map(Value::from).boxed()),
        ("from", patterns(PATTERNS.to_vec())),
        ("argument", proptest::collection::vec(paths(), 1..3).prop_map(Value::from).boxed()),
    ])
}

/// Exceptions are about one value each.
fn unless() -> impl Strategy<Value = Value> {
    members(vec![
        ("identity", patterns(vec!["agent", "a*"])),
        ("tool", patterns(PATTERNS.to_vec())),
        ("arguments", predicates(NARROW.to_vec())),
        ("body", predicates(NARROW.to_vec())),
        ("destination_not", patterns(HOSTS.to_vec())),
    ])
}

fn without_null(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    value
}

fn hold() -> impl Strategy<Value = Value> {
    let names = select(vec![json!(["bob", "ada"]), json!(["dan", "ada"])]);
    let rest = members(vec![
        ("needs", (1..=2u64).prop_map(Value::from).boxed()),
        ("ttl_ms", (1_000..9_000u64).prop_map(Value::from).boxed()),
        ("mode", select(vec![json!("accepted"), json!("wait")]).boxed()),
    ]);
    (names, rest).prop_map(|(names, mut hold)| {
        hold["approvers"] = names;
        hold
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let unless = proptest::option::weighted(0.3, unless());
    let when = (when(), unless);
    let rest = members(vec![
        ("message", text().boxed()),
        ("severity", Just(json!("high")).boxed()),
        ("threat", Just(json!(["owasp_llm:2025/LLM06"])).boxed()),
        ("body_storage", storage().boxed()),
    ]);
    let verdict = select(vec![json!("allow"), json!("hold"), json!("block")]);
    (when, rest, (verdict, hold()), select(vec!["TOOL_DENIED", "MODEL_DENIED", "DENIED"])).prop_map(
        |((when, unless), rest, (verdict, hold), reason)| {
            let mut rule = rest;
            if verdict == "hold" {
                rule["hold"] = hold;
                if rule.get("body_storage").is_some_and(|storage| storage == "none") {
                    rule["body_storage"] = "hmac".into();
                }
            }
            if let Some(unless) =
                unless.filter(|unless| unless.as_object().is_some_and(|all| !all.is_empty()))
            {
                rule["unless"] = unless;
            }
            rule["when"] = when;
            rule["reason"] = reason.into();
            rule["verdict"] = verdict;
            rule
        },
    )
}

fn control() -> impl Strategy<Value = Value> {
    let window = (select(vec!["rate", "velocity"]), 1..9u64, 1..99u64)
        .prop_map(|(kind, limit, seconds)| json!({ "kind": kind, "limit": limit, "seconds": seconds }));
    let cap = (select(vec!["tokens", "cost"]), 1..9u64, select(vec!["day", "month"]), 0..9u64).prop_map(
        |(unit, limit, per, estimate)| {
            json!({ "kind": "cap", "unit": unit, "limit": limit, "per": per, "estimate": estimate })
        },
    );
    let when = members(vec![("route", patterns(vec!["llm", "*"])), ("tool", patterns(PATTERNS.to_vec()))]);
    let by = proptest::sample::subsequence(vec!["identity", "tenant", "route", "model", "tool"], 0..=3);
    let rest = members(vec![
        ("by", by.prop_map(Value::from).boxed()),
        ("on_store_down", select(vec![json!("closed"), json!({ "local_budget": 3 })]).boxed()),
        ("reason", Just(json!("DENIED")).boxed()),
        ("message", text().boxed()),
        ("severity", Just(json!("high")).boxed()),
    ]);
    let idempotency = members(vec![
        ("header", select(vec!["idempotency-key", "x-key"]).prop_map(Value::from).boxed()),
        ("required", any::<bool>().prop_map(Value::from).boxed()),
        ("answer_bytes_max", (1024..2048u64).prop_map(Value::from).boxed()),
    ]);
    let idempotency = (idempotency, 1..99u64).prop_map(|(mut control, seconds)| {
        control["kind"] = "idempotency".into();
        control["seconds"] = seconds.into();
        control
    });
    let distinct = (1..99u64, 1..99u64, select(vec!["destination", "tool", "/to", "/parts/*"])).prop_map(
        |(limit, seconds, of)| json!({ "kind": "distinct", "limit": limit, "seconds": seconds, "of": of }),
    );
    (prop_oneof![window, cap, idempotency, distinct], when, rest).prop_map(|(mut control, when, rest)| {
        control["when"] = when;
        let counts = control["kind"] != "idempotency";
        let rest = rest.as_object().unwrap().clone().into_iter();
        let rest = rest.filter(|(key, _)| counts || key == "severity");
        control.as_object_mut().unwrap().extend(rest);
        control
    })
}

/// A policy whose rules have few conditions over few names, so that they meet.
pub fn policy() -> impl Strategy<Value = Value> {
    let routes = members(ROUTES[..2].iter().map(|name| (*name, settings(true).boxed())).collect());
    let rules = proptest::collection::vec(rule(), 0..8);
    let controls = proptest::collection::vec(control(), 0..3);
    let head = (settings(false), limits(), text(), detectors());
    (head, routes, rules, controls).prop_map(|((defaults, limits, description, detectors), routes, mut rules, mut controls)| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule["id"] = format!("r{index}").into();
        }
        for (index, control) in controls.iter_mut().enumerate() {
            control["id"] = format!("c{index}").into();
        }
        let prices = json!([{ "model": "gpt*", "from": "2026-01-01", "input": 3, "output": 4 }]);
        json!({
            "version": 1, "name": "random", "description": description,
            "contracts": { "value": { "json": "{\"type\": \"object\"}" }, "other": { "json": "{}" }, "rows": { "csv": "{}" },
                "packed": { "pack": "acme/orders", "contract": "order", "sha256": "ab".repeat(32) } },
            "approvers": {
                "ada": "MCowBQYDK2VwAyEAkHFqkNM477dYHBur4AphZnokSoAcIOVmUzKYYQOOtss=",
                "dan": "MCowBQYDK2VwAyEAdRUF1QU6GMJzo6DU5G7VzwylSqlYTpZt28zaaPn5Vgk=",
                "bob": { "key": "MCowBQYDK2VwAyEADlmTq69cC+QW7DkBKvJragNjp1VFz7VALx0pmsts3Lc=", "identity": "bob" },
            },
            "detectors": detectors, "defaults": defaults, "limits": limits, "routes": routes, "rules": rules,
            "controls": controls, "prices": prices,
        })
    })
}

/// One way to write a value, chosen by a seed.
pub fn spell(value: &Value, seed: u64) -> String {
    let mut out = String::new();
    Speller { state: seed }.block(&mut out, value, 0, false);
    out
}

struct Speller {
    state: u64,
}

impl Speller {
    /// SplitMix64.
    fn pick(&mut self, choices: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % choices as u64) as usize // less than `choices`
    }

    fn shuffled<'v>(&mut self, map: &'v Map<String, Value>) -> Vec<(&'v String, &'v Value)> {
        let mut pairs: Vec<_> = map.iter().collect();
        for end in (1..pairs.len()).rev() {
            pairs.swap(end, self.pick(end + 1));
        }
        pairs
    }

    fn comment(&mut self) -> &'static str {
        ["\n", "\n", " # why: {not}\n", "\n\n# a line\n"][self.pick(4)]
    }

    fn block(&mut self, out: &mut String, value: &Value, indent: usize, patterns: bool) {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(map) if !map.is_empty() && self.pick(4) > 0 => {
                for (key, value) in self.shuffled(map) {
                    *out += &format!("{pad}{key}:");
                    self.nested(out, value, indent, is_when(key));
                }
            }
            Value::Array(items) if !items.is_empty() && self.pick(4) > 0 => {
                for item in items {
                    *out += &format!("{pad}-");
                    self.nested(out, item, indent, patterns);
                }
            }
            other => {
                *out += &pad;
                self.flow(out, other, patterns);
                *out += self.comment();
            }
        }
    }

    fn nested(&mut self, out: &mut String, value: &Value, indent: usize, patterns: bool) {
        let single = value.as_array().filter(|items| patterns && items.len() == 1).map(|items| &items[0]);
        match single.filter(|_| self.pick(2) == 0).unwrap_or(value) {
            nested @ (Value::Object(_) | Value::Array(_)) => {
                *out += self.comment();
                self.block(out, nested, indent + 2, patterns);
            }
            scalar => {
                *out += " ";
                self.flow(out, scalar, patterns);
                *out += self.comment();
            }
        }
    }

    fn flow(&mut self, out: &mut String, value: &Value, patterns: bool) {
        match value {
            Value::Object(map) => {
                *out += "{ ";
                for (key, value) in self.shuffled(map) {
                    *out += &format!("{key}: ");
                    self.flow(out, value, is_when(key));
                    *out += ", ";
                }
                *out += "}";
            }
            Value::Array(items) if patterns && items.len() == 1 && self.pick(2) == 0 => {
                self.flow(out, &items[0], false)
            }
            Value::Array(items) => {
                *out += "[ ";
                for item in items {
                    self.flow(out, item, patterns);
                    *out += ", ";
                }
                *out += "]";
            }
            Value::String(text) => match self.pick(3) {
                0 if is_plain(text) => *out += text,
                1 => *out += &format!("'{}'", text.replace('\'', "''")),
                _ => *out += &value.to_string(),
            },
            other => *out += &other.to_string(),
        }
    }
}

/// Keys whose value may be one pattern or a list of them.
fn is_when(key: &str) -> bool {
    [
        "route",
        "identity",
        "tenant",
        "model",
        "tool",
        "data",
        "destination",
        "destination_not",
        "matches",
        "not_matches",
    ]
    .contains(&key)
}

fn is_plain(text: &str) -> bool {
    text != "yes"
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.contains([':', '#', '\'', '"', '{'])
}
