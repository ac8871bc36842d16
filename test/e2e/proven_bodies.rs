//! A bundle is asked whether bytes are one body of a call, by somebody who has the bundle and the key of that call.

use std::path::Path;

use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::Value;

use crate::support::{Setup, World, cli, path};

const ASKED: &[u8] = br#"{"pin": "4711"}"#;
const ANSWERED: &[u8] = br#"{"balance": 12}"#;

/// A sealed run of two calls with equal bodies, and the key of the first.
struct Sealed {
    world: World,
    bundle: std::path::PathBuf,
    calls: [String; 2],
}

fn sealed(storage: &str) -> Sealed {
    let reply = Reply::new(Body::bytes(ANSWERED)).header("content-type", "application/json");
    let policy = crate::support::OPEN.replace("body_storage: hmac", storage);
    let script = Script::default().on(Rule::any("/account", reply));
    let world = World::with(script, &Setup { policy, ..Setup::default() });
    let calls = [(); 2].map(|()| {
        let request = Request::new("POST", "/account").header("estoppel-run", "bodies");
        let answer = world.send(&request.header("content-type", "application/json").body(ASKED));
        answer.header("estoppel-call").unwrap().to_string()
    });
    let bundle = world.seal("bodies");
    let keys = world.journal().join("keys");
    for (scope, out) in [("call", "call.key"), ("run", "run.key")] {
        let out = world.scratch.join(out);
        let words = ["keys", "disclose", path(&bundle), "--dir", path(&keys), "--scope", scope];
        let call = if scope == "call" { vec!["--call", &calls[0]] } else { Vec::new() };
        assert_eq!(cli(&[&words[..], &call, &["--out", path(&out)]].concat()).0, 0);
    }
    Sealed { world, bundle, calls }
}

impl Sealed {
    /// Exit code, reason and what is said of the body.
    fn ask(&self, call: usize, part: &str, key: &str, content: &[u8]) -> (i32, Option<String>, String) {
        // Nothing else of the gateway is in reach of who asks.
        let auditor = self.world.scratch.join("auditor");
        std::fs::create_dir_all(&auditor).unwrap();
        let copy = |from: &Path, name: &str| {
            let to = auditor.join(name);
            std::fs::copy(from, &to).unwrap();
            to
        };
        let bundle = copy(&self.bundle, "run.pef.zip");
        let key = copy(&self.world.scratch.join(key), "key");
        let content = self.world.scratch.write("auditor/content", content);
        let words = ["verify", path(&bundle), "--body", &self.calls[call], "--part", part];
        let (exit, answer) =
            cli(&[&words[..], &["--disclosure", path(&key), "--content", path(&content)]].concat());
        let data: &Value = &answer["data"];
        let verdict = data["body"]["verdict"].as_str().unwrap_or_else(|| panic!("{answer}"));
        (exit, data["reason"].as_str().map(Into::into), verdict.to_string())
    }
}

fn proven() -> (i32, Option<String>, String) {
    (0, None, "proven".into())
}

#[test]
fn a_body_is_proven_by_the_key_of_its_call_and_opens_no_other_call() {
    let sealed = sealed("body_storage: hmac");
    for (part, content) in [("request", ASKED), ("upstream", ANSWERED), ("client", ANSWERED)] {
        assert_eq!(sealed.ask(0, part, "call.key", content), proven(), "{part}");
        let refuted = (2, Some("BODY_UNKNOWN".into()), "failed".into());
        assert_eq!(sealed.ask(0, part, "call.key", &content[1..]), refuted, "{part}");
        // The second call had the same bytes: its commitments are others, and take another key.
        let unfit = (6, Some("DISCLOSURE_MISMATCH".into()), "unchecked".into());
        assert_eq!(sealed.ask(1, part, "call.key", content), unfit, "{part}");
        assert_eq!(sealed.ask(1, part, "run.key", content), proven(), "{part}");
    }
    let key = String::from_utf8(sealed.world.scratch.read("call.key")).unwrap();
    sealed.world.scratch.write("other.key", key.replace(&sealed.calls[0], &sealed.calls[1]));
    let refuted = (2, Some("BODY_UNKNOWN".into()), "failed".into());
    assert_eq!(sealed.ask(1, "request", "other.key", ASKED), refuted);
}

#[test]
fn where_no_body_was_captured_none_is_proven_or_refuted() {
    let sealed = sealed("body_storage: none");
    let undecided = (6, Some("BODY_ABSENT".into()), "unchecked".into());
    assert_eq!(sealed.ask(0, "request", "call.key", ASKED), undecided);
}

#[test]
fn what_is_asked_of_a_body_is_asked_whole() {
    for words in [
        &["verify", "x", "--body", "1", "--part", "request"][..],
        &["verify", "x", "--part", "request"],
        &["verify", "x", "--body", "1", "--stream", "1", "--part", "request", "--content", "x"],
    ] {
        assert_eq!(cli(words).0, 6, "{words:?}");
    }
    let sealed = sealed("body_storage: hmac");
    let key = sealed.world.scratch.join("call.key");
    let (exit, answer) = cli(&["verify", path(&sealed.bundle), "--disclosure", path(&key)]);
    assert_eq!((exit, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")), "{answer}");
}
