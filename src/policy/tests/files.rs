//! Documents that lie in the repository: fixtures, shipped policies, the examples of the language reference,
//! and the schema beside the code that it describes.
#![allow(clippy::disallowed_methods, reason = "the crate touches no files; its tests read some")]
#![allow(clippy::unwrap_used, reason = "a file of the repository that is not as it should be fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use estoppel_policy::{
    Cases, Condition, LIMITS, PolicyDocument, PolicyErrorCode, RequestFacts, Step, Verdict,
};
use serde_json::Value;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a folder that end so, with their text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(at(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .map(|path| (path.display().to_string(), read(&path)))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {folder} ends with {ending}");
    files
}

fn accept(name: &str, text: &str) -> PolicyDocument {
    PolicyDocument::parse(text).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"))
}

#[test]
fn good_documents_are_accepted_and_have_the_canonical_form_beside_them() {
    for (name, text) in files("fixtures/good", ".yaml") {
        let canonical = String::from_utf8(accept(&name, &text).canonical()).unwrap() + "\n";
        let golden = name.replace(".yaml", ".canonical.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &canonical).unwrap();
        }
        assert_eq!(canonical, read(&golden), "{name}");
    }
}

#[test]
fn canonical_bytes_are_json_and_a_policy_with_the_same_hash() {
    for (name, text) in files("fixtures/good", ".yaml") {
        let document = accept(&name, &text);
        let canonical = String::from_utf8(document.canonical()).unwrap();
        let json: Value = serde_json::from_str(&canonical).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), canonical, "{name}");
        assert_eq!(accept(&name, &canonical).hash(), document.hash(), "{name}");
    }
}

#[test]
fn bad_documents_are_refused_with_every_error_they_have() {
    for folder in ["fixtures/bad", "fixtures/refused"] {
        for (name, text) in files(folder, ".yaml") {
            let expected: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# expect: ")).collect();
            let errors = PolicyDocument::parse(&text).map(|_| name.clone()).unwrap_err();
            let path = |path: &str| if path.is_empty() { "-".into() } else { path.to_string() };
            let got: Vec<_> = errors.iter().map(|e| format!("{} {}", e.code, path(&e.path))).collect();
            assert_eq!(got, expected, "{name}: {errors:#?}");
        }
    }
}

#[test]
fn errors_point_at_the_text_they_are_about() {
    let text = read(at("fixtures/bad/unknown_keys.yaml"));
    for error in PolicyDocument::parse(&text).unwrap_err() {
        let line = text.lines().nth(error.line - 1).unwrap();
        let rest: String = line.chars().skip(error.column - 1).collect();
        let key = error.path.rsplit('.').next().unwrap();
        assert!(rest.starts_with(key), "{error}: {rest}");
    }
}

#[test]
fn shipped_policies_are_sound_and_decide_as_their_cases_say() {
    let policies: Vec<_> = files("../../policies", ".yaml")
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".cases.yaml"))
        .collect();
    for (name, text) in policies {
        let document = accept(&name, &text);
        assert!(document.warnings().is_empty(), "{name}: {:?}", document.warnings());
        assert!(
            name.ends_with(&format!("/{}.yaml", document.name())),
            "{name} is called {}",
            document.name()
        );
        let cases = read(name.replace(".yaml", ".cases.yaml"));
        let cases = Cases::parse(&cases).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
        assert!(!cases.cases.is_empty());
        let failures: Vec<_> = cases.check(&document.compile()).iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
    }
}

#[test]
fn the_open_policy_blocks_nothing() {
    let document = accept("open", &read(at("../../policies/open.yaml")));
    let policy = document.compile();
    let settings = policy.route("any");
    assert_eq!((settings.verdict, settings.on_not_evaluated), (Verdict::Allow, Verdict::Allow));
    let canonical: Value = serde_json::from_slice(&document.canonical()).unwrap();
    assert!(canonical.get("rules").is_none() && canonical.get("routes").is_none());
}

/// Fenced blocks of a language, with what follows the language in the fence.
fn blocks(text: &str, language: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(fence)) => open = Some((fence.into(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, body)), None) => *body += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    let of_language = |(fence, body): (String, String)| {
        let rest = fence.strip_prefix(language)?;
        Some((rest.trim().to_string(), body))
    };
    blocks.into_iter().filter_map(of_language).collect()
}

