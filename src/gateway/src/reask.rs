//! One further request where a model's answer was refused: the client's own, with the refused answer and why it was
//! refused as the next turns of the conversation (`judge.reask` of the policy).
//!
//! Here is what such a request is made of, and when there is none. `exchange/again.rs` makes the second call of it,
//! with a place of its own in the evidence; `layer/forward.rs` sends it.
//!
//! Promises:
//! - At most one for a call, and only if nothing of the first answer has left.
//! - None where asking again could repeat an effect: tools that the upstream calls itself, conversations that it keeps.
//! - The model is told a code, or a place and a keyword, in at most [`TOLD_BYTES_MAX`] bytes; never a value.

mod request;
mod turns;

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_policy::{ReaskTerms, Tell};
use estoppel_wire::dialect::{Dialect, Framing};
use estoppel_wire::sse::{Content, Framer, Limits, Step};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::body::Room;
use crate::judging;

/// Most bytes of a refused answer that is said back. It is read into a tree, which takes a multiple of them.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Most bytes of what a model is told.
const TOLD_BYTES_MAX: usize = 1024;

/// What OpenAI's streams end with.
const DONE: &[u8] = b"[DONE]";

/// Keys by which an upstream takes two requests for one.
const IDEMPOTENCY: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];

/// What is kept of a call as long as it may be asked again.
pub(crate) struct Origin {
    pub(crate) head: Box<Parts>,
    pub(crate) terms: ReaskTerms,
    body: Vec<Bytes>,
    answer: Vec<Bytes>,
    bytes: u64,
    answer_bytes: u64,
    /// Why it cannot be asked again, as far as that is known already.
    hindrance: Option<NotAsked>,
    /// For body and answer.
    room: Room,
}

/// What became of the wish to ask again, where nothing was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotAsked {
    /// The request or the answer is none that can be put into one conversation, or asking could repeat an effect.
    Unfit,
    /// The answer, or the second request, is too large.
    BytesMax,
    /// The call's time is over.
    TotalTime,
    /// There is no memory for the second request.
    NoMemory,
    /// There is no place in the evidence.
    NoEvidence,
}

impl NotAsked {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unfit => "unfit",
            Self::BytesMax => "bytes_max",
            Self::TotalTime => "total_time",
            Self::NoMemory => "no_memory",
            Self::NoEvidence => "no_evidence",
        }
    }
}

impl Origin {
    /// None without room in `memory`.
    pub(crate) fn new(
        head: &Parts,
        body: &[Bytes],
        terms: ReaskTerms,
        memory: &Arc<Semaphore>,
    ) -> Option<Box<Self>> {
        let signed = judging::is_signed(&head.headers) || is_signed_by_aws(&head.headers);
        let bytes = body.iter().map(|piece| piece.len() as u64).sum();
        let mut room = Room::default();
        room.hold(memory, bytes).ok()?;
        Some(Box::new(Self {
            head: Box::new(head.clone()),
            terms,
            body: body.to_vec(),
            answer: Vec::new(),
            bytes,
            answer_bytes: 0,
            hindrance: signed.then_some(NotAsked::Unfit), // its bytes would be others
            room,
        }))
    }

    /// Takes note of a piece of the answer.
    pub(crate) fn hear(&mut self, piece: &Bytes, memory: &Arc<Semaphore>) {
        if self.hindrance.is_some() {
            return;
        }
        self.answer_bytes += piece.len() as u64;
        self.answer.push(piece.clone());
        if self.answer_bytes > ANSWER_BYTES_MAX {
            self.give_up(NotAsked::BytesMax);
        } else if self.room.hold(memory, self.bytes + self.answer_bytes).is_err() {
            self.give_up(NotAsked::NoMemory);
        }
    }

    fn give_up(&mut self, hindrance: NotAsked) {
        self.hindrance = Some(hindrance);
        (self.body, self.answer, self.room) = (Vec::new(), Vec::new(), Room::default());
    }

    /// The body of the second request.
    pub(crate) fn compose(
        &self,
        dialect: Dialect,
        framing: Framing,
        told: &str,
        bytes_max: u64,
    ) -> Result<Bytes, NotAsked> {
        if let Some(hindrance) = self.hindrance {
            return Err(hindrance);
        }
        let answer = read(&self.answer.concat(), framing).ok_or(NotAsked::Unfit)?;
        let turns = turns::after(dialect, &answer, told).ok_or(NotAsked::Unfit)?;
        let body = request::with_turns(dialect, &self.body.concat(), &turns).ok_or(NotAsked::Unfit)?;
        let bytes_max = self.terms.bytes_max().map_or(bytes_max, |own| own.min(bytes_max));
        if body.len() as u64 > bytes_max { Err(NotAsked::BytesMax) } else { Ok(body.into()) }
    }

    /// The head of the second request, which no upstream takes for the first one's; `key` is new.
    pub(crate) fn into_head(mut self, key: &str) -> Box<Parts> {
        for name in &IDEMPOTENCY {
            if let (true, Ok(key)) = (self.head.headers.contains_key(name), HeaderValue::try_from(key)) {
                self.head.headers.insert(name, key);
            }
        }
        self.head
    }
}

