//! Runs cut down to the fewest calls that still have what they were looked at for.

use std::path::PathBuf;

use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, path};

const CALLS: usize = 200;
/// Which of them offer the tool that is counted. The control lets three of them go in an hour.
const COUNTED: [usize; 6] = [7, 20, 71, 120, 121, CALLS - 1];
const SECRET: &str = "AKIAIOSFODNN7EXAMPLE";
const POLICY: &str = "version: 1\nname: t\ndetectors: { secrets: { mode: shadow } }\ndefaults: { verdict: allow, on_not_evaluated: block, body_storage: { full: { reason: reduce } } }\n\
                      controls:\n- { id: transfers, kind: rate, when: { tool: transfer }, limit: 3, seconds: 3600 }\n";

/// A run whose final call is blocked because of earlier ones.
fn recorded() -> (World, PathBuf) {
    let world = World::with(Script::model(), &Setup { policy: POLICY.into(), ..Setup::default() });
    for at in 0..CALLS {
        let name = if COUNTED.contains(&at) { "transfer" } else { "search" };
        let said = if at == 33 { SECRET } else { "hello" };
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{said}"}}],"tools":[{{"type":"function","function":{{"name":"{name}"}}}}]}}"#
        );
        let refused = COUNTED.iter().position(|counted| *counted == at).is_some_and(|place| place >= 3);
        assert_eq!(world.send(&chat("long", &body)).status(), if refused { 429 } else { 200 }, "call {at}");
    }
    let bundle = world.seal("long");
    (world, bundle)
}

struct Reducing {
    bundle: PathBuf,
    trust: PathBuf,
}

impl Reducing {
    fn run(&self, predicate: &str, more: &[&str]) -> (i32, Value) {
        let words = ["reduce", path(&self.bundle), "--trust", path(&self.trust), "--predicate", predicate];
        cli(&[&words, more].concat())
    }
}

fn kept(said: &Value) -> Vec<u64> {
    let rows = said["data"]["kept"].as_array().unwrap_or_else(|| panic!("{said}"));
    rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

fn seq(at: usize) -> u64 {
    at as u64 + 1
}

#[test]
fn a_run_of_200_calls_is_cut_down_to_those_that_block_its_final_call() {
    let (world, bundle) = recorded();
    let reducing = Reducing { bundle, trust: world.journal().join("trust.json") };
    let scratch = Scratch::new("reduce");
    let files = ["a.json", "b.json"].map(|name| scratch.join(name));
    for file in &files {
        let (code, said) = reducing.run("final-blocked", &["--out", path(file)]);
        assert_eq!((code, &said["data"]["calls"]), (0, &json!(CALLS)), "{said}");
        let kept = kept(&said);
        assert_eq!(kept.len(), 4, "three that count and the one that is one too many: {said}");
        assert!(kept.iter().all(|seq| COUNTED.iter().any(|at| self::seq(*at) == *seq)), "{kept:?}");
        let last = said["data"]["kept"].as_array().unwrap().last().unwrap();
        assert_eq!(last["seq"], seq(CALLS - 1));
        assert_eq!(last["judged"], json!({ "verdict": "block", "rule": "transfers", "reason": "RATE_MAX" }));
        assert_eq!(said["data"]["undecided"], 0, "{said}");
    }
    let reports = files.each_ref().map(|file| std::fs::read(file).unwrap());
    assert_eq!(reports[0], reports[1], "the same report twice");
    let report: Value = serde_json::from_slice(&reports[0]).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../spec/reduce.schema.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &report), "{report}");
    assert_eq!(reducing.run("final-blocked", &["--out", path(&files[0])]).0, 8);

    // Another judge comes to the same: of the calls that are left none can go.
    let counts = |least: usize, last: bool| {
        let last = if last {
            format!(r#" && tail -n 1 "$0" | grep -q '"seq":{}[,}}]'"#, seq(CALLS - 1))
        } else {
            String::new()
        };
        format!(r#"if test "$(grep -c '"transfer"' "$0")" -ge {least}{last}; then exit 0; else exit 1; fi"#)
    };
    let (code, said) = reducing.run("command", &["--", "sh", "-c", &counts(4, true)]);
    assert_eq!((code, kept(&said).len()), (0, 4), "{said}");
    assert!(said["data"]["kept"][0].get("judged").is_none(), "{said}");
    let (code, said) = reducing.run("command", &["--", "sh", "-c", &counts(7, false)]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("PREDICATE_UNMET")), "{said}");

    let (code, said) = reducing.run("finding:secret.aws_key", &[]);
    assert_eq!((code, kept(&said)), (0, vec![seq(33)]), "{said}");
}

