//! Which calls brought SQL, where it is in them, and what it gave.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use crate::messages;

/// Most characters of one value of a source.
const VALUE_CHARS_MAX: usize = 128;

/// Calls that bring SQL: `tool=NAME` of MCP or `operation=ID`, `argument=POINTER` to the statement, and perhaps
/// `result=POINTER` to the rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SqlSource {
    argument: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected `tool=NAME,argument=/POINTER[,result=/POINTER]`, or `operation=ID` for `tool`, each once and of {VALUE_CHARS_MAX} characters at most"
)]
pub struct SqlSourceError;

impl FromStr for SqlSource {
    type Err = SqlSourceError;

    fn from_str(text: &str) -> Result<Self, SqlSourceError> {
        let (mut tool, mut operation, mut argument, mut result) = (None, None, None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(SqlSourceError)?;
            let place = match name {
                "tool" => &mut tool,
                "operation" => &mut operation,
                "argument" => &mut argument,
                "result" => &mut result,
                _ => return Err(SqlSourceError),
            };
            let is_pointer = matches!(name, "argument" | "result");
            let fits = match is_pointer {
                true => value.is_empty() || value.starts_with('/'),
                false => !value.is_empty(),
            };
            if !fits || value.chars().count() > VALUE_CHARS_MAX || place.replace(value.to_owned()).is_some() {
                return Err(SqlSourceError);
            }
        }
        match (tool.is_some() != operation.is_some(), argument) {
            (true, Some(argument)) => Ok(Self { argument, operation, result, tool }),
            _ => Err(SqlSourceError),
        }
    }
}

/// What a statement came to when it was recorded.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    Failed,
    /// No rows were asked about.
    Done,
    /// What stands where the rows would be, if anything does.
    Rows(Option<Value>),
}

impl SqlSource {
    /// Whether calls with this receipt bring SQL.
    pub(super) fn is_of(&self, receipt: &Value) -> bool {
        let is_mcp = receipt["dialect"] == "mcp";
        match (&self.tool, &self.operation) {
            (Some(tool), _) => {
                let mut called = receipt["facts"]["tools_called"].as_array().into_iter().flatten();
                is_mcp && called.any(|name| name == tool)
            }
            (None, Some(operation)) => !is_mcp && receipt["operation"] == *operation,
            (None, None) => false,
        }
    }

    /// As it was written.
    pub(super) fn argument(&self) -> String {
        format!("argument={}", self.argument)
    }

    /// As it was written.
    pub(super) fn result(&self) -> String {
        format!("result={}", self.result.as_deref().unwrap_or_default())
    }

    /// Whether there is a text where the statement should be.
    pub(super) fn finds_statement(&self, request: &[u8]) -> bool {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let arguments = if self.tool.is_some() { &request["params"]["arguments"] } else { &request };
        find(arguments, &self.argument).is_some_and(|found| found.is_string())
    }

    /// The statement and what it came to. None where the bodies do not say so.
    pub(super) fn read(&self, receipt: &Value, request: &[u8], answer: &[u8]) -> Option<(String, Outcome)> {
        let request: Value = serde_json::from_slice(request).ok()?;
        let (arguments, result) = match &self.tool {
            Some(tool) => {
                let params = &request["params"];
                let is_it = request["method"] == "tools/call" && params["name"] == *tool;
                is_it.then_some(())?;
                (&params["arguments"], answer_to(&request["id"], answer)?)
            }
            None => {
                let status = receipt["response"]["upstream"]["status"].as_u64();
                let is_good = matches!(status, Some(200..=299));
                let body =
                    if is_good { Some(serde_json::from_slice(answer).unwrap_or_default()) } else { None };
                (&request, body)
            }
        };
        let statement = find(arguments, &self.argument)?.as_str()?.to_owned();
        let outcome = match (result, &self.result) {
            (None, _) => Outcome::Failed,
            (Some(_), None) => Outcome::Done,
            (Some(result), Some(pointer)) => Outcome::Rows(find(&result, pointer)),
        };
        Some((statement, outcome))
    }
}

impl fmt::Display for SqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("tool", &self.tool),
            ("operation", &self.operation),
            ("argument", &Some(self.argument.clone())),
        ];
        let parts = parts.into_iter().chain([("result", &self.result)]);
        let parts = parts.filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

