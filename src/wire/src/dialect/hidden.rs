//! Names that one reader sees and another does not. Tests only.

use super::{
    Dialect::{self, AnthropicMessages, Gemini, Mcp, OpenAiChat, OpenAiResponses},
    tests::{json, names, request, stream},
};
use crate::Defect::{self, DuplicateKey, NotEvaluated};

fn requests(expected: Option<Defect>, bodies: &[(Dialect, &str)]) {
    for (dialect, body) in bodies {
        let evaluated = request(*dialect, "/", body).evaluated;
        assert_eq!((evaluated.defect, evaluated.skipped), (expected, 0), "{dialect} {body}");
    }
}

/// As a body and as an event.
fn responses(expected: Option<Defect>, bodies: &[(Dialect, &str)]) {
    for (dialect, body) in bodies {
        let whole = json(*dialect, body).evaluated;
        assert_eq!((whole.defect, whole.skipped), (expected, 0), "{dialect} {body}");
        let event = stream(*dialect, format!("data: {body}\n\n")).evaluated;
        assert_eq!((event.defect, event.skipped), (expected, 0), "{dialect} {body} as an event");
    }
}

#[test]
fn one_tool_named_twice_is_a_defect() {
    requests(
        Some(DuplicateKey),
        &[
            (
                OpenAiChat,
                r#"{"tools":[{"type":"function","function":{"name":"bash"},"custom":{"name":"search"}}]}"#,
            ),
            (OpenAiChat, r#"{"tools":[{"function":{"name":"bash","name":"search"}}]}"#),
            (OpenAiChat, r#"{"tools":[{"function":{"name":"bash","n\u0061me":""}}]}"#),
            (OpenAiChat, r#"{"tools":[{"function":{"name":"bash"},"function":{}}]}"#),
            (OpenAiChat, r#"{"tools":[{"type":"shell","type":"function"}]}"#),
            (OpenAiChat, r#"{"functions":[{"name":"bash","name":null}]}"#),
            (OpenAiResponses, r#"{"tools":[{"type":"function","name":"bash","name":"search"}]}"#),
            (AnthropicMessages, r#"{"tools":[{"name":"bash","name":""}]}"#),
            (Gemini, r#"{"tools":[{"functionDeclarations":[{"name":"bash","name":"search"}]}]}"#),
            (Mcp, r#"{"method":"tools/call","params":{"name":"bash","name":"search"}}"#),
        ],
    );
    responses(
        Some(DuplicateKey),
        &[
            (
                OpenAiChat,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"bash"},"custom":{"name":"x"}}]}}]}"#,
            ),
            (
                OpenAiChat,
                r#"{"choices":[{"message":{"tool_calls":[{"function":{"name":"bash","name":""}}]}}]}"#,
            ),
            (OpenAiChat, r#"{"choices":[{"message":{"function_call":{"name":"bash","name":"x"}}}]}"#),
            (OpenAiResponses, r#"{"output":[{"type":"function_call","type":"message","name":"bash"}]}"#),
            (OpenAiResponses, r#"{"item":{"type":"function_call","name":"bash","name":"x"}}"#),
            (AnthropicMessages, r#"{"content":[{"type":"tool_use","name":"bash","name":"x"}]}"#),
            (AnthropicMessages, r#"{"content_block":{"type":"tool_use","type":"text","name":"bash"}}"#),
            (
                Gemini,
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"bash","name":"x"}}]}}]}"#,
            ),
        ],
    );
}

