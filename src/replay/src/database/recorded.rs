//! Which calls brought SQL, where it is in them, and what it gave.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use crate::exact::Exact;
use crate::messages;

/// Most characters of one value of a source.
const VALUE_CHARS_MAX: usize = 128;

/// Calls that bring SQL: `tool=NAME` of MCP or `operation=ID`, `argument=POINTER` to the statement, and perhaps
/// `parameters=POINTER` to the list of its parameters, `result=POINTER` to the rows and `count=POINTER` to their number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SqlSource {
    argument: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected `tool=NAME,argument=/POINTER[,parameters=/POINTER][,result=/POINTER][,count=/POINTER]`, or `operation=ID` for `tool`, each once and of {VALUE_CHARS_MAX} characters at most"
)]
pub struct SqlSourceError;

impl FromStr for SqlSource {
    type Err = SqlSourceError;

    fn from_str(text: &str) -> Result<Self, SqlSourceError> {
        let (mut tool, mut operation, mut argument) = (None, None, None);
        let (mut parameters, mut result, mut count) = (None, None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(SqlSourceError)?;
            let place = match name {
                "tool" => &mut tool,
                "operation" => &mut operation,
                "argument" => &mut argument,
                "parameters" => &mut parameters,
                "result" => &mut result,
                "count" => &mut count,
                _ => return Err(SqlSourceError),
            };
            let is_pointer = !matches!(name, "tool" | "operation");
            let fits = match is_pointer {
                true => value.is_empty() || value.starts_with('/'),
                false => !value.is_empty(),
            };
            if !fits || value.chars().count() > VALUE_CHARS_MAX || place.replace(value.to_owned()).is_some() {
                return Err(SqlSourceError);
            }
        }
        match (tool.is_some() != operation.is_some(), argument) {
            (true, Some(argument)) => Ok(Self { argument, count, operation, parameters, result, tool }),
            _ => Err(SqlSourceError),
        }
    }
}

/// A statement as it was recorded.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Recorded {
    pub statement: String,
    pub parameters: Vec<Value>,
    pub outcome: Outcome,
}

/// What a statement came to when it was recorded.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    Failed,
    Came { rows: Said, count: Said },
}

/// What an answer says of something.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Said {
    /// Nobody told where it would stand.
    Unasked,
    Nothing,
    This(Value),
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
        find(arguments, &self.argument, read).is_some_and(|found| found.is_string())
    }

    /// The statement and what it came to. None where the bodies do not say so.
    pub(super) fn read(&self, receipt: &Value, request: &[u8], answer: &[u8]) -> Option<Recorded> {
        let request = match self.parameters {
            Some(_) => kept(request)?,
            None => serde_json::from_slice(request).ok()?,
        };
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
        let statement = find(arguments, &self.argument, read)?.as_str()?.to_owned();
        let parameters = match self.parameters.as_ref().map(|at| find(arguments, at, kept)) {
            None | Some(None | Some(Value::Null)) => Vec::new(),
            Some(Some(Value::Array(values))) => values,
            Some(Some(_)) => return None,
        };
        let outcome = match result {
            None => Outcome::Failed,
            Some(result) => {
                let said = |at: &Option<String>| match at.as_ref().map(|at| find(&result, at, read)) {
                    None => Said::Unasked,
                    Some(None | Some(Value::Null)) => Said::Nothing,
                    Some(Some(value)) => Said::This(value),
                };
                Outcome::Came { rows: said(&self.result), count: said(&self.count) }
            }
        };
        Some(Recorded { statement, parameters, outcome })
    }
}

impl fmt::Display for SqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("tool", &self.tool),
            ("operation", &self.operation),
            ("argument", &Some(self.argument.clone())),
        ];
        let more = [("parameters", &self.parameters), ("result", &self.result), ("count", &self.count)];
        let parts = parts.into_iter().chain(more);
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

/// How a text of JSON becomes a value.
type Reader = fn(&[u8]) -> Option<Value>;

