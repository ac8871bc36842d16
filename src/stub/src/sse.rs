//! Server-sent events as bytes (WHATWG HTML, section 9.2).

use crate::script::{LineEnd, SseEvent};

/// Each event as it goes on the wire.
pub(crate) fn render(events: &[SseEvent], line_end: LineEnd) -> Vec<String> {
    events.iter().map(|event| render_one(event, line_end)).collect()
}

fn render_one(event: &SseEvent, line_end: LineEnd) -> String {
    if let Some(raw) = &event.raw {
        return raw.clone();
    }
    let end = match line_end {
        LineEnd::Lf => "\n",
        LineEnd::Crlf => "\r\n",
        LineEnd::Cr => "\r",
    };
    let mut block = String::new();
    let mut line = |field: &str, value: &str| block.extend([field, ": ", value, end]);
    if let Some(comment) = &event.comment {
        line("", comment);
    }
    if let Some(name) = &event.event {
        line("event", name);
    }
    if let Some(id) = &event.id {
        line("id", id);
    }
    if let Some(retry) = event.retry {
        line("retry", &retry.to_string());
    }
    for data in event.data.iter().flat_map(|data| data.split('\n')) {
        line("data", data);
    }
    block.push_str(end);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: SseEvent, line_end: LineEnd, expected: &str) {
        assert_eq!(render(&[event], line_end), [expected]);
    }

    #[test]
    fn fields_come_in_one_order_and_end_with_a_blank_line() {
        let event = SseEvent {
            comment: Some("hi".into()),
            event: Some("e".into()),
            id: Some("7".into()),
            retry: Some(9),
            data: Some("a\nb".into()),
            raw: None,
        };
        check(event.clone(), LineEnd::Lf, ": hi\nevent: e\nid: 7\nretry: 9\ndata: a\ndata: b\n\n");
        let crlf = ": hi\r\nevent: e\r\nid: 7\r\nretry: 9\r\ndata: a\r\ndata: b\r\n\r\n";
        check(event.clone(), LineEnd::Crlf, crlf);
        check(event, LineEnd::Cr, &crlf.replace("\r\n", "\r"));
    }

    #[test]
    fn raw_is_sent_as_it_is() {
        check(SseEvent { raw: Some("data:x".into()), ..SseEvent::default() }, LineEnd::Crlf, "data:x");
    }
}
