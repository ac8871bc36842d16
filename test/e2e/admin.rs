//! What operators are told of the latest calls, and that nobody keeps their listener busy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use estoppel_kit::Scratch;
use estoppel_kit::http::{Request, get};
use estoppel_stub::{Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::{Value, json};

use crate::holds::{People, again, check, held, policy};
use crate::support::{OPEN, PATIENCE, Setup, World, chat};

const NO_SHELL: &str = "- { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
const LARGE: &str = r#"{"amount":90000,"to":"ACME"}"#;

fn asks(tool: &str) -> String {
    let schema =
        json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let tool = json!({ "type": "function", "function": { "name": tool, "parameters": schema } });
    json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "tools": [tool] }).to_string()
}

/// Calls a tool with arguments that can be repaired; whatever is no question to a model is done.
fn script() -> Script {
    let call = ToolCall { name: "weather".into(), arguments: "```json\n{\"city\": \"Ulm\",}\n```".into() };
    let model = ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::ChatCompletions) };
    Script::always(Reply::json(r#"{"done":true}"#)).on(Rule::any("/v1/*", Reply::model(model)))
}

fn recent(world: &World, query: &str) -> Value {
    let answer = get(world.admin, &format!("/calls/recent{query}")).unwrap();
    assert_eq!(
        (answer.status(), answer.header("content-type")),
        (200, Some("application/json")),
        "{}",
        answer.text()
    );
    serde_json::from_slice(&answer.body).unwrap()
}

fn calls(list: &Value) -> Vec<Value> {
    list["calls"].as_array().unwrap().clone()
}

fn column(list: &Value, name: &str) -> Vec<String> {
    calls(list).iter().map(|row| row[name].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn what_was_not_plainly_allowed_is_told_as_its_receipt_has_it_the_newest_first() {
    let judged = "body_storage: hmac, judge: { unknown_tools: block, repair: r1 } }";
    let policy = policy("approvers: [ada], needs: 1", NO_SHELL).replace("body_storage: hmac }", judged);
    let world = World::with(script(), &Setup { policy, ..Setup::default() });
    let people = People::new(&world);
    assert_eq!(calls(&recent(&world, "")), Vec::<Value>::new());

    assert_eq!(world.send(&chat("held", &asks("shell"))).status(), 403);
    let repaired = world.send(&chat("held", &asks("weather")));
    assert!(repaired.status() == 200 && repaired.text().contains("Ulm"), "{}", repaired.text());
    let hold = held(&world, LARGE);
    // Plainly allowed: it is in the journal, and not here.
    assert_eq!(world.send(&Request::new("GET", "/small").header("estoppel-run", "held")).status(), 200);
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    assert_eq!(world.send(&again(&hold, LARGE)).status(), 200);
    world.wait_until_idle();

    let list = recent(&world, "");
    assert_eq!(column(&list, "verdict"), ["allow", "hold", "repair", "block"]);
    assert_eq!(list["counted"], json!({ "allow": 1, "repair": 1, "hold": 1, "block": 1 }));
    assert_eq!(column(&recent(&world, "?verdict=hold"), "verdict"), ["hold"]);
    assert_eq!(column(&recent(&world, "?limit=2"), "verdict"), ["allow", "hold"]);
    let receipts = world.receipts("held");
    assert_eq!(receipts.len(), 5);
    for row in calls(&list) {
        let receipt = receipts.iter().find(|receipt| receipt["call"] == row["call"]);
        let receipt = receipt.unwrap_or_else(|| panic!("{row} has no receipt"));
        for (told, place) in [
            ("verdict", "/verdict/action"),
            ("reason", "/verdict/reason"),
            ("code", "/outcome/code"),
            ("rule", "/policy/rule"),
            ("run", "/run"),
            ("route", "/request/route"),
            ("method", "/request/method"),
            ("operation", "/operation"),
            ("identity", "/identity/subject"),
            ("hold", "/hold/id"),
        ] {
            let recorded = receipt.pointer(place).unwrap_or(&Value::Null);
            assert_eq!(&row[told], recorded, "{told} of {receipt:#}");
        }
    }
    let blocked = &calls(&list)[3];
    assert_eq!((&blocked["reason"], &blocked["rule"]), (&json!("TOOL_DENIED"), &json!("no-shell")));
    assert_eq!(calls(&list)[0]["hold"], json!(hold));
}

#[test]
fn a_flood_keeps_the_bound_leaves_the_others_and_a_restart_begins_anew() {
    let mut world =
        World::with(script(), &Setup { policy: policy("approvers: [ada]", NO_SHELL), ..Setup::default() });
    held(&world, LARGE);
    let mut last = String::new();
    for _ in 0..300 {
        let answer = world.send(&chat("flood", &asks("shell")));
        assert_eq!(answer.status(), 403);
        last = answer.header("estoppel-call").unwrap().to_owned();
    }
    let list = recent(&world, "?limit=1024");
    let verdicts = column(&list, "verdict");
    assert_eq!((verdicts.len(), &list["kept_max"]), (257, &json!(256)));
    assert!(verdicts[..256].iter().all(|verdict| verdict == "block") && verdicts[256] == "hold");
    assert_eq!(column(&list, "call")[0], last);
    assert_eq!((&list["counted"]["block"], calls(&recent(&world, "")).len()), (&json!(300), 100));
    world.stop();
    world.restart();
    let anew = recent(&world, "");
    assert_eq!((calls(&anew).len(), &anew["counted"]["block"]), (0, &json!(0)));
    assert!(anew["since"].as_str() > list["since"].as_str(), "{anew}");
}

#[test]
fn what_a_shadow_policy_would_have_blocked_is_told() {
    let files = Scratch::new("admin-shadow");
    let strict = format!(
        "version: 1\nname: strict\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\nrules:\n{NO_SHELL}"
    );
    let strict = files.write("strict.yaml", strict);
    let setup = Setup {
        policy: OPEN.into(),
        config: format!("[[shadow]]\npath = {strict:?}\n\n"),
        ..Setup::default()
    };
    let world = World::with(Script::model(), &setup);
    for tool in ["search", "shell"] {
        assert_eq!(world.send(&chat("beside", &asks(tool))).status(), 200);
    }
    world.wait_until_idle();
    let list = recent(&world, "?verdict=allow");
    let [row] = &calls(&list)[..] else { panic!("{list}") };
    let receipt = &world.receipts("beside")[1];
    assert_eq!(row["call"], receipt["call"]);
    for name in ["policy", "verdict", "reason", "rule"] {
        assert_eq!(row["would"][name], receipt["shadow"][0][name], "{row}");
    }
    assert_eq!((&row["would"]["verdict"], &row["code"]), (&json!("block"), &json!("OK")));
}

#[test]
fn it_tells_no_page_of_another_site_and_refuses_what_it_does_not_know() {
    let world = World::new(Script::model());
    for query in ["?limit=0", "?limit=9999", "?verdict=denied", "?from=1", "?limit=1&limit=1"] {
        let answer = get(world.admin, &format!("/calls/recent{query}")).unwrap();
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status(), &problem["code"]), (400, &json!("ARGUMENT_INVALID")), "{query}");
    }
    let mut stream = TcpStream::connect(world.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /calls/recent HTTP/1.1\r\nhost: evil.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

/// Sends `head`, then a byte again and again for as long as somebody takes it; gives what was answered.
fn dripped(admin: SocketAddr, head: &str, byte: &'static [u8]) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut ours = stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while ours.write_all(byte).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let mut answer = Vec::new();
    // It ends, in whatever way: a peer that is cut inside its request may be reset.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the listener waits without end");
    }
    drop(stream);
    dripping.join().unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_request_that_drips_in_is_cut_in_the_end() {
    let setup = Setup { admin: "request_ms = 200".into(), ..Setup::default() };
    let world = World::with(Script::model(), &setup);
    let post = "POST /bypasses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000\r\n\r\n{";
    let answer = dripped(world.admin, post, b" ");
    assert!(answer.contains("REQUEST_STALLED"), "{answer}");
    let answer = dripped(world.admin, "GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"x");
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[test]
fn answers_that_nobody_takes_do_not_keep_others_out() {
    let policy = format!("{OPEN}rules:\n{NO_SHELL}");
    let setup = Setup { policy, admin: "answer_ms = 200".into(), ..Setup::default() };
    let world = World::with(Script::model(), &setup);
    // More than the buffers on the way take.
    for _ in 0..150 {
        assert_eq!(world.send(&chat("flood", &asks("shell"))).status(), 403);
    }
    // As many as are taken at a time, with room for next to nothing of a page.
    let idle: Vec<_> = (0..64)
        .map(|_| {
            let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            sockopt::set_socket_recv_buffer_size(&client, 1).unwrap();
            connect(&client, &world.admin).unwrap();
            let mut client = TcpStream::from(client);
            client.write_all(b"GET /calls/recent?limit=1024 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
            client
        })
        .collect();
    assert_eq!(get(world.admin, "/livez").unwrap().status(), 200);
    drop(idle);
}
