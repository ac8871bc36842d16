//! A framework: controls, and which evidence answers them (`spec/framework.schema.json`).

use std::collections::BTreeSet;

use estoppel_evidence::Sha256;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::error::AttestError;
use crate::kind::Kind;

/// Most bytes of a framework's file, and controls in it.
pub const FRAMEWORK_BYTES_MAX: usize = 1 << 20;
const CONTROLS_MAX: usize = 512;

/// Whether controls can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameworkKind {
    /// Controls with checks pass or fail; others are not assessed.
    Assessment,
    /// Controls point at evidence, and nothing passes or fails.
    Mapping,
}

/// From when on it applies, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    edition: String,
    kind: FrameworkKind,
    source: String,
    licence: String,
    applies: Vec<Applies>,
    control: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    about: String,
    #[serde(default)]
    evidence: Vec<String>,
    #[serde(default)]
    threats: Vec<String>,
    #[serde(default)]
    checks: Vec<String>,
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
    /// [`AttestError::Framework`] with what is wrong, [`AttestError::Limit`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() > FRAMEWORK_BYTES_MAX {
            return Err(AttestError::Limit);
        }
        let wrong = |detail: String| AttestError::Framework(detail);
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if file.control.is_empty() || file.control.len() > CONTROLS_MAX || file.applies.is_empty() {
            return Err(wrong(format!("it has 1 to {CONTROLS_MAX} controls, and says from when it applies")));
        }
        let mut ids = BTreeSet::new();
        let mut controls = Vec::new();
        for row in file.control {
            if !ids.insert(row.id.clone()) {
                return Err(wrong(format!("control `{}` comes twice", row.id)));
            }
            controls.push(row.read(file.kind)?);
        }
        let told = [&file.id, &file.title, &file.edition, &file.source, &file.licence];
        if told.iter().any(|text| text.trim().is_empty()) {
            return Err(wrong("it says its id, title, edition, source and licence".into()));
        }
        let is_of_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if file.id.len() > 64 || file.id.starts_with(['.', '-']) || !file.id.bytes().all(is_of_id) {
            return Err(wrong("its id has 1 to 64 of a-z, 0-9, `.` and `-`".into()));
        }
        Ok(Self {
            id: file.id,
            title: file.title,
            edition: file.edition,
            kind: file.kind,
            source: file.source,
            licence: file.licence,
            applies: file.applies,
            controls,
            digest: Sha256::of(bytes),
        })
    }
}

impl Row {
    fn read(self, kind: FrameworkKind) -> Result<Control, AttestError> {
        let wrong = |what: String| AttestError::Framework(format!("control `{}`: {what}", self.id));
        if kind == FrameworkKind::Mapping && !self.checks.is_empty() {
            return Err(wrong("a mapping has no checks, because nothing in it passes or fails".into()));
        }
        if self.evidence.is_empty() && self.threats.is_empty() {
            return Err(wrong("it names no evidence".into()));
        }
        let evidence = self.evidence.iter().map(|name| {
            Kind::of_name(name).ok_or_else(|| wrong(format!("there is no evidence of the kind `{name}`")))
        });
        let checks = self
            .checks
            .iter()
            .map(|name| Check::of_name(name).ok_or_else(|| wrong(format!("there is no check `{name}`"))));
        let (evidence, checks) = (evidence.collect::<Result<_, _>>()?, checks.collect::<Result<_, _>>()?);
        Ok(Control { id: self.id, about: self.about, evidence, threats: self.threats, checks })
    }
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
        refused("eu-ai-act", row, &format!("{row}\nresult = \"pass\""), "unknown field");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        refused("pci-dss-4.0.1", "\"evaluated_calls\"", "\"good_calls\"", "`good_calls`");
        refused("pci-dss-4.0.1", "\"traffic_is_evaluated\"", "\"all_is_well\"", "`all_is_well`");
        refused("pci-dss-4.0.1", "kind = \"assessment\"", "kind = \"certificate\"", "unknown variant");
        refused("pci-dss-4.0.1", "id = \"pci", "id = \"../pci", "its id has");
        refused("pci-dss-4.0.1", "edition = \"4.0.1\"\n", "", "missing field");
        let twice = text("pci-dss-4.0.1").replacen("id = \"7.2.2\"", "id = \"6.4.2\"", 1);
        assert!(Framework::parse(twice.as_bytes()).unwrap_err().to_string().contains("comes twice"));
        assert!(matches!(Framework::shipped("iso-42001"), Err(AttestError::FrameworkUnknown(_))));
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
