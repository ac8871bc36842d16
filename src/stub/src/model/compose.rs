//! JSON text with its members in the order in which they are given, and values that may be anything.

use serde_json::Value;

/// An object. Values are JSON text already.
pub(super) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// An array. Values are JSON text already.
pub(super) fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// JSON text as it is: numbers, `null`, or what the script wants broken.
pub(super) fn raw(text: impl ToString) -> String {
    text.to_string()
}

/// An event without a name.
pub(super) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// An event whose name is repeated as the member `type` of its data, which comes first.
pub(super) fn typed_event(name: &str, members: &[(&str, String)]) -> String {
    let mut all = vec![("type", quoted(name))];
    all.extend_from_slice(members);
    format!("event: {name}\ndata: {}\n\n", object(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_texts_are_escaped() {
        let inner = array(&[raw(1), raw("null")]);
        let text = object(&[("z", quoted("a\"\n")), ("a", inner)]);
        assert_eq!(text, r#"{"z":"a\"\n","a":[1,null]}"#);
        assert_eq!(typed_event("e", &[("b", raw(1))]), "event: e\ndata: {\"type\":\"e\",\"b\":1}\n\n");
        assert_eq!(event("x"), "data: x\n\n");
    }
}
