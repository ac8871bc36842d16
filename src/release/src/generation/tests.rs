use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "generation": 1,
        "version": "1.2.0",
        "description": "Invoices",
        "author": { "name": "Ada", "key": "ab".repeat(32) },
        "changes": [
            { "id": "PAY-001", "type": "add", "title": "Pay by invoice" },
            { "id": "PAY-002", "type": "fix", "title": "Round as the bank does", "fixtures": ["fixtures/round"] },
        ],
        "steps": [
            { "id": "build", "kind": "build", "run": ["make"], "proves": [] },
            { "id": "unit", "kind": "unit", "run": ["make", "test"], "needs": ["build"], "proves": "all" },
            { "id": "e2e", "kind": "e2e", "run": ["make", "e2e"], "needs": ["build"], "proves": ["PAY-001"] },
        ],
        "gates": { "min_evolutions": { "count": 2 } },
        "change_policies": { "add": { "steps": ["e2e"] }, "fix": { "fixtures_min": 1 } },
    })
}

fn changed(pointer: &str, value: Value) -> Value {
    let (above, key) = pointer.rsplit_once('/').unwrap();
    let mut document = good();
    let above = document.pointer_mut(above).unwrap();
    match above {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        above if value.is_null() => drop(above.as_object_mut().unwrap().remove(key)),
        above => above[key] = value,
    }
    document
}

