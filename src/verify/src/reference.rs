//! The plain reading of SPEC section 1 that the one-pass reader is tested against: build a tree, then look at it.
//! JSON is read by serde_json, patterns by backtracking, schemas keyword by keyword.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::reason::Reason;

/// An admitted value; members in the order of the document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Boolean(bool),
    Integer(i64),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

struct TreeVisitor;

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

const MAX: i64 = 9_007_199_254_740_991;

fn is_noncharacter(char: char) -> bool {
    let scalar = u32::from(char);
    (0xfdd0..=0xfdef).contains(&scalar) || scalar % 0x10000 >= 0xfffe
}

fn plain<E: Error>(text: &str) -> Result<String, E> {
    if text.chars().any(is_noncharacter) { Err(E::custom("noncharacter")) } else { Ok(text.to_owned()) }
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an admitted value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        if (-MAX..=MAX).contains(&value) { Ok(Tree::Integer(value)) } else { Err(E::custom("range")) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        self.visit_i64(i64::try_from(value).map_err(E::custom)?)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        plain(value).map(Tree::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Tree>()? {
            let name = plain(&name)?;
            if members.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom("twice"));
            }
            members.push((name, value));
        }
        Ok(Tree::Object(members))
    }
}

impl Tree {
    fn depth(&self) -> usize {
        match self {
            Tree::Array(items) => 1 + items.iter().map(Tree::depth).max().unwrap_or(0),
            Tree::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Object(members) => members.iter().find(|(found, _)| found == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn at(&self, path: &str) -> Option<&Tree> {
        path.split('.').try_fold(self, |tree, name| tree.member(name))
    }

    pub(crate) fn canonical(&self) -> String {
        match self {
            Tree::Boolean(value) => value.to_string(),
            Tree::Integer(value) => value.to_string(),
            Tree::Text(text) => serde_json::to_string(text).unwrap(),
            Tree::Array(items) => {
                format!("[{}]", items.iter().map(Tree::canonical).collect::<Vec<_>>().join(","))
            }
            Tree::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| {
                        format!("{}:{}", serde_json::to_string(name).unwrap(), value.canonical())
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }
}

/// Admission.
pub(crate) fn admit(document: &[u8]) -> Option<Tree> {
    let tree: Tree = serde_json::from_slice(document).ok()?;
    (matches!(tree, Tree::Object(_)) && tree.depth() <= 32).then_some(tree)
}

/// One schema document.
pub(crate) struct Schema {
    pub document: Value,
}

impl Schema {
    pub(crate) fn of(text: &str) -> Schema {
        Schema { document: serde_json::from_str(text).unwrap() }
    }

    pub(crate) fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(target) => &self.document["$defs"][target.strip_prefix("#/$defs/").unwrap()],
            None => schema,
        }
    }

    pub(crate) fn is_valid(&self, schema: &Value, tree: &Tree) -> bool {
        let schema = self.resolve(schema);
        let keywords = schema.as_object().unwrap();
        keywords.iter().all(|(keyword, value)| match (keyword.as_str(), tree) {
            ("type", _) => match tree {
                Tree::Boolean(_) => value == "boolean",
                Tree::Integer(_) => value == "integer",
                Tree::Text(_) => value == "string",
                Tree::Array(_) => value == "array",
                Tree::Object(_) => value == "object",
            },
            ("const", _) => is_value(value, tree),
            ("enum", _) => value.as_array().unwrap().iter().any(|value| is_value(value, tree)),
            ("pattern", Tree::Text(text)) => matches(value.as_str().unwrap(), text),
            ("minLength", Tree::Text(text)) => text.chars().count() as u64 >= value.as_u64().unwrap(),
            ("maxLength", Tree::Text(text)) => text.chars().count() as u64 <= value.as_u64().unwrap(),
            ("minimum", Tree::Integer(number)) => *number >= value.as_i64().unwrap(),
            ("maximum", Tree::Integer(number)) => *number <= value.as_i64().unwrap(),
            ("minItems", Tree::Array(items)) => items.len() as u64 >= value.as_u64().unwrap(),
            ("maxItems", Tree::Array(items)) => items.len() as u64 <= value.as_u64().unwrap(),
            ("items", Tree::Array(items)) => items.iter().all(|item| self.is_valid(value, item)),
            ("properties", Tree::Object(members)) => members
                .iter()
                .all(|(name, member)| value.get(name).is_none_or(|schema| self.is_valid(schema, member))),
            ("required", Tree::Object(_)) => {
                value.as_array().unwrap().iter().all(|name| tree.member(name.as_str().unwrap()).is_some())
            }
            ("additionalProperties", Tree::Object(members)) => {
                assert_eq!(value, &Value::Bool(false));
                members.iter().all(|(name, _)| schema["properties"].get(name).is_some())
            }
            ("$schema" | "$id" | "title" | "description" | "$defs", _) => true,
            ("pattern" | "minLength" | "maxLength" | "minimum" | "maximum" | "minItems" | "maxItems", _) => {
                true
            }
            ("items" | "properties" | "required" | "additionalProperties", _) => true,
            (other, _) => panic!("keyword {other}"),
        })
    }
}

fn is_value(value: &Value, tree: &Tree) -> bool {
    match tree {
        Tree::Text(text) => value == text,
        Tree::Integer(number) => value == number,
        _ => false,
    }
}

/// Whether `pattern` (`^…$`) matches all of `text`, by trying every way.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let body: Vec<char> = pattern.strip_prefix('^').unwrap().strip_suffix('$').unwrap().chars().collect();
    try_match(&body, &text.chars().collect::<Vec<_>>())
}

fn try_match(pattern: &[char], text: &[char]) -> bool {
    let Some(first) = pattern.first() else { return text.is_empty() };
    let (set, rest): (Vec<(char, char)>, &[char]) = match first {
        '[' => {
            let end = pattern.iter().position(|c| *c == ']').unwrap();
            let inner = &pattern[1..end];
            let mut set = Vec::new();
            let mut at = 0;
            while at < inner.len() {
                if at + 2 < inner.len() && inner[at + 1] == '-' {
                    set.push((inner[at], inner[at + 2]));
                    at += 3;
                } else {
                    set.push((inner[at], inner[at]));
                    at += 1;
                }
            }
            (set, &pattern[end + 1..])
        }
        '\\' => (vec![(pattern[1], pattern[1])], &pattern[2..]),
        other => (vec![(*other, *other)], &pattern[1..]),
    };
    let (least, most, rest) = match rest.first() {
        Some('?') => (0, 1, &rest[1..]),
        Some('*') => (0, usize::MAX, &rest[1..]),
        Some('+') => (1, usize::MAX, &rest[1..]),
        Some('{') => {
            let end = rest.iter().position(|c| *c == '}').unwrap();
            let counts: String = rest[1..end].iter().collect();
            let (least, most) = counts.split_once(',').unwrap_or((&counts, &counts));
            (least.parse().unwrap(), most.parse().unwrap(), &rest[end + 1..])
        }
        _ => (1, 1, rest),
    };
    let run =
        text.iter().take(most).take_while(|c| set.iter().any(|(from, to)| (from..=to).contains(c))).count();
    (least..=run).rev().any(|count| try_match(rest, &text[count..]))
}

/// The schemas of entries.
pub(crate) struct EntrySchemas {
    pub receipt: Schema,
    pub event: Schema,
}

impl EntrySchemas {
    pub(crate) fn get() -> &'static Self {
        static SCHEMAS: std::sync::OnceLock<EntrySchemas> = std::sync::OnceLock::new();
        SCHEMAS.get_or_init(|| EntrySchemas {
            receipt: Schema::of(include_str!("../../../spec/pef/schemas/receipt.schema.json")),
            event: Schema::of(include_str!("../../../spec/pef/schemas/journal_event.schema.json")),
        })
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Option<(&Schema, &Value)> {
        const KINDS: [&str; 13] = [
            "run.open",
            "intent",
            "interrupted",
            "key.rotate",
            "journal.recover",
            "policy.load",
            "gap",
            "hold",
            "approval",
            "bypass",
            "act",
            "snapshot",
            "run.seal",
        ];
        if kind == "call" {
            return Some((&self.receipt, &self.receipt.document));
        }
        KINDS.contains(&kind).then(|| (&self.event, &self.event.document["$defs"][kind]))
    }

    /// L1 to L4.
    pub(crate) fn judge(&self, line: &[u8]) -> Result<Tree, Reason> {
        if line.is_empty() || line.len() > 16_384 {
            return Err(Reason::LineLength);
        }
        let tree = admit(line).ok_or(Reason::LineMalformed)?;
        if tree.canonical().as_bytes() != line {
            return Err(Reason::LineNotCanonical);
        }
        let kind = match tree.member("kind") {
            Some(Tree::Text(kind)) => kind.clone(),
            _ => return Err(Reason::LineSchema),
        };
        match self.of_kind(&kind) {
            Some((schema, node)) if schema.is_valid(node, &tree) => Ok(tree),
            _ => Err(Reason::LineSchema),
        }
    }
}

/// A small generator of pseudo-random numbers, so that a seed replays a document.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn text(&mut self, least: usize, most: usize) -> String {
        const CHARS: [char; 20] = [
            'a',
            'b',
            '"',
            '\\',
            '\n',
            '\u{1}',
            '\u{1f}',
            '\u{7f}',
            '/',
            '\u{e9}',
            '\u{65}',
            '\u{301}',
            '\u{1f600}',
            '\u{fffd}',
            '\u{fdcf}',
            '\u{e000}',
            '\u{10000}',
            '\t',
            ' ',
            '{',
        ];
        let length = least + self.below((most - least).min(12) + 1);
        (0..length).map(|_| CHARS[self.below(CHARS.len())]).collect()
    }

