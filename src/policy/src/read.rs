//! A tree of nodes to a checked document. Goes on after an error, so that all of them are reported.
//!
//! What is said of values and contracts is read in `read/judging.rs`, of operations in `read/operations.rs`, of people in
//! `read/hold.rs`, of databases in `read/snapshot.rs`, of what runs again in `read/determinism.rs`. Every reader gives `None` only after it has added an error; the document is built when there is none.

pub(crate) mod control;
mod detecting;
mod determinism;
mod hold;
mod judging;
mod operations;
mod snapshot;
mod when;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::document::{
    BodyStorage, Disconnect, PolicyDocument, ReasonCode, Route, Rule, RuleId, Settings, Severity, ThreatId,
    ToolLists, Verdict, is_slug,
};
use crate::error::{Errors, Place, PolicyError, PolicyErrorCode, shown};
use crate::judging::ContractKind;
use crate::limits::{LIMITS, LimitValues};
use crate::pack::PackedUse;
use crate::path::ValuePath;
use crate::reach;
use crate::threats::Threats;
use crate::written::WrittenContract;
use crate::yaml::{self, Key, Kind, Node, push_key};

/// Most rules of a policy.
pub(crate) const RULES_MAX: usize = 4096;
/// Most routes of a policy.
pub(crate) const ROUTES_MAX: usize = 256;
/// Most threat ids of a rule.
pub(crate) const THREATS_MAX: usize = 32;
/// Most paths of one redaction.
pub(crate) const REDACT_MAX: usize = 32;
/// Most characters of a message or a storage reason.
pub(crate) const TEXT_CHARS_MAX: usize = 256;
/// Most characters of a description.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 1024;
/// Most bytes read from an upstream after the client left.
pub(crate) const DRAIN_BYTES: RangeInclusive<u64> = 0..=1024 * 1024 * 1024;
/// Longest time to read from an upstream after the client left.
pub(crate) const DRAIN_SECONDS: RangeInclusive<u64> = 1..=3600;

const DOCUMENT_KEYS: [&str; 12] = [
    "version",
    "name",
    "description",
    "defaults",
    "limits",
    "contracts",
    "approvers",
    "detectors",
    "routes",
    "rules",
    "controls",
    "prices",
];
const SETTING_KEYS: [&str; 7] =
    ["verdict", "body_storage", "on_not_evaluated", "disconnect", "tool_lists", "judge", "snapshot"];
const ROUTE_KEYS: [&str; 12] = [
    "verdict",
    "body_storage",
    "on_not_evaluated",
    "disconnect",
    "tool_lists",
    "judge",
    "snapshot",
    "limits",
    "detectors",
    "determinism",
    "operations",
    "other_operations",
];
const RULE_KEYS: [&str; 10] =
    ["id", "when", "unless", "verdict", "hold", "reason", "message", "severity", "threat", "body_storage"];

pub(crate) fn document(text: &str) -> Result<PolicyDocument, Vec<PolicyError>> {
    let mut reader = Reader::default();
    let document = yaml::parse(text, &mut reader.errors).and_then(|root| reader.document(&root));
    match document {
        Some(document) if reader.errors.is_empty() => Ok(document),
        _ => Err(reader.errors.into_list()),
    }
}

/// Reads nodes, and remembers where it is and what is wrong.
#[derive(Default)]
pub(crate) struct Reader {
    pub errors: Errors,
    warnings: Errors,
    path: String,
    /// Names of the document's contracts; none of those from packs has a kind yet.
    contracts: BTreeMap<String, Option<ContractKind>>,
    packed_uses: Vec<PackedUse>,
    /// Names of the document's approvers.
    approvers: BTreeSet<String>,
    pub written: Vec<WrittenContract>,
    /// Names of the document's detectors.
    detector_names: Vec<String>,
}

