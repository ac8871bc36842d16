use super::*;
use crate::{
    Defect, Dialect,
    dialect::{Framing, ResponseScan, fixtures::*},
    splits::every_split,
};

/// Each part as `kind outer.inner name text`, by event; the text is what stands in the event's data.
fn found(dialect: Dialect, framing: Framing, chunks: &[&[u8]]) -> Vec<Vec<String>> {
    let mut scan = ResponseScan::new(dialect, framing).with_parts();
    let (mut events, mut block) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let (mut marks, mut from, mut before) = (Vec::new(), 0, 0);
        scan.push(chunk, &mut |mark| marks.push(mark));
        for mark in marks {
            block.extend_from_slice(&chunk[from..mark.end]);
            from = mark.end;
            let event = String::from_utf8(std::mem::take(&mut block)).unwrap();
            let data = event.split_once("data: ").map_or("", |(_, data)| data);
            let parts = &scan.parts()[before..mark.parts];
            before = mark.parts;
            if !parts.is_empty() {
                events.push(parts.iter().map(|part| shown(part, data)).collect());
            }
        }
        block.extend_from_slice(&chunk[from..]);
    }
    if framing == Framing::Json {
        scan.finish();
        let body = String::from_utf8(chunks.concat()).unwrap();
        events.push(scan.parts().iter().map(|part| shown(part, &body)).collect());
    }
    events
}

fn shown(part: &Part, data: &str) -> String {
    let text = &data[part.from as usize..part.to as usize];
    let name = part.name.as_deref().unwrap_or("-");
    let form = part.form.filter(|form| *form != CallForm::Function);
    let form = form.map_or(String::new(), |form| format!("{form:?} "));
    format!("{form}{:?} {}.{} {name} {text}", part.kind, part.at.outer, part.at.inner)
}

/// The same parts for every split; gives them.
fn parts(dialect: Dialect, framing: Framing, body: &str) -> Vec<Vec<String>> {
    let whole = found(dialect, framing, &[body.as_bytes()]);
    every_split(body.as_bytes(), |chunks| assert_eq!(found(dialect, framing, chunks), whole, "{chunks:?}"));
    whole
}

