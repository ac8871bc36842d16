//! A report in plain words: what is proven, what is not, and what to do next.

use crate::reason::Reason;
use crate::report::{
    Anchoring, Authenticity, BodyProof, Completeness, Integrity, Proof, Report, Standing, StreamProof,
    Subject,
};

/// What a report means, one sentence or two a line, for a reader who has not read SPEC.
pub fn explain(report: &Report) -> Vec<String> {
    let mut lines = vec![headline(report)];
    if let Some(finding) = &report.finding {
        lines.push(format!("Why: {} ({}).", finding.reason.meaning(), finding.reason.code()));
        lines.push(format!("Details: {}.", finding.detail));
    }
    lines.push(integrity(report));
    lines.push(authenticity(report));
    lines.push(completeness(report));
    lines.push(anchoring(report));
    lines.extend(report.stream.as_ref().map(stream));
    lines.extend(report.body.as_ref().map(body));
    lines.extend(signatures(report));
    lines.extend(next_step(report).map(|step| format!("Next: {step}")));
    lines
}

fn headline(report: &Report) -> String {
    let subject = report.subject.name();
    let Some(finding) = &report.finding else {
        return match report.subject {
            Subject::Bundle | Subject::Journal => {
                format!("The {subject} passed every step; {} entries were read.", report.entries)
            }
            Subject::Receipt | Subject::Checkpoint => format!("The {subject} passed every step."),
        };
    };
    let place = match (finding.seq, finding.index) {
        (Some(seq), Some(index)) => format!(" at log index {index}, entry {seq} of its run"),
        (Some(seq), None) => format!(" at entry {seq}"),
        (None, Some(index)) => format!(" at log index {index}"),
        (None, None) => String::new(),
    };
    if finding.reason == Reason::DisclosureInvalid {
        return format!("The {subject} was not judged, because the disclosed key is not usable.");
    }
    if report.verdicts.integrity == Integrity::Ok && report.stream.is_some() {
        return format!("The {subject} passed every step; what you asked of a stream did not.");
    }
    if report.verdicts.integrity == Integrity::Ok && report.body.is_some() {
        return format!("The {subject} passed every step; what you asked of a body did not.");
    }
    if finding.reason == Reason::TrustInvalid {
        return format!("The {subject} could not be judged, because the trust document is not usable.");
    }
    format!("The {subject} did not pass{place}. What comes after the first failing step was not looked at.")
}

fn integrity(report: &Report) -> String {
    match report.verdicts.integrity {
        Integrity::Ok => {
            "Integrity ok: every byte is as it was when it was signed; nothing was changed, removed \
                          from the middle, added or put in another order."
                .to_owned()
        }
        Integrity::Failed => {
            "Integrity failed: the bytes are not those that were sealed, or were never well \
                              formed."
                .to_owned()
        }
        Integrity::Unchecked => {
            "Integrity unchecked: the verification ended before this was decided; do not rely on the content."
                .to_owned()
        }
    }
}

fn authenticity(report: &Report) -> String {
    match report.verdicts.authenticity {
        Authenticity::Trusted => {
            "Authenticity trusted: the signatures verify with keys that you gave as trusted.".to_owned()
        }
        Authenticity::SelfAsserted => format!(
            "Authenticity self_asserted: the signatures verify, but nobody vouched for the keys. The {} brought \
             its own; whoever rewrote it whole could have brought others.",
            report.subject.name()
        ),
        Authenticity::Failed => {
            "Authenticity failed: a signature is missing or wrong, or a key is not one that may have signed."
                .to_owned()
        }
        Authenticity::Unchecked if report.subject == Subject::Journal && report.passed() => {
            "Authenticity unchecked: entries at the end have no signature of their own that was verified, and no \
             checkpoint covers them yet."
                .to_owned()
        }
        Authenticity::Unchecked => "Authenticity unchecked: it is not known whose word this is.".to_owned(),
    }
}

