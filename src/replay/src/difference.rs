//! Where two JSON values differ, as JSON pointers, and whether their shape does.

use serde_json::Value;

use crate::tally::POINTERS_MAX;
use crate::tolerance::Found;

/// What differs between a recorded value and another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The first places, in the order of the recorded value.
    pub at: Vec<String>,
    /// Members, types or lengths of lists differ, not values alone.
    pub is_shape: bool,
}

impl From<Difference> for Found {
    fn from(Difference { at, is_shape }: Difference) -> Self {
        Self { at, is_shape, ..Self::default() }
    }
}

impl Difference {
    /// `depth` of the values is bounded by who read them.
    pub fn of(recorded: &Value, found: &Value) -> Self {
        let mut difference = Self::default();
        difference.compare(&mut String::new(), recorded, found);
        difference
    }

    fn compare(&mut self, path: &mut String, recorded: &Value, found: &Value) {
        if recorded == found {
            return;
        }
        match (recorded, found) {
            (Value::Object(old), Value::Object(new)) => {
                for (name, old) in old {
                    let inner = |this: &mut Self, path: &mut String| match new.get(name) {
                        Some(new) => this.compare(path, old, new),
                        None => this.note(path, true),
                    };
                    self.within(path, name, inner);
                }
                for name in new.keys().filter(|name| !old.contains_key(*name)) {
                    self.within(path, name, |this, path| this.note(path, true));
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                for (place, (old, new)) in old.iter().zip(new).enumerate() {
                    self.within(path, &place.to_string(), |this, path| this.compare(path, old, new));
                }
                if old.len() != new.len() {
                    let place = old.len().min(new.len()).to_string();
                    self.within(path, &place, |this, path| this.note(path, true));
                }
            }
            _ => {
                let is_shape = std::mem::discriminant(recorded) != std::mem::discriminant(found);
                self.note(path, is_shape);
            }
        }
    }

    fn within(&mut self, path: &mut String, segment: &str, inner: impl FnOnce(&mut Self, &mut String)) {
        let before = path.len();
        path.push('/');
        path.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        inner(self, path);
        path.truncate(before);
    }

    fn note(&mut self, path: &str, is_shape: bool) {
        self.is_shape |= is_shape;
        if self.at.len() < POINTERS_MAX {
            self.at.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(recorded: Value, found: Value, at: &[&str], is_shape: bool) {
        let difference = Difference::of(&recorded, &found);
        assert_eq!(
            (difference.at, difference.is_shape),
            (at.iter().map(ToString::to_string).collect(), is_shape)
        );
    }

    #[test]
    fn values_and_shapes_are_told_apart_by_pointer() {
        check(json!({"a": 1}), json!({"a": 1}), &[], false);
        check(json!({"a": {"b/c": [1, 2]}}), json!({"a": {"b/c": [1, 3]}}), &["/a/b~1c/1"], false);
        check(json!({"a": 1}), json!({"a": "1"}), &["/a"], true);
        check(json!({"a": 1}), json!({"b": 1}), &["/a", "/b"], true);
        check(json!([1]), json!([1, 2]), &["/1"], true);
        check(json!(1), json!(2), &[""], false);
    }

    #[test]
    fn no_more_places_are_named_than_fit() {
        let list = |value: i32| Value::from(vec![value; 500]);
        assert_eq!(Difference::of(&list(1), &list(2)).at.len(), POINTERS_MAX);
    }
}
