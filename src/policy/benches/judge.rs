//! How long judging takes: twenty rules that are all tried, on calls as they come.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use estoppel_policy::{
    Call, Content, Earlier, Policy, PolicyDocument, RequestFacts, ResponseFacts, Tool, Wanted,
};

/// Twenty rules of the kinds that people write. None holds for the calls below, so each is tried.
fn policy() -> Policy {
    let mut text = String::from("version: 1\nname: twenty\ndefaults: { verdict: allow }\nrules:\n");
    let whens = [
        "{ tool: [shell*, exec*, bash] }",
        "{ route: llm, model: [gpt-3.5*, \"*-preview\"] }",
        "{ route: mcp, tool: [\"delete_*\", \"drop_*\"] }",
        "{ identity: \"spiffe://example.org/guest/*\" }",
        "{ operation: gemini.*, model: \"*\" }",
    ];
    for index in 0..20 {
        let when = whens[index % whens.len()];
        text += &format!("- {{ id: r{index}, when: {when}, verdict: block, reason: TOOL_DENIED }}\n");
    }
    PolicyDocument::parse(&text).expect("the text above is a policy").compile()
}

fn judge(criterion: &mut Criterion) {
    let policy = policy();
    let request = RequestFacts {
        route: "llm",
        operation: Some("openai.chat.completions"),
        dialect: Some("openai_chat"),
        method: Some("POST"),
        identity: Some("spiffe://example.org/agent/billing"),
        model: Some("gpt-4o-mini"),
        ..RequestFacts::default()
    };
    let tools: Vec<String> = (0..20).map(|index| format!("lookup_customer_{index}")).collect();
    let tools: Vec<Tool<'_>> = tools.iter().map(|name| name.as_str().into()).collect();
    for count in [0, 1, 3, 20] {
        let facts = RequestFacts { tools: &tools[..count], ..request };
        criterion.bench_function(&format!("request, 20 rules, {count} tools"), |bencher| {
            bencher.iter(|| policy.request(black_box(&facts)));
        });
    }
    let response = ResponseFacts {
        request,
        model_served: Some("gpt-4o-mini-2024-07-18"),
        tools_called: &tools[..1],
        ..ResponseFacts::default()
    };
    criterion.bench_function("response, 20 rules, 1 tool, another model", |bencher| {
        bencher.iter(|| policy.response(black_box(&response)));
    });
}

/// A thousand rules as a firm with many teams has them: each about some tools, routes, models or hosts of its own, and some about
/// patterns.
fn thousand() -> Policy {
    let mut text = String::from("version: 1\nname: thousand\ndefaults: { verdict: allow }\nrules:\n");
    for index in 0..1000 {
        let when = match index % 10 {
            0 => format!("{{ tool: [\"team{index}_*\", \"*_delete_{index}\"] }}"),
            1 => format!("{{ identity: \"spiffe://example.org/team{index}/*\", operation: openai.* }}"),
            2 => format!("{{ model: [gpt-{index}*, claude-{index}-*], tool: \"*\" }}"),
            3 => format!("{{ tool: fetch_{index}, destination_not: [api{index}.example.com] }}"),
            4 => format!("{{ tool: run_{index}, arguments: [{{ at: /command, contains: rm }}] }}"),
            _ => format!("{{ tool: [read_{index}, write_{index}, list_{index}] }}"),
        };
        text += &format!("- {{ id: r{index}, when: {when}, verdict: block, reason: TOOL_DENIED }}\n");
    }
    text += "- { id: hosts, when: { tool: [fetch, lookup*], destination_not: [api.example.com] }, verdict: block, reason: X }\n";
    PolicyDocument::parse(&text).expect("the text above is a policy").compile()
}

fn judge_thousand(criterion: &mut Criterion) {
    let policy = thousand();
    let content = Content::read(
        br#"{"url":"https://api.example.com/v1/customers","id":4711,"fields":["name","city"]}"#,
        Wanted { destinations: true },
    );
    let request = RequestFacts {
        route: "llm",
        operation: Some("openai.chat.completions"),
        dialect: Some("openai_chat"),
        method: Some("POST"),
        identity: Some("spiffe://example.org/agent/billing"),
        model: Some("gpt-4o-mini"),
        ..RequestFacts::default()
    };
    let called = [Tool { name: "lookup_customer", call: Call::With(&content) }];
    let facts = RequestFacts { operation: Some("mcp.tools/call"), tools: &called, ..request };
    criterion.bench_function("call of a tool, 1,000 rules", |bencher| {
        bencher.iter(|| policy.request(black_box(&facts)));
    });
    let tools: Vec<String> = (0..20).map(|index| format!("lookup_customer_{index}")).collect();
    let tools: Vec<Tool<'_>> = tools.iter().map(|name| name.as_str().into()).collect();
    for count in [0, 20] {
        let facts = RequestFacts { tools: &tools[..count], ..request };
        criterion.bench_function(&format!("request, 1,000 rules, {count} tools"), |bencher| {
            bencher.iter(|| policy.request(black_box(&facts)));
        });
    }
}

/// What it takes before rules can look into a body. The limits of shadow policies (`SHADOW_BYTES_MAX`) come from this.
fn read_content(criterion: &mut Criterion) {
    let message = |index: usize| {
        format!(
            r#"{{"role":"user","content":"look at https://api{index}.example.com/v1 and tell me what it says"}}"#
        )
    };
    let body = |bytes: usize| {
        let messages: Vec<String> = (0..bytes / 90).map(message).collect();
        format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(","))
    };
    for (kib, name) in [(1, "1 KiB"), (16, "16 KiB"), (64, "64 KiB")] {
        let text = body(kib << 10);
        for destinations in [false, true] {
            let wanted = Wanted { destinations };
            let hosts = if destinations { ", with hosts" } else { "" };
            criterion.bench_function(&format!("content of {name}{hosts}"), |bencher| {
                bencher.iter(|| Content::read(black_box(text.as_bytes()), wanted));
            });
        }
    }
}

/// What provenance costs: 10,000 characters that a tool gave, and a call of 1,000 that is held against ten such results.
fn provenance(criterion: &mut Criterion) {
    let result = |number: u64| {
        let words = (0..625).map(|word: u64| (word ^ number << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        serde_json::json!({ "text": words.map(|word| format!("{word:016x}")).collect::<String>() })
    };
    let one = result(0);
    criterion.bench_function("provenance, 10,000 characters of a result", |bencher| {
        bencher.iter(|| {
            let mut earlier = Earlier::new(&[7; 16]);
            earlier.learn(Some("fetch"), black_box(&one), usize::MAX)
        });
    });
    let mut earlier = Earlier::new(&[7; 16]);
    for number in 1..11 {
        assert!(earlier.learn(Some("fetch"), &result(number), usize::MAX).is_whole);
    }
    let text = one["text"].as_str().unwrap_or_default();
    let arguments = serde_json::json!({ "body": text.get(..1_000) }).to_string();
    let content = Content::read(arguments.as_bytes(), Wanted::default());
    criterion.bench_function("provenance, 1,000 characters of a call", |bencher| {
        bencher.iter_batched(
            || content.clone(),
            |content| content.with_earlier(black_box(&earlier)),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, judge, judge_thousand, read_content, provenance);
criterion_main!(benches);
