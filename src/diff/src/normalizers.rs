//! Paths at which values are not compared.

use std::collections::BTreeSet;

use estoppel_evidence::{Sha256, canonical};
use serde_json::{Value, json};

use crate::path::Path;

const DEFAULT: &str = include_str!("../../../spec/diff-normalizers.json");
const FORMAT: &str = "estoppel-normalizers/1";
/// Most paths, most bytes of one, most names in one.
const PATHS_MAX: usize = 1_000;
const PATH_BYTES_MAX: usize = 1_024;
const NAMES_MAX: usize = 64;
/// Stands for any one name.
const ANY: &str = "*";

/// What is wrong with a file of normalizers.
#[derive(Debug, thiserror::Error)]
pub enum NormalizersError {
    #[error("not JSON: {0}")]
    Json(String),
    #[error("expected `{{\"format\":\"{FORMAT}\",\"paths\":[…]}}` and no other member")]
    Format,
    #[error("`{0}` is no path: a JSON pointer of at most {NAMES_MAX} names and {PATH_BYTES_MAX} bytes")]
    Path(String),
    #[error("more than {PATHS_MAX} paths")]
    PathsMax,
}

/// Paths in byte order, and the digest of all of them.
#[derive(Debug)]
pub struct Normalizers {
    paths: Vec<(String, Path)>,
    digest: Sha256,
}

/// The rules that can reach into one entry, each with what is left of its path.
pub(crate) type Rules<'n> = Vec<(u16, &'n [String])>;

impl Normalizers {
    /// The default ones, and those of a user's file.
    ///
    /// # Errors
    /// [`NormalizersError`], of the user's file.
    pub fn new(further: Option<&[u8]>) -> Result<Self, NormalizersError> {
        let mut texts = read(DEFAULT.as_bytes())?;
        if let Some(further) = further {
            texts.extend(read(further)?);
        }
        if texts.len() > PATHS_MAX {
            return Err(NormalizersError::PathsMax);
        }
        let document = json!({ "format": FORMAT, "paths": texts });
        let bytes = canonical::foreign(document.to_string().as_bytes());
        let digest = Sha256::of(&bytes.map_err(|error| NormalizersError::Json(error.to_string()))?);
        let paths = texts.into_iter().filter_map(|text| Path::parse(&text).map(|path| (text, path)));
        Ok(Self { paths: paths.collect(), digest })
    }

    /// The digest of the canonical form of all paths.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(crate) fn text(&self, rule: u16) -> &str {
        self.paths.get(usize::from(rule)).map_or("", |(text, _)| text)
    }

    /// What reaches into the value at `names`.
    pub(crate) fn within(&self, names: &[String]) -> Rules<'_> {
        let mut rules = Vec::new();
        for (rule, (_, path)) in (0_u16..).zip(&self.paths) {
            let Some((above, below)) = path.0.split_at_checked(names.len()) else { continue };
            if !below.is_empty() && above.iter().zip(names).all(|(one, name)| one == ANY || one == name) {
                rules.push((rule, below));
            }
        }
        rules
    }
}

fn read(bytes: &[u8]) -> Result<BTreeSet<String>, NormalizersError> {
    let canonical = canonical::foreign(bytes).map_err(|error| NormalizersError::Json(error.to_string()))?;
    let value: Value =
        serde_json::from_slice(&canonical).map_err(|error| NormalizersError::Json(error.to_string()))?;
    let members = value.as_object().ok_or(NormalizersError::Format)?;
    let paths = value["paths"].as_array().ok_or(NormalizersError::Format)?;
    if members.len() != 2 || value["format"] != FORMAT {
        return Err(NormalizersError::Format);
    }
    let mut texts = BTreeSet::new();
    for path in paths {
        let text = path.as_str().ok_or(NormalizersError::Format)?;
        let is_path = Path::parse(text).is_some_and(|path| path.0.len() <= NAMES_MAX);
        if !is_path || text.len() > PATH_BYTES_MAX {
            return Err(NormalizersError::Path(text.chars().take(100).collect()));
        }
        texts.insert(text.to_owned());
        if texts.len() > PATHS_MAX {
            return Err(NormalizersError::PathsMax);
        }
    }
    Ok(texts)
}

/// What was taken out of a value, one after the other: the rule, a length, and where it was with its bytes.
#[derive(Default, Debug)]
pub(crate) struct Taken(Vec<u8>);

impl Taken {
    fn push(&mut self, rule: u16, found: &[u8]) {
        self.0.extend(rule.to_le_bytes());
        self.0.extend((found.len() as u64).to_le_bytes()); // widening
        self.0.extend(found);
    }