/// Whether a value that is refused for this may come out better the next time.
pub(crate) fn is_worth_it(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ContractViolated | Reason::ContractMissing | Reason::ValueMalformed | Reason::ValueTruncated
    )
}

/// What the model is told: `detail` has places and names, no values.
pub(crate) fn told(terms: ReaskTerms, reason: Reason, detail: Option<&str>) -> String {
    let place = match (terms.tell(), detail) {
        (Tell::Place, Some(detail)) => format!(": {detail}"),
        (Tell::Code, _) | (Tell::Place, None) => String::new(),
    };
    let mut told = format!(
        "Your answer was refused before anyone saw it, and none of its calls was made. {}{place}. \
         Answer again, with values that keep to their schemas.",
        reason.code()
    );
    let end = (0..=TOLD_BYTES_MAX).rev().find(|at| told.is_char_boundary(*at));
    told.truncate(end.unwrap_or_default());
    told
}

/// Lists that answers of models are in, of whatever dialect.
#[derive(Deserialize)]
struct Lists {
    #[serde(alias = "output", alias = "content", alias = "candidates")]
    choices: Option<Vec<IgnoredAny>>,
}

/// Whether there is nothing in an answer that a model could have said. What cannot be read is not judged here.
pub(crate) fn is_no_answer(answer: &[Bytes], framing: Framing) -> bool {
    let mut bytes = answer.iter().flatten();
    if bytes.all(|byte| byte.is_ascii_whitespace()) {
        return true;
    }
    let lists = |body: &[u8]| serde_json::from_slice::<Lists>(body);
    framing == Framing::Json
        && lists(&answer.concat()).is_ok_and(|lists| lists.choices.is_none_or(|list| list.is_empty()))
}

/// An answer as it came, read.
fn read(answer: &[u8], framing: Framing) -> Option<turns::Answer> {
    if framing != Framing::Sse {
        let documents = vec![serde_json::from_slice(answer).ok()?];
        return Some(turns::Answer { documents, is_stream: false });
    }
    let mut documents = Vec::<Value>::new();
    let mut framer = Framer::new(Limits { event_bytes_max: answer.len(), ..Limits::default() });
    let mut rest = answer;
    loop {
        let (step, taken) = framer.feed(rest);
        match step {
            Step::NeedMore => return Some(turns::Answer { documents, is_stream: true }),
            Step::Event(event) => match event.content {
                Content::Data(data) if data.is_empty() || data == DONE => {}
                Content::Data(data) => documents.push(serde_json::from_slice(data).ok()?),
                Content::Nothing => {}
                Content::PassedOver(_) => return None,
            },
            Step::Comment { .. } | Step::LineFeed => {}
            Step::Broken(_) => return None,
        }
        rest = rest.get(taken..)?;
    }
}

fn is_signed_by_aws(headers: &HeaderMap) -> bool {
    let value = headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    value.starts_with(b"AWS4-") || headers.contains_key("x-amz-content-sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_is_told_is_bounded_and_holds_back_what_the_policy_says() {
        let told = |terms, detail: &str| told(terms, Reason::ContractViolated, Some(detail));
        let place = ReaskTerms::default();
        assert!(told(place, "call of `f`: fails `/required`").contains("CONTRACT_VIOLATED: call of `f`"));
        for filler in ["é", "xé"] {
            let told = told(place, &filler.repeat(2000));
            assert!((TOLD_BYTES_MAX - 2..=TOLD_BYTES_MAX).contains(&told.len()), "{}", told.len());
        }
    }

    #[test]
    fn events_are_read_however_their_lines_end() {
        for end in ["\n", "\r\n", "\r"] {
            let lines =
                [": hello", "", "event: x", "data: {\"a\":", "data: 1}", "", "data: [DONE]", "", "data: {"];
            let answer = read(lines.join(end).as_bytes(), Framing::Sse).unwrap();
            assert_eq!(answer.documents, [serde_json::json!({ "a": 1 })], "{end:?}");
        }
        assert!(read(b"data: {\n\n", Framing::Sse).is_none());
        assert!(read(b"{", Framing::Json).is_none());
    }

    #[test]
    fn a_key_is_new_only_where_there_was_one() {
        let semaphore = Arc::new(Semaphore::new(1 << 20));
        let head = |names: &[&'static str]| {
            let mut request = http::Request::new(());
            names
                .iter()
                .for_each(|name| drop(request.headers_mut().insert(*name, HeaderValue::from_static("k"))));
            let origin =
                Origin::new(&request.into_parts().0, &[], ReaskTerms::default(), &semaphore).unwrap();
            let head = origin.into_head("new");
            let read = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            ["idempotency-key", "x-idempotency-key", "x-other"].map(read)
        };
        let new = Some("new".to_owned());
        assert_eq!(head(&["idempotency-key", "x-other"]), [new.clone(), None, Some("k".to_owned())]);
        assert_eq!(head(&["x-idempotency-key"]), [None, new, None]);
        assert_eq!(head(&[]), [None, None, None]);
    }
}