fn completeness(report: &Report) -> String {
    match (report.verdicts.completeness, report.subject) {
        (Completeness::Complete, Subject::Journal) => format!(
            "Completeness complete: no entry is missing of those that the checkpoint signs that you gave. {}",
            runs(report)
        ),
        (Completeness::Complete, _) => {
            "Completeness complete: the run is sealed, no entry is missing, and all content that it names is there."
                .to_owned()
        }
        (Completeness::Open, _) => "Completeness open: the run has no seal, so entries may be missing at its end, \
                                    and nothing could show it."
            .to_owned(),
        (Completeness::Failed, Subject::Journal) => {
            "Completeness failed: a signed checkpoint proves that there were more entries.".to_owned()
        }
        (Completeness::Failed, _) => {
            "Completeness failed: content that is kept beside the bundle is missing or has changed.".to_owned()
        }
        (Completeness::Unchecked, Subject::Journal) if report.passed() => format!(
            "Completeness unchecked: entries may have been cut off at the end, and the file `checkpoint` with them; \
             only a checkpoint that was kept elsewhere would show it. {}",
            runs(report)
        ),
        (Completeness::Unchecked, Subject::Receipt | Subject::Checkpoint) => {
            "Completeness unchecked: one document alone says nothing about what else was recorded.".to_owned()
        }
        (Completeness::Unchecked, _) => "Completeness unchecked: it is not known whether anything is missing.".to_owned(),
    }
}

fn runs(report: &Report) -> String {
    format!("{} of {} runs are still open.", report.runs.saturating_sub(report.runs_sealed), report.runs)
}

fn anchoring(report: &Report) -> String {
    match (report.verdicts.anchoring, report.subject) {
        (Anchoring::Anchored, Subject::Journal) => {
            "Anchoring anchored: the journal still contains all that the checkpoint you gave signs.".to_owned()
        }
        (Anchoring::Anchored, _) => format!(
            "Anchoring anchored: the seal is entry {} of the instance's log, by a checkpoint of that log.",
            report.anchor_index.unwrap_or_default()
        ),
        (Anchoring::Absent, Subject::Journal) => {
            "Anchoring absent: you gave no checkpoint that was kept elsewhere, so a journal cut back to an older \
             state, with an older checkpoint beside it, would look the same."
                .to_owned()
        }
        (Anchoring::Absent, _) => {
            "Anchoring absent: nothing shows that this run is in the instance's log.".to_owned()
        }
        (Anchoring::Failed, _) => {
            "Anchoring failed: the proof that this run is in the instance's log does not hold.".to_owned()
        }
        (Anchoring::Unchecked, _) => "Anchoring unchecked: no place in a log was proven.".to_owned(),
    }
}

fn stream(stream: &StreamProof) -> String {
    let call = stream.call.escape_debug();
    match (stream.verdict, stream.place) {
        (Proof::Proven, None) => format!(
            "Stream proven: all {} units that you gave are what the client of call {call} got, and nothing else.",
            stream.count
        ),
        (Proof::Proven, Some(place)) => format!(
            "Stream proven: what you gave is what the client of call {call} got as {} of its stream, counted from 0.",
            match stream.count {
                0 | 1 => format!("unit {place}"),
                count => format!("units {place} to {}", place.saturating_add(count - 1)),
            }
        ),
        (Proof::Failed, _) => {
            "Stream failed: by this bundle, what you gave is not what the client got.".to_owned()
        }
        (Proof::Unchecked, _) => {
            "Stream unchecked: nothing was decided about the events that you gave.".to_owned()
        }
    }
}

fn body(body: &BodyProof) -> String {
    let (call, part) = (body.call.escape_debug(), body.part.name());
    match body.verdict {
        Proof::Proven => format!("Body proven: what you gave is the `{part}` of call {call}, byte for byte."),
        Proof::Failed => {
            format!("Body failed: by this bundle, what you gave is not the `{part}` of call {call}.")
        }
        Proof::Unchecked => "Body unchecked: nothing was decided about the bytes that you gave.".to_owned(),
    }
}

