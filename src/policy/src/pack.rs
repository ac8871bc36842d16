//! Packs: contracts with what tests them, installed beside a policy. Here is what a pack.yaml says, and how a policy names
//! a contract of one; reading their files is left to others.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::document::{PolicyDocument, is_slug};
use crate::error::{Errors, Place, PolicyError, PolicyErrorCode};
use crate::judging::{ContractKind, ContractText};
use crate::read::Reader;
use crate::yaml::{self, Node};

/// Most contracts, and most policies, of a pack.
const FILES_MAX: usize = 256;
/// Most characters of a path in a pack.
const PATH_CHARS_MAX: usize = 255;
/// Most folders of a path in a pack, its file included.
const PATH_PARTS_MAX: usize = 8;
const WORD_CHARS_MAX: usize = 128;

/// A contract that a policy takes from a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedContract {
    /// Name of the pack.
    pub pack: String,
    /// Its name in the pack.
    pub contract: String,
    /// Of the bytes of its file, in hex digits.
    pub sha256: String,
    pub(crate) place: Place,
}

impl fmt::Display for PackedContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contract `{}` of pack `{}`", self.contract, self.pack)
    }
}

/// Where a document uses a contract of a pack, and what it may be there.
#[derive(Clone, Debug)]
pub(crate) struct PackedUse {
    pub name: String,
    pub kinds: &'static [ContractKind],
    pub place: Place,
    pub path: String,
}

/// What a pack has under the name of a contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackFile {
    /// Its language.
    pub kind: ContractKind,
    /// Where it lies, for a reader.
    pub file: String,
    /// As it lies there.
    pub bytes: Vec<u8>,
}

/// The digest that a policy names a contract's file by.
pub fn file_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl PolicyDocument {
    /// The contracts that come from packs, by their names in the document.
    pub fn packed(&self) -> &BTreeMap<String, PackedContract> {
        &self.packed
    }

    /// Takes the contracts that come from packs from `find`, if they are those that the document names.
    ///
    /// # Errors
    /// Everything that is not there, not the same or cannot stand where it is used; the document is unchanged then.
    pub fn take_packed(
        &mut self,
        mut find: impl FnMut(&PackedContract) -> Result<PackFile, String>,
    ) -> Result<(), Vec<PolicyError>> {
        let (mut errors, mut taken) = (Errors::default(), BTreeMap::new());
        for (name, packed) in &self.packed {
            match find(packed).and_then(|file| checked(packed, file)) {
                Ok(text) => drop(taken.insert(name.clone(), text)),
                Err(message) => {
                    errors.add(PolicyErrorCode::Pack, packed.place, format!("contracts.{name}"), message);
                }
            }
        }
        for packed in &self.packed_uses {
            let wrong = taken.get(&packed.name).filter(|text| !packed.kinds.contains(&text.kind));
            if let Some(text) = wrong {
                let (name, kind) = (&packed.name, text.kind.as_str());
                let message = format!("contract `{name}` is one of {kind}, which cannot stand here");
                errors.add(PolicyErrorCode::Value, packed.place, packed.path.clone(), message);
            }
        }
        if !errors.is_empty() {
            return Err(errors.into_list());
        }
        self.taken = taken;
        Ok(())
    }
}

fn checked(packed: &PackedContract, file: PackFile) -> Result<ContractText, String> {
    let found = file_digest(&file.bytes);
    if found != packed.sha256 {
        let wanted = &packed.sha256;
        return Err(format!("{packed}: `{}` has the SHA-256 {found}, the policy says {wanted}", file.file));
    }
    let text =
        String::from_utf8(file.bytes).map_err(|_| format!("{packed}: `{}` is not UTF-8", file.file))?;
    Ok(ContractText { kind: file.kind, text })
}

/// A pack.yaml.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackManifest {
    /// What policies call it: a name, or two with a slash between them.
    pub name: String,
    /// Of the pack, for people.
    pub version: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it may be used for.
    pub licence: String,
    /// Names of contracts with their files.
    pub contracts: BTreeMap<String, String>,
    /// Files of policies.
    pub policies: Vec<String>,
}

impl PackManifest {
    /// Reads a pack.yaml. All errors come at once, in the order of the text.
    pub fn parse(yaml: &str) -> Result<Self, Vec<PolicyError>> {
        let mut reader = Reader::default();
        let manifest = yaml::parse(yaml, &mut reader.errors).and_then(|root| reader.pack(&root));
        match manifest {
            Some(manifest) if reader.errors.is_empty() => Ok(manifest),
            _ => Err(reader.errors.into_list()),
        }
    }
}

/// Whether a text can be the name of a pack.
pub(crate) fn is_pack_name(text: &str) -> bool {
    let mut parts = text.split('/');
    let own = parts.by_ref().take(2).all(is_slug);
    own && parts.next().is_none()
}

fn is_pack_path(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    text.len() <= PATH_CHARS_MAX && text.split('/').count() <= PATH_PARTS_MAX && text.split('/').all(part)
}

const KEYS: [&str; 7] = ["pack", "name", "version", "description", "licence", "contracts", "policies"];

