//! Recorded bytes, judged again by the policy that judged them: rules and contracts, by the machines that judge traffic.
//!
//! What detectors, controls, identities and people did is not done again. A call that one of them refused, or whose bytes another machine made
//! (lists of MCP tools, stored answers), is undecided, which is no match.

use std::collections::BTreeMap;

use bytes::Bytes;
use estoppel_bundle::{Bundle, BundlePath, OpenError, RecordedCall, RecordedEntry, Side, Source};
use estoppel_evidence::capture::Label;
use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::{RunCapture, Sha256};
use estoppel_gateway::offline::{Judgement, Refusal, Setting};
use estoppel_gateway::recorded::{self, Bodies, Retrial, Ruling};
use estoppel_policy::PolicyDocument;
use estoppel_wire::contract::Format;
use estoppel_wire::dialect::{Dialect, Framing};
use serde_json::Value;

use crate::certificate::Mode;
use crate::classes::POLICY_BYTES_MAX;
use crate::code::Code;
use crate::stored::{Stored, Verdict};
use crate::{Connections, ReplayError, Tally};

/// Judges every call of a bundle that verified. `capture` is the run's key, with which stored bodies are held against the tags of what
/// passed; `key` is drawn at random.
///
/// # Errors
/// [`ReplayError`]; what is wrong with a step is in the tally.
pub fn judge<S: Source>(
    bundle: &Bundle<S>,
    capture: Option<&RunCapture>,
    key: [u64; 2],
    tally: &mut Tally,
    connections: &mut Connections,
) -> Result<Mode, ReplayError> {
    let mut again = Again { bundle, capture, key, policies: BTreeMap::new(), holds: BTreeMap::new() };
    let mut has_bodies = false;
    let mut entries = bundle.recorded()?;
    while let Some(entry) = entries.next()? {
        let call = match entry {
            RecordedEntry::Call(call) => call,
            RecordedEntry::Other(entry) => {
                again.note_hold(&entry);
                continue;
            }
        };
        connections.look().map_err(ReplayError::Connections)?;
        has_bodies |= matches!(call.mode, BodyMode::Full | BodyMode::Redacted);
        again.step(&call).unwrap_or_else(|verdict| verdict).count(&call, tally);
    }
    connections.look().map_err(ReplayError::Connections)?;
    if has_bodies {
        return Ok(Mode::Judge);
    }
    tally.whole(Code::TagsOnly);
    Ok(Mode::Tag)
}

/// The steps of a bundle that does not verify: nothing in it is judged, but it is told whose stored bodies are not what was recorded.
///
/// # Errors
/// The entries cannot be read to their end.
pub fn examine<S: Source>(bundle: &Bundle<S>, tally: &mut Tally) -> Result<(), ReplayError> {
    let mut entries = bundle.recorded()?;
    while let Some(entry) = entries.next()? {
        let RecordedEntry::Call(call) = entry else { continue };
        let sides = [Some(&call.request), call.upstream.as_ref(), Some(&call.client)];
        let is_changed = |side: &Side| matches!(bundle.body(side), Err(OpenError::Changed { .. }));
        match sides.into_iter().flatten().any(is_changed) {
            true => tally.drifted(Code::BodyDrift, (call.seq, call.call), Vec::new()),
            false => tally.skipped(Code::Undecided),
        }
    }
    Ok(())
}

struct Again<'a, S> {
    bundle: &'a Bundle<S>,
    capture: Option<&'a RunCapture>,
    key: [u64; 2],
    policies: BTreeMap<Sha256, Option<Retrial>>,
    /// The rule of each hold.
    holds: BTreeMap<String, String>,
}

