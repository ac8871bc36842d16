//! What a script may not say. Every problem is reported, each with the place where it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use crate::answer::Source;
use crate::script::{Body, Delays, Fault, Framing, Reply, Rule, Script, Split, SseEvent, Writes};

/// Longest pause, one day: a longer one is a typing error.
const DELAY_MS_MAX: u64 = 86_400_000;

/// Why a script was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script contradicts itself: {}", problems.join("; "))]
pub struct ScriptError {
    /// Each starts with the place, such as `rules[2].reply.status`.
    pub problems: Vec<String>,
}

pub(super) fn check(script: &Script) -> Result<(), ScriptError> {
    let mut problems = Vec::new();
    for (position, rule) in script.rules.iter().enumerate() {
        let mut report = |what: String| problems.push(format!("rules[{position}].{what}"));
        check_rule(rule, &mut report);
    }
    check_reply(&script.otherwise, &mut |what| problems.push(format!("otherwise.{what}")));
    if problems.is_empty() { Ok(()) } else { Err(ScriptError { problems }) }
}

/// Every contradiction of one reply.
pub(super) fn problems(reply: &Reply) -> Vec<String> {
    let mut problems = Vec::new();
    check_reply(reply, &mut |what| problems.push(what));
    problems
}

fn check_rule(rule: &Rule, report: &mut dyn FnMut(String)) {
    if rule.path.matches('*').count() > 1 {
        report(format!("path: more than one `*` in `{}`", rule.path));
    }
    if rule.before_body && rule.body_contains.is_some() {
        report("before_body: cannot wait for the body that `body_contains` needs".to_owned());
    }
    if rule.before_body && matches!(rule.reply.body, Body::Echo | Body::Model(_)) {
        report("before_body: the reply is made from a body that is not read".to_owned());
    }
    if let Some(header) = &rule.header
        && HeaderName::try_from(&header.name).is_err()
    {
        report(format!("header.name: `{}` is no header name", header.name));
    }
    check_reply(&rule.reply, &mut |what| report(format!("reply.{what}")));
}

fn check_reply(reply: &Reply, report: &mut dyn FnMut(String)) {
    if !(200..=999).contains(&reply.status) {
        report(format!("status: {} is not within 200 to 999", reply.status));
    }
    if let Some(reason) = &reply.reason
        && HeaderValue::try_from(reason).is_err()
    {
        report("reason: has a control character".to_owned());
    }
    for interim in &reply.interim {
        if !(100..200).contains(&interim.status) || interim.status == 101 {
            report(format!("interim: {} is not within 100 to 199, or is 101", interim.status));
        }
        check_headers("interim.headers", &interim.headers, report);
    }
    check_headers("headers", &reply.headers, report);
    check_headers("trailers", &reply.trailers, report);
    check_body(&reply.body, report);
    check_framing(reply, report);
    check_cuts(reply, report);
    check_time(reply, report);
}

fn check_headers(place: &str, headers: &[(String, String)], report: &mut dyn FnMut(String)) {
    for (name, value) in headers {
        if HeaderName::try_from(name).is_err() {
            report(format!("{place}: `{name}` is no header name (use framing `raw` for broken heads)"));
        }
        if HeaderValue::try_from(value).is_err() {
            report(format!("{place}: the value of `{name}` has a control character"));
        }
    }
}

fn check_body(body: &Body, report: &mut dyn FnMut(String)) {
    match body {
        Body::Base64(text) if STANDARD.decode(text).is_err() => {
            report("body.base64: not standard base64 with padding".to_owned());
        }
        Body::Repeat { text, times } if Source::repeat(text.as_bytes(), *times, "".into()).is_none() => {
            report("body.repeat: more bytes than fit in 64 bits".to_owned());
        }
        Body::Sse { events, .. } => {
            for (position, event) in events.iter().enumerate() {
                check_event(event, &mut |what| report(format!("body.sse.events[{position}].{what}")));
            }
        }
        Body::Model(model) if model.fragment_bytes == Some(0) => {
            report("body.model.fragment_bytes: must not be 0".to_owned());
        }
        _ => {}
    }
}

fn check_event(event: &SseEvent, report: &mut dyn FnMut(String)) {
    let fields = SseEvent { raw: None, ..event.clone() };
    if event.raw.is_some() && fields != SseEvent::default() {
        report("raw: stands alone".to_owned());
    }
    let broken = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains(['\r', '\n']));
    if broken(&event.event) || broken(&event.id) || broken(&event.comment) {
        report("event, id, comment: must be one line (use `raw`)".to_owned());
    }
    if event.data.as_ref().is_some_and(|data| data.contains('\r')) {
        report("data: a carriage return would end the line (use `raw`)".to_owned());
    }
}

fn check_framing(reply: &Reply, report: &mut dyn FnMut(String)) {
    let chunked = matches!(reply.framing, None | Some(Framing::Chunked));
    if !reply.trailers.is_empty() && !chunked {
        report("trailers: need framing `chunked`".to_owned());
    }
    if reply.framing == Some(Framing::Raw) {
        let bare = reply.headers.is_empty() && reply.interim.is_empty() && reply.reason.is_none();
        if !bare || reply.status != 200 {
            report("framing: with `raw` the body is the whole answer; status, reason, interim, headers do not go with it".to_owned());
        }
    }
}

