//! What a request asks for, read from any of the dialects.

use serde_json::Value;

use crate::script::Dialect;

const MODEL: &str = "scripted-1";
/// Most answers to one request (`n` of chat completions).
const CHOICES_MAX: u64 = 8;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    /// How many answers at once.
    pub choices: u64,
    /// What to repeat: the last message of the user, or the result of a tool when that came last.
    pub text: String,
    /// The first offered tool.
    pub tool: Option<String>,
    /// The user's words ask for a tool. Never after a tool's result: an agent would not come to an end.
    pub wants_tool: bool,
    /// Size of the request body.
    pub bytes: usize,
}

impl Ask {
    pub fn read(dialect: Dialect, target: &str, body: &[u8]) -> Result<Self, &'static str> {
        let request: Value = serde_json::from_slice(body).map_err(|_| "the request is not JSON")?;
        let (text, is_result) = last_words(dialect, &request).ok_or("the request has no messages")?;
        let named = request["model"].as_str().or_else(|| model_in_path(target));
        Ok(Self {
            model: named.unwrap_or(MODEL).to_owned(),
            stream: request["stream"].as_bool().unwrap_or(false),
            include_usage: request["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            choices: request["n"].as_u64().unwrap_or(1).clamp(1, CHOICES_MAX),
            tool: first_tool(&request),
            wants_tool: !is_result && request["tool_choice"] != "none" && has_word_tool(&text),
            text,
            bytes: body.len(),
        })
    }
}

/// The text to answer, and whether it is the result of a tool.
fn last_words(dialect: Dialect, request: &Value) -> Option<(String, bool)> {
    let list = match dialect {
        Dialect::ChatCompletions | Dialect::Messages => &request["messages"],
        Dialect::Responses => &request["input"],
        Dialect::Gemini => &request["contents"],
    };
    if let Some(text) = list.as_str() {
        return Some((text.to_owned(), false));
    }
    let messages = list.as_array()?;
    let message = messages.iter().rev().find(|message| is_result(message) || is_from_user(message));
    Some(message.map_or((String::new(), false), |message| (words(message), is_result(message))))
}

fn is_from_user(message: &Value) -> bool {
    match message["role"].as_str() {
        Some(role) => role == "user",
        None => message["type"].as_str().is_none_or(|kind| kind == "message"),
    }
}

fn is_result(message: &Value) -> bool {
    let part_is_result = |part: &Value| part["type"] == "tool_result" || part["functionResponse"].is_object();
    message["role"] == "tool"
        || message["type"] == "function_call_output"
        || parts(message).is_some_and(|parts| parts.iter().any(part_is_result))
}

fn parts(message: &Value) -> Option<&Vec<Value>> {
    message["content"].as_array().or_else(|| message["parts"].as_array())
}

