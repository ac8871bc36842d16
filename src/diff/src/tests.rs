//! Two sides, as their lines and objects say.

mod runs;
mod vectors;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Stored bodies by digest.
#[derive(Default)]
struct Kept(BTreeMap<String, Vec<u8>>);

impl Bodies for Kept {
    fn stored(&self, sha256: &str, bytes_max: u64) -> Stored {
        match self.0.get(sha256) {
            None => Stored::Missing,
            Some(bytes) if bytes.len() as u64 > bytes_max => Stored::TooLarge,
            Some(bytes) => Stored::Bytes(bytes.clone()),
        }
    }
}

impl Kept {
    fn keep(&mut self, body: &str) -> String {
        let digest = estoppel_evidence::Sha256::of(body.as_bytes()).to_string();
        self.0.insert(digest.clone(), body.into());
        digest
    }
}

fn call(seq: u64, model: &str, action: &str) -> Value {
    json!({
        "kind": "call", "run": "r", "seq": seq, "ts": format!("t{seq}"), "call": format!("c{seq}"), "dialect": "openai_chat",
        "operation": "openai.chat.completions", "facts": { "model": model }, "policy": { "hash": "sha256:p" },
        "request": { "route": "stub", "bytes": 10, "method": "POST" }, "response": { "client": { "bytes": 20, "status": 200 } },
        "verdict": { "action": action, "mode": "enforce" },
    })
}

fn run_of(lines: &[Value]) -> Side {
    side(Kind::Run, lines)
}

fn side(kind: Kind, lines: &[Value]) -> Side {
    let normalizers = Normalizers::new(None).unwrap();
    let mut reader = Reader::new(kind, &normalizers);
    lines.iter().for_each(|line| reader.line(line.to_string().as_bytes()).unwrap());
    reader.finish().unwrap()
}

fn between(from: &Side, to: &Side, kept: &Kept) -> Value {
    diff(from, to, &Normalizers::new(None).unwrap(), (kept, kept)).unwrap().document().0
}

fn check(from: &[Value], to: &[Value], kept: &Kept, changes: &Value) -> Value {
    let document = between(&run_of(from), &run_of(to), kept);
    assert_eq!(document["diff"]["changes"], *changes, "{document:#}");
    document
}

const AT: &str = "/calls/stub/openai_chat/openai.chat.completions";

#[test]
fn calls_are_paired_by_what_they_are_and_their_place_among_their_like() {
    let from = [call(1, "a", "allow"), call(2, "b", "allow"), call(3, "a", "allow")];
    let to = [call(9, "a", "allow"), call(12, "a", "block")];
    let changes = json!([
        { "op": "change", "path": format!("{AT}/a/000002/verdict/action"), "from": "allow", "to": "block" },
        {
            "op": "remove", "path": format!("{AT}/b/000001"),
            "value": {
                "kind": "call", "dialect": "openai_chat", "operation": "openai.chat.completions", "facts": { "model": "b" },
                "request": { "route": "stub", "bytes": 10, "method": "POST" },
                "response": { "client": { "bytes": 20, "status": 200 } }, "verdict": { "action": "allow", "mode": "enforce" },
            },
        },
    ]);
    let document = check(&from, &to, &Kept::default(), &changes);
    let counts = json!({ "added": 0, "changed": 1, "equal": 2, "removed": 1 });
    assert_eq!(document["diff"]["counts"], counts, "with the one policy");
    assert_eq!(
        document["context"]["entries"][0]["to"],
        json!({ "call": "c12", "run": "r", "seq": 12, "ts": "t12" })
    );
    let ignored = &document["context"]["ignored"];
    assert!(
        ignored.as_array().unwrap().contains(&json!({ "path": "/calls/*/*/*/*/*/seq", "entries": 2 })),
        "{ignored}"
    );
}

fn with_body(mut call: Value, sha256: &str, bytes: usize) -> Value {
    call["response"]["client"]["sha256"] = sha256.into();
    call["response"]["client"]["bytes"] = bytes.into();
    call
}

