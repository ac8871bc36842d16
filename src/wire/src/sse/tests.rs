use proptest::prelude::*;

use super::*;
use crate::splits::{cut, every_split};

/// A step with its absolute end, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    end: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Event { name: String, data: Option<Vec<u8>>, id: Option<String>, retry_ms: Option<u64>, comments: usize },
    PassedOver,
    Comment,
    LineFeed,
    Broken,
}

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn what(step: Step<'_>) -> Option<What> {
    Some(match step {
        Step::NeedMore => return None,
        Step::Comment { .. } => What::Comment,
        Step::LineFeed => What::LineFeed,
        Step::Broken(_) => What::Broken,
        Step::Event(Event { content: Content::PassedOver(_), .. }) => What::PassedOver,
        Step::Event(event) => What::Event {
            name: owned(event.name),
            data: if let Content::Data(data) = event.content { Some(data.to_vec()) } else { None },
            id: event.id.map(owned),
            retry_ms: event.retry_ms,
            comments: event.comments,
        },
    })
}

/// All steps, and the bytes left pending.
fn steps(limits: Limits, chunks: &[&[u8]]) -> (Vec<Seen>, usize) {
    let mut framer = Framer::new(limits);
    let mut seen = Vec::new();
    let mut before = 0;
    for chunk in chunks {
        let mut taken = 0;
        loop {
            let (step, n) = framer.feed(&chunk[taken..]);
            let what = what(step);
            taken += n;
            let Some(what) = what else {
                assert_eq!(taken, chunk.len(), "NeedMore takes the whole chunk");
                break;
            };
            let broken = what == What::Broken;
            seen.push(Seen { end: before + taken, what });
            if broken {
                assert_eq!(framer.feed(b"x"), (Step::Broken(Defect::EventBytesMax), 0));
                return (seen, framer.pending());
            }
        }
        before += chunk.len();
    }
    (seen, framer.pending())
}

/// The same steps for every split; gives them.
fn seen_with(limits: Limits, bytes: &[u8]) -> Vec<Seen> {
    let whole = steps(limits, &[bytes]);
    let last = whole.0.last().map_or(0, |seen| seen.end);
    if !whole.0.iter().any(|seen| seen.what == What::Broken) {
        assert_eq!(last + whole.1, bytes.len(), "every byte belongs to a step or to the tail");
    }
    every_split(bytes, |chunks| assert_eq!(steps(limits, chunks), whole, "{chunks:?}"));
    whole.0
}

fn seen(bytes: &[u8]) -> Vec<Seen> {
    seen_with(Limits::default(), bytes)
}

fn event(name: &str, data: &[u8]) -> What {
    What::Event { name: name.into(), data: Some(data.to_vec()), id: None, retry_ms: None, comments: 0 }
}

fn nothing() -> What {
    What::Event { name: String::new(), data: None, id: None, retry_ms: None, comments: 0 }
}

fn whats(bytes: &[u8]) -> Vec<What> {
    seen(bytes).into_iter().map(|seen| seen.what).collect()
}

#[test]
fn any_line_end_closes_a_line() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = "event: a@data: 1@@data: 2@@".replace('@', end);
        let events: Vec<What> =
            whats(stream.as_bytes()).into_iter().filter(|w| *w != What::LineFeed).collect();
        assert_eq!(events, [event("a", b"1"), event("", b"2")], "{end:?}");
    }
}

#[test]
fn line_ends_may_be_mixed() {
    assert_eq!(whats(b"data: a\r\ndata: b\rdata: c\n\r\n"), [event("", b"a\nb\nc"), What::LineFeed]);
}

#[test]
fn the_event_ends_at_the_cr_and_its_lf_is_a_step_of_its_own() {
    let steps = seen(b"data: x\r\n\r\ndata: y\r\n\r\n");
    let ends: Vec<usize> = steps.iter().map(|seen| seen.end).collect();
    assert_eq!(ends, [10, 11, 21, 22]);
    assert_eq!(steps[0].what, event("", b"x"));
    assert_eq!(steps[1].what, What::LineFeed);
}