#[test]
fn a_member_on_the_way_to_a_name_that_comes_twice_is_a_defect() {
    requests(
        Some(DuplicateKey),
        &[
            (OpenAiChat, r#"{"tools":[{"function":{"name":"bash"}}],"tools":[]}"#),
            (OpenAiResponses, r#"{"tools":[],"tools":null}"#),
            (AnthropicMessages, r#"{"tools":[],"tools":[]}"#),
            (AnthropicMessages, r#"{"mcp_servers":[],"mcp_servers":[]}"#),
            (Gemini, r#"{"tools":[],"tools":[]}"#),
            (Gemini, r#"{"tools":[{"functionDeclarations":[],"functionDeclarations":[]}]}"#),
            (Mcp, r#"{"method":"tools/call","method":"ping"}"#),
            (Mcp, r#"{"method":"tools/call","params":{"name":"bash"},"params":{}}"#),
        ],
    );
    responses(
        Some(DuplicateKey),
        &[
            (OpenAiChat, r#"{"choices":[],"choices":[]}"#),
            (OpenAiChat, r#"{"choices":[{"message":{},"message":{}}]}"#),
            (OpenAiChat, r#"{"choices":[{"delta":{"tool_calls":[],"tool_calls":[]}}]}"#),
            (OpenAiChat, r#"{"model":"a","model":"b"}"#),
            (OpenAiResponses, r#"{"output":[],"output":[]}"#),
            (OpenAiResponses, r#"{"response":{"model":"a"},"response":{}}"#),
            (OpenAiResponses, r#"{"type":"response.created","type":"response.in_progress"}"#),
            (OpenAiResponses, r#"{"model":"a","response":{"model":"b"}}"#),
            (AnthropicMessages, r#"{"content":[],"content":[]}"#),
            (AnthropicMessages, r#"{"message":{},"message":{}}"#),
            (Gemini, r#"{"candidates":[],"candidates":[]}"#),
            (Gemini, r#"{"candidates":[{"content":{"parts":[],"parts":[]}}]}"#),
        ],
    );
}

#[test]
fn a_member_that_differs_by_case_alone_is_a_defect() {
    requests(
        Some(DuplicateKey),
        &[
            (OpenAiChat, r#"{"Tools":[{"function":{"name":"bash"}}]}"#),
            (OpenAiChat, r#"{"MODEL":"a"}"#),
            (OpenAiChat, r#"{"tool\u017F":[]}"#),
            (OpenAiChat, r#"{"tools":[{"Function":{"name":"bash"}}]}"#),
            (OpenAiChat, r#"{"tools":[{"function":{"Name":"bash"}}]}"#),
            (OpenAiResponses, r#"{"tools":[{"type":"function","NAME":"bash"}]}"#),
            (AnthropicMessages, r#"{"TOOLS":[]}"#),
            (AnthropicMessages, r#"{"Mcp_Servers":[]}"#),
            (Gemini, r#"{"tools":[{"functiondeclarations":[]}]}"#),
            (Gemini, r#"{"tools":[{"Function_Declarations":[]}]}"#),
            (Gemini, r#"{"GenerationConfig":{}}"#),
            (Gemini, r#"{"generationConfig":{"responseschema":{}}}"#),
            (Mcp, r#"{"METHOD":"tools/call"}"#),
            (Mcp, r#"{"method":"tools/call","Params":{"name":"bash"}}"#),
        ],
    );
    responses(
        Some(DuplicateKey),
        &[
            (OpenAiChat, r#"{"Choices":[]}"#),
            (OpenAiChat, r#"{"Model":"a"}"#),
            (OpenAiChat, r#"{"choices":[{"Message":{}}]}"#),
            (OpenAiResponses, r#"{"Output":[]}"#),
            (OpenAiResponses, r#"{"output":[{"Type":"function_call","name":"bash"}]}"#),
            (AnthropicMessages, r#"{"Content":[]}"#),
            (AnthropicMessages, r#"{"content":[{"type":"tool_use","Name":"bash"}]}"#),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"functioncall":{"name":"bash"}}]}}]}"#),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"Function_Call":{"name":"bash"}}]}}]}"#),
        ],
    );
}

#[test]
fn a_value_of_another_shape_is_a_defect() {
    requests(
        Some(NotEvaluated),
        &[
            (OpenAiChat, r#"[{"model":"a"}]"#),
            (OpenAiChat, r#""{}""#),
            (OpenAiChat, r#"{"model":["a"]}"#),
            (OpenAiChat, r#"{"model":7}"#),
            (OpenAiChat, r#"{"tools":{"function":{"name":"bash"}}}"#),
            (OpenAiChat, r#"{"tools":"bash"}"#),
            (OpenAiChat, r#"{"tools":true}"#),
            (OpenAiChat, r#"{"tools":["bash"]}"#),
            (OpenAiChat, r#"{"tools":[[{"function":{"name":"bash"}}]]}"#),
            (OpenAiChat, r#"{"tools":[{"name":"bash"}]}"#),
            (OpenAiChat, r#"{"tools":[{"function":"bash"}]}"#),
            (OpenAiChat, r#"{"tools":[{"function":{"name":["bash"]}}]}"#),
            (OpenAiResponses, r#"{"tools":[{"function":{"name":"bash"}}]}"#),
            (OpenAiResponses, r#"{"tools":[{"tools":[{"tools":[{"name":"bash"}]}]}]}"#),
            (AnthropicMessages, r#"{"tools":{"name":"bash"}}"#),
            (AnthropicMessages, r#"{"tools":[{"name":{"a":1}}]}"#),
            (AnthropicMessages, r#"{"tools":[{"type":"custom","custom":{"name":"bash"}}]}"#),
            (AnthropicMessages, r#"{"mcp_servers":[{"tool_configuration":{"allowed_tools":"bash"}}]}"#),
            (Gemini, r#"{"tools":{"functionDeclarations":[{"name":"bash"}]}}"#),
            (Gemini, r#"{"tools":[{"functionDeclarations":{"name":"bash"}}]}"#),
            (Gemini, r#"{"tools":[{"function_declarations":{"name":"bash"}}]}"#),
            (Mcp, r#"{"method":["tools/call"]}"#),
            (Mcp, r#"{"method":"tools/call","params":["bash"]}"#),
            (Mcp, r#"{"method":"tools/call","params":{"name":7}}"#),
            (Mcp, r#"[{"method":"tools/call","params":{"name":"bash"}}]"#),
        ],
    );
    responses(
        Some(NotEvaluated),
        &[
            (OpenAiChat, r#"[{"choices":[]}]"#),
            (OpenAiChat, r#"{"model":["a"]}"#),
            (OpenAiChat, r#"{"choices":{"message":{}}}"#),
            (OpenAiChat, r#"{"choices":[{"message":[{}]}]}"#),
            (OpenAiChat, r#"{"choices":[{"message":{"tool_calls":{"function":{"name":"bash"}}}}]}"#),
            (OpenAiChat, r#"{"choices":[{"message":{"tool_calls":[{"name":"bash"}]}}]}"#),
            (OpenAiResponses, r#"{"output":{"type":"function_call","name":"bash"}}"#),
            (OpenAiResponses, r#"{"item":[{"type":"function_call","name":"bash"}]}"#),
            (AnthropicMessages, r#"{"content":{"type":"tool_use","name":"bash"}}"#),
            (AnthropicMessages, r#"{"content":[{"type":["tool_use"],"name":"bash"}]}"#),
            (Gemini, r#"{"candidates":{"content":{}}}"#),
            (Gemini, r#"{"candidates":[{"content":{"parts":{"functionCall":{"name":"bash"}}}}]}"#),
        ],
    );
}

#[test]
fn a_name_with_white_space_at_an_end_or_a_nul_is_a_defect() {
    for name in [" bash", "bash ", r"bash\n", r"\tbash", r"bash\u00a0", r"bash\u0000", r"ba\u0000sh"] {
        for (dialect, body) in [
            (OpenAiChat, r#"{"tools":[{"function":{"name":"NAME"}}]}"#),
            (OpenAiChat, r#"{"model":"NAME"}"#),
            (OpenAiResponses, r#"{"tools":[{"type":"mcp","allowed_tools":["NAME"]}]}"#),
            (AnthropicMessages, r#"{"tools":[{"name":"NAME"}]}"#),
            (Gemini, r#"{"tools":[{"NAME":{}}]}"#),
            (Mcp, r#"{"method":"tools/call","params":{"name":"NAME"}}"#),
            (Mcp, r#"{"method":"NAME"}"#),
        ] {
            requests(Some(NotEvaluated), &[(dialect, &body.replace("NAME", name))]);
        }
        for (dialect, body) in [
            (OpenAiChat, r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"NAME"}}]}}]}"#),
            (OpenAiChat, r#"{"model":"NAME"}"#),
            (OpenAiResponses, r#"{"output":[{"type":"function_call","name":"NAME"}]}"#),
            (AnthropicMessages, r#"{"content_block":{"type":"tool_use","name":"NAME"}}"#),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"NAME"}}]}}]}"#),
        ] {
            responses(Some(NotEvaluated), &[(dialect, &body.replace("NAME", name))]);
        }
    }
}

#[test]
fn tools_inside_tools_and_types_beside_names_are_listed() {
    for (dialect, body, expected) in [
        (OpenAiResponses, r#"{"tools":[{"type":"shell","name":"search"}]}"#, &["search", "shell"][..]),
        (
            OpenAiResponses,
            r#"{"tools":[{"type":"web_search_preview","name":"web"}]}"#,
            &["web", "web_search_preview"],
        ),
        (
            OpenAiResponses,
            r#"{"tools":[{"type":"namespace","tools":[{"name":"bash"},{"type":"shell"}],"name":"search"}]}"#,
            &["bash", "shell", "search"],
        ),
        (
            OpenAiResponses,
            r#"{"tools":[{"type":"mcp","allowed_tools":["bash","ls"]}]}"#,
            &["bash", "ls", "mcp"],
        ),
        (
            OpenAiResponses,
            r#"{"tools":[{"type":"mcp","allowed_tools":{"read_only":true,"tool_names":["bash"]}}]}"#,
            &["bash", "mcp"],
        ),
        (
            AnthropicMessages,
            r#"{"mcp_servers":[{"name":"s","tool_configuration":{"enabled":true,"allowed_tools":["bash"]}}]}"#,
            &["bash"],
        ),
        (Gemini, r#"{"tools":[{"function_declarations":[{"name":"bash"}]}]}"#, &["bash"]),
        (AnthropicMessages, r#"{"tools":[{"type":"bash_20250124","name":"bash"}]}"#, &["bash"]),
        (
            AnthropicMessages,
            r#"{"tools":[{"type":"bash_20250124","name":"search"}]}"#,
            &["search", "bash_20250124"],
        ),
    ] {
        let facts = request(dialect, "/", body);
        assert_eq!((facts.tools.items.as_slice(), facts.evaluated.defect), (&*own(expected), None), "{body}");
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(String::from).collect()
}

#[test]
fn a_name_or_a_model_that_another_event_changes_is_a_defect() {
    let part = |name| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"name\":\"{name}\"}}}}]}}}}]}}\n\n"
        )
    };
    let facts = stream(OpenAiChat, part("ba") + &part("sh"));
    assert_eq!((facts.tools_called, facts.evaluated.defect), (names(["ba", "sh"]), Some(DuplicateKey)));
    assert_eq!(stream(OpenAiChat, part("bash") + &part("bash")).evaluated.defect, None);
    let models = |b| format!("data: {{\"modelVersion\":\"a\"}}\n\ndata: {{\"modelVersion\":\"{b}\"}}\n\n");
    assert_eq!(stream(Gemini, models("b")).evaluated.defect, Some(DuplicateKey));
    assert_eq!(stream(Gemini, models("a")).evaluated.defect, None);
}

/// All tools of the server `s` are off but those in `configs`.
fn toolset(configs: &str) -> String {
    format!(
        r#"{{"type":"mcp_toolset","mcp_server_name":"s","default_config":{{"enabled":false}},"configs":{configs}}}"#
    )
}

#[test]
fn tools_of_a_toolset_are_listed_unless_they_are_off() {
    let tools = toolset(r#"{"bash":{"enabled":true},"ls":{},"rm":{"enabled":false},"cat":null}"#);
    let servers = r#""mcp_servers":[{"type":"url","url":"https://s.example","name":"s"}]"#;
    for body in [
        format!(r#"{{"tools":[{tools}]}}"#),
        format!(r#"{{"tools":[{tools}],{servers}}}"#),
        format!(r#"{{{servers},"tools":[{tools}]}}"#),
    ] {
        let facts = request(AnthropicMessages, "/", &body);
        assert_eq!(facts.tools.items, ["bash", "ls", "cat", "mcp_toolset"], "{body}");
        assert_eq!(facts.evaluated.defect, None, "{body}");
    }
}

#[test]
fn a_server_that_offers_what_it_likes_is_a_defect() {
    requests(
        Some(NotEvaluated),
        &[
            (OpenAiChat, r#"{"tools":[{"type":"mcp","server_url":"https://s.example"}]}"#),
            (OpenAiResponses, r#"{"tools":[{"type":"mcp","server_url":"https://s.example"}]}"#),
            (OpenAiResponses, r#"{"tools":[{"allowed_tools":null,"type":"mcp"}]}"#),
            (OpenAiResponses, r#"{"tools":[{"allowed_tools":[],"type":"mcp"}]}"#),
            (OpenAiResponses, r#"{"tools":[{"allowed_tools":[""],"type":"mcp"}]}"#),
            (OpenAiResponses, r#"{"tools":[{"type":"mcp","allowed_tools":{"read_only":true}}]}"#),
            (
                OpenAiResponses,
                r#"{"tools":[{"type":"mcp","allowed_tools":["a"]},{"type":"mcp","connector_id":"c"}]}"#,
            ),
            (AnthropicMessages, r#"{"mcp_servers":[{"type":"url","url":"https://s.example","name":"s"}]}"#),
            (AnthropicMessages, r#"{"mcp_servers":[{"url":"https://s.example"}]}"#),
            (AnthropicMessages, r#"{"mcp_servers":[{"name":"s","tool_configuration":{"enabled":true}}]}"#),
            (
                AnthropicMessages,
                r#"{"mcp_servers":[{"name":"s","tool_configuration":{"allowed_tools":["a"]}},{"name":"t"}]}"#,
            ),
            (AnthropicMessages, r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"s"}]}"#),
            (
                AnthropicMessages,
                r#"{"tools":[{"type":"mcp_toolset","configs":{"rm":{"enabled":false}},"mcp_server_name":"s"}]}"#,
            ),
            (AnthropicMessages, r#"{"tools":[{"type":"mcp_toolset","default_config":{"enabled":"false"}}]}"#),
            (OpenAiResponses, r#"{"prompt":{"id":"pmpt_1","version":"2"},"input":"hi"}"#),
            (
                AnthropicMessages,
                r#"{"mcp_servers":[{"name":"s"}],"tools":[{"type":"custom","name":"a","mcp_server_name":"s"}]}"#,
            ),
            (Gemini, r#"{"tools":[{"mcpServers":[{"name":"s"}]}]}"#),
            (Gemini, r#"{"tools":[{"mcp_servers":[]}]}"#),
        ],
    );
    let other = format!(r#"{{"tools":[{}],"mcp_servers":[{{"name":"t"}}]}}"#, toolset("{}"));
    let long = toolset("{}").replace(r#""s""#, &format!(r#""{}a""#, "s".repeat(200)));
    let long = format!(r#"{{"tools":[{long}],"mcp_servers":[{{"name":"{}b"}}]}}"#, "s".repeat(200));
    requests(Some(NotEvaluated), &[(AnthropicMessages, &other), (AnthropicMessages, &long)]);
    let off = r#"{"mcp_servers":[{"name":"s","tool_configuration":{"enabled":false}}]}"#;
    requests(None, &[(AnthropicMessages, off)]);
    requests(
        Some(DuplicateKey),
        &[
            (
                AnthropicMessages,
                r#"{"tools":[{"type":"mcp_toolset","default_config":{"enabled":false,"enabled":true}}]}"#,
            ),
            (AnthropicMessages, r#"{"tools":[{"name":"a","configs":{},"Configs":{}}]}"#),
        ],
    );
}

#[test]
fn a_built_in_call_is_called_by_its_type() {
    let item = |item: &str| format!(r#"{{"output_index":0,"item":{item}}}"#);
    for (call, expected) in [
        (r#"{"type":"local_shell_call","action":{"command":["ls"]}}"#, &["local_shell"][..]),
        (r#"{"type":"shell_call","name":"search"}"#, &["shell", "search"]),
        (r#"{"type":"web_search_call","status":"completed"}"#, &["web_search"]),
        (r#"{"type":"function_call","name":"search"}"#, &["search"]),
        (r#"{"type":"local_shell_call_output","output":"x"}"#, &[]),
    ] {
        let added = item(call);
        let done = format!(r#"{{"response":{{"output":[{call}]}}}}"#);
        let facts = stream(OpenAiResponses, format!("data: {added}\n\ndata: {done}\n\n"));
        assert_eq!((facts.tools_called.items, facts.evaluated.defect), (own(expected), None), "{call}");
    }
    responses(
        Some(NotEvaluated),
        &[
            (OpenAiResponses, r#"{"output":[{"type":"function_call","arguments":"{}"}]}"#),
            (OpenAiResponses, r#"{"output":[{"type":"mcp_call","name":""}]}"#),
            (AnthropicMessages, r#"{"content":[{"type":"tool_use","input":{}}]}"#),
        ],
    );
}

#[test]
fn a_call_of_a_kind_that_is_not_known_is_a_defect_and_called_by_its_type() {
    let chat =
        |member: &str, call: &str| format!(r#"{{"choices":[{{"{member}":{{"tool_calls":[{call}]}}}}]}}"#);
    for (call, called) in [
        (r#"{"index":0,"type":"shell","shell":{"command":"rm"}}"#, &["shell"][..]),
        (r#"{"index":0,"type":"mcp","mcp":{"name":"rm"}}"#, &["mcp"]),
        (r#"{"index":0,"type":"shell","function":{"name":"f"}}"#, &["shell", "f"]),
        (r#"{"index":0,"type":"function","custom":{"name":"f"}}"#, &["f"]),
        (r#"{"index":0,"type":"function","function":null}"#, &[]),
        (r#"{"index":0,"type":null,"x":1}"#, &[]),
        ("{}", &[]),
    ] {
        let facts = json(OpenAiChat, chat("message", call));
        assert_eq!(
            (facts.tools_called.items, facts.evaluated.defect),
            (own(called), Some(NotEvaluated)),
            "{call}"
        );
        let facts = stream(OpenAiChat, format!("data: {}\n\n", chat("delta", call)));
        assert_eq!(
            (facts.tools_called.items, facts.evaluated.defect),
            (own(called), Some(NotEvaluated)),
            "{call}"
        );
    }
    let goes_on = r#"{"index":0,"type":"","function":{"arguments":"{}"}}"#;
    responses(
        None,
        &[
            (OpenAiChat, &chat("delta", goes_on)),
            (OpenAiChat, &chat("delta", r#"{"index":0,"type":"function","function":{"arguments":""}}"#)),
            (OpenAiChat, &chat("message", r#"{"type":"custom","custom":{"name":"c","input":""}}"#)),
            (OpenAiChat, &chat("message", r#"{"type":null,"function":{"name":"f"}}"#)),
        ],
    );
    let part = |part: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#);
    for unknown in [r#"{"toolCall":{"args":{}}}"#, r#"{"tool_call":{}}"#, r#"{"text":"a","mystery":1}"#] {
        responses(Some(NotEvaluated), &[(Gemini, &part(unknown))]);
    }
    for known in [
        r#"{"text":"a","thought":true,"thoughtSignature":"x"}"#,
        r#"{"inlineData":{"mimeType":"image/png","data":""}}"#,
        r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK"}}"#,
        r#"{"function_response":{}}"#,
    ] {
        responses(None, &[(Gemini, &part(known))]);
    }
}

#[test]
fn an_event_of_a_type_that_is_not_known_is_a_defect() {
    let event = |name: &str, kind: &str| {
        let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        stream(OpenAiResponses, format!("{name}data: {{\"type\":\"{kind}\",\"output_index\":0}}\n\n"))
    };
    for (name, kind) in [
        ("", "response.mystery"),
        ("", "mystery"),
        ("", "response.foo_callback.done"),
        ("response.created", "response.in_progress"),
        ("message", "response.output_item.done"),
    ] {
        assert_eq!(event(name, kind).evaluated.defect, Some(NotEvaluated), "{name} {kind}");
    }
    for kind in
        ["response.created", "response.reasoning_summary_text.delta", "response.output_item.done", "error"]
    {
        for name in ["", kind] {
            assert_eq!(event(name, kind).evaluated.defect, None, "{name} {kind}");
        }
    }
    for (kind, called) in [
        ("response.shell_call_command.delta", &["shell"][..]),
        ("response.foo_call_arguments.done", &["foo"]),
        ("response.web_search_call.searching", &[]),
        ("response.function_call_arguments.done", &[]),
        ("response.shell_call_output_content.delta", &[]),
    ] {
        let facts = event(kind, kind);
        assert_eq!((facts.tools_called.items, facts.evaluated.defect), (own(called), None), "{kind}");
    }
}

#[test]
fn what_a_server_asks_of_its_client_is_a_defect() {
    let sampling = r#"{"id":1,"method":"sampling/createMessage","params":{"tools":[{"name":"bash"}]}}"#;
    let batch = format!("[{sampling}]");
    responses(
        Some(NotEvaluated),
        &[
            (Mcp, sampling),
            (Mcp, &batch),
            (Mcp, r#"{"id":1,"method":"elicitation/create"}"#),
            (Mcp, r#"{"id":1,"method":["sampling/createMessage"]}"#),
        ],
    );
    responses(
        Some(DuplicateKey),
        &[
            (Mcp, r#"{"id":1,"method":"ping","method":"sampling/createMessage"}"#),
            (Mcp, r#"{"id":1,"Method":"sampling/createMessage"}"#),
        ],
    );
    responses(
        None,
        &[
            (Mcp, r#"{"id":1,"method":"ping"}"#),
            (Mcp, r#"{"method":"notifications/progress","params":{"progress":1}}"#),
            (Mcp, r#"{"id":1,"result":{"method":"sampling/createMessage"}}"#),
        ],
    );
}

#[test]
fn optional_and_unknown_members_are_no_defect() {
    requests(
        None,
        &[
            (OpenAiChat, r#"{"model":"a","tools":null,"functions":null,"stream":null,"Unknown":[[1]]}"#),
            (
                OpenAiChat,
                r#"{"tools":[{"type":"function","function":{"name":"a"},"custom":null,"name":null}]}"#,
            ),
            (OpenAiChat, r#"{"messages":[{"Tools":1,"name":["x"],"name":" "}],"metadata":{"Model":1}}"#),
            (
                OpenAiResponses,
                r#"{"tools":[{"type":"function","name":"a","allowed_tools":null}],"tool_choice":"auto"}"#,
            ),
            (AnthropicMessages, r#"{"mcp_servers":null,"tools":[{"name":"a","input_schema":{"Name":1}}]}"#),
            (Gemini, r#"{"tools":null,"toolConfig":{"Tools":1}}"#),
            (Mcp, r#"{"id":null,"method":"tools/list","params":null}"#),
            (Mcp, r#"{"method":"tools/call","params":{"name":"a","arguments":{"Name":1,"name":" "}}}"#),
        ],
    );
    responses(
        None,
        &[
            (OpenAiChat, r#"{"model":null,"choices":null,"usage":null}"#),
            (OpenAiChat, r#"{"choices":[{"message":{"content":[{"Name":1}],"tool_calls":null}}]}"#),
            (OpenAiChat, r#"{"message":"no","error":"no"}"#),
            (OpenAiResponses, r#"{"output":null,"error":null,"type":"response.created"}"#),
            (OpenAiResponses, r#"{"output":[{"type":"message","content":[{"type":"x","type":"y"}]}]}"#),
            (AnthropicMessages, r#"{"message":"Too many requests"}"#),
            (AnthropicMessages, r#"{"content":[{"type":"tool_use","name":"a","input":{"Name":1}}]}"#),
            (Gemini, r#"{"candidates":null,"error":{"code":503,"message":"m"}}"#),
            (Mcp, r#"[{"id":1,"result":{"tools":[{"name":"a"}]}}]"#),
        ],
    );
}

#[test]
fn recorded_bodies_are_read_in_one_way() {
    requests(
        None,
        &[
            (OpenAiChat, include_str!("../../../../test/e2e/wire/openai_chat.request.json")),
            (OpenAiChat, include_str!("../../../../test/e2e/wire/openai_chat_stream.request.json")),
            (OpenAiResponses, include_str!("../../../../test/e2e/wire/openai_responses.request.json")),
            (OpenAiResponses, include_str!("../../../../test/e2e/wire/openai_responses_stream.request.json")),
            (AnthropicMessages, include_str!("../../../../test/e2e/wire/anthropic_messages.request.json")),
            (
                AnthropicMessages,
                include_str!("../../../../test/e2e/wire/anthropic_messages_stream.request.json"),
            ),
            (Gemini, include_str!("../../../../test/e2e/wire/gemini.request.json")),
            (Gemini, include_str!("../../../../test/e2e/wire/gemini_stream.request.json")),
            (Mcp, include_str!("../../../../test/e2e/wire/mcp.request.json")),
        ],
    );
    for (dialect, body) in [
        (OpenAiChat, include_str!("../../../../test/e2e/wire/openai_chat.answer.json")),
        (OpenAiResponses, include_str!("../../../../test/e2e/wire/openai_responses.answer.json")),
        (AnthropicMessages, include_str!("../../../../test/e2e/wire/anthropic_messages.answer.json")),
        (Gemini, include_str!("../../../../test/e2e/wire/gemini.answer.json")),
    ] {
        let evaluated = json(dialect, body).evaluated;
        assert_eq!((evaluated.defect, evaluated.skipped), (None, 0), "{body}");
    }
    for (dialect, body) in [
        (OpenAiChat, include_str!("../../../../test/e2e/wire/openai_chat_stream.answer.sse")),
        (OpenAiResponses, include_str!("../../../../test/e2e/wire/openai_responses_stream.answer.sse")),
        (AnthropicMessages, include_str!("../../../../test/e2e/wire/anthropic_messages_stream.answer.sse")),
        (Gemini, include_str!("../../../../test/e2e/wire/gemini_stream.answer.sse")),
        (Mcp, include_str!("../../../../test/e2e/wire/mcp.answer.sse")),
    ] {
        let evaluated = stream(dialect, body).evaluated;
        assert_eq!((evaluated.defect, evaluated.skipped), (None, 0), "{body}");
    }
}
