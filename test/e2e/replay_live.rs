//! Recorded calls of MCP tools, made again for real: only of tools that were allowed, and only where the run was named.

use std::net::TcpListener;
use std::process::Command;

use estoppel_kit::Scratch;
use estoppel_stub::{Body, Listen, Reply, Rule, Script, Stub};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::mcp_values::post;
use crate::replay::Recording;
use crate::support::{Setup, World, cli_binary, path};

/// Two calls of `add`, then one of `drop`.
const CALLS: [(&str, i64); 3] = [("add", 1), ("add", 2), ("drop", 3)];

fn message(id: usize, sum: i64) -> Reply {
    let result = json!({"content": [], "structuredContent": {"sum": sum}});
    let text = json!({"id": id, "jsonrpc": "2.0", "result": result}).to_string();
    Reply::new(Body::Text(text)).header("content-type", "application/json")
}

fn rule(id: usize, sum: i64) -> Rule {
    Rule { body_contains: Some(format!("\"id\":{id},")), ..Rule::any("", message(id, sum)) }
}

fn recording(script: Script) -> Recording {
    let setup = Setup {
        policy: "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: replay } } }\n".into(),
        ..Setup::default()
    };
    let world = World::with(script, &setup);
    for (id, (tool, a)) in CALLS.into_iter().enumerate() {
        let params = json!({"name": tool, "arguments": {"a": a}});
        let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        assert_eq!(world.send(&post(&call)).status(), 200);
    }
    Recording::of(world, "mcp")
}

fn steady() -> Script {
    let script = Script::always(Reply::default().status(404));
    CALLS.into_iter().enumerate().fold(script, |script, (id, (_, a))| script.on(rule(id, a + 1)))
}

/// `replay run --live`, with what the environment says: exit code and the answer.
pub(crate) fn run(
    recording: &Recording,
    out: &str,
    url: &str,
    said: Option<&str>,
    more: &[&str],
) -> (i32, Value) {
    let mut command = Command::new(cli_binary());
    command.args(["--json", "replay", "run", path(&recording.bundle), "--key", path(&recording.key)]);
    command.args(["--out", path(&recording.out(out)), "--live", "--upstream", url]).args(more);
    command.env_remove("ESTOPPEL_REPLAY_LIVE");
    if let Some(said) = said {
        command.env("ESTOPPEL_REPLAY_LIVE", said);
    }
    let done = command.output().unwrap();
    let answer = serde_json::from_slice(&done.stdout);
    (
        done.status.code().unwrap(),
        answer.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr))),
    )
}

pub(crate) fn upstream(recording: &Recording) -> String {
    format!("http://{}/mcp", recording.world.upstream.addr())
}

pub(crate) fn run_id(recording: &Recording) -> String {
    let receipts = recording.world.receipts_in(&recording.bundle);
    receipts[0]["run"].as_str().unwrap().to_owned()
}

#[test]
fn without_a_tool_and_the_run_said_nothing_is_connected_to() {
    let recording = recording(steady());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let id = run_id(&recording);
    let other = "01980000-0000-7000-8000-000000000000";
    let allowed: &[&str] = &["--allow-tool", "add"];
    for (said, more) in
        [(None, &[][..]), (Some(&*id), &[]), (None, allowed), (Some(other), allowed), (Some("1"), allowed)]
    {
        let (code, answer) = run(&recording, "c.json", &url, said, more);
        assert_eq!((code, &answer["error"]["code"]), (8, &json!("LIVE_REFUSED")), "{said:?} {more:?}");
    }
    let elsewhere = run(&recording, "c.json", "http://192.0.2.1:9/mcp", Some(&id), allowed);
    assert_eq!((elsewhere.0, &elsewhere.1["error"]["code"]), (8, &json!("LIVE_REFUSED")));
    // Its name is not even looked up: it has no address, which nobody learned.
    let name = run(&recording, "c.json", "http://no-such-host.invalid/mcp", Some(&id), allowed);
    assert_eq!((name.0, &name.1["error"]["code"]), (8, &json!("LIVE_REFUSED")), "{}", name.1);
    let told = Command::new(cli_binary())
        .args(["replay", "run", path(&recording.bundle), "--key", path(&recording.key)])
        .args(["--out", path(&recording.out("c.json")), "--live", "--upstream", "http://192.0.2.1:9/mcp"])
        .args(allowed)
        .env("ESTOPPEL_REPLAY_LIVE", &id)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("is not on this machine") && !told.contains("for real"), "{told}");
    let tls = run(&recording, "c.json", "https://127.0.0.1:9/mcp", Some(&id), allowed);
    assert_eq!((tls.0, &tls.1["error"]["code"]), (6, &json!("ARGUMENT_INVALID")));
    let waiting = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    assert!(!recording.out("c.json").exists());
}

