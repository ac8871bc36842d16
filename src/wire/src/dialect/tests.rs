use proptest::prelude::*;

use super::{
    fixtures::*,
    response::MarkKind::{Comment, Data, Error, Terminator},
    *,
};
use crate::{
    Defect,
    schema::Language,
    splits::{cut, every_split},
};

fn request_in(dialect: Dialect, path: &str, chunks: &[&[u8]]) -> RequestFacts {
    let mut scan = RequestScan::new(dialect, path);
    chunks.iter().for_each(|chunk| scan.push(chunk));
    scan.finish()
}

/// The same facts for every split; gives them.
pub(super) fn request(dialect: Dialect, path: &str, body: impl AsRef<[u8]>) -> RequestFacts {
    let body = body.as_ref();
    let whole = request_in(dialect, path, &[body]);
    every_split(body, |chunks| assert_eq!(request_in(dialect, path, chunks), whole, "{chunks:?}"));
    assert_eq!(whole.evaluated.bytes + whole.evaluated.skipped, body.len() as u64);
    whole
}

/// Marks with absolute ends.
type Marks = Vec<(usize, MarkKind)>;

fn response_in(dialect: Dialect, framing: Framing, chunks: &[&[u8]]) -> (Marks, ResponseFacts) {
    let mut scan = ResponseScan::new(dialect, framing);
    let mut marks = Marks::new();
    let mut before = 0;
    for chunk in chunks {
        scan.push(chunk, &mut |mark| {
            assert!(mark.end <= chunk.len());
            marks.push((before + mark.end, mark.kind));
        });
        before += chunk.len();
    }
    (marks, scan.finish())
}

/// The same marks and facts for every split; gives them.
fn response(dialect: Dialect, framing: Framing, body: impl AsRef<[u8]>) -> (Marks, ResponseFacts) {
    let body = body.as_ref();
    let whole = response_in(dialect, framing, &[body]);
    every_split(body, |chunks| assert_eq!(response_in(dialect, framing, chunks), whole, "{chunks:?}"));
    let evaluated = whole.1.evaluated;
    assert_eq!(evaluated.bytes + evaluated.skipped, body.len() as u64);
    assert_eq!(evaluated.events + evaluated.skipped_events, whole.1.events);
    whole
}

pub(super) fn stream(dialect: Dialect, body: impl AsRef<[u8]>) -> ResponseFacts {
    response(dialect, Framing::Sse, body).1
}

pub(super) fn json(dialect: Dialect, body: impl AsRef<[u8]>) -> ResponseFacts {
    response(dialect, Framing::Json, body).1
}

fn kinds(dialect: Dialect, body: &str) -> Vec<MarkKind> {
    response(dialect, Framing::Sse, body).0.into_iter().map(|(_, kind)| kind).collect()
}

pub(super) fn names<const N: usize>(items: [&str; N]) -> Names {
    Names { items: items.map(String::from).to_vec(), more: 0 }
}

/// All of it was read.
fn clean(body: &str, events: u64) -> Evaluated {
    Evaluated { bytes: body.len() as u64, events, ..Evaluated::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn names_of_dialects_are_read_back() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.as_str().parse(), Ok(dialect));
    }
    assert_eq!("OpenAI".parse::<Dialect>(), Err(UnknownDialect));
}

#[test]
fn dialects_are_known_by_method_and_path() {
    for (method, path, expected) in [
        ("POST", "/v1/chat/completions", Some(Dialect::OpenAiChat)),
        (
            "POST",
            "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            Some(Dialect::OpenAiChat),
        ),
        ("POST", "/v1/responses", Some(Dialect::OpenAiResponses)),
        ("POST", "/v1/responses/", Some(Dialect::OpenAiResponses)),
        ("GET", "/v1/responses", None),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/surveys/7/responses", None),
        ("POST", "/v1/messages?beta=true", Some(Dialect::AnthropicMessages)),
        ("POST", "/v1/messages/count_tokens", None),
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", Some(Dialect::Gemini)),
        ("POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", Some(Dialect::Gemini)),
        ("POST", "/v1beta/models/gemini-2.5-flash:countTokens", None),
        ("POST", "/mcp", Some(Dialect::Mcp)),
        ("GET", "/servers/7/mcp", Some(Dialect::Mcp)),
        ("DELETE", "/mcp/", Some(Dialect::Mcp)),
        ("PUT", "/mcp", None),
        ("POST", "/mcp2", None),
        ("POST", "/", None),
        ("POST", "", None),
        ("POST", "/search?next=/v1/messages", None),
    ] {
        assert_eq!(Dialect::detect(method, path), expected, "{method} {path}");
    }
}

#[test]
fn reads_a_chat_request() {
    let facts = request(Dialect::OpenAiChat, "/v1/chat/completions", CHAT_REQUEST);
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string"}}}"#;
    let start = CHAT_REQUEST.find(schema).unwrap() as u64;
    assert_eq!(
        facts,
        RequestFacts {
            contracts: Contracts {
                tools: vec![
                    (
                        "get_weather".into(),
                        ToolContract::Schema(SchemaAt {
                            language: Language::JsonSchema,
                            span: start..start + schema.len() as u64
                        })
                    ),
                    ("run_code".into(), ToolContract::AnyText)
                ],
                text: None
            },
            operation: "openai.chat.completions".into(),
            model: some("gpt-4o-mini"),
            stream: Some(true),
            output_max: None,
            tools: names(["get_weather", "run_code", "web_search", "legacy"]),
            tool_called: None,
            rpc_id: None,
            rpc_id_is_text: false,
            rpc_method: None,
            evaluated: clean(CHAT_REQUEST, 0),
        }
    );
}

