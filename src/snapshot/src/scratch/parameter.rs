//! Parameters of a recorded statement, as JSON has them, in the text forms of the types that the server infers.

use bytes::{BufMut as _, BytesMut};
use serde_json::Value;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

/// A value that is bound as a text, which its type reads: nothing of it becomes part of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound(Option<String>);

impl Bound {
    /// All of a statement. None where there are more or fewer of them than it takes, or one of which nobody can say what it was bound as.
    pub fn all(values: &[Value], types: &[Type]) -> Option<Vec<Self>> {
        if values.len() != types.len() {
            return None;
        }
        values.iter().zip(types).map(|(value, of)| Self::of(value, of)).collect()
    }

    fn of(value: &Value, of: &Type) -> Option<Self> {
        match value {
            Value::Null => Some(Self(None)),
            value => text(value, of).map(|text| Self(Some(text))),
        }
    }
}

impl ToSql for Bound {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.put_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// `value` is not null.
fn text(value: &Value, of: &Type) -> Option<String> {
    match (base(of).kind(), value) {
        (Kind::Array(item), Value::Array(items)) => array(items, item),
        (_, Value::Array(_) | Value::Object(_)) => is_json(of).then(|| value.to_string()),
        (_, Value::String(text)) => Some(text.clone()),
        (_, value) => Some(value.to_string()),
    }
}

/// PostgreSQL section 8.15.6.
fn array(items: &[Value], of: &Type) -> Option<String> {
    let item = |item: &Value| match item {
        Value::Null => Some("NULL".to_owned()),
        Value::Array(items) if !is_json(of) => array(items, of),
        item => Some(format!("\"{}\"", text(item, of)?.replace('\\', "\\\\").replace('"', "\\\""))),
    };
    let delimiter = if *base(of) == Type::BOX { ";" } else { "," };
    Some(format!("{{{}}}", items.iter().map(item).collect::<Option<Vec<_>>>()?.join(delimiter)))
}

fn is_json(of: &Type) -> bool {
    [Type::JSON, Type::JSONB].contains(base(of))
}

fn base(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(inner) => base(inner),
        _ => of,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_parameter_is_the_text_that_its_type_reads_or_none_at_all() {
        for (value, of, expected) in [
            (json!(true), Type::BOOL, Some("true")),
            (json!(12.50), Type::NUMERIC, Some("12.5")),
            (json!(9_007_199_254_740_993_i64), Type::INT8, Some("9007199254740993")),
            (json!("'); COMMIT; --"), Type::TEXT, Some("'); COMMIT; --")),
            (json!("12"), Type::INT4, Some("12")),
            (json!([1, null, [2]]), Type::INT4_ARRAY, Some(r#"{"1",NULL,{"2"}}"#)),
            (json!(["a\"b\\c", "NULL", "{}"]), Type::TEXT_ARRAY, Some(r#"{"a\"b\\c","NULL","{}"}"#)),
            (json!(["(1,1),(0,0)", null]), Type::BOX_ARRAY, Some(r#"{"(1,1),(0,0)";NULL}"#)),
            (json!([1, "a"]), Type::JSONB, Some(r#"[1,"a"]"#)),
            (json!([[1], {"a": "b"}]), Type::JSON_ARRAY, Some(r#"{"[1]","{\"a\":\"b\"}"}"#)),
            (json!({"a": "it's"}), Type::JSON, Some(r#"{"a":"it's"}"#)),
            (json!("{}"), Type::JSON, Some("{}")),
            (json!({"type": "Buffer", "data": [1]}), Type::BYTEA, None),
            (json!([1]), Type::TEXT, None),
            (json!([{"a": 1}]), Type::TEXT_ARRAY, None),
        ] {
            let expected = expected.map(|text| Bound(Some(text.to_owned())));
            assert_eq!(Bound::of(&value, &of), expected, "{value} {of}");
        }
        assert_eq!(Bound::of(&Value::Null, &Type::JSON), Some(Bound(None)));
        assert_eq!(Bound::all(&[json!(1)], &[]), None);
        assert_eq!(Bound::all(&[], &[Type::INT4]), None);
        assert_eq!(Bound::all(&[], &[]), Some(vec![]));
    }
}
