use bytes::Bytes;

use super::*;
use crate::{
    Dialect,
    dialect::{Framing, ResponseScan, fixtures::MCP_STREAM},
    judge::{Blocks, data},
    splits::every_split,
};

fn read(text: &str) -> Vec<Message> {
    Messages::read(text.as_bytes()).expect("one reading").list
}

fn only(text: &str) -> Message {
    let mut list = read(text);
    assert_eq!(list.len(), 1, "{text}");
    list.remove(0)
}

fn at<'a>(text: &'a str, span: &Option<Span>) -> &'a str {
    let span = span.clone().expect("a value");
    &text[usize::try_from(span.start).unwrap()..usize::try_from(span.end).unwrap()]
}

#[test]
fn reads_a_call_wherever_its_members_stand() {
    let text = r#" {"params":{"_meta":{"name":"x"},"arguments":{"name":[1]},"name":"add"},"id":"7","method":"tools\/call"}"#;
    let call = only(text);
    assert_eq!((call.method.as_deref(), call.name.as_deref()), (Some("tools/call"), Some("add")));
    assert_eq!(call.id, Some(Id::Text("7".into())));
    assert_eq!(at(text, &call.arguments), r#"{"name":[1]}"#);
    assert_eq!(only(r#"{"method":"tools/call","params":{"name":"add"}}"#).arguments, None);
}

#[test]
fn reads_the_messages_of_a_batch_apart() {
    let text = r#"[{"id":1,"method":"tools/call","params":{"name":"a"}},{"method":"notifications/progress"},{"id":2,"result":{}}]"#;
    let batch = Messages::read(text.as_bytes()).unwrap();
    assert!(batch.batch);
    let names: Vec<_> =
        batch.list.iter().map(|message| (message.id.is_some(), message.name.as_deref())).collect();
    assert_eq!(names, [(true, Some("a")), (false, None), (true, None)]);
    assert!(batch.list[1].result.is_none() && batch.list[2].result.is_some());
    assert_eq!(read("[]"), []);
}

#[test]
fn reads_what_a_tool_gave() {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"structuredContent":0}],"structuredContent": {"n":5} ,"isError":false}}"#;
    let result = only(text).result.unwrap();
    assert_eq!(at(text, &result.value), r#"{"n":5}"#);
    assert!(!result.failed && !result.is_partial);
    let failed = only(r#"{"id":1,"result":{"isError":true}}"#).result.unwrap();
    assert_eq!((failed.failed, failed.value), (true, None));
    let asks = only(r#"{"id":1,"result":{"resultType":"input_required"}}"#).result.unwrap();
    assert!(asks.is_partial);
    assert!(!only(r#"{"id":1,"result":{"resultType":"complete"}}"#).result.unwrap().is_partial);
    assert_eq!(only(r#"{"id":1,"result":null,"error":{"code":-1}}"#).result, None);
}

#[test]
fn reads_the_tools_of_a_list_with_all_that_is_said_of_them() {
    let text = r#"{"id":1,"result":{"tools":[{"name":"a","description":"d","inputSchema":{"type":"object"},"outputSchema":null},{"outputSchema":true,"name":"b"}],"nextCursor":"x"}}"#;
    let tools = only(text).result.unwrap().tools;
    let shown: Vec<_> = tools
        .iter()
        .map(|tool| {
            let schema = |span: &Option<Span>| span.as_ref().map(|_| at(text, span));
            (
                tool.name.as_str(),
                at(text, &Some(tool.definition.clone())),
                schema(&tool.input),
                schema(&tool.output),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                "a",
                r#"{"name":"a","description":"d","inputSchema":{"type":"object"},"outputSchema":null}"#,
                Some(r#"{"type":"object"}"#),
                None
            ),
            ("b", r#"{"outputSchema":true,"name":"b"}"#, None, Some("true")),
        ]
    );
}

#[test]
fn ids_are_told_apart_by_kind_and_not_by_how_a_number_is_written() {
    let id = |text: &str| only(&format!("{{\"id\":{text},\"method\":\"m\"}}")).id;
    assert_eq!(id("1"), id("1.0"));
    assert_ne!(id("1"), id("\"1\""));
    assert_eq!(id(r#""\u0061""#), id("\"a\""));
    assert_eq!(id("null"), None);
}

#[test]
fn what_has_two_readings_is_not_read() {
    let long = format!(r#"{{"method":"tools/call","params":{{"name":"{}"}}}}"#, "a".repeat(200));
    for text in [
        r#"{"id":1,"result":{"structuredContent":1,"structuredContent":2}}"#,
        r#"{"id":1,"result":{"structuredContent":1,"StructuredContent":2}}"#,
        r#"{"id":1,"result":{},"result":{}}"#,
        r#"{"id":1,"id":2,"result":{}}"#,
        r#"{"id":1,"result":{},"error":{"code":1}}"#,
        r#"{"id":1,"method":"m","result":{}}"#,
        r#"{"id":1,"result":{"isError":"true"}}"#,
        r#"{"id":1,"result":{"isError":true,"isError":false}}"#,
        r#"{"id":1,"result":{"tools":{"a":{}}}}"#,
        r#"{"id":1,"result":{"tools":[{"name":"a","name":"b"}]}}"#,
        r#"{"id":1,"result":{"tools":[null]}}"#,
        r#"{"id":1,"result":"text"}"#,
        r#"{"id":[1],"result":{}}"#,
        r#"{"id":true,"result":{}}"#,
        r#"{"method":"tools/call","params":{"name":"a","arguments":{},"Arguments":{}}}"#,
        r#"{"method":"tools/call","params":["a"]}"#,
        r#"{"method":"tools/call","params":{"name":" a"}}"#,
        r#"[[{"id":1,"result":{}}]]"#,
        r#"{"id":1,"result":{}} {}"#,
        r#"{"id":1,"result":{}"#,
        "7",
        "",
        &long,
    ] {
        assert!(Messages::read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_tool_leaves_the_rest_of_its_list_readable() {
    for odd in
        ["null", "1", "\"x\"", "[]", "{\"name\":1}", "{\"name\":\"a\",\"name\":\"b\"}", "{\"Name\":\"a\"}"]
    {
        let text = format!(r#"{{"id":1,"result":{{"tools":[{{"name":"a"}},{odd},{{"name":"b"}}]}}}}"#);
        assert!(Messages::read(text.as_bytes()).is_err(), "{odd}");
        let tools = Messages::read_lists(text.as_bytes()).unwrap().list.remove(0).result.unwrap().tools;
        let doubts: Vec<_> = tools.iter().map(|tool| tool.doubt.is_some()).collect();
        assert_eq!(doubts, [false, true, false], "{odd}");
        assert_eq!((tools[0].name.as_str(), tools[2].name.as_str()), ("a", "b"));
    }
    for text in [
        r#"{"id":1,"Id":2,"result":{"tools":[{"name":"a"}]}}"#,
        r#"{"id":1,"result":{"tools":[{"name":"a"}],"tools":[]}}"#,
        r#"{"id":1,"result":{"tools":{"a":{}}}}"#,
    ] {
        assert!(Messages::read_lists(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_text_with_more_tools_or_messages_than_are_kept_is_not_read() {
    let tools =
        |count| format!(r#"{{"id":1,"result":{{"tools":[{}]}}}}"#, vec![r#"{"name":"a"}"#; count].join(","));
    assert_eq!(only(&tools(LIST_MAX)).result.unwrap().tools.len(), LIST_MAX);
    assert!(Messages::read(tools(LIST_MAX + 1).as_bytes()).is_err());
    let batch = |count| format!("[{}]", vec!["{}"; count].join(","));
    assert_eq!(read(&batch(LIST_MAX)).len(), LIST_MAX);
    assert!(Messages::read(batch(LIST_MAX + 1).as_bytes()).is_err());
}

/// The messages of a stream's events.
fn streamed(chunks: &[&[u8]]) -> Vec<Message> {
    let (mut scan, mut blocks) = (ResponseScan::new(Dialect::Mcp, Framing::Sse), Blocks::default());
    let (mut list, mut first) = (Vec::new(), true);
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        let mut ends = Vec::new();
        scan.push(&chunk, &mut |mark| ends.push(mark.end));
        let mut from = blocks.line_feed(&chunk).map_or(0, |line_feed| line_feed.len());
        for end in ends {
            let (block, next) = blocks.end(&chunk, from, end);
            let said = data(&block, std::mem::take(&mut first));
            if !said.is_empty() {
                list.extend(Messages::read(&said).expect("one reading").list);
            }
            from = next;
        }
        blocks.keep(&chunk, from);
    }
    list
}

#[test]
fn the_messages_of_a_stream_do_not_depend_on_how_it_was_cut() {
    let whole = streamed(&[MCP_STREAM.as_bytes()]);
    let shown: Vec<_> = whole.iter().map(|message| (message.id.clone(), message.method.as_deref())).collect();
    assert_eq!(shown, [(None, Some("notifications/progress")), (Some(Id::Number("17".into())), None)]);
    assert_eq!(whole[1].result, Some(ToolResult::default()));
    every_split(MCP_STREAM.as_bytes(), |chunks| assert_eq!(streamed(chunks), whole));
}
