//! What a policy declares of operations that run again: E0, exactly the same, or E1, within a tolerance.

use std::path::Path;
use std::process::Command;

use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, SoftKey};
use estoppel_kit::http::{Request, send};
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::{Value, json};

use crate::mcp_values::post;
use crate::replay::Recording;
use crate::replay_live;
use crate::support::{Setup, World, cli, path};

/// A quote may come with another trace, tags in another order, and a price within a cent.
const QUOTE: &str = r#"{ class: E1, tolerance: { request: [{ at: /price, absolute: "0.01" }, { at: /tags, as: any_order }, { at: /trace, as: ignored }] } }"#;

fn setup(routes: &str) -> Setup {
    let policy = format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {{ full: {{ reason: replay }} }} }}\nroutes:\n  stub:\n{routes}"
    );
    Setup { policy, ..Setup::default() }
}

fn operations(determinism: &str) -> Setup {
    setup(&format!(
        "    other_operations: allow\n    operations:\n    - {{ id: quote, method: POST, path: /quote, determinism: {determinism} }}\n    - {{ id: order, method: POST, path: /order }}\n"
    ))
}

fn quote(target: &str, body: &str) -> Request {
    let request = Request::new("POST", target).header("content-type", "application/json");
    request.header("estoppel-run", "q").body(body)
}

const RECORDED: &str = r#"{"price":1.10,"tags":["a","b"],"n":1}"#;
/// Everything that is declared differs, and nothing else.
const NEAR: &str = r#"{"n":1,"price":1.11,"tags":["b","a"],"trace":"x"}"#;

fn recording(setup: &Setup) -> Recording {
    let world = World::with(Script::always(Reply::text("{}")), setup);
    for target in ["/quote", "/order"] {
        assert_eq!(send(world.gateway, &quote(target, RECORDED)).unwrap().status(), 200);
    }
    world.wait_for_calls("q", 2);
    Recording::of(world, "q")
}

/// Asks again, with what is sent to the one and to the other; exit code and certificate.
fn served(recording: &Recording, out: &str, bodies: [&str; 2], more: &[&str]) -> (i32, Value) {
    let served = recording.serve(out, &[&["--until-done"], more].concat());
    for (target, body) in ["/quote", "/order"].into_iter().zip(bodies) {
        drop(served.send(&quote(target, body)));
    }
    served.certificate()
}

#[test]
fn a_request_within_what_its_policy_tolerates_matches_and_each_difference_is_noted() {
    let recording = recording(&operations(QUOTE));
    let (code, certificate) = served(&recording, "within.json", [NEAR, RECORDED], &[]);
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    assert_eq!(certificate["reasons"], json!(["TOLERATED"]));
    let counts = &certificate["counts"];
    assert_eq!((&counts["matched"], &counts["tolerated"]), (&json!(2), &json!(1)));
    let determinism = &certificate["determinism"];
    assert_eq!((&determinism["from"], &determinism["differences"]), (&json!("bundle"), &json!(3)));
    let noted = |at: usize, name: &str| determinism["tolerated"][at][name].clone();
    let digest = |text: &str| json!(Sha256::of(text.as_bytes()).to_string());
    assert_eq!(
        (noted(0, "at"), noted(0, "by"), noted(0, "part")),
        (json!("/price"), json!("absolute"), json!("request"))
    );
    assert_eq!((noted(0, "recorded"), noted(0, "found")), (digest("11e-1"), digest("111e-2")));
    assert_eq!((noted(1, "at"), noted(1, "by")), (json!("/tags"), json!("any_order")));
    assert_eq!(
        (noted(2, "at"), noted(2, "recorded"), noted(2, "found")),
        (json!("/trace"), Value::Null, digest("\"x\""))
    );
    assert_eq!(verified_twice(&recording, &recording.out("within.json")), (0, None));
    let words = [
        "replay",
        "verify-certificate",
        path(&recording.out("within.json")),
        "--bundle",
        path(&recording.bundle),
    ]
    .map(str::to_owned);
    let told = Command::new(crate::support::cli_binary()).args(words).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("tolerated   request at seq 1: /price (absolute)"), "{told}");
}

#[test]
fn a_request_that_says_the_same_in_other_bytes_is_within_and_needs_no_note() {
    let other = r#"{ "n": 1.0, "tags": ["a", "b"], "price": 11e-1 }"#;
    let recording = recording(&operations(QUOTE));
    let (code, certificate) = served(&recording, "same.json", [other, RECORDED], &[]);
    assert_eq!((code, &certificate["reasons"]), (0, &json!([])), "{certificate}");
    assert_eq!(verified_twice(&recording, &recording.out("same.json")), (0, None));
}

