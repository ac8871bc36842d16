//! Two runs of one scenario.

use serde_json::{Value, json};

use super::Kept;
use crate::{Cause, Comparison, Normalizers, Scenario, compare_runs};

/// A call of a model with stored bodies.
fn asked(kept: &mut Kept, seq: u64, request: &Value, answer: &Value) -> Value {
    let (request, answer) = (request.to_string(), answer.to_string());
    let mut call = call(seq, "openai_chat", &[&request, &answer]);
    call["facts"] = json!({ "model": serde_json::from_str::<Value>(&request).unwrap()["model"] });
    for (at, body) in [("/request", &request), ("/response/upstream", &answer), ("/response/client", &answer)]
    {
        call.pointer_mut(at).unwrap()["sha256"] = kept.keep(body).into();
    }
    call
}

fn call(seq: u64, dialect: &str, bodies: &[&str; 2]) -> Value {
    json!({
        "kind": "call", "run": "r", "seq": seq, "ts": format!("t{seq}"), "call": format!("c{seq}"), "dialect": dialect,
        "operation": "o", "mono_us": seq * 1000, "policy": { "hash": "sha256:p" }, "time": { "total_us": 10 },
        "request": { "route": "stub", "bytes": bodies[0].len(), "method": "POST" },
        "response": { "client": { "bytes": bodies[1].len(), "status": 200 }, "upstream": { "bytes": bodies[1].len(), "status": 200 } },
        "verdict": { "action": "allow", "mode": "enforce" }, "outcome": { "code": "OK", "complete": true },
    })
}

fn tool(kept: &mut Kept, seq: u64, name: &str, answer: &str) -> Value {
    let mut call = call(seq, "mcp", &["{}", answer]);
    call["facts"] = json!({ "tools_called": [name] });
    for (at, body) in [("/request", "{}"), ("/response/upstream", answer), ("/response/client", answer)] {
        call.pointer_mut(at).unwrap()["sha256"] = kept.keep(body).into();
    }
    call
}

fn prompt(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

fn said(text: &str) -> Value {
    json!({ "choices": [{ "message": { "content": text } }] })
}

fn compared(from: &[Value], to: &[Value], kept: &Kept) -> Comparison {
    compared_by([&[], &[]], from, to, kept)
}

/// With targets that are known in each run, by their tags.
fn compared_by(targets: [&[(&str, &str)]; 2], from: &[Value], to: &[Value], kept: &Kept) -> Comparison {
    let normalizers = Normalizers::new(None).unwrap();
    let read = |lines: &[Value]| {
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_string().into_bytes()).collect();
        Scenario::read(lines.iter().map(Vec::as_slice), &normalizers).unwrap()
    };
    let (mut from, mut to) = (read(from), read(to));
    for (scenario, targets) in [&mut from, &mut to].into_iter().zip(targets) {
        let targets = targets.iter().map(|(tag, target)| ((*tag).to_owned(), (*target).to_owned()));
        scenario.targets = targets.collect();
    }
    let comparison = compare_runs(&from, &to, &normalizers, (kept, kept)).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../../../spec/compare.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(schema.is_valid(&comparison.document()), "{:#}", comparison.document());
    comparison
}

