//! Contracts, and what is held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{Map, Reader};
use crate::document::is_slug;
use crate::error::{PolicyErrorCode, shown};
use crate::judging::{
    ChangedTools, ContractKind, ContractText, Formats, Judging, Reask, ReaskTerms, Release, Repair,
    RepairClass, Tell, Terms, UnknownTools,
};
use crate::pack::{PackedContract, PackedUse};
use crate::written::WrittenContract;
use crate::yaml::{Kind, Node};

type Texts = BTreeMap<String, ContractText>;
type Packed = BTreeMap<String, PackedContract>;

/// Most contracts of a policy.
pub(crate) const CONTRACTS_MAX: usize = 256;
/// Most tools that a route has contracts for.
pub(crate) const TOOLS_MAX: usize = 256;
/// Most characters of a tool's name.
pub(crate) const TOOL_CHARS_MAX: usize = 128;

/// Bytes of a second request.
const REASK_BYTES: RangeInclusive<u64> = 1024..=1 << 30;

const JUDGE_KEYS: [&str; 11] = [
    "unknown_tools",
    "changed_tools",
    "repair",
    "reask",
    "release",
    "formats",
    "tools",
    "results",
    "text",
    "request",
    "answer",
];

impl Reader {
    /// Those that are written here, and those that come from packs.
    pub(super) fn contracts(&mut self, node: &Node) -> Option<(Texts, Packed)> {
        let map = self.map(node)?;
        self.count(node, map.pairs.len(), CONTRACTS_MAX);
        let (mut contracts, mut packed) = (BTreeMap::new(), BTreeMap::new());
        for (key, node) in map.pairs {
            let contract = self.inside(&key.text, |reader| {
                if !is_slug(&key.text) {
                    reader.not_a_slug(&key.text, key.place);
                }
                let is_packed =
                    matches!(&node.kind, Kind::Map(pairs) if pairs.iter().any(|(key, _)| key.text == "pack"));
                if is_packed {
                    let from = reader.packed(node)?;
                    packed.insert(key.text.clone(), from);
                    return Some(None);
                }
                let contract = reader.contract(node)?;
                let kind = contract.kind;
                let place = reader.map(node)?.get(kind.as_str())?.place;
                let (name, text) = (key.text.clone(), contract.clone());
                reader.written.push(WrittenContract { name, text, place });
                contracts.insert(key.text.clone(), contract);
                Some(Some(kind))
            });
            self.contracts.extend(contract.map(|kind| (key.text.clone(), kind)));
        }
        Some((contracts, packed))
    }

    fn packed(&mut self, node: &Node) -> Option<PackedContract> {
        let map = self.map(node)?;
        self.known_keys(&map, &["pack", "contract", "sha256"]);
        let pack = self.required(&map, "pack", Self::pack_name);
        let contract = self.required(&map, "contract", Self::slug);
        let sha256 = self.required(&map, "sha256", |reader, node| {
            let is_digest =
                |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let expected = "a SHA-256 in 64 hex digits, as `estoppel pack digest` prints it";
            reader.parsed(node, expected, |text| is_digest(text).then(|| text.to_owned()))
        });
        Some(PackedContract { pack: pack?, contract: contract?, sha256: sha256?, place: node.place })
    }

    pub(crate) fn contract(&mut self, node: &Node) -> Option<ContractText> {
        let map = self.map(node)?;
        self.known_keys(&map, &ContractKind::ALL.map(ContractKind::as_str));
        let read = |kind: ContractKind| {
            self.optional(&map, kind.as_str(), |reader, node| {
                Some(ContractText { kind, text: reader.text(node)?.into() })
            })
        };
        let [json, csv] = ContractKind::ALL.map(read);
        match (json, csv) {
            (Some(contract), None) | (None, Some(contract)) => Some(contract),
            (Some(_), Some(_)) => {
                let message = "a contract is either `json` or `csv`";
                self.add(PolicyErrorCode::Value, node.place, message.into());
                None
            }
            (None, None) => {
                if map.pairs.is_empty() {
                    let message = "a contract has its text under `json` or `csv`";
                    self.add(PolicyErrorCode::MissingKey, node.place, message.into());
                }
                None
            }
        }
    }

    pub(super) fn judge(&mut self, node: &Node) -> Option<Judging> {
        match &node.kind {
            Kind::Text(text) if text == "none" => Some(Judging::None),
            Kind::Map(_) => {
                let map = self.map(node)?;
                self.known_keys(&map, &JUDGE_KEYS);
                Some(Judging::On(Box::new(self.terms(&map))))
            }
            _ => {
                self.wrong_kind(node, "`none` or a mapping");
                None
            }
        }
    }