#[test]
fn a_request_beyond_its_tolerance_fails_with_the_place_and_how_far() {
    let recording = recording(&operations(QUOTE));
    let far = NEAR.replace("1.11", "1.35");
    let (code, certificate) = served(&recording, "beyond.json", [&far, RECORDED], &["--lenient"]);
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    let first = &certificate["divergences"][0];
    assert_eq!((&first["code"], &first["at"]), (&json!("ARG_DRIFT"), &json!(["/price"])));
    let beyond = json!([{"at": "/price", "by": "0.25", "of": "absolute", "within": "0.01"}]);
    assert_eq!(first["beyond"], beyond);
    assert_eq!(certificate["counts"]["tolerated"], 0, "a step that drifts is not noted");
    assert_eq!(verified_twice(&recording, &recording.out("beyond.json")), (0, None));
}

#[test]
fn what_is_e0_or_not_declared_is_exact_and_no_file_takes_e0_back() {
    for (declared, out) in [("{ class: E0 }", "e0.json"), (QUOTE, "other.json")] {
        let recording = recording(&operations(declared));
        let bodies = if declared == QUOTE { [RECORDED, NEAR] } else { [NEAR, RECORDED] };
        let (code, certificate) = served(&recording, out, bodies, &["--lenient"]);
        assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
        assert_eq!(certificate["counts"]["drift"][0]["code"], "SCHEMA_DRIFT");
    }
    let rules = json!({"normalize": [{"as": "any", "at": "/price"}], "v": "replay-normalizers/v0"});
    let recording = recording(&operations("{ class: E0 }"));
    let file = recording.scratch.write("normalizers.json", rules.to_string());
    let other = RECORDED.replace("1.10", "2");
    let more = ["--lenient", "--normalizers", path(&file)];
    let (_, certificate) = served(&recording, "n.json", [&other, &other], &more);
    let drifted: Vec<&Value> =
        certificate["divergences"].as_array().unwrap().iter().map(|row| &row["seq"]).collect();
    assert_eq!(drifted, [1], "the quote is E0, of the order nothing is declared: {certificate}");
}

#[test]
fn a_policy_that_is_given_stands_in_for_the_sealed_one_and_is_named() {
    let recording = recording(&operations("{ class: E0 }"));
    let policy = recording.scratch.write("tolerant.yaml", operations(QUOTE).policy);
    let more = ["--policy", path(&policy)];
    let (code, certificate) = served(&recording, "given.json", [NEAR, RECORDED], &more);
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    let hash = cli(&["policy", "hash", path(&policy)]).1["data"]["policy_hash"].clone();
    assert_eq!(
        (&certificate["determinism"]["from"], &certificate["determinism"]["policy"]),
        (&json!("file"), &hash)
    );
    assert_eq!(recording.verify(&recording.out("given.json"), &recording.bundle, &[]).0, 0);
    let broken = recording.scratch.write("broken.yaml", "version: 1\n");
    let (code, answer) = cli(&[
        "replay",
        "serve",
        path(&recording.bundle),
        "--key",
        path(&recording.key),
        "--keys",
        path(&recording.keys()),
        "--out",
        path(&recording.out("broken.json")),
        "--policy",
        path(&broken),
    ]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("POLICY_INVALID")), "{answer}");
    assert_eq!(recording.run(&recording.bundle, "judged.json", &more).0, 6, "judged again all is compared");
    assert!(!recording.out("judged.json").exists() && !recording.out("broken.json").exists());
}

/// By our verifier and by the one in Python, which was written from the specification alone: exit code and reason.
pub fn verified_twice(recording: &Recording, file: &Path) -> (i32, Option<String>) {
    let (exit, said) = recording.verify(file, &recording.bundle, &[]);
    let reason = said["reason"].as_str().map(ToOwned::to_owned);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers/python/certificate_check.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(program).args([path(file), "--bundle", path(&recording.bundle), "--json"]);
    let done = python.output().unwrap();
    let other: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(
        (done.status.code(), other["reason"].as_str()),
        (Some(exit), reason.as_deref()),
        "{said} {other}"
    );
    (exit, reason)
}