impl<S: Source> Again<'_, S> {
    fn note_hold(&mut self, entry: &Value) {
        let text = |name: &str| entry[name].as_str().map(ToOwned::to_owned);
        if entry["kind"] == "hold"
            && let (Some(hold), Some(rule)) = (text("hold"), text("rule"))
        {
            self.holds.insert(hold, rule);
        }
    }

    /// `Err` ends the step early.
    fn step(&mut self, call: &RecordedCall) -> Result<Verdict, Verdict> {
        let stored = Stored::of(self.bundle, self.capture, call)?;
        let receipt = &call.receipt;
        let Some(hash) = hash_of(receipt) else {
            return Err(Verdict::Skipped(Code::Undecided));
        };
        self.check_ruling(call, hash, &stored)?;
        let idempotency = &receipt["idempotency"]["decision"];
        if !idempotency.is_null() && idempotency != "first" {
            return Err(Verdict::Skipped(Code::Undecided));
        }
        let Some(upstream) = &call.upstream else { return Ok(self.without_answer(call, hash, &stored)) };
        let is_refused = receipt["verdict"]["action"] == "block";
        if receipt["outcome"]["complete"] != true && !is_refused {
            return Ok(Verdict::Truncated);
        }
        match (&stored.upstream, stored.client.is_some() || call.client.tag.is_some()) {
            (Some(answer), true) => self.check_answer(call, hash, stored.request.as_deref(), answer, &stored),
            _ => Err(self.absent(call, upstream)),
        }
    }

    /// Without bytes of the answer there is still what the tags say: one tag, one body, on either side.
    fn absent(&self, call: &RecordedCall, upstream: &Side) -> Verdict {
        let let_pass = call.receipt["verdict"]["action"] == "allow";
        let differs =
            upstream.tag.is_some() && (upstream.tag, upstream.bytes) != (call.client.tag, call.client.bytes);
        match call.mode {
            BodyMode::Redacted => Verdict::Skipped(Code::BodyRedacted),
            _ if let_pass && differs && call.receipt["sse"].is_null() => Verdict::drifted(Code::AnswerDrift),
            _ => Verdict::Skipped(Code::BodyAbsent),
        }
    }

    fn policy(&mut self, hash: Sha256) -> Result<&Retrial, Verdict> {
        let (bundle, key) = (self.bundle, self.key);
        let policy = self.policies.entry(hash).or_insert_with(|| {
            let text = bundle.read(&BundlePath::policy(hash), POLICY_BYTES_MAX).ok()?;
            let document = PolicyDocument::parse(&String::from_utf8(text).ok()?).ok()?;
            Some(Retrial::new(document.compile(), key))
        });
        policy.as_ref().ok_or(Verdict::Skipped(Code::Undecided))
    }

    /// What the rules say again is what they said.
    fn check_ruling(&mut self, call: &RecordedCall, hash: Sha256, stored: &Stored) -> Result<(), Verdict> {
        let receipt = &call.receipt;
        let approved = receipt["approval"]["hold"].as_str().and_then(|hold| self.holds.get(hold)).cloned();
        let bodies = Bodies { request: stored.request.clone(), answer: stored.upstream.clone() };
        let policy = self.policy(hash)?;
        let facts = recorded::RecordedCall::of_receipt(receipt, bodies, approved.as_deref(), policy);
        let said = Ruling::of_receipt(receipt);
        match (policy.rules(&facts), said) {
            (Ok(again), Some(said)) if again != said => Err(Verdict::drifted(Code::StatusDrift)),
            (Ok(_), _) => Ok(()),
            (Err(_), _) => Err(Verdict::Skipped(match call.mode {
                BodyMode::Full => Code::Undecided,
                BodyMode::Redacted => Code::BodyRedacted,
                BodyMode::None | BodyMode::Hmac => Code::BodyAbsent,
            })),
        }
    }

    /// A call that never left: the rules blocked or held it, or its own values did not keep their contract.
    fn without_answer(&mut self, call: &RecordedCall, hash: Sha256, stored: &Stored) -> Verdict {
        let receipt = &call.receipt;
        if let Some(said) = Ruling::of_receipt(receipt) {
            return match said.verdict.lets_go() {
                true => Verdict::Skipped(Code::Undecided),
                false => Verdict::Matched,
            };
        }
        let Some(request) = &stored.request else {
            let mode = call.mode;
            return Verdict::Skipped(if mode == BodyMode::Full { Code::Undecided } else { Code::BodyAbsent });
        };
        let refused = self.setting(call, hash).and_then(|setting| {
            let (setting, dialect) = (setting?, dialect_of(receipt)?);
            let request = Bytes::copy_from_slice(request);
            Judgement::answer(&setting, dialect, Framing::Json, Some(&request), self.key).err()
        });
        match refused {
            Some(refusal) if receipt["verdict"]["reason"] == refusal.reason.code() => Verdict::Matched,
            _ => Verdict::Skipped(Code::Undecided),
        }
    }

    /// How the values of a call are judged, as its policy says; `Some(None)` if they are not.
    fn setting(&mut self, call: &RecordedCall, hash: Sha256) -> Option<Option<Setting>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (route, operation) = (text(&call.receipt["request"]["route"]), text(&call.receipt["operation"]));
        let policy = self.policy(hash).ok()?.policy();
        let setting = match policy.route(&route).operations.get(&operation) {
            Some(_) => Setting::of_operation(policy, &route, &operation),
            None => Setting::of_route(policy, &route),
        };
        setting.ok()
    }

    fn check_answer(
        &mut self,
        call: &RecordedCall,
        hash: Sha256,
        request: Option<&[u8]>,
        answer: &[u8],
        stored: &Stored,
    ) -> Result<Verdict, Verdict> {
        let receipt = &call.receipt;
        let undecided = Verdict::Skipped(Code::Undecided);
        let (out, refusal) = match self.setting(call, hash) {
            None => return Err(undecided),
            Some(None) => (answer.to_vec(), None),
            Some(Some(setting)) => judged(&setting, receipt, request, answer, self.key).ok_or(undecided)?,
        };
        let by_rules = Ruling::of_receipt(receipt).is_some_and(|said| !said.verdict.lets_go());
        let is_block = receipt["verdict"]["action"] == "block";
        match (is_block, refusal) {
            _ if by_rules => Ok(Verdict::Matched),
            (true, Some(refusal)) if receipt["verdict"]["reason"] == refusal.reason.code() => {
                Ok(begins(stored.client.as_deref(), &out))
            }
            // Something else refused it, which is not asked again.
            (true, None) => Err(Verdict::Skipped(Code::Undecided)),
            (true | false, Some(_)) => Ok(Verdict::drifted(Code::StatusDrift)),
            (false, None) => Ok(self.compare(call, &out, stored)),
        }
    }

    fn compare(&self, call: &RecordedCall, out: &[u8], stored: &Stored) -> Verdict {
        let same = match (&stored.client, self.capture, call.client.tag) {
            (Some(client), ..) => {
                client == out
                    || call.receipt["sse"].is_object()
                        && recorded::without_keepalives(client) == recorded::without_keepalives(out)
            }
            (None, Some(capture), Some(tag)) => capture.tag(Label::ResponseBody, &Sha256::of(out).0) == tag,
            (None, ..) => return Verdict::Skipped(Code::BodyAbsent),
        };
        match same {
            true => Verdict::Matched,
            // Lists of tools and the like are changed by machines that this does not run.
            false if call.receipt["dialect"] == "mcp" => Verdict::Skipped(Code::Undecided),
            false => Verdict::drifted(Code::AnswerDrift),
        }
    }
}

