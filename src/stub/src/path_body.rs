//! Bodies whose size and speed are asked for in the path, for benches.

use std::time::Duration;

use bytes::Bytes;

use crate::answer::{Cuts, Made, Source, filler};
use crate::script::PathBody;

const JSON_BYTES_MIN: u64 = 40;
const JSON_BYTES_MAX: u64 = 16 << 20;
/// One day: a longer pause between events is a typing error.
const GAP_US_MAX: u64 = 86_400_000_000;

const SSE_EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1700000000,"#,
    r#""model":"stub-model","choices":[{"index":0,"delta":{"content":"token "},"logprobs":null,"#,
    r#""finish_reason":null}]}"#,
    "\n\n"
);
const SSE_END: &str = "data: [DONE]\n\n";

/// The body for this path, or a 400 that says what is wrong with it.
pub(crate) fn make(body: PathBody, path: &str) -> Made {
    let made = match body {
        PathBody::Json => one_number(path).and_then(json),
        PathBody::Bytes => one_number(path).map(bytes),
        PathBody::Sse => two_numbers(path).and_then(|(events, gap_us)| sse(events, gap_us)),
    };
    made.unwrap_or_else(|| {
        let text = format!("`{path}` does not end with the numbers that this body takes\n");
        Made::refusal(400, "text/plain; charset=utf-8", text)
    })
}

fn json(size: u64) -> Option<Made> {
    if !(JSON_BYTES_MIN..=JSON_BYTES_MAX).contains(&size) {
        return None;
    }
    let mut text = format!(r#"{{"object":"filler","bytes":{size},"text":""#).into_bytes();
    let rest = usize::try_from(size).ok()?.checked_sub(text.len() + 2)?;
    text.extend(filler(0, rest));
    text.extend_from_slice(br#""}"#);
    Some(Made::plain("application/json", text))
}

fn bytes(size: u64) -> Made {
    Made::of("application/octet-stream", Source::filler(size), Cuts::none())
}

fn sse(events: u64, gap_us: u64) -> Option<Made> {
    if gap_us > GAP_US_MAX {
        return None;
    }
    let source = Source::repeat(SSE_EVENT.as_bytes(), events, Bytes::from_static(SSE_END.as_bytes()))?;
    let cuts = Cuts::Each(SSE_EVENT.len() as u64);
    let every = Some(Duration::from_micros(gap_us));
    Some(Made { streamed: true, every, ..Made::of("text/event-stream", source, cuts) })
}

fn one_number(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}

fn two_numbers(path: &str) -> Option<(u64, u64)> {
    let mut segments = path.rsplit('/');
    let last = segments.next()?.parse().ok()?;
    Some((segments.next()?.parse().ok()?, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: PathBody, path: &str) -> Vec<u8> {
        let made = make(kind, path);
        assert_eq!(made.status, None, "{path}");
        let (mut body, len) = (Vec::new(), made.source.len());
        while (body.len() as u64) < len {
            body.extend_from_slice(&made.source.slice(body.len() as u64, len));
        }
        body
    }

    #[test]
    fn json_is_valid_and_has_the_asked_size() {
        for size in [40, 64, 1000, 100_000] {
            let text = body(PathBody::Json, &format!("/json/{size}"));
            assert_eq!(text.len(), size);
            serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        }
    }

    #[test]
    fn bytes_are_filler() {
        assert_eq!(body(PathBody::Bytes, "/bytes/100"), filler(0, 100));
        assert_eq!(make(PathBody::Bytes, "/bytes/1099511627776").source.len(), 1 << 40);
    }

    #[test]
    fn each_event_is_a_piece_and_done_is_the_last() {
        assert!(SSE_END.len() < SSE_EVENT.len(), "the end must fit in one piece");
        let text = String::from_utf8(body(PathBody::Sse, "/sse/3/10")).unwrap();
        assert_eq!(text, SSE_EVENT.repeat(3) + SSE_END);
        let made = make(PathBody::Sse, "/sse/3/10");
        let ends: Vec<u64> =
            (0..4).map(|n| made.ends.next_end(n * SSE_EVENT.len() as u64, made.source.len())).collect();
        assert_eq!(*ends.last().unwrap(), made.source.len());
        assert_eq!(made.every, Some(Duration::from_micros(10)));
    }

    #[test]
    fn a_path_without_numbers_is_refused_with_400() {
        for (kind, path) in [
            (PathBody::Json, "/json/x"),
            (PathBody::Json, "/json/39"),
            (PathBody::Json, "/json/99999999999"),
            (PathBody::Bytes, "/bytes/-1"),
            (PathBody::Sse, "/sse/3"),
            (PathBody::Sse, "/sse/3/99999999999999"),
            (PathBody::Sse, "/sse/18446744073709551615/1"),
        ] {
            assert_eq!(make(kind, path).status, Some(400), "{path}");
        }
    }
}
