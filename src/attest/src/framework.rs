//! A framework: controls, and which evidence answers them (`spec/framework.schema.json`).

mod place;

use std::collections::BTreeSet;

use estoppel_evidence::Sha256;
use serde::Serialize;

use crate::check::Check;
use crate::error::AttestError;
use crate::kind::Kind;
use place::Place;

/// Most bytes of a framework's file, and controls in it.
pub const FRAMEWORK_BYTES_MAX: usize = 1 << 20;
const CONTROLS_MAX: usize = 512;
/// Most rows of `applies`.
const APPLIES_MAX: usize = 16;
/// Most characters of a text, and of the id of a control.
const TEXT_CHARS_MAX: usize = 400;
const ID_CHARS_MAX: usize = 64;

/// Whether controls can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameworkKind {
    /// Controls with checks pass or fail; others are not assessed.
    Assessment,
    /// Controls point at evidence, and nothing passes or fails.
    Mapping,
}

/// From when on it applies, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applies {
    pub from: String,
    pub what: String,
}

/// One control.
#[derive(Clone, Debug)]
pub struct Control {
    pub id: String,
    pub about: String,
    pub evidence: Vec<&'static Kind>,
    /// Ids of threats as receipts state them.
    pub threats: Vec<String>,
    pub checks: Vec<&'static Check>,
}

/// A framework that was read.
#[derive(Clone, Debug)]
pub struct Framework {
    pub id: String,
    pub title: String,
    pub edition: String,
    pub kind: FrameworkKind,
    pub source: String,
    pub licence: String,
    pub applies: Vec<Applies>,
    pub controls: Vec<Control>,
    /// Of the file.
    pub digest: Sha256,
}

macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../policies/frameworks/", $name, ".toml")))),*]
    };
}

/// Those of `policies/frameworks`, by name.
const SHIPPED: &[(&str, &str)] = shipped![
    "eu-ai-act"
    "hipaa-security-rule"
    "mitre-atlas-5.6"
    "nist-ai-rmf-1.0"
    "nist-sp-800-161r1"
    "owasp-agentic-2026"
    "owasp-llm-2025"
    "owasp-llm-2026"
    "pci-dss-4.0.1"
    "soc2-2017"
];

impl Framework {
    /// One that comes with the program.
    ///
    /// # Errors
    /// [`AttestError::FrameworkUnknown`].
    pub fn shipped(id: &str) -> Result<Self, AttestError> {
        let found = SHIPPED.iter().find(|(name, _)| *name == id);
        let (_, text) = found.ok_or_else(|| AttestError::FrameworkUnknown(id.to_owned()))?;
        Self::parse(text.as_bytes())
    }

    /// The file of one that comes with the program.
    pub fn shipped_file(id: &str) -> Option<&'static [u8]> {
        SHIPPED.iter().find(|(name, _)| *name == id).map(|(_, text)| text.as_bytes())
    }

    /// Names of those that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`AttestError::Framework`] with what is wrong and where, [`AttestError::Limit`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        const MEMBERS: [&str; 8] =
            ["id", "title", "edition", "kind", "source", "licence", "applies", "control"];
        if bytes.len() > FRAMEWORK_BYTES_MAX {
            return Err(AttestError::Limit);
        }
        let wrong = |detail: String| AttestError::Framework(detail);
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let file: toml::Table = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let file = Place::whole(&file);
        file.demand_known(&MEMBERS)?;
        let told = |name: &str| {
            let text = file.text(name, TEXT_CHARS_MAX)?;
            if text.trim().is_empty() { Err(file.wrong(name, "is blank")) } else { Ok(text.to_owned()) }
        };
        let id = told("id")?;
        if !is_id(&id) {
            return Err(file.wrong(
                "id",
                "has other than 1 to 64 of a-z, 0-9, `.` and `-`, or begins with one of the last",
            ));
        }
        let kind = match file.text("kind", TEXT_CHARS_MAX)? {
            "assessment" => FrameworkKind::Assessment,
            "mapping" => FrameworkKind::Mapping,
            _ => return Err(file.wrong("kind", "is neither `assessment` nor `mapping`")),
        };
        let applies = file.tables("applies", APPLIES_MAX)?.iter().map(applies).collect::<Result<_, _>>()?;
        let mut ids = BTreeSet::new();
        let mut controls = Vec::new();
        for place in file.tables("control", CONTROLS_MAX)? {
            let control = control(&place, kind)?;
            if !ids.insert(control.id.clone()) {
                return Err(place.wrong("id", format!("comes twice: `{}`", control.id)));
            }
            controls.push(control);
        }
        Ok(Self {
            id,
            title: told("title")?,
            edition: told("edition")?,
            kind,
            source: told("source")?,
            licence: told("licence")?,
            applies,
            controls,
            digest: Sha256::of(bytes),
        })
    }
}