impl Reader {
    fn document(&mut self, root: &Node) -> Option<PolicyDocument> {
        let map = self.map(root)?;
        self.version(&map)?;
        self.known_keys(&map, &DOCUMENT_KEYS);
        let name = self.required(&map, "name", Self::slug);
        let description = self.optional(&map, "description", Self::description);
        let (contracts, packed) = self.optional(&map, "contracts", Self::contracts).unwrap_or_default();
        let defaults = self.optional(&map, "defaults", |reader, node| {
            let map = reader.map(node)?;
            reader.known_keys(&map, &SETTING_KEYS);
            Some(reader.settings(&map))
        });
        let limits = self.optional(&map, "limits", Self::limits);
        let approvers = self.optional(&map, "approvers", Self::approvers).unwrap_or_default();
        let detectors = self.optional(&map, "detectors", Self::detectors).unwrap_or_default();
        let routes = self.optional(&map, "routes", Self::routes);
        let rules = self.optional(&map, "rules", Self::rules);
        let rules = rules.unwrap_or_default();
        let ids: Vec<RuleId> = rules.iter().map(|(_, rule)| rule.id.clone()).collect();
        let controls = self.optional(&map, "controls", |reader, node| reader.controls(node, &ids));
        let controls = controls.unwrap_or_default();
        let prices = self.optional(&map, "prices", Self::prices).unwrap_or_default();
        self.check_prices(&map, &controls, &prices);
        Some(PolicyDocument {
            name: name?,
            description,
            defaults: defaults.unwrap_or_default(),
            limits: limits.unwrap_or_default(),
            approvers,
            routes: routes.unwrap_or_default(),
            warnings: {
                let mut warnings = std::mem::take(&mut self.warnings).into_list();
                warnings.extend(reach::unreachable(&rules));
                warnings.sort_by_key(|warning| (warning.line, warning.column));
                warnings
            },
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
            contracts,
            detectors,
            packed,
            packed_uses: std::mem::take(&mut self.packed_uses),
            taken: BTreeMap::new(),
            controls,
            prices,
        })
    }

    /// The contracts alone.
    pub fn read_contracts(&mut self, root: &Node) {
        if let Some(map) = self.map(root) {
            self.optional(&map, "contracts", Self::contracts);
        }
    }

    /// Another version ends the reading: nothing is known about its keys.
    pub fn version(&mut self, map: &Map<'_>) -> Option<()> {
        self.format(map, "version")
    }