#[test]
fn what_a_reduction_cannot_go_by_is_refused() {
    let (world, bundle) = recorded();
    let reducing = Reducing { bundle, trust: world.journal().join("trust.json") };
    let scratch = Scratch::new("reduce");
    let refused = |predicate: &str, more: &[&str]| {
        let (code, said) = reducing.run(predicate, more);
        (code, said["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let open = scratch.write("open.yaml", "version: 1\nname: open\ndefaults: { verdict: allow }\n");
    assert_eq!(refused("final-blocked", &["--policy", path(&open)]), (6, "PREDICATE_UNMET".into()));
    assert_eq!(refused("finding:pii.card", &[]), (6, "PREDICATE_UNMET".into()));
    assert_eq!(refused("sometimes", &[]).0, 6);
    assert_eq!(refused("command", &[]), (6, "ARGUMENT_INVALID".into()));
    assert_eq!(refused("final-blocked", &["--", "true"]), (6, "ARGUMENT_INVALID".into()));
    assert_eq!(refused("command", &["--", "sh", "-c", "exit 9"]), (1, "PREDICATE_FAILED".into()));
    assert_eq!(refused("command", &["--", "/no/such/program"]), (1, "PREDICATE_FAILED".into()));
    assert_eq!(
        refused("command", &["--seconds", "1", "--", "sh", "-c", "exec sleep 60"]),
        (1, "PREDICATE_FAILED".into())
    );
    assert_eq!(refused("final-blocked", &["--sets-max", "2"]), (1, "SETS_MAX".into()));
    let mut bytes = std::fs::read(&reducing.bundle).unwrap();
    let at = bytes.windows(8).position(|window| window == b"RATE_MAX").unwrap();
    bytes[at] = b'r';
    let forged = Reducing { bundle: scratch.join("forged.pef.zip"), trust: reducing.trust.clone() };
    std::fs::write(&forged.bundle, bytes).unwrap();
    assert_eq!(forged.run("final-blocked", &[]).0, 2);
}

#[test]
fn a_call_with_plain_json_is_judged_again_where_a_detector_had_it_read_and_stops_no_command() {
    let policy = "version: 1\nname: t\ndetectors: { secrets: { mode: enforce } }\ndefaults: { verdict: allow, body_storage: { full: { reason: reduce } } }\n";
    let world =
        World::with(Script::always(Reply::json("{}")), &Setup { policy: policy.into(), ..Setup::default() });
    for (said, status) in [("hello", 200), (SECRET, 403), ("bye", 200)] {
        let request = Request::new("POST", "/orders").header("estoppel-run", "plain");
        let request = request.header("content-type", "application/json");
        assert_eq!(world.send(&request.body(json!({ "note": said }).to_string())).status(), status, "{said}");
    }
    let bundle = world.seal("plain");
    let reducing = Reducing { bundle, trust: world.journal().join("trust.json") };
    let (code, said) = reducing.run("finding:secret.aws_key", &[]);
    assert_eq!((code, kept(&said), &said["data"]["undecided"]), (0, vec![2], &json!(0)), "{said}");
    let (code, said) = reducing.run("command", &["--", "sh", "-c", "grep -q '\"seq\":2[,}]' \"$0\""]);
    assert_eq!((code, kept(&said)), (0, vec![2]), "{said}");
    let scratch = Scratch::new("reduce");
    let none = scratch.write("none.yaml", "version: 1\nname: none\ndefaults: { verdict: allow }\n");
    let (code, said) = reducing.run("finding:secret.aws_key", &["--policy", path(&none)]);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(code == 6 && message.contains("goes by the route's configuration"), "{said}");
    assert!(!said["error"]["hint"].as_str().unwrap().contains("in the bundle"), "bodies are there: {said}");
}
