//! The trace that a caller's request is part of (W3C Trace Context, level 2): noted in the receipt, so that spans made of
//! receipts join it. Nothing is decided by it, and the upstream gets the headers as they came, whatever is in them.

use estoppel_evidence::entry::TraceContext;
use http::HeaderMap;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Length of a `traceparent` as far as it is known here; later versions may go on after it.
const PARENT_BYTES: usize = 55;
/// Most bytes of a `tracestate` that are noted. Of a longer one nothing is: half of a state means something else.
const STATE_BYTES_MAX: usize = 512;
/// Most members of a `tracestate` (section 3.3.1.2).
const STATE_MEMBERS_MAX: usize = 32;

/// What the headers say, where they keep the grammar. Without a valid `traceparent` a `tracestate` means nothing.
pub(crate) fn read(headers: &HeaderMap) -> Option<Box<TraceContext>> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let parent = parent(values.next()?.to_str().ok()?).filter(|_| values.next().is_none())?;
    Some(Box::new(TraceContext { parent: parent.into(), state: state(headers) }))
}

/// The version, both ids and the flags (section 3.2.2).
fn parent(text: &str) -> Option<&str> {
    let known = text.get(..PARENT_BYTES)?;
    let goes_on = text.len() > PARENT_BYTES;
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits| {
        part.len() == digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |part, digits| is_hex(part, digits) && part.bytes().any(|b| b != b'0');
    let is_valid = parts.next().is_none()
        && is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(span, 16)
        && is_hex(flags, 2)
        && (!goes_on || version != "00" && text.as_bytes().get(PARENT_BYTES) == Some(&b'-'));
    is_valid.then_some(known)
}

/// The members of all `tracestate` headers in order, without the spaces and empty members between them (section 3.3.1).
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        for member in value.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_known = members.iter().any(|(known, _)| *known == key);
            if !is_key(key) || !is_value(value) || is_known || members.len() == STATE_MEMBERS_MAX {
                return None;
            }
            members.push((key, value));
        }
    }
    let joined = members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    (1..=STATE_BYTES_MAX).contains(&joined.len()).then(|| joined.into())
}

fn is_key(key: &str) -> bool {
    let is_start = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    key.len() <= 256
        && key.bytes().next().is_some_and(is_start)
        && key.bytes().all(|b| is_start(b) || b"_-*/@".contains(&b))
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<(String, Option<String>)> {
        let mut headers = HeaderMap::new();
        for (name, values) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
            for value in values {
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        super::read(&headers).map(|trace| (trace.parent.into(), trace.state.map(Into::into)))
    }

    #[test]
    fn a_parent_that_keeps_the_grammar_is_noted_as_it_came() {
        for flags in ["00", "01", "ff"] {
            let parent = format!("{}{flags}", &PARENT[..53]);
            assert_eq!(read(&[&parent], &[]), Some((parent, None)));
        }
        let later = format!("cc{}", &PARENT[2..]);
        for more in ["", "-", "-what-the-future-will-be-like"] {
            assert_eq!(read(&[&format!("{later}{more}")], &[]), Some((later.clone(), None)));
        }
    }

    #[test]
    fn a_parent_that_does_not_keep_it_is_not_noted() {
        let ids = &PARENT[3..52];
        for parent in [
            "".into(),
            "00".into(),
            PARENT[..54].into(),
            format!("{PARENT}-00"),
            format!("{PARENT}."),
            format!("cc-{ids}-01."),
            format!("ff-{ids}-01"),
            format!("0-{ids}-001"),
            format!("0A-{ids}-01"),
            format!("00-{ids}-0G"),
            format!("00_{ids}_01"),
            format!("00-{}-{}-01", "0".repeat(32), &PARENT[36..52]),
            format!("00-{}-{}-01", &PARENT[3..35], "0".repeat(16)),
            PARENT.to_uppercase(),
            format!(" {PARENT}"),
            format!("00-{}é-00f067aa0ba902b7-01", "4".repeat(30)),
            PARENT.replacen("4b", "é", 1),
        ] {
            assert_eq!(read(&[&parent], &["a=1"]), None, "{parent}");
        }
        assert_eq!(read(&[PARENT, PARENT], &[]), None, "which of two, nobody knows");
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn a_state_is_noted_whole_or_not_at_all() {
        let state = |states: &[&str]| read(&[PARENT], states).unwrap().1;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            state(&["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"]),
            some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
        );
        assert_eq!(state(&["a=1 ,\tb=2,,", "", "t1@sys=x y"]), some("a=1,b=2,t1@sys=x y"));
        for bad in ["a", "=1", "a=", "A=1", "a=1=2", "a=é", "a=1,a=2", "@a=1", "a b=1"] {
            assert_eq!(state(&[bad]), None, "{bad}");
        }
        let members = |count: u32| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert!(state(&[&members(32)]).is_some());
        assert_eq!(state(&[&members(33)]), None);
        let long = |bytes: usize| format!("a={},b={}", "x".repeat(200), "x".repeat(bytes - 205));
        assert_eq!(state(&[&long(405)]), Some(long(405)));
        let whole = format!("{},c={}", long(405), "x".repeat(104));
        assert_eq!((whole.len(), state(&[&whole])), (512, Some(whole.clone())));
        assert_eq!(state(&[&format!("{whole}x")]), None);
        assert_eq!(state(&[&format!("{}=1", "k".repeat(257))]), None);
        assert_eq!(state(&[&format!("k={}", "v".repeat(257))]), None);
    }
}