#[test]
fn allowed_tools_are_called_again_and_others_are_not() {
    let recording = recording(steady());
    let (url, id) = (upstream(&recording), run_id(&recording));
    let before = recording.world.upstream.hits().total();
    let (code, answer) = run(&recording, "one.json", &url, Some(&id), &["--allow-tool", "add"]);
    let certificate = &answer["data"]["certificate"];
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "{answer}");
    assert_eq!((&certificate["mode"], &certificate["upstream_connections"]), (&json!("live"), &json!(0)));
    assert_eq!(certificate["counts"]["skipped"], json!([{"code": "TOOL_NOT_ALLOWED", "count": 1}]));
    assert_eq!(certificate["live"]["sent"], 2);
    assert_eq!(recording.world.upstream.hits().total() - before, 3, "a greeting and two calls");
    let (code, answer) =
        run(&recording, "all.json", &url, Some(&id), &["--allow-tool", "add", "--allow-tool", "drop"]);
    assert_eq!((code, &answer["data"]["certificate"]["status"]), (0, &json!("success")), "{answer}");
    for (name, status) in [("one.json", "partial"), ("all.json", "success")] {
        let (code, said) = recording.verify(&recording.out(name), &recording.bundle, &[]);
        assert_eq!((code, &said["status"]), (0, &json!(status)), "{said}");
    }
}

#[test]
fn tools_behind_tls_are_called_again_where_their_authority_is_named() {
    let recording = recording(steady());
    let (authority, pki) = (Authority::new(), Scratch::new("pki"));
    let listen = Listen { tls: Some(Authority::serve(&authority.server(), None)), ..Listen::default() };
    let server = Stub::spawn_thread_on(listen, steady()).unwrap();
    let (url, ca) = (format!("https://{}/mcp", server.addr()), authority.write(&pki, "ca.crt"));
    let more = ["--allow-tool", "add", "--allow-tool", "drop", "--upstream-ca", path(&ca)];
    let (code, answer) = run(&recording, "tls.json", &url, Some(&run_id(&recording)), &more);
    assert_eq!((code, &answer["data"]["certificate"]["status"]), (0, &json!("success")), "{answer}");
    assert_eq!(server.hits().total(), 4, "a greeting and three calls");
}

#[test]
fn a_tool_that_answers_otherwise_fails_and_no_more_is_called() {
    let script = Script::always(Reply::default().status(404))
        .on(rule(0, 2).times(1))
        .on(rule(0, 5))
        .on(rule(1, 3))
        .on(rule(2, 4));
    let recording = recording(script);
    let (url, id) = (upstream(&recording), run_id(&recording));
    let before = recording.world.upstream.hits().total();
    let (code, answer) =
        run(&recording, "c.json", &url, Some(&id), &["--allow-tool", "add", "--allow-tool", "drop"]);
    let certificate = &answer["data"]["certificate"];
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{answer}");
    assert_eq!(certificate["reasons"], json!(["ANSWER_DRIFT", "UNDECIDED"]));
    assert_eq!(certificate["divergences"][0]["at"], json!(["/result/structuredContent/sum"]));
    assert_eq!(recording.world.upstream.hits().total() - before, 2, "a greeting and one call");
    let rules = json!({"normalize": [{"as": "number", "at": "/result/structuredContent/sum"}], "v": "replay-normalizers/v0"});
    let file = recording.scratch.write("normalizers.json", rules.to_string());
    let more = ["--allow-tool", "add", "--allow-tool", "drop", "--normalizers", path(&file)];
    assert_eq!(run(&recording, "n.json", &url, Some(&id), &more).0, 0);
    let away = "http://127.0.0.1:1/mcp";
    let (code, answer) = run(&recording, "away.json", away, Some(&id), &["--allow-tool", "add"]);
    assert_eq!((code, &answer["data"]["certificate"]["reasons"][0]), (5, &json!("STATUS_DRIFT")), "{answer}");
}
