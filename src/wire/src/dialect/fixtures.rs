//! Bodies of each dialect, written for these tests in the shape that the APIs document.

pub(super) const CHAT_REQUEST: &str = r#"{
  "model": "gpt-4o-mini", "stream": true, "stream_options": {"include_usage": true},
  "messages": [
    {"role": "system", "content": "You are terse. {\"model\": \"not this\"}"},
    {"role": "user", "content": [{"type": "text", "text": "Wie ist das Wetter in Köln? ☀️"}]},
    {"role": "assistant", "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "old", "arguments": "{}"}}]}
  ],
  "tools": [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}},
    {"custom": {"name": "run_code", "format": {"type": "text"}}, "type": "custom"},
    {"type": "web_search"}
  ],
  "functions": [{"name": "legacy"}]
}"#;

pub(super) const CHAT_STREAM: &str = concat!(
    ": OPENROUTER PROCESSING\n\n",
    "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n",
    "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1718345013,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-9\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_a\",\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"city\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"get_time\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"\",\"name\":\"get_weather\"},\"index\":0}]},\"index\":1}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\" \\\"K\\u00f6ln\\\"}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[],\"usage\":{\"prompt_tokens\":82,\"completion_tokens\":49,\"total_tokens\":131,\"prompt_tokens_details\":{\"cached_tokens\":64,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n\n",
    "data: [DONE]\n\n",
);

pub(super) const CHAT_RESPONSE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1741570283,"model":"gpt-4o",
"choices":[
 {"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[
   {"id":"c1","type":"function","function":{"name":"get_weather","arguments":"{\"name\":\"x\"}"}},
   {"id":"c2","type":"function","function":{"name":"get_weather","arguments":"{}"}}]},
  "logprobs":null,"finish_reason":"tool_calls"},
 {"index":1,"message":{"function_call":{"name":"old_style","arguments":"{}"}},"finish_reason":"function_call"}],
"usage":{"prompt_tokens":9,"completion_tokens":33,"total_tokens":42,"completion_tokens_details":{"reasoning_tokens":12}},
"service_tier":"default","system_fingerprint":"fp_fc9f1d7035"}
"#;

pub(super) const RESPONSES_REQUEST: &str = r#"{"model":"gpt-5","stream":true,"input":[{"role":"user","content":"hi"}],
"tools":[{"type":"function","name":"lookup","parameters":{"type":"object"},"strict":true},
{"type":"web_search_preview"},{"type":"mcp","server_label":"s","server_url":"https://mcp.example/mcp","allowed_tools":["ask"]}]}"#;

pub(super) const RESPONSES_STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"error\":null,\"incomplete_details\":null,\"model\":\"gpt-5-2025-08-07\",\"output\":[],\"tools\":[{\"type\":\"function\",\"name\":\"lookup\"}],\"usage\":null}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":2,\"output_index\":1,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"in_progress\",\"arguments\":\"\",\"call_id\":\"call_1\",\"name\":\"lookup\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":3,\"item_id\":\"fc_1\",\"output_index\":1,\"delta\":\"{\\\"id\\\":7}\"}\n\n",
    "event: response.output_item.done\ndata: {\"item\":{\"id\":\"fc_1\",\"name\":\"lookup\",\"type\":\"function_call\",\"status\":\"completed\",\"arguments\":\"{\\\"id\\\":7}\",\"call_id\":\"call_1\"},\"output_index\":1,\"type\":\"response.output_item.done\",\"sequence_number\":4}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{\"type\":\"function_call\",\"name\":\"lookup\",\"call_id\":\"call_2\"}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":3,\"item\":{\"type\":\"mcp_approval_request\",\"name\":\"remote\"}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":4,\"content_index\":0,\"delta\":\"Grüße\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":9,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"error\":null,\"model\":\"gpt-5-2025-08-07\",\"output\":[{\"type\":\"reasoning\"},{\"type\":\"function_call\",\"name\":\"lookup\",\"call_id\":\"call_1\"},{\"type\":\"function_call\",\"name\":\"lookup\",\"call_id\":\"call_2\"},{\"type\":\"mcp_approval_request\",\"name\":\"remote\"},{\"type\":\"message\",\"content\":[]},{\"type\":\"mcp_call\",\"name\":\"remote\"}],\"usage\":{\"input_tokens\":75,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":42,\"output_tokens_details\":{\"reasoning_tokens\":20},\"total_tokens\":117}}}\n\n",
);

pub(super) const RESPONSES_RESPONSE: &str = r#"{"id":"resp_2","object":"response","status":"incomplete","error":null,
"incomplete_details":{"reason":"max_output_tokens"},"model":"gpt-5",
"output":[{"type":"function_call","name":"lookup","arguments":"{}"},{"type":"message","status":"incomplete",
"content":[{"type":"output_text","text":"..."}]},{"name":"lookup","type":"custom_tool_call"}],
"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}"#;

pub(super) const MESSAGES_REQUEST: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":1024,
"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"hi"}],
"tools":[{"name":"get_weather","input_schema":{"type":"object","properties":{"name":{"type":"string"}}}},
{"type":"web_search_20250305","name":"web_search","max_uses":5}]}"#;

pub(super) const MESSAGES_STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5-20250929\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":472,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":128,\"output_tokens\":2}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Ich schaue nach…\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"get_weather\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"city\\\": \\\"K\"}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"name\":\"web_search\",\"type\":\"server_tool_use\",\"id\":\"srvtoolu_1\",\"input\":{}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"web_search_tool_result\",\"name\":\"not_a_call\",\"tool_use_id\":\"srvtoolu_1\",\"content\":[]}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":4,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"get_weather\",\"input\":{}}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":89}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

pub(super) const MESSAGES_RESPONSE: &str = r#"{"id":"msg_02","type":"message","role":"assistant","model":"claude-sonnet-4-5",
"content":[{"type":"text","text":"Moment."},{"type":"tool_use","id":"toolu_3","name":"get_weather","input":{"name":"x"}}],
"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":377,"output_tokens":61}}"#;

pub(super) const GEMINI_REQUEST: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],
"tools":[{"functionDeclarations":[{"name":"get_weather","parameters":{"type":"OBJECT","properties":{"name":{"type":"STRING"}}}}]},
{"function_declarations":[{"name":"book"}]},{"googleSearch":{}}],"generationConfig":{"temperature":0.5}}"#;

pub(super) const GEMINI_CHUNKS: [&str; 3] = [
    r#"{"candidates": [{"content": {"parts": [{"text": "Ich "}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 12,"totalTokenCount": 19,"thoughtsTokenCount": 7},"modelVersion": "gemini-2.5-flash","responseId": "r1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"functionCall": {"name": "get_weather","args": {"name": "Köln"}}},{"functionCall": {"args": {},"name": "book"}}],"role": "model"}}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 20,"totalTokenCount": 39}}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": ""}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 31,"totalTokenCount": 50},"modelVersion": "gemini-2.5-flash"}"#,
];

pub(super) const MCP_CALL: &str = r#"{"jsonrpc":"2.0","id":17,"params":{"_meta":{"progressToken":1},"arguments":{"name":"inner","q":"Jürgen"},"name":"search_orders"},"method":"tools/call"}"#;

pub(super) const MCP_STREAM: &str = concat!(
    ": connected\n\n",
    "id: 7_0\nretry: 5000\n\n",
    "event: message\nid: 7_1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":50,\"total\":100}}\n\n",
    "event: message\r\nid: 7_2\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":17,\r\ndata: \"result\":{\"content\":[{\"type\":\"text\",\"text\":\"ok\"}],\"isError\":false}}\r\n\r\n",
);