fn signatures(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.signatures_skipped > 0 {
        lines.push(format!(
            "{} signatures of single entries were not verified, as you asked. Authenticity rests on the checkpoint, \
             which signs the tree over {} entries.",
            report.signatures_skipped,
            report.checkpoint_size.unwrap_or_default()
        ));
    }
    if report.subject == Subject::Journal && report.passed() {
        let covered = report.checkpoint_size.unwrap_or_default();
        if covered < report.entries {
            lines.push(format!(
                "The last {} entries are after the newest checkpoint; only signatures of their own, where they \
                 have them, vouch for them.",
                report.entries - covered
            ));
        }
    }
    for key in &report.keys {
        let standing = match key.standing {
            Standing::Trusted => "you trust it",
            Standing::Rotated => "a key that you trust brought it in",
            Standing::SelfAsserted => "nobody vouched for it",
        };
        lines.push(format!(
            "Key {} ({}, {}): {standing}.",
            key.id.hex(),
            key.usage.name(),
            key.algorithm.name()
        ));
    }
    lines
}

fn next_step(report: &Report) -> Option<&'static str> {
    let Some(finding) = &report.finding else {
        return match (report.verdicts.authenticity, report.verdicts.anchoring, report.subject) {
            (Authenticity::SelfAsserted, _, _) => Some(
                "obtain the instance's trust document from its operator, by another way than this artifact, and \
                 verify again with it.",
            ),
            (_, Anchoring::Absent, Subject::Journal) => {
                Some("verify again against a checkpoint that was kept elsewhere, for example in a log feed.")
            }
            (_, Anchoring::Absent, Subject::Bundle) => {
                Some("if it matters that this run was not made up later, ask for the bundle with its anchor.")
            }
            _ => None,
        };
    };
    Some(match finding.reason {
        Reason::TrustInvalid => "mend or replace the trust document, then verify again.",
        Reason::DisclosureInvalid | Reason::DisclosureMismatch => {
            "ask whoever disclosed the key for that of this call."
        }
        Reason::BodyAbsent => {
            "look in the receipt for what has a `commit`: with body mode `none` there is none, and a call that was refused has no answer from upstream."
        }
        Reason::BodyUnknown => {
            "see whether the bytes are as they passed (a JSON text that was parsed and written again is another one), and whether the key is that of this call."
        }
        Reason::StreamNodesAbsent => "give the whole stream, without a place.",
        Reason::EventBlock => "give all units of the block, and the place of its first.",
        Reason::CallUnknown | Reason::StreamAbsent => {
            "look the call's id up in the answer's header `estoppel-call`, and ask for the bundle of its run."
        }
        Reason::EventsUnknown => {
            "see whether the bytes are cut as SPEC section 7 cuts them, and whether the key is that of this call."
        }
        Reason::EventMissing | Reason::EventSurplus | Reason::EventMismatch => {
            "compare with the whole stream, if somebody kept it; units are counted from 0."
        }
        Reason::MissingExternal | Reason::ExternalDigest => {
            "put the missing content into the folder beside the bundle, unchanged, and verify again."
        }
        Reason::KeyUntrusted | Reason::KeyUnknown => {
            "ask the operator whether the key is theirs; if so, have it added to the trust document by another way \
             than this artifact."
        }
        Reason::KeyRevoked => "treat the content as not authenticated unless it can be shown to be older.",
        Reason::SealMissing => {
            "ask for the bundle again after the run was sealed, or judge the journal instead."
        }
        Reason::JournalTorn => {
            "this is what a crash leaves behind; the daemon cuts the torn tail at its next start and records it."
        }
        Reason::JournalTruncated | Reason::CheckpointMismatch => {
            "keep this copy unchanged, and compare it with older copies: signed history is missing or differs."
        }
        Reason::JournalBeginsLater => {
            "take a newer checkpoint, or put the deleted segments back from their copies and take `beginning.json` away."
        }
        Reason::BeginningUnrecorded => {
            "keep this copy unchanged, and get the segments before it from where they were archived."
        }
        Reason::LineSchema | Reason::ManifestSchema => {
            "if the artifact is newer than this verifier, use a newer verifier; otherwise obtain another copy."
        }
        Reason::CrcMismatch | Reason::FrameInvalid | Reason::ContainerMalformed => {
            "obtain another copy: this one was damaged or altered on the way."
        }
        _ => "keep this copy unchanged, obtain another one from its source, and compare the two.",
    })
}

#[cfg(test)]
mod tests;