/// The result, and of the first call that parts its causes and where.
fn check(from: &[Value], to: &[Value], kept: &Kept, result: &str, causes: &[Cause], at: &[&str]) {
    let found = compared(from, to, kept);
    let first = found.first.as_ref();
    let names =
        first.map(|first| first.at.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default();
    assert_eq!(
        (found.result(), first.map(|first| first.causes.as_slice()).unwrap_or_default(), names.as_slice()),
        (result, causes, at),
        "{:#}",
        found.document()
    );
}

#[test]
fn causes_are_those_of_the_specification() {
    let spec = include_str!("../../../../spec/diff.md");
    let schema: Value = serde_json::from_str(include_str!("../../../../spec/compare.schema.json")).unwrap();
    let codes: Vec<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(schema["$defs"]["cause"]["enum"], json!(codes));
    assert!(codes.iter().all(|code| spec.contains(&format!("`{code}`"))));
}

#[test]
fn what_was_asked_comes_before_what_was_answered() {
    let mut kept = Kept::default();
    let before = [asked(&mut kept, 1, &prompt("a"), &said("x"))];
    let mut one = |request: Value, answer: &str| [asked(&mut kept, 7, &request, &said(answer))];
    let same = one(prompt("a"), "x");
    let other_prompt = one(prompt("b"), "y");
    let mut model = prompt("a");
    model["model"] = json!("n");
    let other_model = one(model.clone(), "y");
    model["messages"][0]["content"] = json!("b");
    let both = one(model, "x");
    let mut warmer = prompt("a");
    warmer["temperature"] = json!(1);
    let warmer = one(warmer, "x");
    let other_answer = one(prompt("a"), "y");
    check(&before, &same, &kept, "equal", &[], &[]);
    let answer = "/response/upstream/body/choices/0/message/content";
    let client = "/response/client/body/choices/0/message/content";
    let prompted = "/request/body/messages/0/content";
    check(
        &before,
        &other_prompt,
        &kept,
        "parted",
        &[Cause::Prompt, Cause::ModelAnswer],
        &[prompted, client, answer],
    );
    check(
        &before,
        &other_model,
        &kept,
        "parted",
        &[Cause::Model, Cause::ModelAnswer],
        &["/facts/model", "/request/body/model", client, answer],
    );
    check(
        &before,
        &both,
        &kept,
        "parted",
        &[Cause::Model, Cause::Prompt],
        &["/facts/model", "/request/body/model", prompted],
    );
    check(&before, &warmer, &kept, "parted", &[Cause::Parameters], &["/request/body/temperature"]);
    check(&before, &other_answer, &kept, "parted", &[Cause::ModelAnswer], &[client, answer]);
}

#[test]
fn what_a_tool_gave_is_told_from_what_a_person_said() {
    let mut kept = Kept::default();
    let mut with = |part: Value| {
        let mut request = prompt("a");
        request["messages"].as_array_mut().unwrap().push(part);
        [asked(&mut kept, 1, &request, &said("x"))]
    };
    let tool = |text: &str| json!({ "role": "tool", "content": text });
    let block =
        |text: &str| json!({ "role": "user", "content": [{ "type": "tool_result", "content": text }] });
    let user = |text: &str| json!({ "role": "user", "content": text });
    let pairs = [
        (with(tool("1")), with(tool("2")), Cause::ToolAnswer, "/request/body/messages/1/content"),
        (with(block("1")), with(block("2")), Cause::ToolAnswer, "/request/body/messages/1/content/0/content"),
        (with(user("1")), with(user("2")), Cause::Prompt, "/request/body/messages/1/content"),
    ];
    for (from, to, cause, at) in pairs {
        check(&from, &to, &kept, "parted", &[cause], &[at]);
    }
}

#[test]
fn a_verdict_has_the_policy_as_its_cause_where_that_is_another() {
    let mut kept = Kept::default();
    let before = [asked(&mut kept, 1, &prompt("a"), &said("x"))];
    let mut blocked = before.clone();
    blocked[0]["verdict"] = json!({ "action": "block", "mode": "enforce", "reason": "R" });
    blocked[0]["response"] = json!({ "client": { "bytes": 2, "status": 403 } });
    let found = compared(&before, &blocked, &kept);
    assert_eq!((found.first.unwrap().causes, found.same_policies), (vec![Cause::Judgement], true));
    blocked[0]["policy"]["hash"] = json!("sha256:q");
    let found = compared(&before, &blocked, &kept);
    assert_eq!((found.first.unwrap().causes, found.same_policies), (vec![Cause::Policy], false));
    let mut other_hash = before.clone();
    other_hash[0]["policy"]["hash"] = json!("sha256:q");
    check(&before, &other_hash, &kept, "equal", &[], &[]);
    let mut down = before.clone();
    down[0]["response"]["upstream"]["status"] = json!(503);
    check(&before, &down, &kept, "parted", &[Cause::UpstreamStatus], &["/response/upstream/status"]);
}

#[test]
fn calls_that_are_missing_added_or_elsewhere_part_and_equal_ones_go_by_their_place() {
    let mut kept = Kept::default();
    let mut of = |names: &[&str]| -> Vec<Value> {
        names.iter().zip(1..).map(|(name, seq)| tool(&mut kept, seq, name, "{}")).collect()
    };
    let (abab, aab, abb, ba, ab) = (
        of(&["a", "b", "a", "b"]),
        of(&["a", "a", "b"]),
        of(&["a", "b", "b"]),
        of(&["b", "a"]),
        of(&["a", "b"]),
    );
    let other = [of(&["a"]), vec![tool(&mut kept, 2, "b", "[]")]].concat();
    check(&abab, &abab, &kept, "equal", &[], &[]);
    check(&abab, &ab, &kept, "parted", &[Cause::CallMissing], &[]);
    check(&ab, &abab, &kept, "parted", &[Cause::CallAdded], &[]);
    check(&ab, &ba, &kept, "parted", &[Cause::Order], &[]);
    check(&ab, &aab, &kept, "parted", &[Cause::CallAdded], &[]);
    let found = compared(&aab, &abb, &kept);
    assert_eq!(
        found.first.as_ref().map(|first| (first.cause(), first.from.as_ref().unwrap().0)),
        Some((Cause::CallMissing, 1))
    );
    assert_eq!(
        found.causes.into_iter().collect::<Vec<_>>(),
        [(Cause::CallMissing, 1), (Cause::CallAdded, 1)]
    );
    check(
        &ab,
        &other,
        &kept,
        "parted",
        &[Cause::ToolAnswer],
        &["/response/client/body", "/response/upstream/body"],
    );
}

#[test]
fn without_bodies_or_a_path_nothing_is_found_equal() {
    let kept = Kept::default();
    let mut model = call(1, "openai_chat", &["{}", "{}"]);
    for at in ["/request", "/response/upstream", "/response/client"] {
        model.pointer_mut(at).unwrap()["tag"] =
            format!("hmac-sha256:{}:{}", "1".repeat(16), "2".repeat(64)).into();
    }
    let mut again = model.clone();
    for at in ["/request", "/response/upstream", "/response/client"] {
        again.pointer_mut(at).unwrap()["tag"] =
            format!("hmac-sha256:{}:{}", "3".repeat(16), "2".repeat(64)).into();
    }
    check(&[model.clone()], &[again.clone()], &kept, "undecided", &[], &[]);
    check(&[model.clone()], &[model.clone()], &kept, "equal", &[], &[]);
    again["response"]["upstream"]["status"] = json!(500);
    check(&[model], &[again], &kept, "parted", &[Cause::UpstreamStatus], &["/response/upstream/status"]);
    check(&[], &[], &kept, "undecided", &[], &[]);
    let mut kept = Kept::default();
    let mut plain = call(1, "json", &["{}", "{}"]);
    for at in ["/request", "/response/upstream", "/response/client"] {
        plain.pointer_mut(at).unwrap()["sha256"] = kept.keep("{}").into();
    }
    plain["request"]["target_tag"] = json!("hmac-sha256:a");
    let mut other = plain.clone();
    check(&[plain.clone()], &[plain.clone()], &kept, "equal", &[], &[]);
    other["request"]["target_tag"] = json!("hmac-sha256:b");
    check(&[plain.clone()], &[other.clone()], &kept, "undecided", &[], &[]);
    assert_eq!(compared(&[plain.clone()], &[plain.clone()], &kept).document()["targets"]["not_compared"], 0);
    assert_eq!(compared(&[plain], &[other], &kept).document()["targets"]["not_compared"], 1);
    let model = [asked(&mut kept, 1, &prompt("a"), &said("x"))];
    let found = compared(&model, &model, &kept);
    assert_eq!((found.result(), &found.document()["targets"]["not_compared"]), ("equal", &json!(1)));
}

#[test]
fn paths_are_compared_where_they_are_known_in_both_runs() {
    let mut kept = Kept::default();
    let known: [&[(&str, &str)]; 2] = [&[("a1", "/a"), ("b1", "/b")], &[("a2", "/a"), ("b2", "/b")]];
    for (dialect, unknown) in [("openai_chat", "equal"), ("json", "undecided")] {
        let mut with = |tag: Option<&str>, text: &str| {
            let mut call = asked(&mut kept, 1, &prompt(text), &said("x"));
            call["dialect"] = json!(dialect);
            if let Some(tag) = tag {
                call["request"]["target_tag"] = json!(tag);
            }
            [call]
        };
        let tags = [Some("a1"), Some("a2"), Some("b2"), Some("x1"), Some("x2"), None];
        let [a1, a2, b2, x1, x2, none] = tags.map(|tag| with(tag, "a"));
        let other_prompt = with(Some("b2"), "b");
        let target: &[Cause] = &[Cause::Target];
        for (from, to, targets, result, causes, not_compared) in [
            (&a1, &a2, known, "equal", &[][..], 0),
            (&a1, &b2, known, "parted", target, 0),
            (&a1, &x2, known, "parted", target, 0),
            (&x1, &a2, known, "parted", target, 0),
            (&x1, &x2, known, unknown, &[], 1),
            (&a1, &none, known, unknown, &[], 1),
            (&a1, &a2, [known[0], &[]], unknown, &[], 1),
            (&a1, &a1, [&[], &[]], "equal", &[], 0),
        ] {
            let found = compared_by(targets, from, to, &kept);
            let first = found.first.as_ref().map(|first| first.causes.as_slice());
            let case = (found.result(), first.unwrap_or_default(), found.targets_not_compared);
            assert_eq!(case, (result, causes, not_compared), "{dialect}: {:#}", found.document());
        }
        let found = compared_by(known, &a1, &other_prompt, &kept).first.unwrap();
        assert!(
            found.causes.contains(&Cause::Target) && found.at.contains(&"/request/target_tag".to_owned())
        );
    }
}

#[test]
fn answers_of_tools_that_are_swapped_part_and_other_ids_do_not() {
    type Way = fn([&str; 4]) -> Value;
    let ways: [(&str, Way, &str); 3] = [
        (
            "openai_chat",
            |[one, two, first, second]| {
                json!({ "messages": [
                    { "role": "assistant", "tool_calls": [{ "id": one, "function": { "name": "a" } }, { "id": two, "function": { "name": "b" } }] },
                    { "role": "tool", "tool_call_id": first, "content": "1" },
                    { "role": "tool", "tool_call_id": second, "content": "2" },
                ] })
            },
            "/request/body/messages/1/tool_call_id",
        ),
        (
            "anthropic_messages",
            |[one, two, first, second]| {
                json!({ "messages": [
                    { "role": "assistant", "content": [{ "type": "tool_use", "id": one, "name": "a" }, { "type": "tool_use", "id": two, "name": "b" }] },
                    { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": first, "content": "1" }, { "type": "tool_result", "tool_use_id": second, "content": "2" }] },
                ] })
            },
            "/request/body/messages/1/content/0/tool_use_id",
        ),
        (
            "openai_responses",
            |[one, two, first, second]| {
                json!({ "input": [
                    { "type": "function_call", "call_id": one, "name": "a" }, { "type": "function_call", "call_id": two, "name": "b" },
                    { "type": "function_call_output", "call_id": first, "output": "1" }, { "type": "function_call_output", "call_id": second, "output": "2" },
                ] })
            },
            "/request/body/input/2/call_id",
        ),
    ];
    for (dialect, request, at) in ways {
        let mut kept = Kept::default();
        let mut of = |ids| {
            let mut request = request(ids);
            request["model"] = json!("m");
            let mut call = asked(&mut kept, 1, &request, &said("x"));
            call["dialect"] = json!(dialect);
            [call]
        };
        let (before, other_ids) = (of(["b", "a", "b", "a"]), of(["x", "y", "x", "y"]));
        let swapped = of(["x", "y", "y", "x"]);
        check(&before, &other_ids, &kept, "equal", &[], &[]);
        let found = compared(&before, &swapped, &kept);
        let first = found.first.as_ref().unwrap();
        assert_eq!((first.cause(), first.at.first().map(String::as_str)), (Cause::ToolAnswer, Some(at)));
    }
}

/// A run that asks twice: what the first answer gave is what the second request speaks of.
fn referring(kept: &mut Kept, ids: [&str; 3], request: &Value, is_stream: bool) -> Vec<Value> {
    let [response, one, two] = ids;
    let answer = json!({ "id": response, "output": [{ "type": "reasoning", "id": one }, { "type": "message", "id": two, "content": "x" }] });
    let mut first = asked(kept, 1, &json!({ "model": "m", "input": "a" }), &answer);
    if is_stream {
        let events = format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"{response}\",\"output\":[]}}}}\n\n\
             event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{answer}}}\n\ndata: [DONE]\n\n"
        );
        for at in ["/response/upstream", "/response/client"] {
            first.pointer_mut(at).unwrap()["sha256"] = kept.keep(&events).into();
        }
    }
    let mut second = asked(kept, 2, request, &said("y"));
    for call in [&mut first, &mut second] {
        call["dialect"] = json!("openai_responses");
    }
    vec![first, second]
}

#[test]
fn an_item_that_is_referred_to_is_the_one_that_an_earlier_answer_gave() {
    let mut kept = Kept::default();
    let item = |id: &str| json!({ "model": "m", "input": [{ "type": "item_reference", "id": id }] });
    let after = |id: &str| json!({ "model": "m", "input": "b", "previous_response_id": id });
    let (ids, others) = (["resp_1", "rs_1", "msg_1"], ["resp_2", "rs_2", "msg_2"]);
    let mut run = |ids, request: &Value| referring(&mut kept, ids, request, false);
    let (first, last) = (run(ids, &item("rs_1")), run(ids, &item("msg_1")));
    let (other_first, other_last) = (run(others, &item("rs_2")), run(others, &item("msg_2")));
    let (unknown, also_unknown) = (run(ids, &item("rs_x")), run(others, &item("rs_y")));
    let (before, other_before) = (run(ids, &after("resp_1")), run(others, &after("resp_2")));
    let (of_other, alone) =
        (run(others, &after("msg_2")), run(others, &json!({ "model": "m", "input": "b" })));
    let at = "/request/body/input/0/id";
    check(&first, &other_first, &kept, "equal", &[], &[]);
    check(&last, &other_last, &kept, "equal", &[], &[]);
    check(&first, &other_last, &kept, "parted", &[Cause::Prompt], &[at]);
    check(&last, &other_first, &kept, "parted", &[Cause::Prompt], &[at]);
    check(&unknown, &also_unknown, &kept, "equal", &[], &[]);
    check(&before, &other_before, &kept, "equal", &[], &[]);
    for other in [of_other, alone] {
        check(&before, &other, &kept, "parted", &[Cause::Prompt], &["/request/body/previous_response_id"]);
    }
    let mut stream = |ids, request: &Value| referring(&mut kept, ids, request, true);
    let streams = [stream(ids, &item("rs_1")), stream(others, &item("rs_2")), stream(others, &item("msg_2"))];
    let found = |one: &[Value], other: &[Value]| {
        let document = compared(one, other, &kept).document();
        (document["calls"]["equal"].clone(), document["calls"]["parted"].clone())
    };
    assert_eq!(found(&streams[0], &streams[1]), (json!(1), json!(1)), "events are compared as a whole");
    assert_eq!(found(&streams[0], &streams[2]), (json!(0), json!(2)));
    assert_eq!(found(&streams[0], &other_first), (json!(1), json!(1)), "and say what they gave");
}

#[test]
fn a_thousand_calls_in_two_orders_give_the_same_document_every_time() {
    let mut kept = Kept::default();
    let lines: Vec<Value> =
        (1..=1000).map(|seq| asked(&mut kept, seq, &prompt(&(seq % 7).to_string()), &said("x"))).collect();
    let mut other = lines.clone();
    other[700] = asked(&mut kept, 701, &prompt("new"), &said("x"));
    let mut shuffled = other.clone();
    shuffled.reverse();
    let documents = [&other, &shuffled].map(|other| compared(&lines, other, &kept).document());
    assert_eq!(documents[0], documents[1], "the order of lines is none of calls");
    assert_eq!(
        (&documents[0]["first"]["cause"], &documents[0]["first"]["from"]["place"]),
        (&json!("PROMPT"), &json!(700))
    );
    assert_eq!((&documents[0]["calls"]["equal"], &documents[0]["calls"]["parted"]), (&json!(999), &json!(1)));
}