#[test]
fn an_event_does_not_wait_for_the_lf_of_its_crlf() {
    let mut framer = Framer::default();
    assert!(matches!(framer.feed(b"data: x\r\n\r"), (Step::Event(_), 10)));
    assert_eq!(framer.feed(b""), (Step::NeedMore, 0));
    assert_eq!(framer.feed(b"\n"), (Step::LineFeed, 1));
    assert_eq!(framer.feed(b"\n"), (Step::Event(Event { ..idle() }), 1));
}

fn idle() -> Event<'static> {
    Event {
        name: b"",
        content: Content::Nothing,
        id: None,
        retry_ms: None,
        comments: 0,
        has_unknown_line: false,
        has_hidden_line: false,
    }
}

/// What a stream ends in, and what a framer makes of that: the same however it is cut.
fn last(stream: &[u8]) -> Option<(What, bool)> {
    let of = |chunks: &[&[u8]]| {
        let mut framer = Framer::default();
        for chunk in chunks {
            let mut taken = 0;
            while taken < chunk.len() {
                taken += framer.feed(&chunk[taken..]).1;
            }
        }
        let step = framer.end()?;
        let hides = matches!(
            step,
            Step::Comment { has_hidden_line: true } | Step::Event(Event { has_hidden_line: true, .. })
        );
        let last = what(step).map(|what| (what, hides));
        assert_eq!((framer.pending(), framer.end().is_none()), (0, true));
        last
    };
    let whole = of(&[stream]);
    every_split(stream, |chunks| assert_eq!(of(chunks), whole, "{chunks:?}"));
    whole
}

#[test]
fn what_a_stream_ends_in_can_be_read_as_an_event() {
    for end in ["", "\n", "\r", "\r\n"] {
        for before in ["", "data: a\n\n", "data: a\r\r", "data: a\r\n\r\n", ": c\n"] {
            let of = |line: &str| last(format!("{before}{line}{end}").as_bytes());
            assert_eq!(of("data: x"), Some((event("", b"x"), false)), "{before:?} {end:?}");
            assert_eq!(of("data: x\ndata: y"), Some((event("", b"x\ny"), false)), "{before:?} {end:?}");
            assert_eq!(of("id: x\u{2028}data: y").map(|last| last.1), Some(true), "{before:?} {end:?}");
        }
        assert_eq!(last(format!("data: a\n\n{end}").as_bytes()).map(|last| last.1), None, "{end:?}");
    }
    assert_eq!(last(b": x"), Some((What::Comment, false)));
    assert_eq!(last(": x\u{85}data: y".as_bytes()), Some((What::Comment, true)));
}

#[test]
fn two_crs_are_two_line_ends() {
    assert_eq!(whats(b"data: x\r\rdata: y\r\r"), [event("", b"x"), event("", b"y")]);
    assert_eq!(whats(b"\r\r\n\n"), [nothing(), nothing(), What::LineFeed, nothing()]);
}