    /// By rule, in the order of the rules.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (rule, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (found, after) = after.split_at_checked(length)?;
            rest = after;
            Some((u16::from_le_bytes(*rule), found))
        })
    }
}

/// Takes out of `value` what `rules` reach.
pub(crate) fn take(value: &mut Value, rules: &Rules<'_>) -> Taken {
    let mut taken = Taken::default();
    let mut found = Vec::new();
    for (rule, path) in rules {
        found.clear();
        take_one(value, path, &mut found);
        if !found.is_empty() {
            taken.push(*rule, &found);
        }
    }
    taken.0.shrink_to_fit();
    taken
}

/// Says whether `value` has lost its last member.
fn take_one(value: &mut Value, path: &[String], found: &mut Vec<u8>) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    match value {
        Value::Object(members) => {
            let names: Vec<String> = match name.as_str() {
                ANY => members.keys().cloned().collect(),
                name => vec![name.to_owned()],
            };
            let mut lost = false;
            for name in names {
                let Some(member) = members.get_mut(&name) else { continue };
                if rest.is_empty() {
                    note(&name, member, found);
                } else if !take_one(member, rest, found) {
                    continue;
                }
                members.remove(&name);
                lost = true;
            }
            lost && members.is_empty()
        }
        Value::Array(elements) => {
            let at = name.parse::<usize>().ok().filter(|at| at.to_string() == *name);
            for (place, element) in elements.iter_mut().enumerate() {
                if name != ANY && at != Some(place) {
                    continue;
                }
                if rest.is_empty() {
                    note(&place.to_string(), element, found);
                    *element = Value::Null;
                } else {
                    take_one(element, rest, found);
                }
            }
            false
        }
        _ => false,
    }
}

fn note(name: &str, value: &Value, found: &mut Vec<u8>) {
    found.extend(name.as_bytes());
    found.push(0);
    found.extend(crate::compare::held(value));
    found.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut value: Value, paths: &[&str]) -> (Value, usize) {
        let file = json!({ "format": FORMAT, "paths": paths }).to_string();
        let normalizers = Normalizers::new(Some(file.as_bytes())).unwrap();
        let taken = take(&mut value, &normalizers.within(&[]));
        (value, taken.iter().count())
    }

    #[test]
    fn members_go_elements_become_null_and_what_is_emptied_goes_too() {
        let value = json!({ "a": { "b": 1, "c": 2 }, "d": [1, { "e": 1 }], "f": { "g": { "h": 1 } } });
        let (left, count) = taken(value.clone(), &["/a/b", "/d/*/e", "/f/*/h"]);
        assert_eq!((left, count), (json!({ "a": { "c": 2 }, "d": [1, {}] }), 3));
        assert_eq!(taken(value.clone(), &["/d/1", "/d/01"]).0["d"], json!([1, null]));
        assert_eq!(taken(value.clone(), &["/a/b/c", "/z"]), (value, 0));
        assert_eq!(taken(json!({ "a": 1 }), &["/*"]).0, json!({}));
    }

    #[test]
    fn what_is_no_file_of_normalizers_is_refused_by_what_is_wrong() {
        let refused = |text: &str| Normalizers::new(Some(text.as_bytes())).unwrap_err().to_string();
        assert!(refused("{").starts_with("not JSON"));
        assert!(refused("{}").starts_with("expected"));
        assert!(
            refused(r#"{"format":"estoppel-normalizers/1","paths":["a"]}"#).starts_with("`a` is no path")
        );
        assert!(refused(r#"{"format":"estoppel-normalizers/1","paths":["/a~2"]}"#).starts_with("`/a~2`"));
        assert!(refused(r#"{"format":"estoppel-normalizers/1","paths":[],"x":1}"#).starts_with("expected"));
        let many: Vec<String> = (0..=PATHS_MAX).map(|n| format!("/{n}")).collect();
        let many = json!({ "format": FORMAT, "paths": many }).to_string();
        assert!(refused(&many).starts_with("more than"));
    }

    #[test]
    fn a_users_paths_are_added_and_their_order_says_nothing() {
        let of = |paths: &[&str]| {
            let file = json!({ "format": FORMAT, "paths": paths }).to_string();
            Normalizers::new(Some(file.as_bytes())).unwrap().digest()
        };
        assert_eq!(of(&["/a", "/b", "/b"]), of(&["/b", "/a"]));
        assert_eq!(of(&["/columns/*/*/*/place"]), Normalizers::new(None).unwrap().digest());
        assert_ne!(of(&["/a"]), of(&[]));
    }
}