#[test]
fn a_certificate_that_hides_or_makes_up_what_was_tolerated_does_not_hold() {
    let recording = recording(&operations(QUOTE));
    assert_eq!(served(&recording, "c.json", [NEAR, RECORDED], &[]).0, 0);
    let envelope: Value = serde_json::from_slice(&std::fs::read(recording.out("c.json")).unwrap()).unwrap();
    let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let check = |change: &dyn Fn(&mut Value), code: Option<&str>| {
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut statement["predicate"]);
        let signed = sign(STATEMENT_TYPE, statement.to_string().as_bytes(), &SoftKey::ed25519(&[9; 32]));
        let file = recording.scratch.write("forged.json", String::from_utf8(signed.unwrap()).unwrap());
        let (exit, said) = verified_twice(&recording, &file);
        assert_eq!((exit, said.as_deref()), (if code.is_some() { 2 } else { 0 }, code), "{statement}");
    };
    let (status, mismatch) = (Some("CERTIFICATE_STATUS"), Some("CERTIFICATE_MISMATCH"));
    check(&|_| (), None);
    check(&|it| it["counts"]["tolerated"] = json!(0), status);
    check(&|it| it["reasons"] = json!([]), status);
    check(&|it| it["determinism"]["tolerated"] = json!([]), status);
    check(&|it| it["determinism"]["differences"] = json!(2), status);
    check(&|it| drop(it["determinism"]["tolerated"].as_array_mut().unwrap().pop()), status);
    check(&|it| drop(it.as_object_mut().unwrap().remove("determinism")), status);
    check(&|it| it["determinism"]["from"] = json!("file"), status);
    check(&|it| it["determinism"]["tolerated"][0]["part"] = json!("answer"), status);
    check(
        &|it| {
            it["determinism"]["tolerated"][0]["found"] = it["determinism"]["tolerated"][0]["recorded"].clone()
        },
        status,
    );
    check(&|it| it["determinism"]["tolerated"][0]["at"] = json!("/n"), mismatch);
    check(&|it| it["determinism"]["tolerated"][0]["by"] = json!("ignored"), mismatch);
    let another = json!("01980000-0000-7000-8000-000000000000");
    check(&|it| it["determinism"]["tolerated"][1]["call"] = another.clone(), status);
    let of_another = |it: &mut Value| {
        for row in it["determinism"]["tolerated"].as_array_mut().unwrap() {
            row["call"] = another.clone();
        }
    };
    check(&of_another, mismatch);
    let order = recording.world.receipts_in(&recording.bundle)[1].clone();
    let elsewhere = |it: &mut Value| {
        for row in it["determinism"]["tolerated"].as_array_mut().unwrap() {
            (row["seq"], row["call"]) = (order["seq"].clone(), order["call"].clone());
        }
    };
    check(&elsewhere, mismatch);
}

#[test]
fn a_certificate_that_contradicts_itself_does_not_hold() {
    let recording = recording(&operations("{ class: E0 }"));
    let far = RECORDED.replace("1.10", "9");
    assert_eq!(served(&recording, "drift.json", [RECORDED, &far], &[]).0, 5);
    assert_eq!(served(&recording, "good.json", [RECORDED, RECORDED], &[]).0, 0);
    let check = |of: &str, change: &dyn Fn(&mut Value)| {
        let envelope: Value = serde_json::from_slice(&std::fs::read(recording.out(of)).unwrap()).unwrap();
        let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut statement["predicate"]);
        let signed = sign(STATEMENT_TYPE, statement.to_string().as_bytes(), &SoftKey::ed25519(&[9; 32]));
        let file = recording.scratch.write("forged.json", String::from_utf8(signed.unwrap()).unwrap());
        let (exit, said) = verified_twice(&recording, &file);
        (exit, said.unwrap_or_default())
    };
    let refused = (2, "CERTIFICATE_STATUS".to_owned());
    for of in ["drift.json", "good.json"] {
        assert_eq!(check(of, &|_| ()).0, 0, "{of}");
    }
    let drifted = |it: &mut Value| {
        let call = recording.world.receipts_in(&recording.bundle)[0]["call"].clone();
        it["divergences"] = json!([{"code": "ARG_DRIFT", "seq": 1, "call": call}]);
        it["first_divergent_seq"] = json!(1);
    };
    assert_eq!(check("good.json", &drifted), refused, "success beside a divergence");
    assert_eq!(check("good.json", &|it| it["upstream_connections"] = json!(1)), refused);
    assert_eq!(check("good.json", &|it| it["counts"]["matched"] = json!(1)), refused);
    let of_nothing = |it: &mut Value| {
        it["counts"]["matched"] = json!(0);
        it["counts"]["recorded"] = json!(0);
    };
    assert_eq!(check("good.json", &of_nothing), refused, "success of no steps");
    let by_tags = |it: &mut Value| {
        it["mode"] = json!("tag");
        let members = it.as_object_mut().unwrap();
        members.remove("side");
        members.remove("determinism");
    };
    assert_eq!(check("good.json", &by_tags), refused, "success of tags alone");
    let hidden = |it: &mut Value| {
        it["divergences"] = json!([]);
        it.as_object_mut().unwrap().remove("first_divergent_seq");
    };
    assert_eq!(check("drift.json", &hidden), refused, "a drift that is listed nowhere");
    let left_out = |it: &mut Value| {
        hidden(it);
        it["divergences_more"] = json!(1);
    };
    assert_eq!(check("drift.json", &left_out), refused, "left out where there is room");
    let nowhere = |it: &mut Value| {
        let row = it["divergences"][0].as_object_mut().unwrap();
        row.remove("seq");
        row.remove("call");
        it.as_object_mut().unwrap().remove("first_divergent_seq");
    };
    assert_eq!(check("drift.json", &nowhere), refused, "a drift at no step");
    let other = |it: &mut Value| {
        it["counts"]["drift"][0]["code"] = json!("DB_DRIFT");
        it["divergences"][0]["code"] = json!("DB_DRIFT");
        it["reasons"][0] = json!("DB_DRIFT");
    };
    assert_eq!(check("drift.json", &other), refused, "a code of another mode");
}

