//! How long judging takes: twenty rules that are all tried, on calls as they come.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use estoppel_policy::{Policy, PolicyDocument, RequestFacts, ResponseFacts, Tool};

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

criterion_group!(benches, judge);
criterion_main!(benches);
