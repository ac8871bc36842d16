//! The texts of a JSON value, numbered in the order in which they are met: names of members, strings, numbers.

use std::ops::Range;

use serde_json::Value;

use crate::content::{is_container, read_json};
use crate::path::{Reach, ValuePath};

/// How deep JSON inside of strings is looked into.
const INSIDE_MAX: usize = 3;

/// Each text with its number. A string that is itself JSON has the texts in it, too, by the same number.
pub(super) fn texts(value: &Value, take: &mut dyn FnMut(usize, &str)) {
    let mut next = 0;
    walk(value, &mut next, &mut |leaf, text| inside(text, INSIDE_MAX, &mut |text| take(leaf, text)));
}

fn walk(value: &Value, next: &mut usize, take: &mut dyn FnMut(usize, &str)) {
    let mut text = |text: &str| take(std::mem::replace(next, *next + 1), text);
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(written) => text(&written.to_string()),
        Value::String(written) => text(written),
        Value::Array(items) => items.iter().for_each(|item| walk(item, next, take)),
        Value::Object(members) => {
            for (name, member) in members {
                take(std::mem::replace(next, *next + 1), name);
                walk(member, next, take);
            }
        }
    }
}

fn inside(text: &str, deep: usize, take: &mut dyn FnMut(&str)) {
    take(text);
    if deep > 0
        && is_container(text)
        && let Some(value) = read_json(text.as_bytes())
    {
        walk(&value, &mut 0, &mut |_, text| inside(text, deep - 1, take));
    }
}

/// The numbers of the texts at and below what these paths mean. A text on the way that a tool may read as JSON counts whole.
pub(super) fn below(value: &Value, paths: &[ValuePath]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for path in paths {
        meet(value, &mut 0, path, path.root(), &mut found);
    }
    found
}

fn meet(value: &Value, next: &mut usize, path: &ValuePath, reach: Reach, found: &mut Vec<Range<usize>>) {
    let goes_inside = |text: &str| path.goes_on(reach) && is_container(text);
    if path.is_met(reach) || value.as_str().is_some_and(goes_inside) {
        let from = *next;
        walk(value, next, &mut |_, _| {});
        found.push(from..*next);
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                meet(item, next, path, path.step_into(reach, index), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                *next += 1;
                meet(member, next, path, path.step(reach, name), found);
            }
        }
        scalar => walk(scalar, next, &mut |_, _| {}),
    }
}
