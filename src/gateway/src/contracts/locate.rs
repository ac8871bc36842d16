//! Where in a JSON text the value is that a JSON pointer names.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The byte that the value begins at. None: the text is no JSON, or has nothing there.
pub(crate) fn locate(text: &str, pointer: &str) -> Option<usize> {
    let mut here = text;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let inner: &RawValue = if here.trim_ascii_start().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(here).ok()?.get(token.parse::<usize>().ok()?)?
        } else {
            serde_json::from_str::<BTreeMap<String, &RawValue>>(here).ok()?.get(&token)?
        };
        here = inner.get();
    }
    let value = here.trim_ascii_start();
    value.as_ptr().addr().checked_sub(text.as_ptr().addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_the_byte_that_its_value_begins_at() {
        let text = " { \"a~/b\": [1, { \"c\":  \"d\" }], \"\": 2 }";
        for (pointer, expected) in
            [("", "{ \"a~"), ("/a~0~1b/0", "1,"), ("/a~0~1b/1/c", "\"d\""), ("/", "2 }"), ("/a~0~1b", "[1")]
        {
            let at = locate(text, pointer).unwrap();
            assert!(text[at..].starts_with(expected), "{pointer}: {at}");
        }
        for pointer in ["/b", "/a~0~1b/2", "/a~0~1b/x", "/a~0~1b/0/c"] {
            assert_eq!(locate(text, pointer), None, "{pointer}");
        }
        assert_eq!(locate("{\"a\":", "/a"), None);
    }
}