/// What a source can be of in a call with this receipt.
pub(super) fn names(receipt: &Value) -> impl Iterator<Item = String> {
    let tools = receipt["facts"]["tools_called"].as_array().filter(|_| receipt["dialect"] == "mcp");
    let tools = tools.into_iter().flatten().filter_map(Value::as_str).map(|name| format!("tool={name}"));
    let operation = receipt["operation"].as_str().filter(|_| receipt["dialect"] != "mcp");
    tools.chain(operation.map(|id| format!("operation={id}")))
}

/// The result of this request; the inner none where it is an error.
fn answer_to(id: &Value, answer: &[u8]) -> Option<Option<Value>> {
    let message = messages::answer_to(id, answer)?;
    let result = message.get("result").filter(|result| result["isError"] != true);
    Some(result.cloned())
}

/// A JSON pointer; a text on the way that holds JSON is looked into.
fn find(value: &Value, pointer: &str) -> Option<Value> {
    if let Some(found) = value.pointer(pointer) {
        return Some(opened(found));
    }
    // The longest part of the pointer that leads to a text.
    let cuts = pointer.match_indices('/').map(|(at, _)| at).rev();
    for at in cuts.chain([0]) {
        if let Some(Value::String(text)) = value.pointer(pointer.get(..at)?)
            && let Ok(inner) = serde_json::from_str::<Value>(text)
        {
            return inner.pointer(pointer.get(at..)?).map(opened);
        }
    }
    None
}

/// A text that holds a list or an object is that.
fn opened(value: &Value) -> Value {
    let inner = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    inner.filter(|inner| inner.is_array() || inner.is_object()).unwrap_or_else(|| value.clone())
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;

    fn source(text: &str) -> SqlSource {
        text.parse().unwrap()
    }

    #[test]
    fn sources_are_written_as_they_are_read_and_others_are_refused() {
        for text in ["tool=query,argument=/sql", "operation=run,argument=/a/b,result=/rows"] {
            assert_eq!(source(text).to_string(), text);
        }
        for text in [
            "",
            "tool=q",
            "argument=/a",
            "tool=a,operation=b,argument=/c",
            "tool=a,argument=c",
            "tool=a,tool=b,argument=/c",
            "tool=a,argument=/c,more=1",
        ] {
            assert!(text.parse::<SqlSource>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_pointer_into_any_texts_ends(pointer in "(/[a-c0-1~é]?){0,6}", depth in 0_usize..4) {
            let value = (0..depth).fold(json!({"a": [1, "b"]}), |inner, _| json!({"a": inner.to_string(), "b": [inner]}));
            let found = find(&value, &pointer);
            if let Some(plain) = value.pointer(&pointer) {
                prop_assert_eq!(found, Some(opened(plain)), "what is there without looking into texts comes first");
            }
        }
    }

    #[test]
    fn a_statement_and_its_rows_are_found_in_messages_and_streams() {
        let source = source("tool=query,argument=/sql,result=/content/0/text/rows");
        let request = json!({"id": 7, "method": "tools/call", "params": {"name": "query", "arguments": {"sql": "SELECT 1"}}});
        let text = json!({"rows": [{"a": 1}]}).to_string();
        let answer =
            json!({"id": 7, "jsonrpc": "2.0", "result": {"content": [{"type": "text", "text": text}]}})
                .to_string();
        let rows = Some(("SELECT 1".to_owned(), Outcome::Rows(Some(json!([{"a": 1}])))));
        let read = |answer: &str| source.read(&json!({}), request.to_string().as_bytes(), answer.as_bytes());
        assert_eq!(read(&answer), rows);
        let stream =
            format!("event: message\ndata: {{\"method\":\"notifications/progress\"}}\n\ndata: {answer}\n\n");
        assert_eq!(read(&stream), rows);
        let failed = Some(("SELECT 1".to_owned(), Outcome::Failed));
        assert_eq!(read(r#"{"id":7,"result":{"isError":true,"content":[]}}"#), failed);
        assert_eq!(read(r#"{"id":7,"error":{"code":1,"message":"no"}}"#), failed);
        assert_eq!(read(r#"{"id":7,"result":{}}"#), Some(("SELECT 1".to_owned(), Outcome::Rows(None))));
        assert_eq!(read(r#"{"id":8,"result":{}}"#), None, "the answer to another request");
        assert_eq!(read("data: {"), None);
    }
}