fn read(document: Value) -> Generation {
    Generation::from_document(document).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn refused(pointer: &str, value: Value) -> Vec<(GenerationErrorCode, String, String)> {
    let errors = Generation::from_document(changed(pointer, value)).unwrap_err();
    errors.into_iter().map(|error| (error.code, error.pointer, error.message)).collect()
}

fn check(pointer: &str, value: Value, code: GenerationErrorCode, at: &str) {
    let found = refused(pointer, value.clone());
    let found: Vec<_> = found.iter().map(|(code, at, _)| (*code, at.as_str())).collect();
    assert_eq!(found, [(code, at)], "{pointer} {value}");
}

#[test]
fn what_a_change_may_be_is_said_where_it_is_something_else() {
    let found = refused("/changes/0/type", json!("break"));
    let message = "`break` is not allowed; allowed: `fix`, `refine`, `add`, `remove`";
    assert_eq!(found, [(Code::Schema, "/changes/0/type".into(), message.into())]);
}

#[test]
fn the_schema_is_enforced_at_every_part() {
    for (pointer, value, at) in [
        ("/generation", json!(2), "/generation"),
        ("/version", json!("v1.2.0"), "/version"),
        ("/version", json!("1.2"), "/version"),
        ("/version", json!("1.2.0+b"), "/version"),
        ("/version", json!("1.02.0"), "/version"),
        ("/version", Value::Null, ""),
        ("/pipeline", json!({}), "/pipeline"),
        ("/description", json!(""), "/description"),
        ("/description", json!("a\u{202e}b"), "/description"),
        ("/author/key", json!("AB"), "/author/key"),
        ("/changes", json!([]), "/changes"),
        ("/changes/0/title", json!("two\nlines"), "/changes/0/title"),
        ("/changes/0/id", json!("-x"), "/changes/0/id"),
        ("/changes/0/id", json!("a;b"), "/changes/0/id"),
        ("/changes/1/fixtures/0", json!("../out"), "/changes/1/fixtures/0"),
        ("/changes/1/fixtures/0", json!("/etc/passwd"), "/changes/1/fixtures/0"),
        ("/steps/0/run", json!([]), "/steps/0/run"),
        ("/steps/0/run/0", json!(""), "/steps/0/run/0"),
        ("/steps/0/run", json!("make test"), "/steps/0/run"),
        ("/steps/0/run/0", json!("a\u{0}b"), "/steps/0/run/0"),
        ("/steps/0/kind", json!("smoke"), "/steps/0/kind"),
        ("/steps/0/proves", json!("some"), "/steps/0/proves"),
        ("/steps/0/timeout_s", json!(0), "/steps/0/timeout_s"),
        ("/steps/0/timeout_s", json!(1.5), "/steps/0/timeout_s"),
        ("/steps/0/env", json!(["A=B"]), "/steps/0/env/0"),
        ("/gates/min_evolutions", json!({ "count": 0 }), "/gates/min_evolutions/count"),
        ("/gates/all_proven", json!({}), "/gates/all_proven"),
        ("/gates/perf_budget", json!({}), "/gates/perf_budget"),
        ("/change_policies/drop", json!({ "steps": ["unit"] }), "/change_policies/drop"),
        ("/hooks", json!([{ "id": "a", "event": "always", "run": ["x"] }]), "/hooks/0/event"),
        ("/stages", json!([{ "stage": "gamma" }]), "/stages/0/stage"),
    ] {
        check(pointer, value, Code::Schema, at);
    }
    check("/version", json!("99999999999999999999.0.0"), Code::Limit, "");
}

#[test]
fn what_the_schema_cannot_say_is_held_against_every_document() {
    let change = json!({ "id": "PAY-001", "type": "refine", "title": "again" });
    check("/changes/-", change, Code::DuplicateId, "/changes/2/id");
    check("/steps/2/id", json!("unit"), Code::DuplicateId, "/steps/2/id");
    check("/steps/2/needs", json!(["deploy"]), Code::UnknownReference, "/steps/2/needs/0");
    check("/steps/0/proves", json!(["PAY-009"]), Code::UnknownReference, "/steps/0/proves/0");
    check("/steps/0/needs", json!(["unit"]), Code::Cycle, "/steps/0/needs");
    check("/steps/0/needs", json!(["build"]), Code::Cycle, "/steps/0/needs");
    check("/steps/1/proves", json!([]), Code::Unproven, "/changes/1");
    check("/steps/2/kind", json!("integration"), Code::ChangePolicy, "/changes/0");
    check("/steps/2/proves", json!([]), Code::ChangePolicy, "/changes/0");
    check("/changes/1/fixtures", Value::Null, Code::ChangePolicy, "/changes/1");
    let hook = |run: &str| json!({ "id": "tell", "event": "promote_end", "run": [run] });
    check("/hooks", json!([hook("a"), hook("b")]), Code::DuplicateId, "/hooks/1/id");
    let command = |run: &str| json!({ "id": "ask", "run": [run] });
    check("/gates/commands", json!([command("a"), command("b")]), Code::DuplicateId, "/gates/commands/1/id");
    check(
        "/stages",
        json!([{ "stage": "beta" }, { "stage": "alpha" }, { "stage": "final" }]),
        Code::Contradiction,
        "/stages/1",
    );
    check("/stages", json!([{ "stage": "alpha" }]), Code::Contradiction, "/stages");
    let waits = json!([{ "stage": "beta" }, { "stage": "final", "soak_hours": 1 }]);
    check("/stages", waits, Code::Contradiction, "/stages/1/soak_hours");
    let window =
        json!({ "from": "2026-12-27T00:00:00Z", "to": "2026-12-24T00:00:00Z", "reason": "holidays" });
    check(
        "/gates/freeze_window",
        json!({ "windows": [window] }),
        Code::Contradiction,
        "/gates/freeze_window/windows/0",
    );
    check(
        "/gates/perf_budget",
        json!({ "p50_ms": 90, "p99_ms": 80 }),
        Code::Contradiction,
        "/gates/perf_budget",
    );
    let hotfix = refused("/hotfix", json!({ "base": "1.1.9", "reason": "x" }));
    let at: Vec<_> = hotfix.iter().map(|(code, at, _)| (*code, at.as_str())).collect();
    assert_eq!(at, [(Code::Contradiction, "/hotfix/base"), (Code::Contradiction, "/changes")]);
}

#[test]
fn a_hotfix_mends_one_thing_of_a_release_of_its_own_line() {
    let mut document = good();
    document["version"] = json!("1.1.10");
    document["changes"].as_array_mut().unwrap().remove(0);
    document["steps"].as_array_mut().unwrap().remove(2);
    document["hotfix"] = json!({ "base": "1.1.9", "reason": "money is lost", "skips": ["soak"] });
    assert_eq!(read(document.clone()).hotfix.unwrap().skips, [Skip::Soak]);
    document["hotfix"]["skips"] = json!(["evidence_bundle"]);
    assert_eq!(Generation::from_document(document).unwrap_err()[0].pointer, "/hotfix/skips/0");
}

#[test]
fn two_ways_to_write_are_one_contract() {
    let yaml = "
generation: 1
version: \"1.2.0\"   # the next one
description: Invoices
author: { name: Ada }
changes:
- { id: PAY-001, type: add, title: Pay by invoice }
steps:
- id: unit
  kind: unit
  run: [make, test]
  proves: all
  timeout_s: 60
";
    let toml = "
generation = 1
description = 'Invoices'
version = '1.2.0'
author.name = 'Ada'
[[changes]]
type = 'add'
id = 'PAY-001'
title = 'Pay by invoice'
[[steps]]
id = 'unit'
timeout_s = 0x3c
kind = 'unit'
run = ['make', 'test']
proves = 'all'
";
    let [one, other] = [(yaml, Format::Yaml), (toml, Format::Toml)]
        .map(|(text, format)| Generation::parse(text, format).unwrap_or_else(|errors| panic!("{errors:?}")));
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.canonical(), other.canonical());
    assert_eq!(Generation::from_document(one.document().clone()).unwrap().digest(), one.digest());
    let lines = |text: &str, format| {
        let errors = Generation::parse(text, format).unwrap_err();
        errors.iter().map(|error| (error.line, error.pointer.clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&yaml.replace("type: add", "type: drop"), Format::Yaml),
        [(Some(7), "/changes/0/type".into())]
    );
    assert_eq!(lines(&toml.replace("'add'", "'drop'"), Format::Toml), [(Some(7), "/changes/0/type".into())]);
    assert_eq!(lines(&toml.replace("0x3c", "1.5"), Format::Toml), [(Some(12), "/steps/0/timeout_s".into())]);
    assert_eq!(lines(&yaml.replace("\"1.2.0\"", "1.2.0"), Format::Yaml), [(Some(3), "/version".into())]);
}

#[test]
fn what_lets_a_file_mean_more_than_it_shows_is_refused_and_bounded() {
    let code = |text: &str, format| {
        Generation::parse(text, format).unwrap_err().iter().map(|error| error.code).collect::<Vec<_>>()
    };
    assert_eq!(code("a: &x 1\nb: *x\n", Format::Yaml), [Code::YamlFeature; 2]);
    assert_eq!(code("a: 1\na: 2\n", Format::Yaml), [Code::DuplicateKey]);
    assert_eq!(code("a = 1\na = 2\n", Format::Toml), [Code::Syntax]);
    assert_eq!(code("a = 1979-05-27\n", Format::Toml), [Code::Schema]);
    assert_eq!(code(&"[".repeat(100_000), Format::Yaml), [Code::Limit]);
    assert_eq!(code(&format!("a = {}", "[".repeat(100_000)), Format::Toml), [Code::Syntax]);
    for format in Format::ALL {
        assert_eq!(code(&"#".repeat(BYTES_MAX + 1), format), [Code::Limit]);
    }
}

#[test]
fn a_change_is_known_by_what_has_to_be_shown_of_it_and_nothing_else() {
    let before = read(good());
    let same = |pointer: &str, value: Value| {
        let after = read(changed(pointer, value));
        let digest = |generation: &Generation, id| generation.change_digest(generation.change(id).unwrap());
        assert_ne!(before.digest(), after.digest(), "{pointer}");
        ["PAY-001", "PAY-002"].map(|id| digest(&before, id) == digest(&after, id))
    };
    assert_eq!(same("/description", json!("Bills")), [true, true]);
    assert_eq!(same("/gates/min_evolutions/count", json!(3)), [true, true]);
    assert_eq!(same("/changes/0/title", json!("Pay later")), [false, true]);
    assert_eq!(same("/steps/2/run", json!(["make", "e2e", "-k"])), [false, true]);
    assert_eq!(same("/steps/0/run", json!(["make", "-j4"])), [false, false]);
    assert_eq!(same("/change_policies/fix", Value::Null), [true, false]);
    assert_eq!(same("/change_policies/remove", json!({ "steps": ["unit"] })), [true, true]);
    assert_eq!(same("/steps/2/proves", json!("all")), [true, false]);
}

#[test]
fn an_amendment_voids_the_proofs_of_what_it_alters() {
    let mut document = changed("/steps/2/run", json!(["true"]));
    let change = json!({ "id": "PAY-003", "type": "refine", "title": "Faster" });
    document["changes"].as_array_mut().unwrap().push(change);
    let amendment = Amendment::between(&read(good()), &read(document.clone()));
    let ids = |list: &[ChangeId]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(&amendment.altered), ["PAY-001"]);
    assert_eq!(ids(&amendment.kept), ["PAY-002"]);
    assert_eq!(ids(&amendment.added), ["PAY-003"]);
    let back = Amendment::between(&read(document), &read(good()));
    assert_eq!(
        (ids(&back.removed), ids(&back.altered)),
        (vec!["PAY-003".to_owned()], vec!["PAY-001".to_owned()])
    );
}