#[test]
fn what_an_answer_may_have_at_most_is_read_in_every_dialect() {
    for (dialect, body, expected) in [
        (Dialect::OpenAiChat, r#"{"max_tokens":7,"max_completion_tokens":9}"#, Some(9)),
        (Dialect::OpenAiChat, r#"{"max_tokens":null,"messages":[{"max_tokens":3}]}"#, None),
        (Dialect::OpenAiResponses, r#"{"max_output_tokens":7}"#, Some(7)),
        (Dialect::AnthropicMessages, r#"{"max_tokens":1024}"#, Some(1_024)),
        (Dialect::Gemini, r#"{"generationConfig":{"maxOutputTokens":5}}"#, Some(5)),
        (Dialect::Gemini, r#"{"generation_config":{"max_output_tokens":5}}"#, Some(5)),
        (Dialect::AnthropicMessages, r#"{"max_tokens":-1}"#, None),
        (Dialect::AnthropicMessages, r#"{"max_tokens":"9"}"#, None),
    ] {
        assert_eq!(request(dialect, "/", body).output_max, expected, "{body}");
    }
    let twice = request(Dialect::AnthropicMessages, "/", r#"{"max_tokens":9,"max_tokens":1}"#);
    assert_eq!((twice.output_max, twice.evaluated.defect), (Some(9), Some(Defect::DuplicateKey)));
}

/// What a request asks its answers to be: tools with their schemas, and the text.
fn asked(dialect: Dialect, body: &str) -> (Vec<(String, &str)>, Option<&str>) {
    let Contracts { tools, text } = request(dialect, "/", body).contracts;
    let at = |SchemaAt { span, .. }: SchemaAt| &body[span.start as usize..span.end as usize];
    let text = text.map(|text| match text {
        TextContract::Json => "json",
        TextContract::AnyJson => "any json",
        TextContract::Schema(schema) => at(schema),
        TextContract::Bare(schema) => schema.map_or("bare", at),
    });
    let tool = |contract| match contract {
        ToolContract::Schema(schema) => at(schema),
        ToolContract::AnyText => "any text",
        ToolContract::Custom => "custom",
        ToolContract::Grammar => "grammar",
    };
    (tools.into_iter().map(|(name, contract)| (name, tool(contract))).collect(), text)
}

#[test]
fn requests_say_what_their_answers_must_be() {
    let chat = r#"{"tools":[{"function":{"parameters":{"a":1},"name":"f"},"type":"function"},{"function":{"name":"g","parameters":null}}],
        "functions":[{"name":"h","parameters":{}}],"response_format":{"json_schema":{"schema": {"b":2} ,"name":"n"},"type":"json_schema"}}"#;
    let (f, h) = ((String::from("f"), "{\"a\":1}"), (String::from("h"), "{}"));
    assert_eq!(asked(Dialect::OpenAiChat, chat), (vec![f.clone(), h], Some("{\"b\":2}")));
    let object = r#"{"response_format":{"type":"json_object"}}"#;
    assert_eq!(asked(Dialect::OpenAiChat, object), (vec![], Some("json")));
    assert_eq!(asked(Dialect::OpenAiChat, r#"{"response_format":{"type":"text"}}"#), (vec![], None));
    let responses = r#"{"tools":[{"type":"function","name":"f","parameters":{"a":1}}],"text":{"format":{"type":"json_schema","schema":{}}}}"#;
    assert_eq!(asked(Dialect::OpenAiResponses, responses), (vec![f.clone()], Some("{}")));
    let messages = r#"{"tools":[{"name":"f","input_schema":{"a":1}},{"type":"bash_20250124","name":"bash"}],"output_config":{"format":{"type":"json_schema","schema":{}}}}"#;
    assert_eq!(asked(Dialect::AnthropicMessages, messages), (vec![f.clone()], Some("{}")));
    let gemini = r#"{"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"a":1}}]}],"generationConfig":{"responseMimeType":"application/json"}}"#;
    assert_eq!(asked(Dialect::Gemini, gemini), (vec![f], Some("any json")));
    // Two schemas for one text: readers may take either.
    let twice = r#"{"response_format":{"type":"json_schema","json_schema":{"schema":{},"schema":true}}}"#;
    assert_eq!(request(Dialect::OpenAiChat, "/", twice).evaluated.defect, Some(Defect::DuplicateKey));
}

#[test]
fn a_custom_tool_says_which_texts_it_takes() {
    let chat = |custom: &str| format!(r#"{{"tools":[{{"custom":{custom},"type":"custom"}}]}}"#);
    let responses = |rest: &str| format!(r#"{{"tools":[{{"type":"custom",{rest}}}]}}"#);
    for (dialect, body, expected) in [
        (Dialect::OpenAiChat, chat(r#"{"name":"c"}"#), vec!["custom"]),
        (Dialect::OpenAiChat, chat(r#"{"name":"c","format":null}"#), vec!["custom"]),
        (Dialect::OpenAiChat, chat(r#"{"format":{"type":"text"},"name":"c"}"#), vec!["any text"]),
        (
            Dialect::OpenAiChat,
            chat(
                r#"{"name":"c","format":{"grammar":{"definition":"start: A","syntax":"lark"},"type":"grammar"}}"#,
            ),
            vec!["grammar"],
        ),
        (Dialect::OpenAiResponses, responses(r#""name":"c""#), vec!["custom"]),
        (Dialect::OpenAiResponses, responses(r#""name":"c","format":{"type":"text"}"#), vec!["any text"]),
        (Dialect::OpenAiResponses, responses(r#""name":"c","format":{"type":"later"}"#), vec!["grammar"]),
        (Dialect::OpenAiResponses, responses(r#""name":"c","parameters":{}"#), vec!["{}", "custom"]),
        (
            Dialect::OpenAiResponses,
            r#"{"tools":[{"type":"namespace","name":"n","tools":[{"name":"c","type":"custom"}]}]}"#.into(),
            vec!["custom"],
        ),
    ] {
        let expected = expected.into_iter().map(|contract| ("c".to_owned(), contract)).collect();
        assert_eq!(asked(dialect, &body), (expected, None), "{body}");
        assert_eq!(request(dialect, "/", &body).evaluated.defect, None, "{body}");
    }
    // There a custom tool is what others call a function.
    let message = r#"{"tools":[{"type":"custom","name":"c","input_schema":{}}]}"#;
    assert_eq!(asked(Dialect::AnthropicMessages, message), (vec![("c".into(), "{}")], None));
    let twice = responses(r#""name":"c","format":{"type":"text","type":"grammar"}"#);
    assert_eq!(request(Dialect::OpenAiResponses, "/", &twice).evaluated.defect, Some(Defect::DuplicateKey));
}

#[test]
fn code_that_gemini_runs_is_a_call_by_both_names_of_the_tool() {
    for member in ["executableCode", "executable_code"] {
        let body = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"{member}":{{"language":"PYTHON","code":"1"}}}},{{"{member}":null}}]}}}}]}}"#
        );
        let facts = json(Dialect::Gemini, &body);
        assert_eq!(facts.tools_called, names(["code_execution", "codeExecution"]), "{body}");
        assert_eq!(stream(Dialect::Gemini, format!("data: {body}\n\n")).tools_called, facts.tools_called);
    }
}

#[test]
fn a_gemini_request_says_what_it_asks_for_in_either_spelling_and_language() {
    let function =
        |schema: &str| format!(r#"{{"tools":[{{"functionDeclarations":[{{"name":"f",{schema}}}]}}]}}"#);
    for (name, language) in [
        ("parameters", Language::Gemini),
        ("parametersJsonSchema", Language::JsonSchema),
        ("parameters_json_schema", Language::JsonSchema),
    ] {
        for body in [
            function(&format!(r#""{name}":{{"a":1}}"#)),
            function(&format!(r#""{name}":{{"a":1}}"#))
                .replace("functionDeclarations", "function_declarations"),
        ] {
            assert_eq!(asked(Dialect::Gemini, &body), (vec![("f".into(), r#"{"a":1}"#)], None), "{body}");
            let facts = request(Dialect::Gemini, "/", &body);
            let schema = &facts.contracts.tools[0].1;
            assert!(matches!(schema, ToolContract::Schema(schema) if schema.language == language), "{body}");
            assert_eq!(facts.evaluated.defect, None, "{body}");
        }
    }
    for (config, expected) in [
        (r#""responseSchema":{"a":1}"#, r#"{"a":1}"#),
        (r#""response_schema":{"a":1},"response_mime_type":"application/json""#, r#"{"a":1}"#),
        (r#""responseMimeType":"application/json","_responseJsonSchema":true"#, "true"),
        (r#""response_json_schema":true"#, "true"),
        (r#""response_json_schema_ordered":true"#, "true"),
        (r#""response_mime_type":"application/json","responseSchema":null"#, "any json"),
        (r#""responseMimeType":"text/x.enum","responseSchema":{"enum":["a"]}"#, r#"{"enum":["a"]}"#),
        (r#""response_mime_type":"text/x.enum""#, "bare"),
    ] {
        for key in ["generationConfig", "generation_config"] {
            let body = format!(r#"{{"{key}":{{{config}}}}}"#);
            assert_eq!(asked(Dialect::Gemini, &body), (vec![], Some(expected)), "{body}");
            assert_eq!(request(Dialect::Gemini, "/", &body).evaluated.defect, None, "{body}");
        }
    }
    let bare = r#"{"generationConfig":{"responseSchema":{},"responseMimeType":"text/x.enum"}}"#;
    let text = request(Dialect::Gemini, "/", bare).contracts.text;
    assert!(matches!(text, Some(TextContract::Bare(Some(SchemaAt { language: Language::Gemini, .. })))));
    let plain = r#"{"generationConfig":{"responseMimeType":"text/plain"}}"#;
    assert_eq!(asked(Dialect::Gemini, plain), (vec![], None));
    for twice in [
        function(r#""parameters":{},"parametersJsonSchema":{}"#),
        function(r#""parametersJsonSchema":{},"parameters_json_schema":{}"#),
        r#"{"generationConfig":{"responseSchema":{},"responseJsonSchema":{}}}"#.into(),
        r#"{"generationConfig":{"responseSchema":{},"response_schema":{}}}"#.into(),
        r#"{"generationConfig":{"responseJsonSchema":{},"response_json_schema_ordered":{}}}"#.into(),
        r#"{"generationConfig":{},"generation_config":{}}"#.into(),
        r#"{"tools":[{"functionDeclarations":[],"function_declarations":[]}]}"#.into(),
    ] {
        let facts = request(Dialect::Gemini, "/", &twice);
        assert_eq!(facts.evaluated.defect, Some(Defect::DuplicateKey), "{twice}");
    }
}

#[test]
fn a_kind_of_gemini_tool_is_listed_in_both_spellings() {
    for (kind, expected) in [
        ("googleSearch", vec!["googleSearch", "google_search"]),
        ("google_search", vec!["google_search", "googleSearch"]),
        ("google_search_retrieval", vec!["google_search_retrieval", "googleSearchRetrieval"]),
        ("retrieval", vec!["retrieval"]),
    ] {
        let body = format!(r#"{{"tools":[{{"{kind}":{{}}}}]}}"#);
        assert_eq!(request(Dialect::Gemini, "/", &body).tools.items, expected, "{kind}");
    }
}

#[test]
fn reads_a_responses_request() {
    let facts = request(Dialect::OpenAiResponses, "/v1/responses", RESPONSES_REQUEST);
    assert_eq!(facts.operation, "openai.responses");
    assert_eq!(facts.model, some("gpt-5"));
    assert_eq!(facts.stream, Some(true));
    assert_eq!(facts.tools, names(["lookup", "web_search_preview", "ask", "mcp"]));
    assert_eq!(facts.evaluated, clean(RESPONSES_REQUEST, 0));
}

#[test]
fn reads_a_messages_request() {
    let facts = request(Dialect::AnthropicMessages, "/v1/messages", MESSAGES_REQUEST);
    assert_eq!(facts.operation, "anthropic.messages");
    assert_eq!(facts.model, some("claude-sonnet-4-5"));
    assert_eq!(facts.stream, None);
    assert_eq!(facts.tools, names(["get_weather", "web_search"]));
}

#[test]
fn reads_a_gemini_request_and_its_path() {
    let path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let facts = request(Dialect::Gemini, path, GEMINI_REQUEST);
    assert_eq!(facts.operation, "gemini.stream_generate_content");
    assert_eq!(facts.model, some("gemini-2.5-flash"));
    assert_eq!(facts.stream, Some(true));
    assert_eq!(facts.tools, names(["get_weather", "book", "googleSearch", "google_search"]));

    let facts = request(Dialect::Gemini, "/v1/projects/p/publishers/google/models/m:generateContent", "{}");
    assert_eq!(
        (facts.operation.as_str(), facts.model, facts.stream),
        ("gemini.generate_content", some("m"), Some(false))
    );
    assert_eq!(request(Dialect::Gemini, "/v1beta/models", "{}").operation, "gemini");
}

#[test]
fn an_escaped_gemini_model_is_the_model() {
    for (path, model, stream) in [
        ("/v1beta/models/gemini%2D2.5%2dpro:generateContent", "gemini-2.5-pro", false),
        ("/v1beta/models/m%40001%3AstreamGenerateContent?alt=sse", "m@001", true),
        ("/v1beta/models/%C3%A9:generateContent", "é", false),
    ] {
        let facts = request(Dialect::Gemini, path, "{}");
        assert_eq!((facts.model, facts.stream), (some(model), Some(stream)), "{path}");
        assert_eq!(facts.evaluated.defect, None, "{path}");
    }
    for path in [
        "/v1beta/models/x%252Dy:generateContent",
        "/v1beta/models/x%2Fy:generateContent",
        "/v1beta/models/%FF:generateContent",
        "/v1beta/models/x%zz:generateContent",
        "/v1beta/models/x%4",
        "/v1beta/models/x%20:generateContent",
        "/v1beta/models/x%00:generateContent",
    ] {
        let facts = request(Dialect::Gemini, path, "{}");
        assert_eq!(facts.evaluated.defect, Some(Defect::NotEvaluated), "{path}");
    }
}

#[test]
fn reads_an_mcp_call() {
    let facts = request(Dialect::Mcp, "/mcp", MCP_CALL);
    assert_eq!(facts.operation, "mcp.tools/call");
    assert_eq!(facts.tool_called, some("search_orders"));
    assert_eq!((facts.rpc_id, facts.rpc_id_is_text), (some("17"), false));
    let text = request(Dialect::Mcp, "/mcp", r#"{"id":"17","method":"ping"}"#);
    assert_eq!((text.rpc_id, text.rpc_id_is_text), (some("17"), true));
    assert_eq!(facts.rpc_method, some("tools/call"));
    assert_eq!(facts.evaluated, clean(MCP_CALL, 0));
}

#[test]
fn a_stream_may_be_opened_by_an_endpoint_and_by_no_second_one() {
    let endpoint = "event: endpoint\ndata: /messages?s=1\n\n";
    let read = |opened: bool, text: String| {
        let scan = ResponseScan::new(Dialect::Mcp, Framing::Sse);
        let mut scan = if opened { scan.opened_by_endpoint() } else { scan };
        scan.push(text.as_bytes(), &mut |_| ());
        scan.finish().evaluated.defect
    };
    assert_eq!(read(true, format!(": ping\n\n{endpoint}event: message\ndata: {{}}\n\n")), None);
    assert_eq!(read(true, endpoint.repeat(2)), Some(Defect::JsonMalformed));
    assert_eq!(read(true, format!("data: {{}}\n\n{endpoint}")), Some(Defect::JsonMalformed));
    assert_eq!(read(false, endpoint.into()), Some(Defect::JsonMalformed));
}

#[test]
fn the_operation_of_an_mcp_message_is_its_method() {
    for (body, operation) in [
        (
            r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"clientInfo":{"name":"x"}}}"#,
            "mcp.initialize",
        ),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, "mcp.notifications/initialized"),
        (r#"{"id":1,"params":{},"method":"tools/list"}"#, "mcp.tools/list"),
        (r#"{"id":1,"method":"prompts/get","params":{"name":"p"}}"#, "mcp.prompts/get"),
        (r#"{"jsonrpc":"2.0","id":3,"result":{"roots":[]}}"#, "mcp.response"),
        (r#"{"jsonrpc":"2.0","id":3,"error":{"code":-1}}"#, "mcp.response"),
        (r#"{"id":1,"method":"Überfall"}"#, "mcp.unknown"),
        ("", "mcp"),
    ] {
        let facts = request(Dialect::Mcp, "/mcp", body);
        assert_eq!(facts.operation, operation, "{body}");
        assert_eq!(facts.tool_called, None, "{body}");
        assert_eq!(facts.evaluated.defect, None, "{body}");
    }
    for (body, operation) in [
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}]"#, "mcp.batch"),
        (r#"{"id":1,"method":7}"#, "mcp"),
        (r#"{"id":1,"method":"tools/call\n"}"#, "mcp.unknown"),
    ] {
        let facts = request(Dialect::Mcp, "/mcp", body);
        assert_eq!(facts.operation, operation, "{body}");
        assert_eq!(facts.evaluated.defect, Some(Defect::NotEvaluated), "{body}");
    }
    assert_eq!(mcp::operation(&"x".repeat(97)), "mcp.unknown");
}

#[test]
fn escapes_in_member_names_hide_nothing() {
    let facts =
        request(Dialect::Mcp, "/mcp", r#"{"m\u0065thod":"tools\/call","params":{"n\u0061me":"dro\u0070"}}"#);
    assert_eq!(facts.operation, "mcp.tools/call");
    assert_eq!(facts.tool_called, some("drop"));
}

#[test]
fn a_deciding_member_that_comes_twice_is_a_defect() {
    for body in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","messages":[],"mod\u0065l":"b"}"#,
        r#"{"model":null,"model":"b"}"#,
    ] {
        let facts = request(Dialect::OpenAiChat, "/v1/chat/completions", body);
        assert_eq!(facts.model, some("b"));
        assert_eq!(facts.evaluated, Evaluated { defect: Some(Defect::DuplicateKey), ..clean(body, 0) });
    }
    let twice = r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#;
    assert_eq!(request(Dialect::Mcp, "/mcp", twice).evaluated.defect, Some(Defect::DuplicateKey));
    let once = r#"{"model":"a","messages":[{"model":"b"}],"tools":[{"name":"x"},{"name":"y"}]}"#;
    assert_eq!(request(Dialect::AnthropicMessages, "/v1/messages", once).evaluated.defect, None);
}

#[test]
fn a_body_with_a_defect_gives_the_facts_before_it() {
    let body = r#"{"model":"m","stream":true,}"#;
    let facts = request(Dialect::OpenAiChat, "/", body);
    assert_eq!((facts.model, facts.stream), (some("m"), Some(true)));
    assert_eq!(
        facts.evaluated,
        Evaluated { bytes: 27, skipped: 1, defect: Some(Defect::JsonMalformed), ..Evaluated::default() }
    );
    let facts = request(Dialect::OpenAiChat, "/", r#"{"model":"cut"#);
    assert_eq!(facts.model, None);
    assert_eq!(facts.evaluated.defect, Some(Defect::Truncated));
}

#[test]
fn bodies_that_are_not_read_are_not_called_read() {
    let facts = request(Dialect::Bytes, "/upload", "anything");
    assert_eq!(facts.operation, "bytes");
    let unread = Evaluated { skipped: 8, defect: Some(Defect::NotEvaluated), ..Evaluated::default() };
    assert_eq!(facts.evaluated, unread);
    assert_eq!(json(Dialect::Bytes, "anything").evaluated, unread);
    assert_eq!(response(Dialect::OpenAiChat, Framing::Opaque, "anything").1.evaluated, unread);

    let path = "/v1beta/models/m:generateContent";
    let mut zipped = RequestScan::unread(Dialect::Gemini, path, Defect::EncodingUnsupported);
    zipped.push(b"\x1F\x8B");
    let facts = zipped.finish();
    assert_eq!(facts.model, some("m"));
    assert_eq!((facts.evaluated.skipped, facts.evaluated.defect), (2, Some(Defect::EncodingUnsupported)));

    let mut zipped = ResponseScan::unread(Dialect::OpenAiChat, Defect::EncodingUnsupported);
    zipped.push(b"data: x\n\n", &mut |_| panic!("nothing is framed"));
    assert_eq!(zipped.finish().evaluated.defect, Some(Defect::EncodingUnsupported));
}

#[test]
fn an_empty_body_has_no_defect() {
    for dialect in Dialect::ALL {
        assert_eq!(request(dialect, "/", "").evaluated, Evaluated::default());
        for framing in [Framing::Json, Framing::Sse, Framing::Opaque] {
            assert_eq!(response(dialect, framing, "").1.evaluated, Evaluated::default());
        }
    }
}

#[test]
fn generic_json_is_checked_and_not_understood() {
    let facts = request(Dialect::Json, "/", r#"{"model":"m"}"#);
    assert_eq!((facts.operation.as_str(), facts.model), ("json", None));
    assert_eq!(facts.evaluated.bytes, 13);
    assert_eq!(json(Dialect::Json, b"\"\xFF\"").evaluated.defect, Some(Defect::InvalidUtf8));
    assert_eq!(
        kinds(Dialect::Json, "data: 1\n\nevent: error\ndata: {}\n\ndata: text\n\n"),
        [Data, Error, Data]
    );
}

#[test]
fn reads_a_chat_stream_with_parallel_calls_in_two_choices() {
    let (marks, facts) = response(Dialect::OpenAiChat, Framing::Sse, CHAT_STREAM);
    assert_eq!(
        facts,
        ResponseFacts {
            model: some("gpt-4o-mini-2024-07-18"),
            tools_called: names(["get_weather", "get_time", "get_weather"]),
            foreign_called: Vec::new(),
            usage: Some(Usage {
                input: Some(82),
                output: Some(49),
                total: Some(131),
                cached_input: Some(64),
                reasoning: Some(0),
            }),
            usage_unread: false,
            finish: names(["tool_calls", "stop"]),
            error: None,
            terminated: Some(true),
            events: 11,
            comments: 1,
            evaluated: clean(CHAT_STREAM, 11),
        }
    );
    let kinds: Vec<MarkKind> = marks.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [Comment, Data, Data, Data, Data, Data, Data, Data, Data, Data, Data, Terminator]);
    assert_eq!(marks.last().map(|(end, _)| *end), Some(CHAT_STREAM.len()));
}

#[test]
fn a_name_that_every_part_repeats_is_one_call() {
    let part = |index, name| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"function\":{{\"name\":\"{name}\"}},\"index\":{index}}}]}},\"index\":0}}]}}\n\n"
        )
    };
    let body = part(0, "a") + &part(0, "a") + &part(1, "a") + &part(0, "") + &part(1, "a");
    assert_eq!(stream(Dialect::OpenAiChat, body).tools_called, names(["a", "a"]));
    // Two calls under one index, as some imitators send them: neither is hidden.
    assert_eq!(stream(Dialect::OpenAiChat, part(0, "a") + &part(0, "b")).tools_called, names(["a", "b"]));
}

#[test]
fn reads_a_whole_chat_response() {
    let facts = json(Dialect::OpenAiChat, CHAT_RESPONSE);
    assert_eq!(facts.model, some("gpt-4o"));
    assert_eq!(facts.tools_called, names(["get_weather", "get_weather", "old_style"]));
    assert_eq!(facts.usage.and_then(|usage| usage.reasoning), Some(12));
    assert_eq!(facts.finish, names(["tool_calls", "function_call"]));
    assert_eq!(facts.terminated, None);
    assert_eq!(facts.evaluated, clean(CHAT_RESPONSE, 0));
}

#[test]
fn usage_may_come_with_empty_choices_or_with_an_empty_delta() {
    for choices in ["[]", "[{\"index\":0,\"delta\":{},\"finish_reason\":null}]", "null"] {
        let body = format!(
            "data: {{\"choices\":{choices},\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4}}}}\n\n"
        );
        let usage = stream(Dialect::OpenAiChat, body).usage;
        assert_eq!(usage, Some(Usage { input: Some(3), output: Some(4), ..Usage::default() }));
    }
    let none = stream(
        Dialect::OpenAiChat,
        "data: {\"choices\":[],\"usage\":null}\n\ndata: {\"usage\":{\"prompt_tokens\":-1}}\n\n",
    );
    assert_eq!((none.usage, none.usage_unread), (None, true));
}

#[test]
fn a_token_count_that_no_receipt_can_hold_is_left_out_and_said() {
    let most = Usage::MAX;
    for (said, kept) in [
        (most.to_string(), Some(most)),
        ((most + 1).to_string(), None),
        (u64::MAX.to_string(), None),
        ("1e3".into(), None),
        ("18446744073709551616".into(), None),
    ] {
        for (dialect, usage) in [
            (Dialect::OpenAiChat, format!(r#""usage":{{"prompt_tokens":{said},"completion_tokens":1}}"#)),
            (Dialect::OpenAiResponses, format!(r#""usage":{{"input_tokens":{said},"output_tokens":1}}"#)),
            (Dialect::AnthropicMessages, format!(r#""usage":{{"input_tokens":{said},"output_tokens":1}}"#)),
            (
                Dialect::Gemini,
                format!(r#""usageMetadata":{{"promptTokenCount":{said},"candidatesTokenCount":1}}"#),
            ),
        ] {
            let facts = json(dialect, format!("{{{usage}}}"));
            let usage = facts.usage.unwrap();
            assert_eq!((usage.input, usage.output), (kept, Some(1)), "{dialect:?} {said}");
            assert_eq!(facts.usage_unread, kept.is_none(), "{dialect:?} {said}");
        }
    }
}

#[test]
fn an_error_inside_a_stream_is_seen() {
    for (dialect, data, code) in [
        (
            Dialect::OpenAiChat,
            r#"{"error":{"message":"m","type":"server_error","code":"overloaded"}}"#,
            "overloaded",
        ),
        (
            Dialect::OpenAiChat,
            r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
            "server_error",
        ),
        (Dialect::OpenAiChat, r#"{"error":{"code":429,"message":"m"}}"#, "429"),
        (Dialect::OpenAiChat, r#"{"error":"out of memory"}"#, "error"),
        (Dialect::OpenAiResponses, r#"{"type":"error","code":"rate_limit","message":"m"}"#, "rate_limit"),
        (
            Dialect::OpenAiResponses,
            r#"{"type":"error","error":{"code":null,"type":"server_error"}}"#,
            "server_error",
        ),
        (
            Dialect::AnthropicMessages,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            "overloaded_error",
        ),
        (Dialect::Gemini, r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, "UNAVAILABLE"),
        (Dialect::Gemini, r#"{"error":{"code":503}}"#, "503"),
        (Dialect::Mcp, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}"#, "-32601"),
    ] {
        let body = format!("data: {data}\n\n");
        let (marks, facts) = response(dialect, Framing::Sse, &body);
        assert_eq!(facts.error, some(code), "{body}");
        assert_eq!(marks, [(body.len(), Error)], "{body}");
        assert_eq!(json(dialect, data).error, some(code), "{body}");
    }
    for data in [r#"{"error":null}"#, r#"{"choices":[{"error":{"code":1}}]}"#, r#"{"code":"x"}"#] {
        for dialect in Dialect::ALL {
            let (marks, facts) = response(dialect, Framing::Sse, format!("data: {data}\n\n"));
            assert_eq!((facts.error, marks[0].1), (None, Data), "{dialect} {data}");
        }
    }
}

#[test]
fn the_first_error_counts() {
    let body = "data: {\"error\":{\"code\":\"a\"}}\n\ndata: {\"error\":{\"code\":\"b\"}}\n\n";
    assert_eq!(stream(Dialect::OpenAiChat, body).error, some("a"));
}

#[test]
fn reads_a_responses_stream_and_counts_each_call_once() {
    let (marks, facts) = response(Dialect::OpenAiResponses, Framing::Sse, RESPONSES_STREAM);
    assert_eq!(facts.model, some("gpt-5-2025-08-07"));
    assert_eq!(facts.tools_called, names(["lookup", "lookup", "remote"]));
    assert_eq!(
        facts.usage,
        Some(Usage {
            input: Some(75),
            output: Some(42),
            total: Some(117),
            cached_input: Some(0),
            reasoning: Some(20),
        })
    );
    assert_eq!(facts.finish, names(["completed"]));
    assert_eq!(facts.error, None);
    assert_eq!(facts.terminated, Some(true));
    assert_eq!(marks.last(), Some(&(RESPONSES_STREAM.len(), Terminator)));
    assert_eq!(facts.evaluated, clean(RESPONSES_STREAM, facts.events));
}

#[test]
fn reads_a_whole_responses_response() {
    let facts = json(Dialect::OpenAiResponses, RESPONSES_RESPONSE);
    assert_eq!(facts.tools_called, names(["lookup", "lookup"]));
    assert_eq!(facts.finish, names(["max_output_tokens"]));
    assert_eq!((facts.model, facts.error), (some("gpt-5"), None));
    let queued = json(Dialect::OpenAiResponses, r#"{"status":"queued","model":"m","error":null}"#);
    assert!(queued.finish.is_empty());
}

#[test]
fn a_failed_response_is_an_error_and_an_end() {
    let body = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\
                \"error\":{\"code\":\"server_error\",\"message\":\"m\"}}}\n\n";
    let (marks, facts) = response(Dialect::OpenAiResponses, Framing::Sse, body);
    assert_eq!(marks, [(body.len(), Terminator)]);
    assert_eq!((facts.error, facts.terminated), (some("server_error"), Some(true)));
    assert_eq!(facts.finish, names(["failed"]));
}

#[test]
fn reads_a_messages_stream() {
    let (marks, facts) = response(Dialect::AnthropicMessages, Framing::Sse, MESSAGES_STREAM);
    assert_eq!(
        facts,
        ResponseFacts {
            model: some("claude-sonnet-4-5-20250929"),
            tools_called: names(["get_weather", "web_search", "get_weather"]),
            foreign_called: Vec::new(),
            usage: Some(Usage {
                input: Some(472),
                output: Some(89),
                cached_input: Some(128),
                ..Usage::default()
            }),
            usage_unread: false,
            finish: names(["tool_use"]),
            error: None,
            terminated: Some(true),
            events: 12,
            comments: 0,
            evaluated: clean(MESSAGES_STREAM, 12),
        }
    );
    assert_eq!(marks.last(), Some(&(MESSAGES_STREAM.len(), Terminator)));
}

#[test]
fn reads_a_whole_message() {
    let facts = json(Dialect::AnthropicMessages, MESSAGES_RESPONSE);
    assert_eq!(facts.tools_called, names(["get_weather"]));
    assert_eq!(facts.finish, names(["tool_use"]));
    assert_eq!(facts.model, some("claude-sonnet-4-5"));
    assert_eq!(facts.usage.and_then(|usage| usage.output), Some(61));
}

#[test]
fn a_gemini_answer_in_snake_case_says_the_same() {
    let camel = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":3,"cachedContentTokenCount":4,"thoughtsTokenCount":5},
        "promptFeedback":{"blockReason":"SAFETY"},"modelVersion":"m"}"#;
    let mut snake = camel.to_owned();
    for name in camel.split('"').filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())) {
        let other = gemini::other_spelling(name);
        if !other.is_empty() {
            snake = snake.replace(name, &other);
        }
    }
    assert!(snake.contains("function_call") && snake.contains("thoughts_token_count"));
    let (one, other) = (json(Dialect::Gemini, camel), json(Dialect::Gemini, &snake));
    assert_eq!((&other.model, &other.finish, &other.usage), (&one.model, &one.finish, &one.usage));
    assert_eq!((other.tools_called, other.evaluated.defect), (names(["f"]), None));
    assert_eq!(one.finish, names(["STOP", "SAFETY"]));
    let twice = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a"},"function_call":{"name":"b"}}]}}]}"#;
    assert_eq!(json(Dialect::Gemini, twice).evaluated.defect, Some(Defect::DuplicateKey));
}

#[test]
fn reads_a_gemini_stream_as_events_and_as_an_array() {
    let expected = ResponseFacts {
        model: some("gemini-2.5-flash"),
        tools_called: names(["get_weather", "book"]),
        foreign_called: Vec::new(),
        usage: Some(Usage {
            input: Some(12),
            output: Some(31),
            total: Some(50),
            cached_input: None,
            reasoning: Some(7),
        }),
        usage_unread: false,
        finish: names(["STOP"]),
        ..ResponseFacts::default()
    };
    let events: String = GEMINI_CHUNKS.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    let (marks, facts) = response(Dialect::Gemini, Framing::Sse, &events);
    let evaluated = clean(&events, 3);
    assert_eq!(facts, ResponseFacts { events: 3, evaluated, ..expected.clone() });
    // The LF after the last CR is no event of its own.
    assert_eq!(marks.last(), Some(&(events.len() - 1, Data)));

    let array = format!("[{}\n]\n", GEMINI_CHUNKS.join(",\r\n"));
    assert_eq!(json(Dialect::Gemini, &array), ResponseFacts { evaluated: clean(&array, 0), ..expected });
}

#[test]
fn a_blocked_gemini_prompt_shows_why() {
    let body =
        r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":5}}"#;
    assert_eq!(json(Dialect::Gemini, body).finish, names(["PROHIBITED_CONTENT"]));
}

#[test]
fn an_mcp_event_that_only_has_an_id_says_nothing() {
    let stream = format!("id: 7_0\nretry: 5\ndata: \n\n{MCP_STREAM}");
    let (_, facts) = response(Dialect::Mcp, Framing::Sse, &stream);
    assert_eq!((facts.evaluated.defect, facts.events), (None, 3));
    let (_, facts) = response(Dialect::OpenAiChat, Framing::Sse, "data: \n\n");
    assert_eq!(facts.evaluated.defect, Some(Defect::JsonMalformed));
}

#[test]
fn reads_mcp_answers_as_json_and_as_events() {
    let (marks, facts) = response(Dialect::Mcp, Framing::Sse, MCP_STREAM);
    assert_eq!(marks.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), [Comment, Comment, Data, Data]);
    assert_eq!((facts.events, facts.comments, facts.terminated, facts.error), (2, 1, None, None));
    assert_eq!(
        json(Dialect::Mcp, r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#).error,
        some("isError")
    );
    assert_eq!(
        json(Dialect::Mcp, r#"[{"id":1,"result":{}},{"id":2,"error":{"code":-5}}]"#).error,
        some("-5")
    );
}

#[test]
fn a_stream_without_its_terminator_says_so() {
    assert_eq!(stream(Dialect::OpenAiChat, "data: {}\n\n").terminated, Some(false));
    assert_eq!(
        stream(Dialect::AnthropicMessages, "event: ping\ndata: {\"type\": \"ping\"}\n\n").terminated,
        Some(false)
    );
    assert_eq!(stream(Dialect::OpenAiResponses, "data: [DONE]\n\n").terminated, Some(true));
    assert_eq!(stream(Dialect::Gemini, "data: {}\n\n").terminated, None);
}

#[test]
fn an_unterminated_tail_is_counted_as_skipped() {
    let body = "data: {}\n\ndata: [DONE]\n";
    let facts = stream(Dialect::OpenAiChat, body);
    assert_eq!((facts.events, facts.terminated), (1, Some(false)));
    assert_eq!(
        facts.evaluated,
        Evaluated { bytes: 10, events: 1, skipped: 13, skipped_events: 0, defect: Some(Defect::Truncated) }
    );
}

#[test]
fn what_an_unterminated_tail_says_is_a_fact() {
    let call = r#"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"shell"}}]},"finish_reason":"stop"}]}"#;
    for end in ["", "\n", "\r", "\r\n"] {
        let body = format!("data: {{}}\r\n\r\ndata: {call}{end}");
        let facts = stream(Dialect::OpenAiChat, &body);
        assert_eq!((facts.events, facts.tools_called, facts.finish), (1, names(["shell"]), names(["stop"])));
        assert_eq!((facts.model, facts.evaluated.defect), (some("m"), Some(Defect::Truncated)), "{end:?}");
    }
    // Half of an event says nothing of the end.
    let half = call.strip_suffix("]}").unwrap();
    let facts = stream(Dialect::OpenAiChat, format!("data: {half}"));
    assert_eq!((facts.tools_called, facts.finish, facts.error), (names(["shell"]), Names::default(), None));
}

#[test]
fn the_event_that_a_stream_ended_in_is_read_once_and_tells_whether_it_could_be() {
    let end_of = |dialect, body: &str| {
        let of = |chunks: &[&[u8]]| {
            let mut scan = ResponseScan::new(dialect, Framing::Sse).with_parts();
            chunks.iter().for_each(|chunk| scan.push(chunk, &mut |_| ()));
            let mark = scan.end_event();
            let parts = scan.parts().len();
            assert_eq!(scan.end_event(), None);
            let read = scan.so_far().read;
            mark.map(|mark| (mark.kind, parts, read))
        };
        let whole = of(&[body.as_bytes()]);
        every_split(body.as_bytes(), |chunks| assert_eq!(of(chunks), whole, "{chunks:?}"));
        whole
    };
    let text = r#"data: {"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    let chat = |body: &str| end_of(Dialect::OpenAiChat, body);
    assert_eq!(chat(text), Some((Data, 1, true)));
    assert_eq!(chat(&format!("{text}\n\n{text}\n")), Some((Data, 1, true)));
    assert_eq!(chat(&format!("{text}\n\n")), None);
    assert_eq!(chat("data: [DONE]"), Some((Terminator, 0, true)));
    assert_eq!(chat(": c"), Some((Comment, 0, true)));
    assert_eq!(chat("id: 7\n"), Some((Comment, 0, true)));
    assert_eq!(chat(&text[..40]).map(|end| (end.0, end.2)), Some((Data, false)));
    assert_eq!(end_of(Dialect::Gemini, "{\"a\":1}"), Some((Data, 0, false)));
}

#[test]
fn a_line_end_of_unicode_beside_the_data_is_read_by_nobody_and_told() {
    let hidden =
        ["id: x\u{2028}data: {}", ": c\u{85}data: {}", "event: message\u{b}data: {}", "retry: 1\u{1e}{}"];
    for line in hidden {
        for dialect in [
            Dialect::OpenAiChat,
            Dialect::OpenAiResponses,
            Dialect::AnthropicMessages,
            Dialect::Gemini,
            Dialect::Mcp,
        ] {
            for body in [format!("{line}\n\n"), format!("{line}\ndata: {{}}\n\n"), line.to_owned()] {
                let defect = stream(dialect, &body).evaluated.defect;
                let expected = if body == line { Defect::Truncated } else { Defect::NotEvaluated };
                assert_eq!(defect, Some(expected), "{dialect} {body:?}");
            }
        }
        assert_eq!(stream(Dialect::Json, format!("{line}\n\n")).evaluated.defect, None);
    }
    assert_eq!(stream(Dialect::Gemini, "data: {\"a\":\"\u{2028}\"}\n\n").evaluated.defect, None);
}

#[test]
fn an_event_with_a_defect_is_skipped_and_the_next_is_read() {
    let body =
        "data: {\"model\":}\n\ndata: {\"model\":\"m\"}\n\ndata: \"\u{1}\n\ndata: {\n\ndata: [DONE]\n\n";
    let facts = stream(Dialect::OpenAiChat, body);
    assert_eq!((facts.model, facts.events, facts.terminated), (some("m"), 5, Some(true)));
    assert_eq!(facts.evaluated.defect, Some(Defect::JsonMalformed));
    assert_eq!((facts.evaluated.events, facts.evaluated.skipped_events), (2, 3));
}

/// The standard has clients ignore these lines; google-genai reads the first three as JSON, @google/genai the others as
/// `data:`.
const UNKNOWN_LINES: [&str; 9] = [
    "{\"a\":1}",
    " {\"a\":1}",
    "{\n \"a\": 1\n}",
    " data: {}",
    "\tdata: {}",
    "\u{feff}data: {}",
    "\u{a0}data: {}",
    "\u{3000}data: {}",
    "data : {}",
];

#[test]
fn a_line_that_the_standard_does_not_know_is_not_read_where_clients_read_it() {
    for line in UNKNOWN_LINES {
        for block in [
            line.into(),
            format!("data: {{}}\n{line}"),
            format!("{line}\ndata: {{}}"),
            format!(": c\n{line}"),
        ] {
            for end in ["\n", "\r", "\r\n"] {
                let body = format!("data: {{}}\n\n{block}\n\ndata: {{}}\n\n").replace('\n', end);
                let facts = stream(Dialect::Gemini, &body);
                assert_eq!(facts.evaluated.defect, Some(Defect::NotEvaluated), "{body:?}");
                assert_eq!((facts.evaluated.events, facts.evaluated.skipped_events), (2, 1), "{body:?}");
            }
        }
    }
    let known = ": c\n:\nevent\nevent: x\nid:1\nid: \0\nretry\nretry: x\n: {}\ndata\ndata:{}\n\n";
    assert_eq!(stream(Dialect::Gemini, format!("\u{feff}{known}")).evaluated.defect, None);
    let others = [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Mcp];
    for dialect in others {
        assert_eq!(stream(dialect, "x: y\n\ndata: {}\n\n").evaluated.defect, None, "{dialect:?}");
    }
}

#[test]
fn an_event_over_the_limit_is_skipped_and_the_stream_goes_on() {
    let long = format!("data: {{\"model\":\"{}\"}}\n\n", "x".repeat(256 * 1024));
    let body = long.clone() + "data: {\"model\":\"m\"}\n\ndata: [DONE]\n\n";
    let expected = response_in(Dialect::OpenAiChat, Framing::Sse, &[body.as_bytes()]);
    assert_eq!(expected.0[0], (long.len(), Data));
    assert_eq!((expected.1.model.as_deref(), expected.1.terminated), (Some("m"), Some(true)));
    assert_eq!(
        expected.1.evaluated,
        Evaluated {
            bytes: (body.len() - long.len()) as u64,
            events: 2,
            skipped: long.len() as u64,
            skipped_events: 1,
            defect: Some(Defect::EventBytesMax),
        }
    );
    for size in [1, 37, 1400, 65_536, 262_144] {
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        assert_eq!(response_in(Dialect::OpenAiChat, Framing::Sse, &chunks), expected);
    }
}

#[test]
fn lists_are_bounded_and_count_the_rest() {
    let tools: Vec<String> = (0..LIST_MAX + 8).map(|n| format!("{{\"name\":\"t{n}\"}}")).collect();
    // One piece: that cuts change nothing is shown elsewhere, and here there are too many.
    let body = format!("{{\"tools\":[{}]}}", tools.join(","));
    let facts = request_in(Dialect::AnthropicMessages, "/", &[body.as_bytes()]);
    assert_eq!((facts.tools.items.len(), facts.tools.more), (LIST_MAX, 8));

    let calls: Vec<String> =
        (0..LIST_MAX + 8).map(|n| format!("{{\"functionCall\":{{\"name\":\"c{n}\"}}}}")).collect();
    let body = format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{}]}}}}]}}", calls.join(","));
    let called = response_in(Dialect::Gemini, Framing::Json, &[body.as_bytes()]).1.tools_called;
    assert_eq!(
        (called.items.len(), called.more, called.items[LIST_MAX - 1].as_str()),
        (LIST_MAX, 8, "c1023")
    );
}

/// A fixture of each kind.
fn any_fixture() -> impl Strategy<Value = (Dialect, Framing, String)> {
    let gemini: String = GEMINI_CHUNKS.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    prop::sample::select(vec![
        (Dialect::OpenAiChat, Framing::Sse, CHAT_STREAM.to_owned()),
        (Dialect::OpenAiChat, Framing::Json, CHAT_RESPONSE.to_owned()),
        (Dialect::OpenAiResponses, Framing::Sse, RESPONSES_STREAM.to_owned()),
        (Dialect::OpenAiResponses, Framing::Json, RESPONSES_RESPONSE.to_owned()),
        (Dialect::AnthropicMessages, Framing::Sse, MESSAGES_STREAM.to_owned()),
        (Dialect::AnthropicMessages, Framing::Json, MESSAGES_RESPONSE.to_owned()),
        (Dialect::Gemini, Framing::Sse, gemini),
        (Dialect::Gemini, Framing::Json, format!("[{}]", GEMINI_CHUNKS.join(","))),
        (Dialect::Mcp, Framing::Sse, MCP_STREAM.to_owned()),
        (Dialect::Mcp, Framing::Json, MCP_CALL.to_owned()),
    ])
}

proptest! {
    #[test]
    fn damaged_responses_are_read_alike_however_they_are_cut(
        (dialect, framing, body) in any_fixture(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        end in any::<usize>(),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut body = body.into_bytes();
        for (at, byte) in damage {
            let at = at % body.len();
            body[at] = byte;
        }
        body.truncate(1 + end % (2 * body.len()));
        let whole = response_in(dialect, framing, &[&body]);
        prop_assert_eq!(whole.1.evaluated.bytes + whole.1.evaluated.skipped, body.len() as u64);
        prop_assert_eq!(&response_in(dialect, framing, &cut(&body, &places)), &whole);
        prop_assert_eq!(&response_in(dialect, framing, &body.chunks(1).collect::<Vec<_>>()), &whole);
    }

    #[test]
    fn damaged_requests_are_read_alike_however_they_are_cut(
        (dialect, body) in prop::sample::select(vec![
            (Dialect::OpenAiChat, CHAT_REQUEST), (Dialect::OpenAiResponses, RESPONSES_REQUEST),
            (Dialect::AnthropicMessages, MESSAGES_REQUEST), (Dialect::Gemini, GEMINI_REQUEST), (Dialect::Mcp, MCP_CALL),
        ]),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut body = body.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at % body.len();
            body[at] = byte;
        }
        let whole = request_in(dialect, "/", &[&body]);
        prop_assert_eq!(&request_in(dialect, "/", &cut(&body, &places)), &whole);
        prop_assert_eq!(&request_in(dialect, "/", &body.chunks(1).collect::<Vec<_>>()), &whole);
    }
}