fn read(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

/// The same, of a text that says one thing, of which nothing is rounded.
fn kept(text: &[u8]) -> Option<Value> {
    let value = read(text)?;
    let exact = Exact::read(text)?;
    (Exact::read(value.to_string().as_bytes())? == exact).then_some(value)
}

/// A JSON pointer; a text on the way that holds JSON is looked into.
fn find(value: &Value, pointer: &str, read: Reader) -> Option<Value> {
    if let Some(found) = value.pointer(pointer) {
        return Some(opened(found, read));
    }
    // The longest part of the pointer that leads to a text.
    let cuts = pointer.match_indices('/').map(|(at, _)| at).rev();
    for at in cuts.chain([0]) {
        if let Some(Value::String(text)) = value.pointer(pointer.get(..at)?)
            && let Some(inner) = read(text.as_bytes())
        {
            return inner.pointer(pointer.get(at..)?).map(|found| opened(found, read));
        }
    }
    None
}

/// A text that holds a list or an object is that.
fn opened(value: &Value, read: Reader) -> Value {
    let inner = value.as_str().and_then(|text| read(text.as_bytes()));
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
        for text in [
            "tool=query,argument=/sql",
            "operation=run,argument=/a/b,result=/rows",
            "tool=query,argument=/sql,parameters=/values,result=/rows,count=/n",
        ] {
            assert_eq!(source(text).to_string(), text);
        }
        for text in [
            "",
            "tool=q",
            "tool=q,argument=/a,parameters=p",
            "tool=q,argument=/a,count=n",
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
            let found = find(&value, &pointer, read);
            if let Some(plain) = value.pointer(&pointer) {
                prop_assert_eq!(found, Some(opened(plain, read)), "what is there without looking into texts comes first");
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
        let recorded =
            |outcome| Some(Recorded { statement: "SELECT 1".to_owned(), parameters: vec![], outcome });
        let came = |rows| recorded(Outcome::Came { rows, count: Said::Unasked });
        let rows = came(Said::This(json!([{"a": 1}])));
        let read = |answer: &str| source.read(&json!({}), request.to_string().as_bytes(), answer.as_bytes());
        assert_eq!(read(&answer), rows);
        let stream =
            format!("event: message\ndata: {{\"method\":\"notifications/progress\"}}\n\ndata: {answer}\n\n");
        assert_eq!(read(&stream), rows);
        let failed = recorded(Outcome::Failed);
        assert_eq!(read(r#"{"id":7,"result":{"isError":true,"content":[]}}"#), failed);
        assert_eq!(read(r#"{"id":7,"error":{"code":1,"message":"no"}}"#), failed);
        assert_eq!(read(r#"{"id":7,"result":{}}"#), came(Said::Nothing));
        assert_eq!(read(r#"{"id":8,"result":{}}"#), None, "the answer to another request");
        assert_eq!(read("data: {"), None);
    }

    #[test]
    fn parameters_are_a_list_of_which_nothing_is_lost_or_nobody_knows_them() {
        let source = source("operation=run,argument=/sql,parameters=/values");
        let receipt = json!({ "response": { "upstream": { "status": 200 } } });
        let read = |values: &str| {
            let request = format!(r#"{{"sql":"SELECT $1","values":{values}}}"#);
            source.read(&receipt, request.as_bytes(), b"").map(|recorded| recorded.parameters)
        };
        assert_eq!(read(r#"[1, null, "a", 0.1, 18446744073709551615]"#).unwrap().len(), 5);
        assert_eq!(read("\"[1]\""), Some(vec![json!(1)]), "a text that holds a list is one");
        assert_eq!(read("null"), Some(vec![]));
        for other in [
            "{\"a\":1}",
            "\"a\"",
            "1",
            "[12345678901234567890123]",
            "[0.12345678901234567890]",
            "[{\"a\":1,\"a\":2}]",
            "\"[1e400]\"",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