impl Reader {
    fn pack(&mut self, root: &Node) -> Option<PackManifest> {
        let map = self.map(root)?;
        self.format(&map, "pack")?;
        self.known_keys(&map, &KEYS);
        let name = self.required(&map, "name", Self::pack_name);
        let version = self.required(&map, "version", |reader, node| {
            reader.parsed(node, "a version in quotes, as \"1.0.0\"", |text| {
                is_word(text).then(|| text.to_owned())
            })
        });
        let description = self.optional(&map, "description", Self::description);
        let licence = self.required(&map, "licence", |reader, node| {
            reader.parsed(node, "an SPDX expression", |text| is_word(text).then(|| text.to_owned()))
        });
        let contracts = self.required(&map, "contracts", |reader, node| {
            let map = reader.map(node)?;
            reader.count(node, map.pairs.len(), FILES_MAX);
            let mut contracts = BTreeMap::new();
            for (key, node) in map.pairs {
                let file = reader.inside(&key.text, |reader| {
                    if !is_slug(&key.text) {
                        reader.not_a_slug(&key.text, key.place);
                    }
                    reader.pack_path(node)
                });
                contracts.extend(file.map(|file| (key.text.clone(), file)));
            }
            Some(contracts)
        });
        let policies = self.optional(&map, "policies", |reader, node| {
            let items = reader.list(node)?;
            reader.count(node, items.len(), FILES_MAX);
            Some(reader.each(items, Self::pack_path))
        });
        Some(PackManifest {
            name: name?,
            version: version?,
            description,
            licence: licence?,
            contracts: contracts?,
            policies: policies.unwrap_or_default(),
        })
    }

    pub(crate) fn pack_name(&mut self, node: &Node) -> Option<String> {
        const EXPECTED: &str = "the name of a pack, as `orders` or `acme/orders`";
        self.parsed(node, EXPECTED, |text| is_pack_name(text).then(|| text.to_owned()))
    }

    fn pack_path(&mut self, node: &Node) -> Option<String> {
        const EXPECTED: &str = "a path in the pack of `A-Z a-z 0-9 . _ -`, as `contracts/order.schema.json`";
        self.parsed(node, EXPECTED, |text| is_pack_path(text).then(|| text.to_owned()))
    }
}

/// One word or a few, in printable ASCII.
fn is_word(text: &str) -> bool {
    (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_graphic())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object"}"#;

    fn policy(sha256: &str, place: &str) -> String {
        format!(
            "version: 1\nname: packed\ncontracts:\n  order: {{ pack: acme/orders, contract: order, sha256: \"{sha256}\" }}\n\
             routes:\n  a: {{ judge: {{ {place}: order }} }}\n"
        )
    }

    fn take(text: &str, kind: ContractKind) -> Result<crate::Policy, Vec<String>> {
        let mut document = PolicyDocument::parse(text).unwrap();
        let before = document.hash();
        let file = PackFile { kind, file: "order.json".into(), bytes: SCHEMA.into() };
        let taken = document.take_packed(|packed| match packed.pack.as_str() {
            "acme/orders" => Ok(file.clone()),
            other => Err(format!("there is no `{other}`")),
        });
        assert_eq!(document.hash(), before);
        let policy = document.compile();
        assert_eq!(policy.missing_contracts().is_empty(), taken.is_ok());
        let line =
            |error: &PolicyError| format!("{}:{} {}: {}", error.line, error.column, error.path, error.code);
        taken.map(|()| policy).map_err(|errors| errors.iter().map(line).collect())
    }

    #[test]
    fn a_contract_of_a_pack_is_taken_only_if_its_bytes_are_those_that_the_policy_names() {
        let digest = file_digest(SCHEMA.as_bytes());
        let taken = take(&policy(&digest, "request"), ContractKind::Json).unwrap();
        assert_eq!(taken.contracts()["order"].text, SCHEMA);
        let other = "0".repeat(64);
        let refused = take(&policy(&other, "request"), ContractKind::Json).unwrap_err();
        assert_eq!(refused, ["4:10 contracts.order: POLICY_PACK"]);
        let missing = policy(&digest, "request").replace("acme/orders", "acme/others");
        assert_eq!(take(&missing, ContractKind::Json).unwrap_err().len(), 1);
        let as_text = take(&policy(&digest, "text"), ContractKind::Csv).unwrap_err();
        assert_eq!(as_text, ["6:23 routes.a.judge.text: POLICY_VALUE"]);
        assert!(take(&policy(&digest, "answer"), ContractKind::Csv).is_ok());
    }

    #[test]
    fn a_manifest_is_read_whole_or_refused_with_every_error() {
        let good = "pack: 1\nname: acme/orders\nversion: \"1.0.0\"\nlicence: Apache-2.0\n\
                    contracts: { order: contracts/order.json }\npolicies: [policies/a.yaml]\n";
        let manifest = PackManifest::parse(good).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.policies.len()), ("acme/orders", 1));
        let check = |from: &str, to: &str, expected: &str| {
            let errors = PackManifest::parse(&good.replace(from, to)).unwrap_err();
            let got: Vec<_> = errors.iter().map(|error| format!("{} {}", error.code, error.path)).collect();
            assert_eq!(got, [expected], "{to}");
        };
        check("pack: 1", "pack: 2", "POLICY_VERSION pack");
        check("pack: 1\n", "", "POLICY_MISSING_KEY ");
        for name in ["a/b/c", "Acme", "../a", "a//b", "a/", "/a"] {
            check("acme/orders", name, "POLICY_VALUE name");
        }
        for file in
            ["/etc/passwd", "../order.json", "contracts/../../x", "a/./b", "a//b", ".hidden", "a\\\\b", "é"]
        {
            check("contracts/order.json", &format!("\"{file}\""), "POLICY_VALUE contracts.order");
        }
        check("[policies/a.yaml]", "[]", "POLICY_VALUE policies");
        check("licence: Apache-2.0\n", "", "POLICY_MISSING_KEY ");
    }
}