fn check_cuts(reply: &Reply, report: &mut dyn FnMut(String)) {
    match &reply.split {
        Split::Each { bytes: 0 } => report("split.each.bytes: must not be 0".to_owned()),
        Split::At { offsets } if !offsets.is_sorted() => report("split.at.offsets: not ascending".to_owned()),
        _ => {}
    }
    match &reply.writes {
        Writes::Each { bytes: 0 } => report("writes.each.bytes: must not be 0".to_owned()),
        Writes::At { offsets } if !offsets.is_sorted() => {
            report("writes.at.offsets: not ascending".to_owned())
        }
        _ => {}
    }
}

fn check_time(reply: &Reply, report: &mut dyn FnMut(String)) {
    let Delays { before_head, before_body, between_writes } = reply.delay_ms;
    if before_head.max(before_body).max(between_writes) > DELAY_MS_MAX {
        report(format!("delay_ms: more than {DELAY_MS_MAX}"));
    }
    let slow = |fault: &&Fault| matches!(fault, Fault::Slow { .. });
    let slow_count = reply.faults.iter().filter(slow).count();
    if reply.faults.len() - slow_count > 1 {
        report("faults: an answer can end only once".to_owned());
    }
    if slow_count > 1 {
        report("faults: more than one `slow`".to_owned());
    }
    for fault in &reply.faults {
        if let Fault::Slow { bytes_per_write, every_ms } = *fault {
            if bytes_per_write == 0 || every_ms > DELAY_MS_MAX {
                report(format!(
                    "faults.slow: bytes_per_write must not be 0, every_ms at most {DELAY_MS_MAX}"
                ));
            }
            if reply.writes != Writes::PerPiece || between_writes != 0 {
                report("faults.slow: sets the writes and the pause between them by itself".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{HeaderMatch, Interim};

    fn check(reply: Reply, place: &str) {
        let error = super::check(&Script::always(reply)).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        assert!(error.problems[0].starts_with(&format!("otherwise.{place}:")), "{error}");
    }

    #[test]
    fn each_contradiction_is_named_with_its_place() {
        let new = Reply::default;
        let event =
            |event: SseEvent| Reply::new(Body::Sse { events: vec![event], line_end: Default::default() });
        check(new().status(101), "status");
        check(Reply { reason: Some("a\r\nb".into()), ..new() }, "reason");
        check(Reply { interim: vec![Interim { status: 101, headers: vec![] }], ..new() }, "interim");
        check(new().header("a b", "c"), "headers");
        check(new().header("a", "b\nc"), "headers");
        check(new().trailer("", "c"), "trailers");
        check(new().trailer("a", "b").framing(Framing::ContentLength), "trailers");
        check(new().header("a", "b").framing(Framing::Raw), "framing");
        check(Reply::new(Body::Base64("?".into())), "body.base64");
        check(Reply::new(Body::Repeat { text: "ab".into(), times: u64::MAX }), "body.repeat");
        check(
            event(SseEvent { id: Some("a\nb".into()), ..Default::default() }),
            "body.sse.events[0].event, id, comment",
        );
        check(
            event(SseEvent { raw: Some("a".into()), retry: Some(1), ..Default::default() }),
            "body.sse.events[0].raw",
        );
        check(new().split(Split::Each { bytes: 0 }), "split.each.bytes");
        check(new().split(Split::At { offsets: vec![2, 1] }), "split.at.offsets");
        check(new().writes(Writes::Each { bytes: 0 }), "writes.each.bytes");
        check(new().writes(Writes::At { offsets: vec![2, 1] }), "writes.at.offsets");
        check(new().delay_ms(Delays { before_head: u64::MAX, ..Delays::default() }), "delay_ms");
        check(new().fault(Fault::NoAnswer).fault(Fault::Reset { after_bytes: 1 }), "faults");
        check(new().fault(Fault::Slow { bytes_per_write: 0, every_ms: 1 }), "faults.slow");
        check(
            new().fault(Fault::Slow { bytes_per_write: 1, every_ms: 1 }).writes(Writes::Joined),
            "faults.slow",
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let header = Some(HeaderMatch { name: "a:".into(), value: None });
        let reply = Reply::new(Body::Echo).status(1);
        let rule =
            Rule { before_body: true, body_contains: Some("x".into()), header, ..Rule::any("*/*", reply) };
        let error = super::check(&Script::default().on(Rule::default()).on(rule)).unwrap_err();
        assert_eq!(error.problems.len(), 5, "{error}");
        assert!(error.problems.iter().all(|problem| problem.starts_with("rules[1].")), "{error}");
        assert!(error.to_string().contains("rules[1].reply.status: 1 is not within"));
    }

    #[test]
    fn slow_goes_with_one_fault_that_ends_the_answer() {
        let slow = Fault::Slow { bytes_per_write: 1, every_ms: 1 };
        let reply = Reply::default().fault(slow).fault(Fault::Stall { after_bytes: 3 });
        assert_eq!(super::check(&Script::always(reply)), Ok(()));
    }
}