/// All text in a message, a tool's result included.
fn words(message: &Value) -> String {
    if let Some(text) = message["content"].as_str().or_else(|| message["output"].as_str()) {
        return text.to_owned();
    }
    let part_words = |part: &Value| match (&part["text"], &part["content"], &part["functionResponse"]) {
        (Value::String(text), _, _) => text.clone(),
        (_, Value::Null, Value::Null) => String::new(),
        (_, Value::Null, result) => result["response"].to_string(),
        _ => words(part),
    };
    let found = parts(message).map(|parts| parts.iter().map(part_words).filter(|text| !text.is_empty()));
    found.map(|texts| texts.collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

fn has_word_tool(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("tool"))
}

fn first_tool(request: &Value) -> Option<String> {
    let name = |tool: &Value| {
        let names = [&tool["function"]["name"], &tool["name"], &tool["functionDeclarations"][0]["name"]];
        names.into_iter().find_map(Value::as_str).map(str::to_owned)
    };
    request["tools"].as_array()?.iter().find_map(name)
}

/// `m` in `…/models/m:generateContent`.
fn model_in_path(target: &str) -> Option<&str> {
    let (_, rest) = target.rsplit_once("/models/")?;
    rest.split([':', '?']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(dialect: Dialect, body: &str) -> Ask {
        Ask::read(dialect, "/v1beta/models/g-1:generateContent?alt=sse", body.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_words_of_the_user_are_found_in_every_shape() {
        for (dialect, body) in [
            (
                Dialect::ChatCompletions,
                r#"{"messages":[{"role":"user","content":"no"},{"role":"user","content":"a b"}]}"#,
            ),
            (
                Dialect::ChatCompletions,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}]},{"role":"assistant","content":"x"}]}"#,
            ),
            (Dialect::Messages, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a b"}]}]}"#),
            (Dialect::Responses, r#"{"input":"a b"}"#),
            (
                Dialect::Responses,
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a b"}]},{"type":"reasoning"}]}"#,
            ),
            (Dialect::Gemini, r#"{"contents":[{"parts":[{"text":"a b"}]}]}"#),
            (
                Dialect::Gemini,
                r#"{"contents":[{"role":"user","parts":[{"text":"a b"}]},{"role":"model","parts":[{"text":"x"}]}]}"#,
            ),
        ] {
            assert_eq!(ask(dialect, body).text, "a b", "{body}");
        }
    }

    #[test]
    fn a_tool_s_result_is_repeated_and_never_answered_with_a_call() {
        for (dialect, body) in [
            (
                Dialect::ChatCompletions,
                r#"{"messages":[{"role":"user","content":"tool"},{"role":"assistant"},{"role":"tool","content":"the tool said"}]}"#,
            ),
            (
                Dialect::Messages,
                r#"{"messages":[{"role":"user","content":"tool"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"the tool said"}]}]}"#,
            ),
            (
                Dialect::Messages,
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"the tool said"}]}]}]}"#,
            ),
            (
                Dialect::Responses,
                r#"{"input":[{"role":"user","content":"tool"},{"type":"function_call","name":"f"},{"type":"function_call_output","output":"the tool said"}]}"#,
            ),
        ] {
            let ask = ask(dialect, body);
            assert_eq!((&ask.text[..], ask.wants_tool), ("the tool said", false), "{body}");
        }
        let gemini = r#"{"contents":[{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"tool":1}}}]}]}"#;
        let ask = ask(Dialect::Gemini, gemini);
        assert_eq!((&ask.text[..], ask.wants_tool), (r#"{"tool":1}"#, false));
    }

    #[test]
    fn a_tool_is_wanted_when_the_word_is_there() {
        let wants = |text: &str, more: &str| {
            let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]{more}}}"#);
            ask(Dialect::ChatCompletions, &body).wants_tool
        };
        assert!(wants("use the Tool!", ""));
        assert!(!wants("a toolbox", ""));
        assert!(!wants("the tool", r#","tool_choice":"none""#));
    }

    #[test]
    fn offered_tools_and_options_are_read() {
        for (dialect, body) in [
            (
                Dialect::ChatCompletions,
                r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            ),
            (
                Dialect::Messages,
                r#"{"messages":[],"tools":[{"type":"web_search"},{"name":"f","input_schema":{}}]}"#,
            ),
            (Dialect::Gemini, r#"{"contents":[],"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#),
        ] {
            assert_eq!(ask(dialect, body).tool.as_deref(), Some("f"), "{body}");
        }
        assert_eq!(ask(Dialect::Gemini, r#"{"contents":[]}"#).model, "g-1");
        let options =
            r#"{"messages":[],"model":"m","n":99,"stream":true,"stream_options":{"include_usage":true}}"#;
        let ask = ask(Dialect::ChatCompletions, options);
        assert_eq!((&ask.model[..], ask.choices, ask.stream, ask.include_usage), ("m", 8, true, true));
    }

    #[test]
    fn a_request_that_cannot_be_read_says_why() {
        let read = |body: &[u8]| Ask::read(Dialect::Messages, "/", body);
        assert_eq!(read(b"{"), Err("the request is not JSON"));
        assert_eq!(read(br#"{"contents":[]}"#), Err("the request has no messages"));
        assert_eq!(read(b"[]"), Err("the request has no messages"));
    }
}