#[test]
fn the_examples_of_the_reference_do_what_it_says() {
    let reference = read(at("../../docs/policy.md"));
    let (mut policies, mut cases) = (0, 0);
    let mut last = None;
    for (kind, text) in blocks(&reference, "yaml") {
        match kind.as_str() {
            "" => {
                last = Some(accept(&text, &text).compile());
                policies += 1;
            }
            "part" => {
                accept(&text, &format!("version: 1\nname: part\n{text}"));
                policies += 1;
            }
            "cases" => {
                let failures = Cases::parse(&text).unwrap().check(last.as_ref().unwrap());
                assert!(failures.is_empty(), "{}", failures[0]);
                cases += 1;
            }
            "refused" => {
                PolicyDocument::parse(&text).map(|_| text.clone()).unwrap_err();
            }
            other => panic!("`yaml {other}` is not a kind of example"),
        }
    }
    assert!(policies >= 4 && cases >= 2);
}

#[test]
fn the_reference_names_every_limit_with_its_default_and_its_range() {
    let reference = read(at("../../docs/policy.md"));
    for limit in LIMITS {
        let row = format!("| `{}` | {} | {} to {} |", limit.key, limit.default, limit.min, limit.max);
        assert!(reference.contains(&row), "{row}");
    }
    for key in Condition::ALL
        .map(Condition::as_str)
        .into_iter()
        .chain(PolicyErrorCode::ALL.map(PolicyErrorCode::as_str))
    {
        assert!(reference.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn conditions_are_tried_in_the_order_of_the_reference() {
    let reference = read(at("../../docs/policy.md"));
    let order = Condition::ALL.map(|condition| format!("`{condition}`")).join(", ");
    assert!(reference.split_whitespace().collect::<Vec<_>>().join(" ").contains(&order), "{order}");
    for first in 0..Condition::ALL.len() {
        let conditions = Condition::ALL[first..].iter().map(|condition| match condition {
            Condition::Arguments | Condition::Body => format!("{condition}: [{{ at: /a, exists: true }}]"),
            Condition::Provenance => format!("{condition}: {{}}"),
            _ => format!("{condition}: nothing"),
        });
        let conditions: Vec<_> = conditions.collect();
        let text = format!(
            "version: 1\nname: order\nrules:\n- {{ id: a, when: {{ {} }}, verdict: allow }}\n",
            conditions.join(", ")
        );
        let policy = accept(&text, &text).compile();
        let steps = policy.explain_request(&RequestFacts::default()).steps;
        let failed = |step: &Step<'_, '_>| match step {
            Step::Rule { failed, .. } => failed.and_then(|failed| failed.condition),
            _ => None,
        };
        assert_eq!(steps.iter().find_map(failed), Some(Condition::ALL[first]), "{text}");
    }
}

#[test]
fn the_schema_has_the_keys_and_ranges_of_the_code() {
    let schema: Value = serde_json::from_str(&read(at("../../spec/policy.schema.json"))).unwrap();
    let limits = schema["$defs"]["limits"]["properties"].as_object().unwrap();
    assert_eq!(limits.len(), LIMITS.len());
    for limit in LIMITS {
        let entry = &limits[limit.key];
        let got =
            [&entry["default"], &entry["minimum"], &entry["maximum"]].map(|value| value.as_u64().unwrap());
        assert_eq!(got, [limit.default, limit.min, limit.max], "{}", limit.key);
    }
    let mut conditions = Condition::ALL.map(Condition::as_str);
    conditions.sort_unstable();
    let when = schema["$defs"]["rule"]["properties"]["when"]["properties"].as_object().unwrap();
    assert_eq!(when.keys().map(String::as_str).collect::<Vec<_>>(), conditions);
    let all: Value = serde_json::from_str(&read(at("fixtures/good/everything.canonical.json"))).unwrap();
    let pairs = [
        (&schema["properties"], &all),
        (&schema["properties"]["defaults"]["properties"], &all["defaults"]),
        (&schema["properties"]["routes"]["additionalProperties"]["properties"], &all["routes"]["llm"]),
        (&schema["$defs"]["rule"]["properties"], &every_key(&all["rules"])),
    ];
    for (properties, example) in pairs {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(properties), keys(example));
    }
}

/// One object with the members of all in a list.
fn every_key(list: &Value) -> Value {
    let members = list.as_array().unwrap().iter().flat_map(|value| value.as_object().unwrap().clone());
    Value::Object(members.collect())
}