fn bodies(from: &str, to: &str) -> Value {
    let mut kept = Kept::default();
    let of = |kept: &mut Kept, body: &str| {
        run_of(&[with_body(call(1, "a", "allow"), &kept.keep(body), body.len())])
    };
    let (from, to) = (of(&mut kept, from), of(&mut kept, to));
    let (there, back) = (between(&from, &to, &kept), between(&to, &from, &kept));
    assert_eq!(mirrored(there.clone()), back);
    json!([there["diff"]["changes"], there["context"]["opaque"], there["diff"]["bodies"]])
}

#[test]
fn stored_bodies_are_compared_by_their_values() {
    let at = format!("{AT}/a/000001/response/client");
    let known = json!({ "compared": 1, "unknown": 1 });
    let found = bodies(
        r#"{"id":"x1","n":[1.0,2,{"a~/b":true}],"gone":null}"#,
        r#"{ "n":[1,3,{"a~/b":false}, "😀"],"id":"longer id"}"#,
    );
    let changes = json!([
        { "op": "remove", "path": format!("{at}/body/gone"), "value": null },
        { "op": "change", "path": format!("{at}/body/n/1"), "from": 2, "to": 3 },
        { "op": "change", "path": format!("{at}/body/n/2/a~0~1b"), "from": true, "to": false },
        { "op": "add", "path": format!("{at}/body/n/3"), "value": "😀" },
    ]);
    assert_eq!(found, json!([changes, [], known]));
    assert_eq!(
        bodies(r#"{"id":"1"}"#, r#"{"id":"22"}"#),
        json!([[], [], known]),
        "their ids are not compared"
    );
}

#[test]
fn bodies_that_cannot_be_looked_into_differ_as_a_whole_and_say_why() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let large = format!("\"{}\"", "x".repeat(9 << 20));
    let cases = [
        ("not_json", "data: 1\n\n"),
        ("not_json", r#"{"a":1,"a":2}"#),
        ("not_json", &deep),
        ("numbers", r#"{"n":9007199254740993}"#),
        ("numbers", r#"{"n":123456789012345678901234567890}"#),
        ("numbers", r#"{"n":0.1000000000000000055511151231257827}"#),
        ("not_json", r#"{"n":1e999}"#),
        ("too_large", &large),
    ];
    for (cause, body) in cases {
        let found = bodies("{}", body);
        let places: Vec<&str> =
            found[0].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
        let at = format!("{AT}/a/000001/response/client");
        assert_eq!(places, [format!("{at}/bytes"), format!("{at}/sha256")], "{cause}");
        assert_eq!(found[1], json!([{ "path": format!("{at}/body"), "cause": cause }]));
    }
    let lost = [with_body(call(1, "a", "allow"), "sha256:00", 1)];
    let other = [with_body(call(1, "a", "allow"), "sha256:01", 1)];
    let document = between(&run_of(&lost), &run_of(&other), &Kept::default());
    assert_eq!(document["context"]["opaque"][0]["cause"], "missing");
}

fn tagged(key: char, digest: char) -> [Value; 1] {
    let tag = format!("hmac-sha256:{}:{}", key.to_string().repeat(16), digest.to_string().repeat(64));
    let mut call = call(1, "a", "allow");
    call["response"]["client"]["tag"] = tag.into();
    [call]
}

#[test]
fn tags_are_compared_only_where_one_key_made_them() {
    let said = |from: [Value; 1], to: [Value; 1]| {
        let document = between(&run_of(&from), &run_of(&to), &Kept::default());
        json!([document["diff"]["changes"].as_array().unwrap().len(), document["diff"]["bodies"]])
    };
    assert_eq!(said(tagged('a', '1'), tagged('a', '1')), json!([0, { "compared": 1, "unknown": 1 }]));
    assert_eq!(said(tagged('a', '1'), tagged('a', '2')), json!([1, { "compared": 1, "unknown": 1 }]));
    assert_eq!(said(tagged('a', '1'), tagged('b', '2')), json!([0, { "compared": 0, "unknown": 2 }]));
    assert_eq!(
        said(tagged('g', '1'), tagged('g', '2')),
        json!([0, { "compared": 0, "unknown": 2 }]),
        "no tags"
    );
}

#[test]
fn redacted_values_are_compared_only_where_one_key_made_their_tags() {
    let marked = |key: char, digest: char| {
        let tag = tagged(key, digest)[0]["response"]["client"]["tag"].clone();
        json!({ "a": { "$redacted": { "bytes": 3, "tag": tag, "type": "string" } } }).to_string()
    };
    let said = |from: &str, to: &str| {
        let found = bodies(from, to);
        (found[0].as_array().unwrap().len(), found[2]["unknown"].as_u64().unwrap() - 1)
    };
    assert_eq!(said(&marked('a', '1'), &marked('a', '2')), (1, 0));
    assert_eq!(said(&marked('a', '1'), &marked('b', '2')), (0, 1));
    assert_eq!(said(&marked('a', '1').replace(":3", ":4"), &marked('b', '2')), (1, 0));
}

#[test]
fn journals_are_compared_run_by_run_with_the_same_normalizers() {
    let open = |run: &str, name: &str, config: &str| json!({ "kind": "run.open", "run": run, "seq": 0, "class": "caller", "name": name, "config": config });
    let of = |mut call: Value, run: &str| {
        call["run"] = run.into();
        call
    };
    let from = [
        open("1", "x", "c"),
        open("2", "y", "c"),
        of(call(1, "a", "allow"), "2"),
        of(call(1, "a", "hold"), "1"),
    ];
    let to = [
        open("7", "y", "d"),
        open("8", "x", "c"),
        of(call(1, "a", "hold"), "8"),
        of(call(5, "a", "block"), "7"),
    ];
    let document = between(&side(Kind::Journal, &from), &side(Kind::Journal, &to), &Kept::default());
    let changes = json!([
        { "op": "change", "path": format!("/runs/caller/y{AT}/a/000001/verdict/action"), "from": "allow", "to": "block" },
        { "op": "change", "path": "/runs/caller/y/events/run.open/000001/config", "from": "c", "to": "d" },
    ]);
    assert_eq!(document["diff"]["changes"], changes);
}

#[test]
fn what_is_no_entry_and_what_cannot_be_compared_is_refused() {
    let normalizers = Normalizers::new(None).unwrap();
    let refused = |line: &str| {
        let mut reader = Reader::new(Kind::Journal, &normalizers);
        reader.line(br#"{"kind":"run.open","run":"1","class":"caller"}"#).unwrap();
        reader.line(line.as_bytes()).unwrap_err().to_string()
    };
    let deep = "[".repeat(100_000);
    for line in
        ["", "{", "[]", "1", r#"{"kind":1}"#, r#"{"kind":"call"}"#, r#"{"kind":"call","run":"2"}"#, &deep]
    {
        assert_eq!(refused(line), "entry 1 is no entry of a run");
    }
    let (run, schema) = (side(Kind::Run, &[]), side(Kind::Schema, &[]));
    let error = diff(&run, &schema, &normalizers, (&NoBodies, &NoBodies)).unwrap_err();
    assert_eq!(error.to_string(), "a run cannot be compared with a schema");
}

#[test]
fn changes_beyond_the_limit_are_counted() {
    let list =
        |from: usize| serde_json::to_string(&(from..from + CHANGES_MAX + 5).collect::<Vec<_>>()).unwrap();
    let mut kept = Kept::default();
    let mut of = |from| {
        let body = list(from);
        run_of(&[with_body(call(1, "a", "allow"), &kept.keep(&body), body.len()), call(2, "b", "allow")])
    };
    let (from, mut to) = (of(0), of(1));
    to.entries.retain(|entry| !entry.path.pointer().contains("/b/"));
    let document = between(&from, &to, &kept);
    assert_eq!(document["diff"]["changes"].as_array().unwrap().len(), CHANGES_MAX);
    assert_eq!(document["diff"]["left_out"], 6);
    assert_eq!(document["diff"]["counts"]["removed"], 1);
}

#[test]
fn a_page_shows_hostile_evidence_as_text() {
    let hostile = "</td><script>alert(1)</script>\u{1b}[2J\u{202e}&'\"";
    let mut from = run_of(&[call(1, hostile, "allow")]);
    from.about.insert("run".into(), hostile.into());
    from.about.insert("verified".into(), "trusted".into());
    let normalizers = Normalizers::new(None).unwrap();
    let found = diff(&from, &run_of(&[]), &normalizers, (&NoBodies, &NoBodies)).unwrap();
    let page = page(&found, "sha256:0");
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{202e}'), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u001b[2J\\u202e&amp;&#39;&quot;"));
    assert!(
        page.contains("The right side was <strong>not verified</strong>")
            && !page.contains("The left side was")
    );
}

/// The document of the same inputs in the other order.
fn mirrored(mut document: Value) -> Value {
    let swap = |value: &mut Value, one: &str, other: &str| {
        let members = value.as_object_mut().unwrap();
        let (first, second) = (members.remove(one), members.remove(other));
        members.extend(first.map(|value| (other.to_owned(), value)));
        members.extend(second.map(|value| (one.to_owned(), value)));
    };
    swap(&mut document["context"], "from", "to");
    for entry in document["context"]["entries"].as_array_mut().unwrap() {
        swap(entry, "from", "to");
    }
    swap(&mut document["diff"]["counts"], "added", "removed");
    for change in document["diff"]["changes"].as_array_mut().unwrap() {
        swap(change, "from", "to");
        swap(change, "from_large", "to_large");
        if let Some(other) = [("add", "remove"), ("remove", "add")].iter().find(|(op, _)| change["op"] == *op)
        {
            change["op"] = other.1.into();
        }
    }
    let bytes = serde_json_canonicalizer::to_vec(&document["diff"]).unwrap();
    document["digest"] = estoppel_evidence::Sha256::of(&bytes).to_string().into();
    document
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i32..3).prop_map(Value::from),
        "[a~/]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab~/]{0,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn entry() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![Just("call"), Just("hold"), Just("act")];
    (kind, 0..2_u8, value(), 0..20_u64, value()).prop_map(|(kind, model, ext, bytes, body)| {
        let body = body.to_string();
        json!({
            "kind": kind, "run": "r", "seq": bytes, "facts": { "model": format!("m{model}") }, "ext": { "x": ext },
            "request": { "bytes": body.len(), "sha256": body }, "body": null,
        })
    })
}

/// Bodies whose digests are themselves.
struct Itself;

impl Bodies for Itself {
    fn stored(&self, sha256: &str, _: u64) -> Stored {
        Stored::Bytes(sha256.into())
    }
}

proptest! {
    #[test]
    fn swapped_inputs_give_the_mirrored_document_and_equal_ones_none(
        one in prop::collection::vec(entry(), 0..8),
        other in prop::collection::vec(entry(), 0..8),
    ) {
        let normalizers = Normalizers::new(None).unwrap();
        let between = |from: &Side, to: &Side| diff(from, to, &normalizers, (&Itself, &Itself)).unwrap();
        let (from, to) = (run_of(&one), run_of(&other));
        let there = between(&from, &to);
        prop_assert_eq!(mirrored(there.document().0), between(&to, &from).document().0);
        prop_assert!(between(&from, &run_of(&one)).is_empty());
        let paths: Vec<_> = there.changes.iter().map(|change| change.path.clone()).collect();
        prop_assert!(paths.is_sorted(), "{:?}", paths);
    }

    #[test]
    fn a_page_has_no_markup_but_its_own(text in any::<String>()) {
        let escaped = escaped(&text);
        prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        prop_assert!(!escaped.chars().any(char::is_control));
    }
}
