//! The verifiers that go into a kit, from `spec/verifiers`, and its guide.

use std::collections::BTreeMap;

macro_rules! from_spec {
    ($($to:literal $from:literal)*) => {
        &[$(($to, include_bytes!(concat!("../../../spec/", $from)))),*]
    };
}

macro_rules! schemas {
    ($($name:literal)*) => {
        &[$((concat!("verifiers/python/schemas/", $name), include_bytes!(concat!("../../../spec/pef/schemas/", $name)))),*]
    };
}

macro_rules! javascript {
    ($($name:literal)*) => {
        &[$((concat!("verifiers/javascript/", $name), include_bytes!(concat!("../../../spec/verifiers/javascript/", $name)))),*]
    };
}

type Files = &'static [(&'static str, &'static [u8])];

const PYTHON: Files = from_spec![
    "verify.py" "verifiers/python/kit_verify.py"
    "verifiers/python/certificate_check.py" "verifiers/python/certificate_check.py"
    "verifiers/python/kit_cited.py" "verifiers/python/kit_cited.py"
    "verifiers/python/kit_controls.py" "verifiers/python/kit_controls.py"
    "verifiers/python/kit_ledger.py" "verifiers/python/kit_ledger.py"
    "verifiers/python/kit_oscal.py" "verifiers/python/kit_oscal.py"
    "verifiers/python/kit_page.py" "verifiers/python/kit_page.py"
    "verifiers/python/pef_verify.py" "verifiers/python/pef_verify.py"
    "verifiers/python/schemas/archive.schema.json" "archive.schema.json"
    "verifiers/python/schemas/attestation.schema.json" "attestation.schema.json"
    "verifiers/python/schemas/audit.schema.json" "audit.schema.json"
    "verifiers/python/schemas/custody.schema.json" "custody.schema.json"
    "verifiers/python/schemas/framework.schema.json" "framework.schema.json"
    "verifiers/python/schemas/ledger.schema.json" "ledger.schema.json"
    "verifiers/python/schemas/replay.schema.json" "replay.schema.json"
];

const SCHEMAS: Files = schemas![
    "beginning.schema.json"
    "checkpoint.schema.json"
    "disclosure.schema.json"
    "journal_event.schema.json"
    "manifest.schema.json"
    "receipt.schema.json"
    "replay_certificate.schema.json"
    "signature.schema.json"
    "trust.schema.json"
];

const JAVASCRIPT: Files = javascript![
    "beginning.mjs"
    "bundle.mjs"
    "bytes.mjs"
    "cli.mjs"
    "container.mjs"
    "curves.mjs"
    "envelope.mjs"
    "events.mjs"
    "holds.mjs"
    "journal.mjs"
    "json.mjs"
    "keys.mjs"
    "note.mjs"
    "package.json"
    "pef-verify.mjs"
    "receipt.mjs"
    "refusal.mjs"
    "run.mjs"
    "schema.mjs"
    "schemas.mjs"
    "segment.mjs"
    "sha2.mjs"
    "tree.mjs"
    "trust.mjs"
    "words.mjs"
];

/// All of them, by their path in the kit.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let guide: (&str, &[u8]) = ("verify.md", include_bytes!("guide.md"));
    let all = PYTHON.iter().chain(SCHEMAS).chain(JAVASCRIPT).chain(std::iter::once(&guide));
    all.map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_has_every_part_of_the_verifiers_but_their_tests() {
        let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/spec");
        let names = |folder: &str, to: &str| -> Vec<String> {
            let entries = std::fs::read_dir(format!("{spec}/{folder}")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let of_tests = ["fixture.mjs", "embed-schemas.mjs", "README.md"];
            let is_part = |name: &String| !name.contains(".test.") && !of_tests.contains(&name.as_str());
            names.filter(is_part).map(|name| format!("{to}/{name}")).collect()
        };
        let mut expected = names("verifiers/javascript", "verifiers/javascript");
        expected.extend(names("pef/schemas", "verifiers/python/schemas"));
        let files = files();
        for path in expected {
            assert!(files.contains_key(&path), "{path} is in no kit");
        }
    }
}
