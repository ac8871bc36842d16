//! The streaming validator that judges values is not there yet. This is what the gateway decides about bytes today.

use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};

use crate::support::{OPEN, Setup, World, chat};

const STRICT: &str = "version: 1\nname: strict\ndefaults: { verdict: allow, on_not_evaluated: block }\n";

fn check_refused(policy: &str, request: &Request, status: u16, code: &str) {
    let world = World::with(Script::model(), &Setup { policy: policy.into(), ..Setup::default() });
    let answer = world.send(request);
    assert_eq!(answer.status(), status, "{}", answer.text());
    assert_eq!(world.upstream.hits().total(), 0, "{code}: the upstream saw it");
    let receipt = world.receipts("v").remove(0);
    assert_eq!(receipt["outcome"]["code"], code);
    assert_eq!(receipt["verdict"]["action"], "block");
}

#[test]
fn a_request_that_is_not_json_is_refused_where_policy_wants_it_judged() {
    check_refused(STRICT, &chat("v", "{\"model\":"), 403, "NOT_EVALUATED");
    check_refused(STRICT, &chat("v", "{\"model\":NaN}"), 403, "NOT_EVALUATED");
}

#[test]
fn a_request_over_its_limit_is_refused() {
    let policy = format!("{OPEN}limits: {{ request_bytes_max: 2048 }}\n");
    check_refused(&policy, &chat("v", &"x".repeat(4000)), 413, "REQUEST_BYTES_MAX");
}

#[test]
fn a_body_that_was_not_judged_says_so() {
    let script = Script::always(
        Reply::new(Body::Text("\u{0}\u{1}".into())).header("content-type", "application/octet-stream"),
    );
    let world = World::new(script);
    assert_eq!(
        world.send(&Request::new("POST", "/blob").header("estoppel-run", "v").body("abc")).status(),
        200
    );
    let receipt = world.receipts("v").remove(0);
    for side in ["request", "response"] {
        assert_eq!(receipt["evaluated"][side]["state"], "not_evaluated", "{side}");
    }
}