    /// A value that is valid by `schema`, mostly.
    pub(crate) fn value(&mut self, document: &Schema, schema: &Value) -> Tree {
        let schema = document.resolve(schema);
        if let Some(value) = schema.get("const") {
            return value
                .as_i64()
                .map_or_else(|| Tree::Text(value.as_str().unwrap().to_owned()), Tree::Integer);
        }
        if let Some(words) = schema["enum"].as_array() {
            return Tree::Text(words[self.below(words.len())].as_str().unwrap().to_owned());
        }
        match schema["type"].as_str().unwrap() {
            "object" if schema.get("properties").is_none() => self.anything(1),
            "object" => {
                let required = schema["required"].as_array().unwrap();
                let mut members = Vec::new();
                for (name, member) in schema["properties"].as_object().unwrap() {
                    if required.iter().any(|required| required == name) || self.chance(30) {
                        members.push((name.clone(), self.value(document, member)));
                    }
                }
                Tree::Object(members)
            }
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
                let count = least + self.below(3);
                Tree::Array((0..count).map(|_| self.value(document, &schema["items"])).collect())
            }
            "string" => Tree::Text(match schema["pattern"].as_str() {
                Some(pattern) => self.matching(pattern),
                None => {
                    let least = schema["minLength"].as_u64().unwrap_or(0) as usize;
                    self.text(least, schema["maxLength"].as_u64().unwrap() as usize)
                }
            }),
            "integer" => {
                let least = schema["minimum"].as_i64().unwrap_or(-MAX);
                let most = schema["maximum"].as_i64().unwrap_or(MAX);
                let numbers = [least, most, least + 1, most - 1, 7, 100, 0];
                let number = numbers[self.below(numbers.len())];
                Tree::Integer(number.clamp(least, most))
            }
            _ => Tree::Boolean(self.chance(50)),
        }
    }

    /// Any object.
    pub(crate) fn anything(&mut self, depth: usize) -> Tree {
        let count = self.below(4);
        let mut members: Vec<(String, Tree)> = Vec::new();
        for _ in 0..count {
            let name = self.text(0, 3);
            let value = match self.below(if depth > 6 { 3 } else { 5 }) {
                0 => Tree::Text(self.text(0, 5)),
                1 => Tree::Integer(self.below(1000) as i64 - 500),
                2 => Tree::Boolean(true),
                3 => Tree::Array(vec![self.anything(depth + 2)]),
                _ => self.anything(depth + 1),
            };
            if members.iter().all(|(other, _)| *other != name) {
                members.push((name, value));
            }
        }
        Tree::Object(members)
    }

    fn matching(&mut self, pattern: &str) -> String {
        let body: Vec<char> = pattern.strip_prefix('^').unwrap().strip_suffix('$').unwrap().chars().collect();
        let mut out = String::new();
        let mut rest = &body[..];
        while let Some(first) = rest.first() {
            let end = match first {
                '[' => rest.iter().position(|c| *c == ']').unwrap() + 1,
                '\\' => 2,
                _ => 1,
            };
            let repeat = match rest.get(end) {
                Some('{') => rest[end..].iter().position(|c| *c == '}').unwrap() + 1,
                Some('?' | '*' | '+') => 1,
                _ => 0,
            };
            let part: String = rest[..end + repeat].iter().collect();
            let single: String = rest[..end].iter().collect();
            let wanted = (32..127u8)
                .map(char::from)
                .filter(|c| matches(&format!("^{single}$"), &c.to_string()))
                .collect::<Vec<_>>();
            let counts: Vec<usize> = (0..=70)
                .filter(|count| matches(&format!("^{part}$"), &wanted[0].to_string().repeat(*count)))
                .collect();
            for _ in 0..counts[self.below(counts.len())] {
                out.push(wanted[self.below(wanted.len())]);
            }
            rest = &rest[end + repeat..];
        }
        out
    }
}