/// Two calls of `quote`; the second time the answers are those of `again`.
fn tool(determinism: &str, again: [&str; 2]) -> Recording {
    let reply = |id: usize, total: &str| {
        let text = format!(
            r#"{{"id":{id},"jsonrpc":"2.0","result":{{"content":[],"structuredContent":{{"total":{total}}}}}}}"#
        );
        Reply::new(Body::Text(text)).header("content-type", "application/json")
    };
    let rule = |id: usize, total: &str| Rule {
        body_contains: Some(format!("\"id\":{id},")),
        ..Rule::any("", reply(id, total))
    };
    let mut script = Script::always(Reply::default().status(404));
    for (id, total) in again.into_iter().enumerate() {
        script = script.on(rule(id, "10.00").times(1)).on(rule(id, total));
    }
    let setup = setup(&format!("    determinism: {determinism}\n"));
    let world = World::with(script, &setup);
    for id in 0..2 {
        let params = json!({"name": "quote", "arguments": {}});
        let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        assert_eq!(world.send(&post(&call)).status(), 200);
    }
    Recording::of(world, "mcp")
}

fn live(recording: &Recording, out: &str) -> (i32, Value) {
    let (url, id) = (replay_live::upstream(recording), replay_live::run_id(recording));
    let (code, answer) = replay_live::run(recording, out, &url, Some(&id), &["--allow-tool", "quote"]);
    (code, answer["data"]["certificate"].clone())
}

const TOTAL: &str = r#"{ class: E0, tools: { quote: { class: E1, tolerance: { answer: [{ at: /result/structuredContent/total, relative: "0.05" }] } } } }"#;

#[test]
fn a_tool_that_answers_within_its_tolerance_matches_and_beyond_it_fails() {
    let recording = tool(TOTAL, ["10.5", "10.5000000001"]);
    let (code, certificate) = live(&recording, "live.json");
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    assert_eq!(certificate["reasons"], json!(["ANSWER_DRIFT", "TOLERATED"]));
    assert_eq!(
        (&certificate["counts"]["matched"], &certificate["counts"]["tolerated"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(certificate["determinism"]["tolerated"][0]["at"], "/result/structuredContent/total");
    let beyond = &certificate["divergences"][0]["beyond"][0];
    assert_eq!((&beyond["of"], &beyond["within"]), (&json!("relative"), &json!("0.05")));
    assert_eq!(beyond["by"], "0.5000000001");
    assert_eq!(verified_twice(&recording, &recording.out("live.json")), (0, None));
}

#[test]
fn a_tool_that_is_e0_is_exact_but_for_how_a_number_is_written() {
    let recording = tool("{ class: E0 }", ["10", "1e1"]);
    let (code, certificate) = live(&recording, "same.json");
    assert_eq!((code, &certificate["reasons"]), (0, &json!([])), "{certificate}");
    let recording = tool("{ class: E0 }", ["10", "10.00000000000000000001"]);
    let (code, certificate) = live(&recording, "other.json");
    assert_eq!((code, &certificate["reasons"]), (5, &json!(["ANSWER_DRIFT"])), "{certificate}");
}
