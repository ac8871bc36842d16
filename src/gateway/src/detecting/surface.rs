//! Which part of the traffic a string is, by its place in the documents of each dialect.

use estoppel_detect::Text;
use estoppel_policy::Surface;
use estoppel_wire::dialect::Dialect;

/// What may be in requests, and in answers.
pub(super) const SENT: &[Surface] =
    &[Surface::Request, Surface::Tools, Surface::Results, Surface::Descriptions];
pub(super) const ANSWERED: &[Surface] =
    &[Surface::Answer, Surface::Tools, Surface::Results, Surface::Descriptions];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Sent,
    Answered,
}

/// Most objects of one document that say of themselves what they are.
const OBJECTS_MAX: usize = 16_384;

/// The surfaces of one document.
pub(super) struct Surfaces {
    dialect: Dialect,
    side: Side,
    /// Places of objects that say what they are by their role or type.
    said: Vec<(Box<str>, Surface)>,
}

impl Surfaces {
    pub(super) fn new(dialect: Dialect, side: Side) -> Self {
        Self { dialect, side, said: Vec::new() }
    }

    /// Takes note of a string that says what is around it.
    pub(super) fn note(&mut self, text: &Text<'_>) {
        let surface = match text.text {
            "tool" | "function" if text.place.ends_with("/role") => Surface::Results,
            "tool_result" | "function_call_output" | "custom_tool_call_output"
                if text.place.ends_with("/type") =>
            {
                Surface::Results
            }
            "tool_use" | "function_call" | "custom_tool_call" if text.place.ends_with("/type") => {
                Surface::Tools
            }
            _ => return,
        };
        if !text.is_name && self.said.len() < OBJECTS_MAX {
            let object = text.place.rsplit_once('/').map_or("", |(object, _)| object);
            self.said.push((object.into(), surface));
        }
    }

    /// What a string at this place is.
    pub(super) fn of(&self, place: &str) -> Surface {
        let otherwise = match self.side {
            Side::Sent => Surface::Request,
            Side::Answered => Surface::Answer,
        };
        let tokens: Vec<&str> = place.split('/').skip(1).collect();
        let has = |names: &[&str]| tokens.iter().any(|token| names.contains(token));
        let first = tokens.iter().find(|token| token.parse::<u64>().is_err()).copied().unwrap_or_default();
        let below = |object: &str| place.strip_prefix(object).is_some_and(|rest| rest.starts_with('/'));
        let said =
            self.said.iter().filter(|(object, _)| below(object)).max_by_key(|(object, _)| object.len());
        match (self.dialect, self.side) {
            (Dialect::Json | Dialect::Bytes, _) => otherwise,
            (Dialect::Mcp, Side::Sent) if first == "params" && has(&["arguments"]) => Surface::Tools,
            (Dialect::Mcp, Side::Sent) => otherwise,
            (Dialect::Mcp, Side::Answered) if first == "result" && tokens.get(1) == Some(&"tools") => {
                Surface::Descriptions
            }
            (Dialect::Mcp, Side::Answered) if first == "result" => Surface::Results,
            (Dialect::Mcp, Side::Answered) => otherwise,
            (_, Side::Sent) if matches!(first, "tools" | "functions") => Surface::Descriptions,
            _ if has(&["tool_calls", "function_call", "functionCall"]) => Surface::Tools,
            _ if has(&["functionResponse", "function_response"]) => Surface::Results,
            _ => said.map_or(otherwise, |(_, surface)| *surface),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surfaces(dialect: Dialect, side: Side, json: &str) -> Vec<(String, Surface)> {
        let mut surfaces = Surfaces::new(dialect, side);
        let mut places = Vec::new();
        estoppel_detect::walk(json.as_bytes(), &mut |text| {
            surfaces.note(&text);
            if text.text == "x" {
                places.push(text.place.to_owned());
            }
        })
        .unwrap();
        places.into_iter().map(|place| (place.clone(), surfaces.of(&place))).collect()
    }

    #[test]
    fn what_a_string_is_does_not_depend_on_the_order_of_members() {
        let found = |json| {
            surfaces(Dialect::OpenAiChat, Side::Sent, json).into_iter().map(|one| one.1).collect::<Vec<_>>()
        };
        let message = r#"{"messages":[{"content":"x","role":"tool"},{"role":"user","content":"x"},{"tool_calls":[{"function":{"arguments":"x"}}]}]}"#;
        assert_eq!(found(message), [Surface::Results, Surface::Request, Surface::Tools]);
        assert_eq!(found(r#"{"tools":[{"function":{"description":"x"}}]}"#), [Surface::Descriptions]);
    }

    #[test]
    fn each_dialect_has_its_places() {
        for (dialect, side, json, expected) in [
            (
                Dialect::AnthropicMessages,
                Side::Sent,
                r#"{"messages":[{"content":[{"content":"x","type":"tool_result"}]}]}"#,
                Surface::Results,
            ),
            (
                Dialect::AnthropicMessages,
                Side::Answered,
                r#"{"content":[{"type":"tool_use","input":{"a":"x"}}]}"#,
                Surface::Tools,
            ),
            (
                Dialect::OpenAiResponses,
                Side::Sent,
                r#"{"input":[{"type":"function_call_output","output":"x"}]}"#,
                Surface::Results,
            ),
            (
                Dialect::OpenAiResponses,
                Side::Answered,
                r#"{"output":[{"type":"message","content":[{"text":"x"}]}]}"#,
                Surface::Answer,
            ),
            (
                Dialect::Gemini,
                Side::Answered,
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"a":"x"}}}]}}]}"#,
                Surface::Tools,
            ),
            (
                Dialect::Mcp,
                Side::Sent,
                r#"{"method":"tools/call","params":{"arguments":{"a":"x"}}}"#,
                Surface::Tools,
            ),
            (
                Dialect::Mcp,
                Side::Answered,
                r#"{"result":{"tools":[{"description":"x"}]}}"#,
                Surface::Descriptions,
            ),
            (Dialect::Mcp, Side::Answered, r#"[{"result":{"content":[{"text":"x"}]}}]"#, Surface::Results),
            (Dialect::Json, Side::Answered, r#"{"tool_calls":"x"}"#, Surface::Answer),
        ] {
            assert_eq!(surfaces(dialect, side, json)[0].1, expected, "{json}");
        }
    }
}