#[test]
fn codes_are_told_apart() {
    let codes: std::collections::BTreeSet<_> =
        GenerationErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), GenerationErrorCode::ALL.len());
}

#[test]
fn the_published_vectors_hold() {
    const VECTORS: &str = include_str!("../../../../spec/generation-vectors.json");
    let published = include_str!("../../../../spec/generation-vectors.lock");
    let digest = estoppel_evidence::Sha256::of(VECTORS.as_bytes()).hex();
    assert_eq!(published, format!("{digest}  generation-vectors.json\n"), "published vectors never change");
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 20, "{}", vectors.len());
    for vector in vectors {
        let format = Format::ALL.into_iter().find(|format| vector["format"] == format.extension()).unwrap();
        let made = match Generation::parse(vector["text"].as_str().unwrap(), format) {
            Ok(generation) => {
                let changes = generation.changes.iter();
                let changes =
                    changes.map(|change| (change.id.to_string(), json!(generation.change_digest(change))));
                let changes: serde_json::Map<_, _> = changes.collect();
                json!({ "contract": generation.digest(), "changes": changes })
            }
            Err(errors) => {
                let errors = errors.iter();
                let rows =
                    errors.map(|error| json!({ "code": error.code.as_str(), "pointer": error.pointer }));
                json!({ "errors": rows.collect::<Vec<_>>() })
            }
        };
        for (member, value) in made.as_object().unwrap() {
            assert_eq!(value, &vector[member], "{}: {member}", vector["name"]);
        }
    }
}

#[test]
fn the_page_explains_every_code() {
    let page = include_str!("../../../../docs/generations.md");
    for code in GenerationErrorCode::ALL {
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
    }
}
