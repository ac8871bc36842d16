use super::*;
use crate::mapping::TimeUnit;

fn names(name: &str) -> Names {
    Names::One(name.into())
}

fn mapping() -> Mapping {
    Mapping {
        request: names("id"),
        time: names("at"),
        model: names("model"),
        input: names("in"),
        output: names("out"),
        ..Mapping::default()
    }
}

#[test]
fn openai_lists_calls_and_counts_them() {
    let listed = r#"{"object":"list","has_more":true,"data":[{"object":"chat.completion","id":"chatcmpl-1","request_id":"req_1","model":"m-1","created":7,"usage":{"prompt_tokens":3,"completion_tokens":4}},{"object":"response","id":"resp_1","created_at":8,"model":"m-1","usage":{"input_tokens":5,"output_tokens":6}}]}"#;
    let log = read(&Format::OpenAi, listed.as_bytes()).unwrap();
    assert!(log.more);
    let first = &log.rows[0];
    assert_eq!((first.request.as_deref(), first.name.as_str(), first.place), (Some("req_1"), "req_1", 1));
    assert_eq!(
        (first.when, first.tokens),
        (Some((7_000_000, 7_000_000)), Some(Tokens { input: 3, output: 4 }))
    );
    assert_eq!((log.rows[1].request.as_deref(), log.rows[1].name.as_str()), (None, "resp_1"));
    let usage = r#"{"object":"page","data":[{"object":"bucket","start_time":60,"end_time":120,"results":[{"input_tokens":9,"output_tokens":2,"num_model_requests":2,"model":"m-1"}]}],"has_more":false}"#;
    let log = read(&Format::OpenAi, usage.as_bytes()).unwrap();
    assert_eq!((log.rows.len(), log.rows[0].place, log.rows[1].place, log.more), (2, 1, 1, false));
    assert_eq!(log.rows[1].when, Some((60_000_000, 119_999_999)));
    assert_eq!(log.sums[0].tokens, Tokens { input: 9, output: 2 });
}

#[test]
fn anthropic_adds_tokens_up() {
    let usage = r#"{"data":[{"starting_at":"1970-01-01T00:01:00Z","ending_at":"1970-01-01T00:02:00Z","results":[{"uncached_input_tokens":9,"cache_read_input_tokens":7,"output_tokens":2,"model":null}]}],"has_more":false,"next_page":null}"#;
    let log = read(&Format::Anthropic, usage.as_bytes()).unwrap();
    assert_eq!((log.rows.len(), log.sums.len()), (0, 1));
    assert_eq!((log.sums[0].when, log.sums[0].tokens.input), ((60_000_000, 119_999_999), 9));
    let messages = "{\"id\":\"msg_1\",\"_request_id\":\"req_1\"}\n\n{\"id\":\"msg_2\",\"created_at\":\"1970-01-01T00:00:01Z\"}\n";
    let log = read(&Format::Anthropic, messages.as_bytes()).unwrap();
    assert_eq!(log.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["req_1", "msg_2"]);
}

#[test]
fn a_table_and_lines_are_read_by_their_mapping() {
    let table = "id,at,model,in,out\nreq_1,1970-01-01T00:00:01Z,m,3,4\n,2.5,m,,\n";
    let log = read(&Format::Csv(mapping()), table.as_bytes()).unwrap();
    assert_eq!(log.rows[0].tokens, Some(Tokens { input: 3, output: 4 }));
    assert_eq!((log.rows[1].when, log.rows[1].tokens), (Some((2_500_000, 2_500_000)), None));
    assert!(log.rows[1].name.starts_with("row:") && log.rows[1].name.len() <= 128);
    let deep = Mapping { request: names("/r/id"), time_unit: TimeUnit::Milliseconds, ..mapping() };
    let lines = "{\"r\":{\"id\":\"req_1\"},\"at\":1500}\n";
    let log = read(&Format::Ndjson(deep), lines.as_bytes()).unwrap();
    assert_eq!(
        (log.rows[0].request.as_deref(), log.rows[0].when),
        (Some("req_1"), Some((1_500_000, 1_500_000)))
    );
}

#[test]
fn what_is_not_understood_is_not_passed_over() {
    let csv = |text: &str| read(&Format::Csv(mapping()), text.as_bytes()).unwrap_err().to_string();
    let head = "id,at,model,in,out\n";
    for (text, said) in [
        ("id,at\n".to_owned(), "no column `model`"),
        ("id,at,model,in,out,id\n".to_owned(), "no column `id`"),
        (format!("{head}a,b\n"), "not well-formed"),
        (format!("{head},,m,3,4\n"), "row 1: it has neither"),
        (format!("{head}a,1,m,3,4\nb,yesterday,m,3,4\n"), "row 2: the time"),
        (format!("{head}a,1970-01-01T00:00:01,m,3,4\n"), "row 1: the time"),
        (format!("{head}a,1,m,three,4\n"), "row 1: a count"),
        (format!("{head}a,1,m,-3,4\n"), "row 1: a count"),
    ] {
        assert!(csv(&text).contains(said), "{text}: {}", csv(&text));
    }
    let openai = |text: &str| read(&Format::OpenAi, text.as_bytes()).unwrap_err();
    assert!(matches!(openai("{"), ReadError::Malformed(_)));
    assert!(matches!(openai("{\"error\":{}}"), ReadError::Row { .. }));
    assert!(matches!(openai("[7]"), ReadError::Row { .. }));
    let mixed = r#"{"data":[{"start_time":1,"end_time":2,"results":[{"model":"a","input_tokens":1},{"input_tokens":1}]}]}"#;
    assert!(openai(mixed).to_string().contains("grouped by model"));
    assert_eq!(read(&Format::OpenAi, b"\xff"), Err(ReadError::Utf8));
    assert_eq!(read(&Format::Csv(Mapping::default()), b""), Err(ReadError::Mapping));
}

#[test]
fn counted_calls_have_a_bound() {
    let usage = |calls: u64| {
        format!(r#"[{{"start_time":1,"end_time":2,"results":[{{"num_model_requests":{calls}}}]}}]"#)
    };
    assert_eq!(read(&Format::OpenAi, usage(u64::MAX).as_bytes()), Err(ReadError::RowsMax));
    assert_eq!(read(&Format::OpenAi, usage(3).as_bytes()).unwrap().rows.len(), 3);
}