    /// The version of a document's format, under `key`.
    pub fn format(&mut self, map: &Map<'_>, key: &str) -> Option<()> {
        let Some(node) = map.get(key) else {
            self.missing(map, key);
            return Some(());
        };
        match &node.kind {
            Kind::Word(word) if word == "1" => Some(()),
            Kind::Broken => None,
            Kind::Word(word) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                let message = format!("version `{}` is not known here, only 1 is", shown(word));
                self.inside(key, |reader| reader.add(PolicyErrorCode::Version, node.place, message));
                None
            }
            _ => {
                self.inside(key, |reader| reader.wrong_kind(node, "the number 1"));
                None
            }
        }
    }

    fn settings(&mut self, map: &Map<'_>) -> Settings {
        Settings {
            verdict: self.optional(map, "verdict", Self::default_verdict),
            body_storage: self.optional(map, "body_storage", Self::body_storage),
            on_not_evaluated: self.optional(map, "on_not_evaluated", Self::default_verdict),
            disconnect: self.optional(map, "disconnect", Self::disconnect),
            tool_lists: self.optional(map, "tool_lists", |reader, node| {
                reader.choice(node, ToolLists::ALL, ToolLists::as_str)
            }),
            judge: self.optional(map, "judge", Self::judge),
            snapshot: self.optional(map, "snapshot", Self::snapshot),
        }
    }

    fn limits(&mut self, node: &Node) -> Option<LimitValues> {
        let map = self.map(node)?;
        self.known_keys(&map, &LIMITS.map(|limit| limit.key));
        let read = |limit: &crate::Limit| {
            self.optional(&map, limit.key, |reader, node| reader.integer(node, limit.range()))
        };
        Some(LIMITS.each_ref().map(read))
    }

    fn routes(&mut self, node: &Node) -> Option<BTreeMap<String, Route>> {
        let map = self.map(node)?;
        if map.pairs.len() > ROUTES_MAX {
            let message = format!("{} routes, the limit is {ROUTES_MAX}", map.pairs.len());
            self.add(PolicyErrorCode::Value, node.place, message);
        }
        let mut routes = BTreeMap::new();
        for (key, node) in map.pairs {
            let route = self.inside(&key.text, |reader| {
                if !is_slug(&key.text) {
                    reader.not_a_slug(&key.text, key.place);
                }
                let map = reader.map(node)?;
                reader.known_keys(&map, &ROUTE_KEYS);
                let settings = reader.settings(&map);
                let limits = reader.optional(&map, "limits", Self::limits).unwrap_or_default();
                let detectors = reader.optional(&map, "detectors", Self::route_detectors).unwrap_or_default();
                let determinism = reader.optional(&map, "determinism", Self::route_determinism);
                let operations = reader.operations(&map);
                Some(Route { settings, limits, detectors, determinism, operations })
            });
            routes.insert(key.text.clone(), route.unwrap_or_default());
        }
        Some(routes)
    }

    fn rules(&mut self, node: &Node) -> Option<Vec<(Place, Rule)>> {
        let items = self.list(node)?;
        if items.len() > RULES_MAX {
            let message = format!("{} rules, the limit is {RULES_MAX}", items.len());
            self.add(PolicyErrorCode::Value, node.place, message);
        }
        let mut rules: Vec<(Place, Rule)> = Vec::with_capacity(items.len());
        let mut seen = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let rule = self.at(index, |reader| {
                let rule = reader.rule(item)?;
                if let Some(first) = seen.insert(rule.id.clone(), index) {
                    let message = format!("rules[{first}] is `{}` as well", rule.id);
                    reader.add(PolicyErrorCode::DuplicateRule, item.place, message);
                }
                Some(rule)
            });
            rules.extend(rule.map(|rule| (item.place, rule)));
        }
        Some(rules)
    }

    fn rule(&mut self, node: &Node) -> Option<Rule> {
        let map = self.map(node)?;
        self.known_keys(&map, &RULE_KEYS);
        let id = self.required(&map, "id", |reader, node| {
            let text = reader.slug(node)?;
            RuleId::parse(&text)
        });
        let when = self.required(&map, "when", Self::when);
        let unless = self.optional(&map, "unless", Self::unless);
        let verdict = self.required(&map, "verdict", Self::verdict);
        let reason = self.optional(&map, "reason", |reader, node| {
            reader.parsed(node, "a code of `A-Z`, `0-9` and `_`, at most 64 and not `OK`", ReasonCode::parse)
        });
        if verdict == Some(Verdict::Block) && map.get("reason").is_none() {
            let message = "a rule that blocks needs a `reason`, the code that callers and receipts are given";
            self.add(PolicyErrorCode::ReasonMissing, node.place, message.into());
        }
        let hold = match (verdict, map.get("hold")) {
            (Some(Verdict::Hold), _) => Some(self.required(&map, "hold", Self::hold)),
            (_, None) | (None, _) => None,
            (Some(_), Some(node)) => {
                let message = "only a rule whose verdict is `hold` says who decides";
                self.inside("hold", |reader| reader.add(PolicyErrorCode::Value, node.place, message.into()));
                None
            }
        };
        let message = self.optional(&map, "message", Self::safe_text);
        let severity = self
            .optional(&map, "severity", |reader, node| reader.choice(node, Severity::ALL, Severity::as_str));
        let threat = self.optional(&map, "threat", Self::threat);
        let body_storage = self.optional(&map, "body_storage", Self::body_storage);
        if verdict == Some(Verdict::Hold) && body_storage == Some(BodyStorage::None) {
            let message = "an approval names the body that it is for, so `body_storage` must not be `none`";
            self.add(PolicyErrorCode::Value, node.place, message.into());
        }
        Some(Rule {
            id: id?,
            when: when?,
            unless,
            verdict: verdict?,
            hold: hold.map_or(Some(None), |hold| hold.map(Some))?,
            reason,
            message,
            severity,
            threat: threat.unwrap_or_default(),
            body_storage,
        })
    }

    fn threat(&mut self, node: &Node) -> Option<Vec<ThreatId>> {
        let items = self.list(node)?;
        self.count(node, items.len(), THREATS_MAX);
        Some(self.each(items, |reader, item| {
            let expected = "an id with its list and edition, as `owasp_llm:2025/LLM06`";
            let id = reader.parsed(item, expected, ThreatId::parse)?;
            let threats = Threats::known();
            if threats.find(&id).is_none() {
                let nearest = threats.nearest(&id).map(|nearest| format!("; the nearest is `{nearest}`"));
                let message = format!("no list has `{id}`{}", nearest.unwrap_or_default());
                reader.warnings.add(PolicyErrorCode::UnknownThreat, item.place, reader.path.clone(), message);
            }
            Some(id)
        }))
    }

    pub fn verdict(&mut self, node: &Node) -> Option<Verdict> {
        self.choice(node, Verdict::ALL, Verdict::as_str)
    }

    pub fn default_verdict(&mut self, node: &Node) -> Option<Verdict> {
        self.choice(node, Verdict::DEFAULTS, Verdict::as_str)
    }

    fn body_storage(&mut self, node: &Node) -> Option<BodyStorage> {
        const EXPECTED: &str = "`none`, `hmac` or `full: { reason: … }`";
        match &node.kind {
            Kind::Text(text) if text == "none" => Some(BodyStorage::None),
            Kind::Text(text) if text == "hmac" => Some(BodyStorage::Hmac),
            Kind::Text(text) if text == "full" => {
                self.storage_reason_missing(node);
                None
            }
            Kind::Text(text) => self.other_word(node, EXPECTED, text),
            Kind::Map(_) => {
                let full = self.map(node)?;
                self.known_keys(&full, &["full"]);
                self.required(&full, "full", |reader, node| {
                    let map = reader.map(node)?;
                    reader.known_keys(&map, &["reason", "redact"]);
                    if map.get("reason").is_none() {
                        reader.storage_reason_missing(node);
                        return None;
                    }
                    let reason = reader.required(&map, "reason", Self::safe_text)?;
                    let redact = reader.optional(&map, "redact", Self::redact).unwrap_or_default();
                    Some(BodyStorage::Full { reason, redact })
                })
            }
            Kind::Word(_) | Kind::List(_) | Kind::Broken => {
                self.wrong_kind(node, EXPECTED);
                None
            }
        }
    }

    fn redact(&mut self, node: &Node) -> Option<Vec<ValuePath>> {
        let items = self.list(node)?;
        self.count(node, items.len(), REDACT_MAX);
        Some(self.each(items, |reader, item| {
            reader.parsed(item, "a path to values, as `/messages/*/content` or `/**/email`", ValuePath::parse)
        }))
    }

    fn storage_reason_missing(&mut self, node: &Node) {
        let message = "bodies are stored in full only with a reason: `full: { reason: … }`";
        self.add(PolicyErrorCode::ReasonMissing, node.place, message.into());
    }

    fn disconnect(&mut self, node: &Node) -> Option<Disconnect> {
        const EXPECTED: &str = "`cancel` or `drain: { bytes: …, seconds: … }`";
        match &node.kind {
            Kind::Text(text) if text == "cancel" => Some(Disconnect::Cancel),
            Kind::Text(text) => self.other_word(node, EXPECTED, text),
            Kind::Map(_) => {
                let map = self.map(node)?;
                self.known_keys(&map, &["drain"]);
                self.required(&map, "drain", |reader, node| {
                    let map = reader.map(node)?;
                    reader.known_keys(&map, &["bytes", "seconds"]);
                    let bytes =
                        reader.required(&map, "bytes", |reader, node| reader.integer(node, DRAIN_BYTES));
                    let seconds =
                        reader.required(&map, "seconds", |reader, node| reader.integer(node, DRAIN_SECONDS));
                    Some(Disconnect::Drain { bytes: bytes?, seconds: seconds? })
                })
            }
            Kind::Word(_) | Kind::List(_) | Kind::Broken => {
                self.wrong_kind(node, EXPECTED);
                None
            }
        }
    }

    pub fn slug(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if !is_slug(text) {
            self.not_a_slug(text, node.place);
            return None;
        }
        Some(text.into())
    }

    pub fn not_a_slug(&mut self, text: &str, place: Place) {
        let message = format!(
            "`{}` is not a name: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`, with a letter or digit first",
            shown(text)
        );
        self.add(PolicyErrorCode::Value, place, message);
    }

    /// Text that is shown to callers and written to receipts.
    fn safe_text(&mut self, node: &Node) -> Option<String> {
        self.bounded_text(node, TEXT_CHARS_MAX, is_unsafe)
    }

    pub fn description(&mut self, node: &Node) -> Option<String> {
        self.bounded_text(node, DESCRIPTION_CHARS_MAX, |c| c != '\n' && is_unsafe(c))
    }

    fn bounded_text(&mut self, node: &Node, max: usize, refused: impl Fn(char) -> bool) -> Option<String> {
        let text = self.text(node)?;
        if text.chars().all(char::is_whitespace) || text.chars().count() > max || text.contains(refused) {
            let message =
                format!("expected 1 to {max} characters, not all blank, without control characters");
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        }
        Some(text.into())
    }
}