#[test]
fn one_byte_order_mark_at_the_start_is_not_data() {
    assert_eq!(whats(b"\xEF\xBB\xBFdata: x\n\n"), [event("", b"x")]);
    assert_eq!(whats(b"\xEF\xBB\xBF: hi\ndata: x\n\n"), [What::Comment, event("", b"x")]);
    assert_eq!(whats(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: x\n\n"), [nothing()]);
    assert_eq!(whats(b"data: x\n\n\xEF\xBB\xBFdata: y\n\n"), [event("", b"x"), nothing()]);
    assert_eq!(whats(b"\xEF\xBBdata: x\n\n"), [nothing()]);
}

#[test]
fn only_one_space_after_the_colon_is_dropped() {
    assert_eq!(whats(b"data:x\n\n"), [event("", b"x")]);
    assert_eq!(whats(b"data:  x \n\n"), [event("", b" x ")]);
    assert_eq!(whats(b"data:\n\n"), [event("", b"")]);
    assert_eq!(whats(b"data: \n\n"), [event("", b"")]);
    assert_eq!(whats(b"data\n\n"), [event("", b"")]);
    assert_eq!(whats(b"data\ndata\n\n"), [event("", b"\n")]);
}

#[test]
fn data_lines_are_joined_with_lf() {
    assert_eq!(
        whats(b"data: a\ndata:\ndata: b\n\ndata: c\ndata: d\n\n"),
        [event("", b"a\n\nb"), event("", b"c\nd")]
    );
}

#[test]
fn unknown_and_misspelled_fields_are_ignored() {
    assert_eq!(whats(b"Data: x\ndatas: x\n data: x\ndat: x\nfoobar\n\n"), [nothing()]);
    assert_eq!(whats(b"data: a\nx\ndata-long-name: b\n\n"), [event("", b"a")]);
    assert_eq!(whats("data: a\u{2028}b\u{85}c\n\n".as_bytes()), [event("", "a\u{2028}b\u{85}c".as_bytes())]);
}

#[test]
fn the_last_name_counts() {
    assert_eq!(whats(b"event: a\nevent: b\ndata: x\n\n"), [event("b", b"x")]);
    assert_eq!(whats(b"event: a\nevent\ndata: x\n\n"), [event("", b"x")]);
    assert_eq!(
        whats(b"event: a\n\ndata: x\n\n"),
        [
            What::Event { name: "a".into(), data: None, id: None, retry_ms: None, comments: 0 },
            event("", b"x")
        ]
    );
}

#[test]
fn ids_with_nul_and_retries_that_are_no_numbers_are_ignored() {
    let with = |id: Option<&str>, retry_ms| What::Event {
        name: String::new(),
        data: None,
        id: id.map(String::from),
        retry_ms,
        comments: 0,
    };
    assert_eq!(whats(b"id: 7\nid: a\0b\nretry: 5\nretry: 5s\n\n"), [with(Some("7"), Some(5))]);
    assert_eq!(whats(b"id\nretry\n\n"), [with(Some(""), None)]);
    assert_eq!(whats(b"retry: -1\nretry: 99999999999999999999999\n\n"), [with(None, None)]);
}

#[test]
fn a_comment_before_a_block_is_a_piece_of_its_own() {
    assert_eq!(
        whats(b": ping\n: ping\n\ndata: x\n\n"),
        [What::Comment, What::Comment, nothing(), event("", b"x")]
    );
    assert_eq!(whats(b": ping\r\ndata: x\n\n"), [What::Comment, What::LineFeed, event("", b"x")]);
    assert_eq!(whats(b":\r\r"), [What::Comment, nothing()]);
}

#[test]
fn a_comment_inside_a_block_belongs_to_it() {
    let expected = What::Event {
        name: String::new(),
        data: Some(b"x\ny".to_vec()),
        id: None,
        retry_ms: None,
        comments: 2,
    };
    assert_eq!(whats(b"data: x\n: c\n:\ndata: y\n\n"), [expected]);
}

#[test]
fn an_unterminated_tail_is_not_an_event() {
    for tail in ["data: x", "data: x\n", "data: x\r\n", ": half a comment"] {
        let (steps, pending) = steps(Limits::default(), &[tail.as_bytes()]);
        assert_eq!((steps.len(), pending), (0, tail.len()), "{tail:?}");
        seen(tail.as_bytes());
    }
}

#[test]
fn whole_single_line_data_is_a_slice_of_the_chunk() {
    let chunk = b"event: e\ndata: payload\n\n".to_vec();
    let mut framer = Framer::default();
    let (Step::Event(Event { content: Content::Data(data), .. }), 24) = framer.feed(&chunk) else {
        panic!("expected one event");
    };
    assert!(chunk.as_ptr_range().contains(&data.as_ptr()));
}

const SMALL: Limits = Limits { event_bytes_max: 20, overflow: Overflow::PassOver };

#[test]
fn a_block_over_the_limit_is_passed_over_and_the_next_is_read() {
    let whats: Vec<What> = seen_with(SMALL, b"data: 90123456789\n\ndata: 901234567890123\n\ndata: x\n\n")
        .into_iter()
        .map(|seen| seen.what)
        .collect();
    assert_eq!(whats, [event("", b"90123456789"), What::PassedOver, event("", b"x")]);
}

#[test]
fn the_limit_counts_every_byte_of_a_block() {
    assert_eq!(seen_with(SMALL, b"data: 901234567890\n\n")[0].what, event("", b"901234567890"));
    assert_eq!(seen_with(SMALL, b"data: 9012345678901\n\n")[0].what, What::PassedOver);
    assert_eq!(seen_with(SMALL, b"id: 1\nid: 2\nid: 3\nid: 4\nid: 5\n\n")[0].what, What::PassedOver);
    assert_eq!(seen_with(SMALL, b"data: 4\r\ndata: 4\r\ndata: 5\r\n\r\n")[0].what, What::PassedOver);
    assert_eq!(seen_with(SMALL, b"data: 1\n: 90123456789012345678\n\n")[0].what, What::PassedOver);
    assert_eq!(seen_with(SMALL, b": 3456789012345678901234567890\n\n")[0].what, What::Comment);
    assert_eq!(seen_with(SMALL, b"\xEF\xBB\xBF: 3456789012345678901234567890\n\n")[0].what, What::Comment);
    assert_eq!(
        seen_with(SMALL, b"\xEF\xBB\xBFdata: 3456789012345678901234567890\n\n")[0].what,
        What::PassedOver
    );
}

#[test]
fn breaking_stops_exactly_at_the_limit() {
    let limits = Limits { event_bytes_max: 20, overflow: Overflow::Break };
    for stream in
        ["data: 1\n\ndata: 90123456789012345678\n\n", "data: 1\n\n: 90123456789012345678901234567890\n"]
    {
        let steps = seen_with(limits, stream.as_bytes());
        assert_eq!(steps.last(), Some(&Seen { end: 29, what: What::Broken }));
    }
    assert_eq!(seen_with(limits, b"data: 901234567890\n\n").len(), 1);
}

/// The standard's algorithm, line by line, on the whole stream: what a client dispatches.
fn by_the_standard(stream: &str) -> Vec<(String, String)> {
    let stream = stream.strip_prefix('\u{FEFF}').unwrap_or(stream);
    let unified = stream.replace("\r\n", "\n").replace('\r', "\n");
    let Some((complete, _)) = unified.rsplit_once('\n') else { return Vec::new() };
    let (mut out, mut data, mut name) = (Vec::new(), String::new(), String::new());
    for line in complete.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (line, field) {
            ("", _) => {
                if let Some(data) = data.strip_suffix('\n') {
                    out.push((name.clone(), data.to_string()));
                }
                (data, name) = (String::new(), String::new());
            }
            (_, "data") => data = data + value + "\n",
            (_, "event") => name = value.to_string(),
            _ => {}
        }
    }
    out
}

fn fragment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "data",
        ":",
        " ",
        "x",
        "\n",
        "\n",
        "\r",
        "\r\n",
        "\r\n\r\n",
        "data: y",
        "data: {}\n\n",
        "event: e",
        "id: 1",
        ": c",
        "retry: 3",
        "\u{FEFF}",
        "é",
        "\0",
    ])
}

proptest! {
    #[test]
    fn steps_do_not_depend_on_the_cuts_and_agree_with_the_standard(
        parts in prop::collection::vec(fragment(), 0..24),
        places in prop::collection::vec(any::<usize>(), 0..8),
        event_bytes_max in 16usize..40,
        overflow in prop::sample::select(vec![Overflow::PassOver, Overflow::Break]),
    ) {
        let stream = parts.concat();
        let bytes = stream.as_bytes();
        let (found, _) = steps(Limits::default(), &[bytes]);
        prop_assert_eq!(&steps(Limits::default(), &cut(bytes, &places)).0, &found);
        let events: Vec<(String, String)> = found
            .into_iter()
            .filter_map(|seen| match seen.what {
                What::Event { name, data: Some(data), .. } => Some((name, owned(&data))),
                _ => None,
            })
            .collect();
        prop_assert_eq!(events, by_the_standard(&stream));

        let tight = Limits { event_bytes_max, overflow };
        let whole = steps(tight, &[bytes]);
        prop_assert_eq!(&steps(tight, &cut(bytes, &places)), &whole);
        prop_assert_eq!(&steps(tight, &bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }
}