fn is_id(text: &str) -> bool {
    let is_of_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    text.len() <= 64 && !text.starts_with(['.', '-']) && text.bytes().all(is_of_id)
}

fn applies(place: &Place<'_>) -> Result<Applies, AttestError> {
    place.demand_known(&["from", "what"])?;
    let from = place.text("from", 10)?;
    if !is_day(from) {
        return Err(place.wrong("from", "is no day as `2026-11-22`"));
    }
    Ok(Applies { from: from.to_owned(), what: place.text("what", TEXT_CHARS_MAX)?.to_owned() })
}

fn is_day(text: &str) -> bool {
    let [year, month, day] = text.split('-').collect::<Vec<_>>()[..] else { return false };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let within = |part: &str, most: u8| part.parse().is_ok_and(|number: u8| (1..=most).contains(&number));
    let has_form =
        (year.len(), month.len(), day.len()) == (4, 2, 2) && [year, month, day].into_iter().all(is_digits);
    has_form && within(month, 12) && within(day, 31)
}

fn control(place: &Place<'_>, kind: FrameworkKind) -> Result<Control, AttestError> {
    place.demand_known(&["id", "about", "evidence", "threats", "checks"])?;
    if kind == FrameworkKind::Mapping && place.has("checks") {
        return Err(place.wrong("checks", "is in a mapping, in which nothing passes or fails"));
    }
    if !place.has("evidence") && !place.has("threats") {
        return Err(place.unusable("names neither evidence nor threats"));
    }
    let threat = |text: &str| is_threat(text).then(|| text.to_owned());
    Ok(Control {
        id: place.text("id", ID_CHARS_MAX)?.to_owned(),
        about: place.text("about", TEXT_CHARS_MAX)?.to_owned(),
        evidence: place.named("evidence", "kind of evidence", Kind::of_name)?,
        threats: place.named("threats", "id of a threat", threat)?,
        checks: place.named("checks", "check", Check::of_name)?,
    })
}