#[test]
fn chat_calls_come_in_pieces_and_end_with_their_choice() {
    assert_eq!(
        parts(Dialect::OpenAiChat, Framing::Sse, CHAT_STREAM),
        [
            vec![r#"Arguments 0.0 get_weather """#],
            vec![r#"Arguments 0.0 - "{\"city\":""#],
            vec![r#"Arguments 0.1 get_time """#],
            vec![r#"Arguments 1.0 get_weather """#],
            vec![r#"Arguments 0.0 - " \"K\u00f6ln\"}""#],
            vec!["Close 0.0 - "],
            vec!["Close 1.0 - "],
        ]
    );
}

#[test]
fn calls_of_a_whole_chat_answer_are_numbered_as_they_stand() {
    assert_eq!(
        parts(Dialect::OpenAiChat, Framing::Json, CHAT_RESPONSE),
        [[
            r#"Arguments 0.0 get_weather "{\"name\":\"x\"}""#,
            r#"Arguments 0.1 get_weather "{}""#,
            "Close 0.0 - ",
            r#"Arguments 1.18446744073709551615 old_style "{}""#,
            "Close 1.0 - ",
        ]]
    );
}

#[test]
fn a_responses_stream_says_everything_again() {
    assert_eq!(
        parts(Dialect::OpenAiResponses, Framing::Sse, RESPONSES_STREAM),
        [
            vec![r#"Arguments 1.0 lookup """#],
            vec![r#"Arguments 1.0 - "{\"id\":7}""#],
            vec![r#"ArgumentsAgain 1.0 lookup "{\"id\":7}""#, "Close 1.0 - "],
            vec!["Call 2.0 lookup "],
            vec!["Hosted Call 3.0 remote "],
            vec![r#"Text 4.0 - "Grüße""#],
            vec![
                "Call 1.0 lookup ",
                "Call 2.0 lookup ",
                "Hosted Call 3.0 remote ",
                "Hosted Call 5.0 remote "
            ],
        ]
    );
    assert_eq!(
        parts(Dialect::OpenAiResponses, Framing::Json, RESPONSES_RESPONSE),
        [[r#"ArgumentsAgain 0.0 lookup "{}""#, r#"TextAgain 1.0 - "...""#, "Custom Call 2.0 lookup "]]
    );
}

#[test]
fn blocks_of_a_message_begin_and_stop() {
    assert_eq!(
        parts(Dialect::AnthropicMessages, Framing::Sse, MESSAGES_STREAM),
        [
            vec![r#"Text 0.0 - """#],
            vec![r#"Text 0.0 - "Ich schaue nach…""#],
            vec!["Close 0.0 - "],
            vec!["Call 1.0 get_weather "],
            vec![r#"Arguments 1.0 - "{\"city\": \"K""#],
            vec!["Hosted Call 2.0 web_search "],
            vec!["Call 4.0 get_weather "],
        ]
    );
    assert_eq!(
        parts(Dialect::AnthropicMessages, Framing::Json, MESSAGES_RESPONSE),
        [[r#"Text 0.0 - "Moment.""#, r#"Value 1.0 get_weather {"name":"x"}"#]]
    );
}

#[test]
fn gemini_gives_each_call_whole() {
    assert_eq!(
        parts(Dialect::Gemini, Framing::Json, GEMINI_CHUNKS[1]),
        [[r#"Value 0.0 get_weather {"name": "Köln"}"#, "Value 0.1 book {}"]]
    );
    let stream = format!("data: {}\n\ndata: {}\n\n", GEMINI_CHUNKS[0], GEMINI_CHUNKS[1]);
    assert_eq!(
        parts(Dialect::Gemini, Framing::Sse, &stream),
        [
            vec![r#"Text 0.0 - "Ich ""#],
            vec![r#"Value 0.1 get_weather {"name": "Köln"}"#, "Value 0.2 book {}"]
        ]
    );
}

/// One Gemini response of one candidate with these parts, and more members of it.
fn candidate(parts: &str, more: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}}{more}}}]}}"#)
}

#[test]
fn thoughts_are_no_text_but_their_calls_are_calls() {
    let thoughts = r#"{"thought":true,"text":"a"},{"text":"b","thought":true},{"text":"c","thought":false},
        {"functionCall":{"name":"f","args":{}},"thought":true,"text":"d"},{"text":"e"}"#;
    assert_eq!(
        parts(Dialect::Gemini, Framing::Json, &candidate(thoughts, "")),
        [["Text 0.0 - \"c\"", "Value 0.3 f {}", "Text 0.0 - \"e\""]]
    );
    let defect = |thought: &str| {
        let body = candidate(&format!(r#"{{"text":"a",{thought}}}"#), "");
        let mut scan = ResponseScan::new(Dialect::Gemini, Framing::Json);
        scan.push(body.as_bytes(), &mut |_| {});
        scan.finish().evaluated.defect
    };
    assert_eq!(defect(r#""thought":null"#), None);
    assert_eq!(defect(r#""thought":"true""#), Some(Defect::NotEvaluated));
    assert_eq!(defect(r#""thought":true,"thought":false"#), Some(Defect::DuplicateKey));
    assert_eq!(defect(r#""Thought":true"#), Some(Defect::DuplicateKey));
}

#[test]
fn a_text_goes_on_in_the_next_response_of_an_array() {
    let text = |text: &str, more: &str| {
        candidate(&format!(r#"{{"text":"{text}"}},{{"function_call":{{"name":"f"}}}}"#), more)
    };
    let array = format!("[{},\r\n{}\r\n]", text("a", ""), text("b", r#","finish_reason":"STOP""#));
    assert_eq!(
        parts(Dialect::Gemini, Framing::Json, &array),
        [["Text 0.0 - \"a\"", "Call 0.1 f ", "Text 0.0 - \"b\"", "Call 0.3 f ", "Close 0.0 - "]]
    );
}

#[test]
fn arguments_in_pieces_by_path_are_no_text() {
    let call = r#"{"functionCall":{"name":"f","partialArgs":[{"jsonPath":"$.a"}],"willContinue":true}}"#;
    let expected = [[r#"Arguments 0.0 f [{"jsonPath":"$.a"}]"#]];
    assert_eq!(parts(Dialect::Gemini, Framing::Json, &candidate(call, "")), expected);
}

#[test]
fn a_candidate_whose_number_is_not_its_position_is_in_doubt_where_its_parts_matter() {
    let defect = |index: &str, judged: bool| {
        let body = candidate(r#"{"text":"a"}"#, &format!(r#","index":{index}"#));
        let scan = ResponseScan::new(Dialect::Gemini, Framing::Json);
        let mut scan = if judged { scan.with_parts() } else { scan };
        scan.push(body.as_bytes(), &mut |_| {});
        scan.finish().evaluated.defect
    };
    assert_eq!((defect("0", true), defect("null", true)), (None, None));
    for index in ["1", "\"0\"", "0.5"] {
        assert_eq!(defect(index, true), Some(Defect::NotEvaluated), "{index}");
        assert_eq!(defect(index, false), None, "{index}");
    }
}

#[test]
fn an_mcp_result_has_one_value() {
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"5"}],"structuredContent":{"n":5}}}"#;
    assert_eq!(parts(Dialect::Mcp, Framing::Json, body), [["Value 0.0 - {\"n\":5}"]]);
}

#[test]
fn the_order_of_members_does_not_matter() {
    let body = concat!(
        "data: {\"choices\":[{\"finish_reason\":\"tool_calls\",\"delta\":{\"tool_calls\":[{\"function\":",
        "{\"arguments\":\"{}\",\"name\":\"f\"},\"index\":3}],\"content\":\"hi\"},\"index\":2}]}\n\n",
    );
    assert_eq!(
        parts(Dialect::OpenAiChat, Framing::Sse, body),
        [["Arguments 2.3 f \"{}\"", "Text 2.0 - \"hi\"", "Close 2.0 - "]]
    );
}

/// The parts of a Responses answer whose output is `items`.
fn output(items: &str) -> Vec<String> {
    parts(Dialect::OpenAiResponses, Framing::Json, &format!(r#"{{"output":[{items}]}}"#)).concat()
}

#[test]
fn a_call_says_with_what_by_the_member_of_its_type() {
    let members = r#""arguments":"{}","input":"i","code":"c","action":{"a":1}"#;
    for (kind, expected) in [
        ("function_call", vec![r#"ArgumentsAgain 0.0 n "{}""#]),
        ("custom_tool_call", vec![r#"Custom ArgumentsAgain 0.0 n "i""#]),
        ("mcp_call", vec![r#"Hosted ArgumentsAgain 0.0 n "{}""#]),
        ("mcp_approval_request", vec![r#"Hosted ArgumentsAgain 0.0 n "{}""#]),
        ("code_interpreter_call", vec![r#"Code ArgumentsAgain 0.0 code_interpreter "c""#]),
        (
            "shell_call",
            vec![r#"BuiltIn ValueAgain 0.0 shell "{}""#, r#"BuiltIn ValueAgain 0.0 shell {"a":1}"#],
        ),
        ("shell_call_output", vec![r#"ArgumentsAgain 0.0 - "{}""#]),
    ] {
        assert_eq!(output(&format!(r#"{{"type":"{kind}","name":"n",{members}}}"#)), expected, "{kind}");
        assert_eq!(output(&format!(r#"{{{members},"name":"n","type":"{kind}"}}"#)), expected, "{kind}");
    }
    for (item, expected) in [
        (
            r#"{"type":"local_shell_call","action":{"command":["ls"]}}"#,
            r#"BuiltIn ValueAgain 0.0 local_shell {"command":["ls"]}"#,
        ),
        (
            r#"{"type":"apply_patch_call","operation":{"type":"x"}}"#,
            r#"BuiltIn ValueAgain 0.0 apply_patch {"type":"x"}"#,
        ),
        (r#"{"type":"computer_call","actions":[1]}"#, "BuiltIn ValueAgain 0.0 computer [1]"),
        (r#"{"type":"file_search_call","queries":["q"]}"#, r#"BuiltIn ValueAgain 0.0 file_search ["q"]"#),
        (r#"{"type":"web_search_call","action":null}"#, "BuiltIn Call 0.0 web_search "),
        (r#"{"type":"image_generation_call","result":"iVBOR"}"#, "BuiltIn Call 0.0 image_generation "),
    ] {
        assert_eq!(output(item), [expected]);
    }
}

#[test]
fn events_give_the_pieces_of_calls_by_their_type() {
    let event =
        |kind: &str, rest: &str| format!("data: {{\"type\":\"{kind}\",\"output_index\":1,{rest}}}\n\n");
    for (call, member, form) in [
        ("custom_tool_call_input", "input", "Custom"),
        ("mcp_call_arguments", "arguments", "Hosted"),
        ("code_interpreter_call_code", "code", "Code"),
    ] {
        let body = event(&format!("response.{call}.delta"), r#""delta":"a""#)
            + &event(&format!("response.{call}.done"), &format!(r#""{member}":"ab""#));
        let expected =
            [[format!("{form} Arguments 1.0 - \"a\"")], [format!("{form} ArgumentsAgain 1.0 - \"ab\"")]];
        assert_eq!(parts(Dialect::OpenAiResponses, Framing::Sse, &body), expected);
    }
    let added =
        event("response.output_item.added", r#""item":{"type":"shell_call","action":{"commands":[]}}"#);
    assert_eq!(parts(Dialect::OpenAiResponses, Framing::Sse, &added), [["BuiltIn Call 1.0 shell "]]);
    let error = "data: {\"type\":\"error\",\"code\":\"overloaded\"}\n\n";
    assert!(parts(Dialect::OpenAiResponses, Framing::Sse, error).is_empty());
}

#[test]
fn a_custom_call_of_a_chat_has_input() {
    let call = |call: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":1,\"delta\":{{\"tool_calls\":[{{\"index\":2,{call}}}]}}}}]}}\n\n"
        )
    };
    let body =
        call(r#""type":"custom","custom":{"name":"c","input":""}"#) + &call(r#""custom":{"input":"x"}"#);
    let expected = [[r#"Custom Arguments 1.2 c """#], [r#"Custom Arguments 1.2 - "x""#]];
    assert_eq!(parts(Dialect::OpenAiChat, Framing::Sse, &body), expected);
    let both = call(r#""function":{"arguments":"a"},"custom":{"input":"x"}"#);
    let mut scan = ResponseScan::new(Dialect::OpenAiChat, Framing::Sse);
    scan.push(both.as_bytes(), &mut |_| {});
    assert_eq!(scan.finish().evaluated.defect, Some(Defect::DuplicateKey));
}

#[test]
fn code_that_gemini_runs_is_a_value_of_the_interpreter() {
    let code =
        r#"{"text":"a"},{"executableCode":{"language":"PYTHON","code":"1"}},{"functionCall":{"name":"f"}}"#;
    assert_eq!(
        parts(Dialect::Gemini, Framing::Json, &candidate(code, "")),
        [[
            "Text 0.0 - \"a\"",
            r#"BuiltIn Value 0.1 code_execution {"language":"PYTHON","code":"1"}"#,
            "Call 0.2 f "
        ]]
    );
}
