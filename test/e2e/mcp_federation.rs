//! Several MCP servers behind one route: what each of them is sent, and what is made of what they say.

use estoppel_kit::http::Request;
use estoppel_stub::{Reply, Rule, Script, Stub};
use serde_json::{Value, json};

use crate::mcp_values::{Form, call, list, post, refusal, result, rule, seen, tool, tools};
use crate::support::{Setup, World};

const POLICY: &str = "version: 1
name: federated
defaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac, tool_lists: as_is }
";

/// The second server, and a route to it and the world's own.
struct Two {
    world: World,
    mail: Stub,
}

fn two(policy: &str, files: Script, mail: Script) -> Two {
    two_with(Setup { policy: policy.into(), ..Setup::default() }, files, mail)
}

fn two_with(setup: Setup, files: Script, mail: Script) -> Two {
    let files = Stub::spawn_thread(files).unwrap();
    let mail = Stub::spawn_thread(mail).unwrap();
    let routes = format!(
        "[upstream.files]\nurl = \"http://{}/base/mcp\"\n\n[upstream.mail]\nurl = \"http://{}/mcp\"\n\n\
         [[route]]\nname = \"tools\"\npath = \"/mcp\"\ndialect = \"mcp\"\nfederation = {{ files = \"files\", mail = \"mail\" }}\n",
        files.addr(),
        mail.addr()
    );
    let world = World::over(files, &Setup { routes, ..setup });
    Two { world, mail }
}