    fn terms(&mut self, map: &Map<'_>) -> Terms {
        const VALUES: &[ContractKind] = &[ContractKind::Json];
        const BODIES: &[ContractKind] = &ContractKind::ALL;
        let unknown_tools = self.optional(map, "unknown_tools", |reader, node| {
            reader.choice(node, UnknownTools::ALL, UnknownTools::as_str)
        });
        let changed_tools = self.optional(map, "changed_tools", |reader, node| {
            reader.choice(node, ChangedTools::ALL, ChangedTools::as_str)
        });
        let release =
            self.optional(map, "release", |reader, node| reader.choice(node, Release::ALL, Release::as_str));
        let formats =
            self.optional(map, "formats", |reader, node| reader.choice(node, Formats::ALL, Formats::as_str));
        let mut named =
            |key, kinds| self.optional(map, key, |reader, node| reader.contract_name(node, kinds));
        Terms {
            unknown_tools,
            changed_tools,
            release,
            formats,
            text: named("text", VALUES),
            request: named("request", BODIES),
            answer: named("answer", BODIES),
            repair: self.optional(map, "repair", Self::repair),
            reask: self.optional(map, "reask", Self::reask),
            tools: self.optional(map, "tools", Self::tool_contracts).unwrap_or_default(),
            results: self.optional(map, "results", Self::tool_contracts).unwrap_or_default(),
        }
    }

    pub(crate) fn repair(&mut self, node: &Node) -> Option<Repair> {
        match &node.kind {
            Kind::Text(text) if text == "none" => Some(Repair::None),
            Kind::Text(text) if text == "r1" => Some(Repair::R1(BTreeSet::new())),
            Kind::Map(_) => {
                let map = self.map(node)?;
                self.known_keys(&map, &["r1"]);
                self.required(&map, "r1", |reader, node| {
                    let items = reader.list(node)?;
                    reader.count(node, items.len(), RepairClass::ALL.len());
                    let classes = reader.each(items, |reader, item| {
                        reader.choice(item, RepairClass::ALL, RepairClass::as_str)
                    });
                    Some(Repair::R1(classes.into_iter().collect()))
                })
            }
            Kind::Text(text) => self.other_word(node, "`none`, `r1` or `r1: [ … ]` in a mapping", text),
            _ => {
                self.wrong_kind(node, "`none`, `r1` or a mapping of `r1`");
                None
            }
        }
    }

    fn reask(&mut self, node: &Node) -> Option<Reask> {
        match &node.kind {
            Kind::Text(text) if text == "none" => Some(Reask::None),
            Kind::Text(text) if text == "once" => Some(Reask::Once(ReaskTerms::default())),
            Kind::Map(_) => {
                let map = self.map(node)?;
                self.known_keys(&map, &["once"]);
                self.required(&map, "once", |reader, node| {
                    let map = reader.map(node)?;
                    reader.known_keys(&map, &["tell", "bytes_max"]);
                    reader.count(node, map.pairs.len(), 2);
                    let tell = |reader: &mut Self, node: &Node| reader.choice(node, Tell::ALL, Tell::as_str);
                    let bytes = |reader: &mut Self, node: &Node| reader.integer(node, REASK_BYTES);
                    Some(Reask::Once(ReaskTerms {
                        tell: reader.optional(&map, "tell", tell),
                        bytes_max: reader.optional(&map, "bytes_max", bytes),
                    }))
                })
            }
            Kind::Text(text) => self.other_word(node, "`none`, `once` or a mapping of `once`", text),
            _ => {
                self.wrong_kind(node, "`none`, `once` or a mapping of `once`");
                None
            }
        }
    }

    fn tool_contracts(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        let map = self.map(node)?;
        self.count(node, map.pairs.len(), TOOLS_MAX);
        let mut tools = BTreeMap::new();
        for (key, node) in map.pairs {
            let name = self.inside(&key.text, |reader| {
                let printable = key.text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                if !(1..=TOOL_CHARS_MAX).contains(&key.text.len()) || !printable {
                    let message = format!(
                        "a tool's name has 1 to {TOOL_CHARS_MAX} characters, all of them printable ASCII"
                    );
                    reader.add(PolicyErrorCode::Value, key.place, message);
                }
                reader.contract_name(node, &[ContractKind::Json])
            });
            tools.extend(name.map(|name| (key.text.clone(), name)));
        }
        Some(tools)
    }

    /// The name of a contract that the document has, of one of these kinds.
    fn contract_name(&mut self, node: &Node, kinds: &'static [ContractKind]) -> Option<String> {
        let name = self.text(node)?;
        let problem = match self.contracts.get(name) {
            Some(None) => {
                let (place, path) = (node.place, self.path.clone());
                self.packed_uses.push(PackedUse { name: name.into(), kinds, place, path });
                return Some(name.into());
            }
            Some(Some(kind)) if kinds.contains(kind) => return Some(name.into()),
            Some(Some(kind)) => {
                format!("contract `{name}` is one of {}, which cannot stand here", kind.as_str())
            }
            None => format!("`contracts` has no `{}` that can be read", shown(name)),
        };
        self.add(PolicyErrorCode::Value, node.place, problem);
        None
    }
}