/// `scheme:edition/ID`
fn is_threat(text: &str) -> bool {
    let is_of = |part: &str, of: fn(u8) -> bool| !part.is_empty() && part.bytes().all(of);
    let parts = text.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.split_once('/')?)));
    parts.is_some_and(|(scheme, (edition, id))| {
        is_of(scheme, |byte| byte.is_ascii_lowercase() || byte == b'_')
            && is_of(edition, |byte| byte.is_ascii_digit() || byte == b'.')
            && is_of(id, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = include_str!("../../../spec/framework.schema.json");

    fn schema() -> jsonschema::Validator {
        jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap()
    }

    fn value(text: &str) -> serde_json::Value {
        toml::from_str(text).unwrap()
    }

    fn text(name: &str) -> &'static str {
        SHIPPED.iter().find(|(of, _)| *of == name).unwrap().1
    }

    #[test]
    fn every_shipped_framework_is_valid_and_called_as_its_file() {
        let schema = schema();
        for (name, text) in SHIPPED {
            let framework =
                Framework::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(framework.id, *name);
            let faults: Vec<String> =
                schema.iter_errors(&value(text)).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            assert!(text.contains("our own words"), "{name}: whose words stand beside the ids");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/frameworks");
        let found = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(found, SHIPPED.len(), "every file of policies/frameworks is shipped");
    }

    #[test]
    fn only_pci_and_hipaa_can_pass_or_fail() {
        let assessed: Vec<&str> = Framework::names()
            .filter(|name| Framework::shipped(name).unwrap().kind == FrameworkKind::Assessment)
            .collect();
        assert_eq!(assessed, ["hipaa-security-rule", "pci-dss-4.0.1"]);
    }

    /// A change that reader and schema have to refuse alike.
    fn refused(name: &str, from: &str, to: &str, told: &str) {
        let changed = text(name).replacen(from, to, 1);
        assert_ne!(changed, text(name), "{from}");
        let error = Framework::parse(changed.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(!schema().is_valid(&value(&changed)), "the schema takes {to}");
    }

    #[test]
    fn a_mapping_with_a_check_or_a_result_is_refused() {
        let row = "about = \"The system can record events by itself over its lifetime\"";
        refused("eu-ai-act", row, &format!("{row}\nchecks = [\"calls_have_receipts\"]"), "passes or fails");
        refused("eu-ai-act", row, &format!("{row}\nresult = \"pass\""), "/result` is unknown");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        refused("pci-dss-4.0.1", "\"evaluated_calls\"", "\"good_calls\"", "`good_calls`");
        refused("pci-dss-4.0.1", "\"traffic_is_evaluated\"", "\"all_is_well\"", "`all_is_well`");
        refused("pci-dss-4.0.1", "kind = \"assessment\"", "kind = \"certificate\"", "`/kind`");
        refused("pci-dss-4.0.1", "id = \"pci", "id = \"../pci", "`/id` has");
        refused("pci-dss-4.0.1", "edition = \"4.0.1\"\n", "", "`/edition` is missing");
        let twice = text("pci-dss-4.0.1").replacen("id = \"7.2.2\"", "id = \"6.4.2\"", 1);
        assert!(Framework::parse(twice.as_bytes()).unwrap_err().to_string().contains("comes twice"));
        assert!(matches!(Framework::shipped("iso-42001"), Err(AttestError::FrameworkUnknown(_))));
    }

    /// What a value may be exchanged for: texts of every length that is a limit, other types, lists and tables of other sizes.
    fn exchanged(value: &serde_json::Value) -> Vec<serde_json::Value> {
        use serde_json::{Value, json};
        let texts = ["x".into(), "\u{e9}".repeat(400), "\u{e9}".repeat(401), "a".repeat(64), "a".repeat(65)];
        let mut others: Vec<Value> = texts.into_iter().map(|text: String| json!(text)).collect();
        let words = [
            "",
            "2026-02-30",
            "2026-13-01",
            "2026-00-10",
            "2026-1-1",
            "2026-01-32",
            "2026-01-01T00:00:00Z",
            "+026-01-01",
            "assessment",
            "mapping",
            "Mapping",
            ".a",
            "-a",
            "a_b",
            "A",
            "calls",
            "callers_are_known",
            "calls ",
            "a:1/B",
            "a:1/b",
            "a:/B",
            ":1/B",
            "a:1/",
            "A:1/B",
            "a:1/B/C",
            "a:1:2/B",
            "a_b:1.2/B.3",
            "a:1/B\n",
        ];
        others.extend(words.map(|word| json!(word)));
        others.extend([json!(3), json!(true), json!([]), json!({}), json!(["calls"]), json!([3])]);
        others.extend([
            json!(["a:1/B"]),
            json!(["callers_are_known"]),
            json!([{ "from": "2026-01-01", "what": "a" }]),
        ]);
        match value {
            Value::Array(items) if items[0].is_string() => {
                others.extend([
                    json!([items[0], items[0]]),
                    json!([items[0], "calls"]),
                    json!([items[0], 3]),
                ]);
            }
            Value::Array(items) if items[0]["id"].is_string() => {
                others.extend([2, 512, 513].map(|count| many(&items[0], "id", count)));
            }
            Value::Array(items) => others.extend([2, 16, 17].map(|count| many(&items[0], "what", count))),
            _ => {}
        }
        others
    }

    /// So many tables, of which each says something else there.
    fn many(table: &serde_json::Value, name: &str, count: usize) -> serde_json::Value {
        let rows = (0..count).map(|at| {
            let mut table = table.clone();
            table[name] = format!("{at}").into();
            table
        });
        rows.collect()
    }

    fn pointers(value: &serde_json::Value, at: String, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(members) => {
                members.iter().for_each(|(name, value)| pointers(value, format!("{at}/{name}"), found));
            }
            serde_json::Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, value)| pointers(value, format!("{at}/{index}"), found));
            }
            _ => {}
        }
        if !at.is_empty() {
            found.push(at);
        }
    }

    /// Of the framework only the first control with each member, as all are read alike.
    fn shortened(name: &str) -> serde_json::Value {
        let mut whole = value(text(name));
        let controls = whole["control"].as_array().unwrap().clone();
        let mut kept: Vec<serde_json::Value> = Vec::new();
        for member in ["id", "evidence", "threats", "checks"] {
            let first = controls.iter().find(|control| control.get(member).is_some());
            kept.extend(first.filter(|first| !kept.contains(first)).cloned());
        }
        whole["control"] = kept.into();
        whole
    }

    #[test]
    fn reader_and_schema_say_the_same_of_every_exchanged_left_out_or_added_value() {
        let schema = schema();
        let mut said = [0, 0];
        let mut judge = |document: &serde_json::Value, at: &str, name: &str| {
            let file = toml::to_string(document).unwrap();
            let read = Framework::parse(file.as_bytes());
            assert_eq!(read.is_ok(), schema.is_valid(document), "{name}{at}: {:?}\n{file}", read.err());
            said[usize::from(read.is_ok())] += 1;
            let place: Vec<&str> = at.split('/').collect();
            let depth = if ["control", "applies"].contains(&place[1]) { 3 } else { 2 };
            let place = place[..depth.min(place.len())].join("/");
            // A kind may be wrong for what is in the controls.
            if let (Err(error), true) = (read, at != "/kind") {
                assert!(error.to_string().contains(&place), "{name}{at}: {error}");
            }
        };
        for name in Framework::names() {
            let whole = shortened(name);
            let mut places = Vec::new();
            pointers(&whole, String::new(), &mut places);
            for at in &places {
                for other in exchanged(whole.pointer(at).unwrap()) {
                    let mut changed = whole.clone();
                    *changed.pointer_mut(at).unwrap() = other;
                    judge(&changed, at, name);
                }
                let (above, last) = at.rsplit_once('/').unwrap();
                let mut less = whole.clone();
                if let Some(table) = less.pointer_mut(above).unwrap().as_object_mut() {
                    table.remove(last);
                    judge(&less, if above.is_empty() { at } else { above }, name);
                }
                let mut more = whole.clone();
                if let Some(table) = more.pointer_mut(at).unwrap().as_object_mut() {
                    table.insert("certified".into(), "yes".into());
                    judge(&more, &format!("{at}/certified"), name);
                }
            }
            let mut more = whole.clone();
            more["certified"] = "yes".into();
            judge(&more, "/certified", name);
        }
        assert!(said[0] > 5_000 && said[1] > 1_000, "{said:?}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let long = format!("edition = \"{}\"", "4".repeat(401));
        refused(
            "pci-dss-4.0.1",
            "edition = \"4.0.1\"",
            &long,
            "`/edition` is no text of 1 to 400 characters",
        );
        refused("pci-dss-4.0.1", "from = \"2025-03-31\"", "from = \"31 March\"", "`/applies/1/from`");
        refused("pci-dss-4.0.1", "\"evaluated_calls\"", "\"good_calls\"", "/evidence/");
        let blank = text("pci-dss-4.0.1").replacen("edition = \"4.0.1\"", "edition = \" \"", 1);
        assert!(Framework::parse(blank.as_bytes()).unwrap_err().to_string().contains("`/edition` is blank"));
    }

    #[test]
    fn the_schema_names_every_kind_of_evidence_and_every_check() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let listed = |name: &str| -> Vec<String> {
            serde_json::from_value(schema["$defs"][name]["enum"].clone()).unwrap()
        };
        let kinds: Vec<&str> = crate::KINDS.iter().map(|kind| kind.name).collect();
        let checks: Vec<&str> = crate::CHECKS.iter().map(|check| check.name).collect();
        assert_eq!((listed("evidence"), listed("check")), (owned(&kinds), owned(&checks)));
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}