/// Characters that change what a reader sees of a line: controls, line separators and directions of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A mapping and where it starts.
pub(crate) struct Map<'n> {
    place: Place,
    pub pairs: &'n [(Key, Node)],
}

impl<'n> Map<'n> {
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.pairs.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }
}

/// What knows nothing of policies.
impl Reader {
    pub fn add(&mut self, code: PolicyErrorCode, place: Place, message: String) {
        self.errors.add(code, place, self.path.clone(), message);
    }

    pub fn inside<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_key(&mut self.path, key);
        let value = read(self);
        self.path.truncate(length);
        value
    }

    pub fn at<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let value = read(self);
        self.path.truncate(length);
        value
    }

    pub fn map<'n>(&mut self, node: &'n Node) -> Option<Map<'n>> {
        match &node.kind {
            Kind::Map(pairs) => Some(Map { place: node.place, pairs }),
            _ => {
                self.wrong_kind(node, "a mapping");
                None
            }
        }
    }

    pub fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items),
            _ => {
                self.wrong_kind(node, "a list");
                None
            }
        }
    }

    /// What could be read of a list.
    pub fn each<T>(&mut self, items: &[Node], mut read: impl FnMut(&mut Self, &Node) -> Option<T>) -> Vec<T> {
        let read = |(index, item)| self.at(index, |reader| read(reader, item));
        items.iter().enumerate().filter_map(read).collect()
    }

    /// None may be.
    fn at_most(&mut self, node: &Node, count: usize, max: usize) {
        if count > max {
            let message = format!("{count} entries, the limit is {max}");
            self.add(PolicyErrorCode::Value, node.place, message);
        }
    }

    pub fn count(&mut self, node: &Node, count: usize, max: usize) {
        if !(1..=max).contains(&count) {
            let message = format!("expected 1 to {max} entries, found {count}");
            self.add(PolicyErrorCode::Value, node.place, message);
        }
    }

    pub fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.kind {
            Kind::Text(text) => Some(text),
            _ => {
                self.wrong_kind(node, "text");
                None
            }
        }
    }

    fn integer(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let Kind::Word(word) = &node.kind else {
            self.wrong_kind(node, "a number");
            return None;
        };
        let digits = word.strip_prefix('-').unwrap_or(word);
        let plain = digits == "0" || !digits.starts_with('0');
        if !plain || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.wrong_kind(node, "a whole number in decimal digits");
            return None;
        }
        let number = word.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("{} is not between {} and {}", shown(word), range.start(), range.end());
            self.add(PolicyErrorCode::Value, node.place, message);
        }
        number
    }

    pub fn choice<T: Copy, const N: usize>(
        &mut self,
        node: &Node,
        all: [T; N],
        word_of: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text(node)?;
        all.into_iter().find(|choice| word_of(*choice) == text).or_else(|| {
            let words = all.map(|choice| format!("`{}`", word_of(choice))).join(", ");
            self.other_word(node, &format!("one of {words}"), text)
        })
    }

    pub fn parsed<T>(&mut self, node: &Node, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(node)?;
        parse(text).or_else(|| self.other_word(node, expected, text))
    }

    /// Refuses a word that is none of those that may stand there.
    pub fn other_word<T>(&mut self, node: &Node, expected: &str, text: &str) -> Option<T> {
        let message = format!("expected {expected}, found `{}`", shown(text));
        self.add(PolicyErrorCode::Value, node.place, message);
        None
    }

    pub fn required<T>(
        &mut self,
        map: &Map<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        if map.get(key).is_none() {
            self.missing(map, key);
        }
        self.optional(map, key, read)
    }

    pub fn optional<T>(
        &mut self,
        map: &Map<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        let node = map.get(key)?;
        self.inside(key, |reader| read(reader, node))
    }

    pub fn missing(&mut self, map: &Map<'_>, key: &str) {
        self.add(PolicyErrorCode::MissingKey, map.place, format!("`{key}` is missing"));
    }

    pub fn known_keys(&mut self, map: &Map<'_>, known: &[&str]) {
        for (key, _) in map.pairs.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let words: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
            let message = format!("unknown key `{}`, expected one of {}", shown(&key.text), words.join(", "));
            self.inside(&key.text, |reader| reader.add(PolicyErrorCode::UnknownKey, key.place, message));
        }
    }

    fn wrong_kind(&mut self, node: &Node, expected: &str) {
        let found = match &node.kind {
            Kind::Broken => return,
            Kind::Word(word) if word.is_empty() => "nothing".into(),
            Kind::Word(word) if expected == "text" => {
                format!("`{}`, which some YAML readers do not take for text; put it in quotes", shown(word))
            }
            Kind::Word(word) => format!("`{}`", shown(word)),
            Kind::Text(text) => format!("the text `{}`", shown(text)),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        };
        self.add(PolicyErrorCode::Type, node.place, format!("expected {expected}, found {found}"));
    }
}