fn server(list: &str) -> Script {
    Script::always(Form::Events.reply(&result("2", r#"{"content":[]}"#)))
        .on(rule("tools/list", Form::Events.reply(list)))
}

fn modern(request: Request, method: &str) -> Request {
    request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", method)
}

#[test]
fn a_call_goes_to_its_server_under_that_server_s_own_name_and_without_its_client_s_credentials() {
    let Two { world, mail } = two(POLICY, server(&tools(&[])), server(&tools(&[])));
    let body = r#"{"jsonrpc":"2.0", "id":2,"method":"tools/call","params":{"arguments":{"name":"files__x"},"n\u0061me" : "mail__l\u00e9"}}"#;
    let request = modern(post(body), "tools/call")
        .header("mcp-name", "=?base64?bWFpbF9fbMOp?=")
        .header("mcp-param-a", "1")
        .header("mcp-session-id", "stray")
        .header("authorization", "Bearer client")
        .header("cookie", "a=b");
    let answer = world.send(&request);
    assert_eq!(answer.text(), Form::Events.text(&result("2", r#"{"content":[]}"#)));
    let sent = mail.hits().last().unwrap();
    let plain = body.replace(r#""mail__l\u00e9""#, r#""lé""#);
    assert_eq!(String::from_utf8_lossy(&sent.body), plain, "all else keeps its bytes");
    assert_eq!(sent.header("mcp-name").as_deref(), Some("=?base64?bMOp?="));
    assert_eq!(sent.header("mcp-protocol-version").as_deref(), Some("2026-07-28"));
    assert_eq!(sent.header("mcp-param-a").as_deref(), Some("1"));
    for name in ["authorization", "cookie", "mcp-session-id", "estoppel-run"] {
        assert_eq!(sent.header(name), None, "{name}");
    }
    assert_eq!((sent.target.as_str(), world.upstream.hits().total()), ("/mcp", 0));
    let receipt = world.receipts("mcp").remove(0);
    assert_eq!(
        (&receipt["upstream"], &receipt["facts"]["tools_called"]),
        (&json!("mail"), &json!(["mail__lé"]))
    );
}

#[test]
fn servers_are_told_the_call_where_rows_of_a_database_name_it() {
    let scratch = estoppel_kit::Scratch::new("federated");
    let nowhere =
        crate::snapshots::write_url(scratch.path(), "postgresql:///shop?host=/nonexistent&user=ada");
    let written = "written = [{ table = \"public.mails\", key = \"call_id\" }]";
    let setup = Setup {
        policy: format!("{POLICY}routes:\n  tools:\n    snapshot: {{ source: shop, mode: observe }}\n"),
        config: format!("[[database]]\nname = \"shop\"\nurl_file = {nowhere:?}\n{written}\n"),
        ..Setup::default()
    };
    let Two { world, mail } = two_with(setup, server(&tools(&[])), server(&tools(&[])));
    let request = modern(call("mail__send", "{}"), "tools/call");
    let answer = world.send(&request.header("mcp-name", "mail__send").header("estoppel-call", "forged"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let sent = mail.hits().last().unwrap();
    assert_eq!(sent.header("estoppel-call").as_deref(), answer.header("estoppel-call"));
}

#[test]
fn lists_are_read_to_their_last_page_and_merged() {
    let page = |tools: &str, next: &str| result("1", &format!(r#"{{"tools":[{tools}]{next}}}"#));
    let first = page(&tool("read", "reads"), r#","nextCursor":"p2","ttlMs":9,"cacheScope":"public""#);
    let last = page(&tool("write", "writes"), r#","ttlMs":5,"cacheScope":"public""#);
    let files = Script::always(Reply::default().status(500))
        .on(rule("p2", Form::Json.reply(&last)))
        .on(rule("tools/list", Form::Events.reply(&first)));
    let mail = server(&page(&tool("read", "reads"), r#","ttlMs":7,"cacheScope":"public""#));
    let Two { world, mail } = two(POLICY, files, mail);
    let answer = world.send(&modern(list(), "tools/list"));
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    let result = &said["result"];
    let names: Vec<&str> =
        result["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["files__read", "files__write", "mail__read"]);
    assert_eq!(
        (&said["id"], &result["ttlMs"], &result["cacheScope"]),
        (&json!(1), &json!(5), &json!("public"))
    );
    assert_eq!((world.upstream.hits().total(), mail.hits().total()), (2, 1));
    let receipt = world.receipts("mcp").remove(0);
    assert_eq!(
        (&receipt["upstream"], &receipt["operation"]),
        (&json!("files+mail"), &json!("mcp.tools/list"))
    );
}

#[test]
fn a_tool_that_changes_is_found_out_under_the_name_that_clients_know() {
    let policy = POLICY.replace("tool_lists: as_is", "judge: { unknown_tools: block }");
    let turned = server(&tools(&[tool("add", "adds, and more")]));
    let mut turned_once = turned;
    turned_once.rules.insert(
        0,
        Rule { times: Some(1), ..rule("tools/list", Form::Json.reply(&tools(&[tool("add", "adds")]))) },
    );
    let Two { world, mail: _mail } = two(&policy, turned_once, server(&tools(&[])));
    let list = || modern(list(), "tools/list");
    assert_eq!(world.send(&list()).status(), 200);
    let changed = seen(&world, &list());
    assert_eq!(refusal(&changed, &json!(1)), "TOOL_CHANGED");
    assert!(changed.text().contains("files__add"), "{}", changed.text());
}

#[test]
fn what_is_not_offered_is_refused_and_no_server_is_asked() {
    let Two { world, mail } = two(POLICY, server(&tools(&[])), server(&tools(&[])));
    let message = |method: &str| post(&format!(r#"{{"jsonrpc":"2.0","id":2,"method":"{method}"}}"#));
    let cursor = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":"x"}}"#;
    let id = json!(2);
    for (request, id, status, code) in [
        (modern(message("resources/list"), "resources/list"), &id, 400, "NOT_FEDERATED"),
        (modern(post(cursor), "tools/list"), &id, 400, "NOT_FEDERATED"),
        (modern(call("add", "{}"), "tools/call").header("mcp-name", "add"), &id, 400, "NOT_FEDERATED"),
        (
            modern(call("other__add", "{}"), "tools/call").header("mcp-name", "other__add"),
            &id,
            400,
            "NOT_FEDERATED",
        ),
        (post(r#"[{"jsonrpc":"2.0","id":2,"method":"ping"}]"#), &Value::Null, 400, "NOT_FEDERATED"),
        (post(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), &id, 400, "NOT_FEDERATED"),
        (message("tools/list"), &id, 404, "SESSION_UNKNOWN"),
        (message("ping").header("mcp-session-id", "x"), &id, 404, "SESSION_UNKNOWN"),
        (Request::new("GET", "/mcp").header("estoppel-run", "mcp"), &Value::Null, 405, "METHOD_REFUSED"),
        (
            Request::new("POST", "/mcp/x").header("content-type", "application/json").body("{}"),
            &Value::Null,
            404,
            "ROUTE_UNKNOWN",
        ),
    ] {
        let answer = seen(&world, &request);
        assert_eq!((answer.status(), refusal(&answer, id).as_str()), (status, code), "{}", answer.text());
    }
    let unknown: Value = serde_json::from_str(&seen(&world, &modern(message("x"), "x")).text()).unwrap();
    assert_eq!(unknown["error"]["code"], -32_601);
    assert_eq!((world.upstream.hits().total(), mail.hits().total()), (0, 0));
    assert!(world.receipts("mcp").iter().all(|receipt| receipt.get("upstream").is_none()));
}

/// A server until 2025-11-25 that gives a session, and forgets it once.
fn with_sessions(session: &str, version: &str) -> Script {
    let hello = format!(
        r#"{{"jsonrpc":"2.0","id":"estoppel","result":{{"protocolVersion":"{version}","capabilities":{{}}}}}}"#
    );
    Script::always(Reply::json(&result("2", "{}")))
        .on(rule("\"initialize\"", Form::Json.reply(&hello).header("mcp-session-id", session)))
        .on(rule("notifications/", Reply::default().status(202)))
        .on(rule("tools/list", Form::Json.reply(&tools(&[tool("add", "adds")]))))
        .on(Rule { times: Some(1), ..rule("tools/call", Reply::text("gone").status(404)) })
}

#[test]
fn a_client_s_session_is_one_with_each_server_in_that_server_s_version() {
    let Two { world, mail } = two(POLICY, with_sessions("f", "2025-03-26"), with_sessions("m", "2025-06-18"));
    let hello = r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}},"clientInfo":{"name":"c","version":"1"}}}"#;
    let answer = world.send(&post(hello));
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(said["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(said["result"]["capabilities"], json!({ "prompts": {}, "tools": {} }));
    let session = answer.header("mcp-session-id").unwrap().to_owned();
    assert_eq!(session.len(), 32);
    let begun = &mail.hits().requests()[0];
    let params: Value = serde_json::from_slice::<Value>(&begun.body).unwrap()["params"].take();
    assert_eq!((&params["capabilities"], &params["clientInfo"]["name"]), (&json!({}), &json!("c")));

    let of = |request: Request| {
        request.header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25")
    };
    assert_eq!(world.send(&of(list())).status(), 200);
    for (stub, id, version) in [(&world.upstream, "f", "2025-03-26"), (&mail, "m", "2025-06-18")] {
        let sent = stub.hits().last().unwrap();
        assert_eq!(sent.header("mcp-session-id").as_deref(), Some(id));
        assert_eq!(sent.header("mcp-protocol-version").as_deref(), Some(version));
    }
    let before = mail.hits().total();
    let answer = world.send(&of(call("mail__add", "{}")));
    assert_eq!((answer.status(), answer.header("mcp-session-id")), (200, None));
    assert_eq!(
        mail.hits().total() - before,
        4,
        "a call, a hello, that the client is ready, and the call again"
    );
    let ping = world.send(&of(post(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#)));
    assert_eq!(ping.text(), result("2", "{}"));
    assert_eq!(
        world.send(&of(post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#))).status(),
        202
    );
    assert_eq!(mail.hits().total() - before, 4);
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
    assert_eq!(world.send(&of(post(cancelled))).status(), 202);
    assert_eq!(mail.hits().total() - before, 5);

    let end = Request::new("DELETE", "/mcp").header("mcp-session-id", &session).header("estoppel-run", "mcp");
    assert_eq!(world.send(&end).status(), 200);
    assert_eq!(mail.hits().last().unwrap().method, "DELETE");
    assert_eq!(refusal(&seen(&world, &of(list())), &json!(1)), "SESSION_UNKNOWN");
    assert!(world.receipts("mcp").len() >= 8);
}

#[test]
fn a_server_that_gives_no_list_is_named_and_the_others_are_listed() {
    let policy = POLICY.replace("tool_lists: as_is", "tool_lists: filter");
    let broken =
        Script::always(Reply::json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#));
    let Two { world, mail: _mail } = two(&policy, server(&tools(&[tool("add", "adds")])), broken);
    let said: Value = serde_json::from_str(&world.send(&modern(list(), "tools/list")).text()).unwrap();
    assert_eq!(said["result"]["tools"][0]["name"], "files__add");
    assert_eq!(said["result"]["_meta"]["estoppel/unavailable"], json!(["mail"]));
    assert_eq!(said["result"]["ttlMs"], 0);
    let receipt = world.receipts("mcp").remove(0);
    assert_eq!(receipt["downgrades"], json!([{ "code": "UPSTREAM_ERROR", "detail": "mail" }]));
    assert_eq!(receipt["upstream"], "files");
    let metric = "estoppel_mcp_servers_missing_total{route=\"tools\",upstream=\"mail\"}";
    assert_eq!(world.metric(metric), Some(1.0));
}