/// A refused answer begins with what had left before, in a stream.
fn begins(client: Option<&[u8]>, out: &[u8]) -> Verdict {
    let Some(client) = client else { return Verdict::Skipped(Code::BodyAbsent) };
    let (client, out) = (recorded::without_keepalives(client), recorded::without_keepalives(out));
    if client.starts_with(&out) { Verdict::Matched } else { Verdict::drifted(Code::AnswerDrift) }
}

fn hash_of(receipt: &Value) -> Option<Sha256> {
    serde_json::from_value(receipt["policy"]["hash"].clone()).ok()
}

fn dialect_of(receipt: &Value) -> Option<Dialect> {
    receipt["dialect"].as_str()?.parse().ok()
}

/// What leaves, and why no more does; none if these bytes are judged by a machine that this has not.
fn judged(
    setting: &Setting,
    receipt: &Value,
    request: Option<&[u8]>,
    answer: &[u8],
    key: [u64; 2],
) -> Option<(Vec<u8>, Option<Refusal>)> {
    let dialect = dialect_of(receipt)?;
    // What an upstream says of an error is not held against contracts.
    if !matches!(receipt["response"]["upstream"]["status"].as_u64(), Some(200..=299)) {
        return Some((answer.to_vec(), None));
    }
    let is_stream = receipt["sse"].is_object();
    let was_judged = receipt["evaluated"]["response"]["state"] == "judged";
    let is_blocked = receipt["verdict"]["action"] == "block";
    let request = request.map(Bytes::copy_from_slice);
    let begun = match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages | Dialect::Gemini => {
            let framing = if is_stream { Framing::Sse } else { Framing::Json };
            Judgement::answer(setting, dialect, framing, request.as_ref(), key)
        }
        Dialect::Json | Dialect::Bytes => match setting.answer() {
            None => return Some((answer.to_vec(), None)),
            Some(contract) => {
                let format = match (is_stream, contract.is_csv()) {
                    (true, _) => Format::Events,
                    (_, true) => Format::Csv,
                    _ if serde_json::from_slice::<Value>(answer).is_ok() => Format::Json,
                    _ => return None,
                };
                Judgement::body(setting, &contract, format, key)
            }
        },
        Dialect::Mcp => return None,
    };
    let mut judgement = match begun {
        Ok(judgement) => judgement,
        Err(refusal) => return Some((Vec::new(), Some(refusal))),
    };
    let mut out = Vec::new();
    let fed = judgement.feed(&Bytes::copy_from_slice(answer), &mut out);
    match fed.and_then(|()| judgement.finish(&mut out)) {
        // The answer's head, which is not recorded, said that it was none to be judged.
        Err(_) if !was_judged && !is_blocked => None,
        ended => Some((out.concat(), ended.err())),
    }
}
