//! Judges whether given bytes are one body of a call: steps D1 to D5 of SPEC section 17.

use std::io::Read;

use crate::bundle::{Externals, Options, judge};
use crate::container::{Files, Input};
use crate::disclosure::Disclosure;
use crate::events::find_call;
use crate::hash::{Hash, Hasher};
use crate::reason::Reason;
use crate::report::{BodyProof, Finding, Proof, Report, Stop, Subject, Unreadable};
use crate::trust::{read_trust, unusable};
use crate::view::View;

/// Which body of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// What came from the client, or in a call that the gateway made itself, what it sent.
    #[default]
    Request,
    /// The answer as it came from the upstream.
    Upstream,
    /// The answer as the client was given it.
    Client,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Request => "request",
            Part::Upstream => "upstream",
            Part::Client => "client",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Part::Request => b"pef/v0/request-body\0",
            Part::Upstream | Part::Client => b"pef/v0/response-body\0",
        }
    }

    fn of(self, entry: View<'_>) -> Option<View<'_>> {
        match self {
            Part::Request => entry.member("request"),
            Part::Upstream => entry.member("response")?.member("upstream"),
            Part::Client => entry.member("response")?.member("client"),
        }
    }
}

/// What is asked of a call.
pub struct BodyQuestion<'a> {
    /// Id of the call, or the sequence number of its entry.
    pub call: &'a str,
    pub part: Part,
    /// The disclosed key, a document as in SPEC section 16.
    pub disclosure: &'a [u8],
    /// The whole body, without transfer coding.
    pub content: &'a mut dyn Read,
}

/// Judges a bundle, then whether the bytes are the body that it records.
///
/// # Errors
/// Only when external content or the given bytes could not be read; everything that is wrong is in the report.
pub fn verify_body(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    question: BodyQuestion<'_>,
) -> Result<Report, Unreadable> {
    let mut report = Report::new(Subject::Bundle);
    report.trust_given = options.trust.is_some();
    report.body =
        Some(BodyProof { call: question.call.to_owned(), part: question.part, ..BodyProof::default() });
    let outcome = answer(input, externals, options, question, &mut report);
    report.conclude(outcome)
}

fn answer(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    question: BodyQuestion<'_>,
    report: &mut Report,
) -> Result<(), Stop> {
    options.trust.map(read_trust).transpose().map_err(unusable)?;
    let disclosure = Disclosure::read(question.disclosure)?; // D1
    let files = judge(input, externals, options, report)?;
    prove(&files, &disclosure, question, report.body.get_or_insert_default())
}

/// D2 to D5.
fn prove(
    files: &Files<'_>,
    disclosure: &Disclosure,
    question: BodyQuestion<'_>,
    proof: &mut BodyProof,
) -> Result<(), Stop> {
    let (seq, entry) = find_call(files, question.call)?;
    proof.call = entry.text_of("call").into_owned();
    proof.seq = Some(seq);
    let body = question.part.of(entry);
    let stated = body.and_then(|body| Hash::of_text("commit:", body.text_of("commit").as_bytes()));
    let (Some(body), Some(stated)) = (body, stated) else {
        let detail =
            format!("the receipt of this call commits to no body that is its `{}`", question.part.name());
        return Err(Finding::new(Reason::BodyAbsent, detail).at(seq).into());
    };
    proof.bytes = body.member("bytes").and_then(View::count);
    disclosure.check(files, &proof.call).map_err(|finding| finding.at(seq))?;
    let key = disclosure.call_key(&proof.call).ok_or_else(|| {
        let detail = "the disclosed key is of the events of this call, and proves none of its bodies";
        Finding::new(Reason::DisclosureMismatch, detail).at(seq)
    })?;
    let (digest, bytes) = hash(question.content)?;
    if crate::hash::hmac(&key.0, &[question.part.label(), &digest.0]) != stated {
        let detail = format!(
            "the body that was recorded has {} bytes, {bytes} were given: these are other bytes, or the disclosed key is of another call",
            proof.bytes.unwrap_or_default()
        );
        return Err(Finding::new(Reason::BodyUnknown, detail).at(seq).into());
    }
    proof.verdict = Proof::Proven;
    Ok(())
}

fn hash(content: &mut dyn Read) -> Result<(Hash, u64), Unreadable> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0u64;
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Unreadable { what: "the given bytes".to_owned(), source }),
        };
        hasher.update(buffer.get(..count).unwrap_or_default());
        bytes += count as u64; // usize fits.
    }
}
