//! `estoppel verify`.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use estoppel_archive::{Action, Custodian, Done};
use estoppel_evidence::Sha256;
use estoppel_verify::{
    Begins, BodyProof, BodyQuestion, CertificateReport, Check, DirectoryFile, Executor, Given, Input,
    JournalFiles, Options, Part, Proof, PublicKey, Question, Report, Signatures, StreamProof, explain,
    verify_body, verify_bundle, verify_certificate, verify_checkpoint, verify_events, verify_journal,
    verify_receipt,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::arguments::{self, Verify};
use crate::custody;
use crate::input::{self, Beside, SegmentFiles};
use crate::output::{Colour, Failure, Output, plain};
use crate::show::{self, Opened};

/// Judges what `verify.path` is.
pub fn run(output: &Output, verify: &Verify, in_plain_words: bool) -> Result<ExitCode, Failure> {
    let path = &verify.path;
    match &verify.tag {
        Some(_) if path == Path::new("tag") && verify.custody.custody_key.is_some() => {
            return Err(no_custody());
        }
        Some(tag) if path == Path::new("tag") => return crate::ledger::verify_tag(*output, tag),
        Some(other) => return Err(second_word(path, other)),
        None => {}
    }
    let by = custody::custodian(&verify.custody)?;
    let trust = verify.trust.as_deref().map(input::file).transpose()?;
    let bar = progress(*output);
    let told = |entries: u64| bar.set_position(entries);
    let options = Options {
        trust: trust.as_deref(),
        signatures: match verify.signatures {
            arguments::Signatures::Each => Signatures::Each,
            arguments::Signatures::Checkpoint => Signatures::CheckpointOnly,
        },
        executor: &Cores,
        progress: &told,
    };
    let is_journal = is_journal(path);
    if verify.against.is_some() && !is_journal {
        return Err(Failure::input("ARGUMENT_INVALID", "--against goes with a journal"));
    }
    if verify.key.is_some() && path.is_dir() {
        return Err(Failure::input("ARGUMENT_INVALID", "--key goes with a single receipt or checkpoint"));
    }
    if verify.disclosure.is_some() && verify.stream.is_none() && verify.body.is_none() {
        return Err(Failure::input("ARGUMENT_INVALID", "--disclosure goes with --stream or --body"));
    }
    if (verify.stream.is_some() || verify.body.is_some()) && is_journal {
        return Err(Failure::input("ARGUMENT_INVALID", "--stream and --body go with a bundle")
            .hint("a run of a journal may be open; seal it, then ask its bundle"));
    }
    let mut asked = Asked::read(verify)?;
    let file = if path.is_dir() { None } else { Some(input::evidence(path)?) };
    let is_checkpoint = file.as_deref().is_some_and(is_note);
    if verify.origin.is_some() && !is_checkpoint {
        return Err(Failure::input("ARGUMENT_INVALID", "--origin goes with a checkpoint"));
    }
    let is_bundle = file.as_deref().is_none_or(|bytes| !is_checkpoint && !bytes.starts_with(b"{"));
    if asked.is_some() && (!is_bundle || verify.key.is_some()) {
        return Err(Failure::input("ARGUMENT_INVALID", "--stream and --body go with a bundle"));
    }
    if by.is_some() && (!is_bundle || path.is_dir() || verify.key.is_some()) {
        return Err(no_custody());
    }
    let report = if is_journal {
        journal(path, verify.against.as_deref(), &options)?
    } else if let Some(bytes) = &file {
        if is_checkpoint {
            checkpoint(bytes, verify, trust.as_deref())?
        } else if bytes.starts_with(b"{") || verify.key.is_some() {
            verify_receipt(bytes, given(verify, trust.as_deref())?.given())
        } else {
            bundle(Input::Zip(bytes), path, &options, asked.as_mut())?
        }
    } else {
        let files = input::folder(path)?;
        let files: Vec<DirectoryFile<'_>> =
            files.iter().map(|(path, bytes)| DirectoryFile { path, bytes: bytes.as_deref() }).collect();
        bundle(Input::Directory(&files), path, &options, asked.as_mut())?
    };
    bar.finish_and_clear();
    print(*output, path, &report, in_plain_words);
    match (by, file) {
        (Some(by), Some(bytes)) => recorded(*output, path, &by, &report, Sha256::of(&bytes)),
        _ => Ok(output.answer(&data(&report), report.exit_code())),
    }
}

/// Adds what came out to the list of the bundle, unless nothing was decided.
fn recorded(
    output: Output,
    path: &Path,
    by: &Custodian,
    report: &Report,
    sha256: Sha256,
) -> Result<ExitCode, Failure> {
    let (mut data, exit) = (data(report), report.exit_code());
    if exit != 0 && exit != 2 {
        return Ok(output.answer(&data, exit));
    }
    let verdicts = custody::verdicts(report);
    let done = Done { sha256: Some(sha256), ..custody::done(Action::Verified(verdicts)) };
    match custody::record(path, by, &done) {
        Ok(added) => {
            data["custody"] = custody::told(output, path, added.head);
            match added.found.filter(|_| exit == 0) {
                Some(found) => Err(custody::another(found, data)),
                None => Ok(output.answer(&data, exit)),
            }
        }
        Err(error) => {
            let came = verdicts.reason.unwrap_or("every step holds");
            let what = format!("`{}` was verified ({came})", path.display());
            let failure = custody::unrecorded(&what, &data, path, &error);
            Err(Failure { exit: if exit == 0 { failure.exit } else { exit }, ..failure })
        }
    }
}

fn no_custody() -> Failure {
    Failure::input("ARGUMENT_INVALID", "--custody-key goes with a bundle, `.pef.zip`")
}

fn second_word(path: &Path, other: &str) -> Failure {
    let message = format!("expected one path, found `{}` and `{other}`", path.display());
    Failure::input("ARGUMENT_INVALID", plain(&message)).hint(
        "verify them one by one; `estoppel diff` compares two; `estoppel verify tag NAME` is of a tag of a repository",
    )
}

/// What `estoppel verify` says of a bundle, and the bytes that it says it of: the file may be another one afterwards.
pub fn read(path: &Path, trust: Option<&Path>) -> Result<(Report, Vec<u8>), Failure> {
    let bytes = input::evidence(path)?;
    Ok((judged_bytes((path, &bytes), trust)?, bytes))
}

/// What `estoppel verify` says of the bytes of a bundle that is at `path`.
pub fn judged_bytes((path, bytes): (&Path, &[u8]), trust: Option<&Path>) -> Result<Report, Failure> {
    let trust = trust.map(input::file).transpose()?;
    judged_by((path, bytes), trust.as_deref())
}

/// The same, by a trust document that was read before.
pub fn judged_by((path, bytes): (&Path, &[u8]), trust: Option<&[u8]>) -> Result<Report, Failure> {
    bundle(Input::Zip(bytes), path, &options(trust), None)
}

/// What is to be said of a certificate of a replay, and of the bundle that it is about: its bytes, and where it is.
pub fn certificate(
    certificate: &[u8],
    signer: Option<&PublicKey>,
    bundle: (&Path, &[u8]),
    trust: Option<&Path>,
) -> Result<CertificateReport, Failure> {
    let trust = trust.map(input::file).transpose()?;
    certificate_by(certificate, signer, bundle, trust.as_deref())
}

/// The same, by a trust document that was read before.
pub fn certificate_by(
    certificate: &[u8],
    signer: Option<&PublicKey>,
    (path, bytes): (&Path, &[u8]),
    trust: Option<&[u8]>,
) -> Result<CertificateReport, Failure> {
    let mut beside = Beside::of(path);
    verify_certificate(certificate, signer, Input::Zip(bytes), &mut beside, &options(trust))
        .map_err(|error| Failure::input("FILE_UNREADABLE", plain(&error.to_string())))
}

/// A bundle that verifies, to be read from the bytes that were verified. Nothing is read from one that does not.
pub fn demand(path: &Path, trust: Option<&Path>) -> Result<Opened, Failure> {
    let (report, bytes) = read(path, trust)?;
    if report.exit_code() == 0 {
        return show::opened(path, bytes);
    }
    let message = format!("`{}` does not verify, so nothing is read from it", path.display());
    Err(Failure { exit: 2, ..Failure::runtime("BUNDLE_INVALID", plain(&message)) }
        .hint("`estoppel verify` says what is wrong with it"))
}

/// By what is in a folder: the journal of an instance, or a bundle.
pub fn is_journal(path: &Path) -> bool {
    let has = |name: &str| path.join(name).symlink_metadata().is_ok();
    (has("segments") || has("trust.json")) && !has("manifest.json") && !has("receipts.ndjson")
}

/// What is asked of a call, with the files that were named.
enum Asked {
    Stream { call: String, disclosure: Vec<u8>, events: Vec<u8>, place: Option<u64> },
    Body { call: String, part: Part, disclosure: Vec<u8>, content: File },
}

impl Asked {
    fn read(verify: &Verify) -> Result<Option<Self>, Failure> {
        let Some(disclosure) = verify.disclosure.as_deref().map(input::file).transpose()? else {
            return Ok(None);
        };
        if let (Some(call), Some(events)) = (&verify.stream, &verify.events) {
            let (call, events) = (call.clone(), input::events(events)?);
            return Ok(Some(Self::Stream { call, disclosure, events, place: verify.place }));
        }
        let (Some(call), Some(part), Some(content)) = (&verify.body, verify.part, &verify.content) else {
            return Ok(None);
        };
        let part = match part {
            arguments::BodyPart::Request => Part::Request,
            arguments::BodyPart::Upstream => Part::Upstream,
            arguments::BodyPart::Client => Part::Client,
        };
        Ok(Some(Self::Body { call: call.clone(), part, disclosure, content: input::opened(content)? }))
    }
}

fn bundle(
    input: Input<'_>,
    path: &Path,
    options: &Options<'_>,
    asked: Option<&mut Asked>,
) -> Result<Report, Failure> {
    let mut beside = Beside::of(path);
    let report = match asked {
        None => verify_bundle(input, &mut beside, options),
        Some(Asked::Stream { call, disclosure, events, place }) => {
            let question = Question { call, disclosure, events, place: *place };
            verify_events(input, &mut beside, options, &question)
        }
        Some(Asked::Body { call, part, disclosure, content }) => {
            let question = BodyQuestion { call, part: *part, disclosure, content };
            verify_body(input, &mut beside, options, question)
        }
    };
    report.map_err(|error| Failure::input("FILE_UNREADABLE", plain(&error.to_string())))
}

/// How often a journal is read whose last frame is not whole: a daemon may be writing it.
const READS_MAX: u32 = 5;
/// How long it is waited for that.
const REREAD: std::time::Duration = std::time::Duration::from_millis(100);

/// What `estoppel verify` says of a journal that may be written now: its exit code, and how many entries there are.
pub fn journal_exit_code(path: &Path, trust: Option<&Path>) -> Result<(u8, u64), Failure> {
    let report = journal_report(path, trust)?;
    Ok((report.exit_code(), report.entries))
}

/// What `estoppel verify` says of a journal that may be written now.
pub fn journal_report(path: &Path, trust: Option<&Path>) -> Result<Report, Failure> {
    with_options(trust, |options| settled(path, options))?
}

/// What `judge` says with every signature verified on all cores, by a trust document where there is one.
pub fn with_options<T>(trust: Option<&Path>, judge: impl FnOnce(&Options<'_>) -> T) -> Result<T, Failure> {
    let trust = trust.map(input::file).transpose()?;
    Ok(judge(&options(trust.as_deref())))
}

fn options(trust: Option<&[u8]>) -> Options<'_> {
    Options { trust, signatures: Signatures::Each, executor: &Cores, progress: &|_| {} }
}

fn settled(path: &Path, options: &Options<'_>) -> Result<Report, Failure> {
    let mut report = journal(path, None, options)?;
    let is_torn = |report: &Report| {
        report.finding.as_ref().is_some_and(|finding| finding.reason.code() == "JOURNAL_TORN")
    };
    for _ in 1..READS_MAX {
        if !is_torn(&report) {
            break;
        }
        std::thread::sleep(REREAD);
        report = journal(path, None, options)?;
    }
    Ok(report)
}

/// A byte more of `beginning.json` than is allowed shows that it is too large.
const BEGINNING_BYTES: u64 = (64 << 20) + 1;

fn journal(path: &Path, against: Option<&Path>, options: &Options<'_>) -> Result<Report, Failure> {
    let optional = |name: &str| input::optional(&path.join(name));
    let (checkpoint, trust) = (optional("checkpoint")?, optional("trust.json")?);
    let beginning = input::at_most(&path.join("beginning.json"), BEGINNING_BYTES)?;
    let against = against.map(input::file).transpose()?;
    let files = JournalFiles {
        checkpoint: checkpoint.as_deref(),
        trust: trust.as_deref(),
        beginning: beginning.as_deref(),
        against: against.as_deref(),
    };
    verify_journal(&mut SegmentFiles::of(path)?, files, options)
        .map_err(|error| Failure::input("FILE_UNREADABLE", plain(&error.to_string())))
}

/// Keys for a single receipt or checkpoint.
struct Keys {
    spki: Option<Vec<u8>>,
    trust: Vec<u8>,
}

impl Keys {
    fn given(&self) -> Given<'_> {
        match &self.spki {
            Some(spki) => Given::Spki(spki),
            None => Given::Trust(&self.trust),
        }
    }
}

fn given(verify: &Verify, trust: Option<&[u8]>) -> Result<Keys, Failure> {
    let spki = verify.key.as_deref().map(spki).transpose()?;
    match (spki, trust) {
        (None, None) => Err(Failure::input(
            "ARGUMENT_INVALID",
            "a single receipt or checkpoint needs --key or --trust",
        )
        .hint(
            "`estoppel keys list --trust INSTANCE` prints a trust document; a bundle's keys/ has PEM files",
        )),
        (spki, trust) => Ok(Keys { spki, trust: trust.unwrap_or_default().to_vec() }),
    }
}

/// A public key in PEM, as its DER.
pub fn spki(path: &Path) -> Result<Vec<u8>, Failure> {
    let text = input::text(path)?;
    let key = estoppel_journal::keys::public_from_pem(&text).ok_or_else(|| {
        Failure::input("KEY_INVALID", format!("`{}` is not a public key in PEM", path.display()))
    })?;
    Ok(key.spki().to_vec())
}

fn is_note(bytes: &[u8]) -> bool {
    let is_receipt = bytes.starts_with(b"{");
    !is_receipt && std::str::from_utf8(bytes).is_ok_and(|text| text.contains("\n\n\u{2014} "))
}

fn checkpoint(bytes: &[u8], verify: &Verify, trust: Option<&[u8]>) -> Result<Report, Failure> {
    let keys = given(verify, trust)?;
    let first = String::from_utf8_lossy(bytes.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    let origin = verify.origin.clone().unwrap_or(first);
    Ok(verify_checkpoint(bytes, &origin, keys.given()))
}

/// Signature checks over all cores.
struct Cores;

impl Executor for Cores {
    fn run(&self, checks: &mut [Check<'_>]) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = checks.len().div_ceil(cores).max(16);
        std::thread::scope(|scope| {
            for part in checks.chunks_mut(share) {
                scope.spawn(move || part.iter_mut().for_each(Check::run));
            }
        });
    }
}

fn progress(output: Output) -> ProgressBar {
    if !output.interactive() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} entries, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn print(output: Output, path: &Path, report: &Report, in_plain_words: bool) {
    let verdicts = &report.verdicts;
    output.line(&format!("{} {}", report.subject.name(), plain(&path.display().to_string())));
    if let Some(run) = &report.run {
        output.line(&format!("run           {}", plain(run)));
    }
    for (name, value) in [
        ("integrity", verdicts.integrity.name()),
        ("authenticity", verdicts.authenticity.name()),
        ("completeness", verdicts.completeness.name()),
        ("anchoring", verdicts.anchoring.name()),
    ] {
        output.line(&format!("{name:<13} {}", output.paint(colour(value), value)));
    }
    if let Some(stream) = &report.stream {
        print_stream(output, stream);
    }
    if let Some(body) = &report.body {
        print_body(output, body);
    }
    if let Some(begins) = &report.begins {
        print_begins(output, begins);
    }
    if let Some(finding) = &report.finding {
        let place = match (finding.seq, finding.index) {
            (Some(seq), _) if finding.unit.is_some() => {
                format!(" at seq {seq}, unit {}", finding.unit.unwrap_or_default())
            }
            (Some(seq), _) => format!(" at seq {seq}"),
            (None, Some(index)) => format!(" at log index {index}"),
            (None, None) => String::new(),
        };
        output.line(&output.paint(
            Colour::Red,
            &format!("REFUSED       {}{place}: {}", finding.reason.code(), plain(&finding.detail)),
        ));
    } else {
        let counters = &report.counters;
        output.line(&format!(
            "entries       {} ({} calls: {} allow, {} repair, {} hold, {} block)",
            report.entries, counters.calls, counters.allow, counters.repair, counters.hold, counters.block
        ));
    }
    if in_plain_words {
        output.line("");
        explain(report).iter().for_each(|line| output.line(&plain(line)));
    } else if report.passed() && verdicts.authenticity.name() == "self_asserted" {
        output.line("note          nobody has vouched for the keys; give --trust to bind the evidence to keys you know");
    }
}

fn print_begins(output: Output, begins: &Begins) {
    let earlier = format!(
        "at entry {}; {} earlier segments were deleted by plan {}",
        begins.size, begins.segments, begins.plan
    );
    output.line(&format!("{:<13} {}", "begins", plain(&earlier)));
    for copy in &begins.copies {
        let at = format!(
            "of {} segments in bucket {} at {} until {}",
            copy.segments, copy.bucket, copy.endpoint, copy.retain_until
        );
        output.line(&format!("{:<13} {}", "copies", plain(&at)));
    }
    if begins.passed_over > 0 {
        let left = format!("{} segments from before are still here, and were not read", begins.passed_over);
        output.line(&format!("{:<13} {left}", "left"));
    }
}

fn print_stream(output: Output, stream: &StreamProof) {
    let value = stream.verdict.name();
    output.line(&format!("{:<13} {}", "stream", output.paint(colour(value), value)));
    if stream.verdict != Proof::Proven {
        return;
    }
    let units = stream.units.unwrap_or_default();
    let what = match (stream.place, stream.count) {
        (None, _) => format!("all {units} units of call {}", stream.call),
        (Some(place), 1) => format!("unit {place} of {units} of call {}", stream.call),
        (Some(place), count) => {
            format!("units {place} to {} of {units} of call {}", place + count - 1, stream.call)
        }
    };
    output.line(&format!("{:<13} {}", "given", plain(&what)));
}

fn print_body(output: Output, body: &BodyProof) {
    let value = body.verdict.name();
    output.line(&format!("{:<13} {}", "body", output.paint(colour(value), value)));
    if body.verdict == Proof::Proven {
        let bytes = body.bytes.unwrap_or_default();
        let what = format!("the {} of call {}, {bytes} bytes", body.part.name(), body.call);
        output.line(&format!("{:<13} {}", "given", plain(&what)));
    }
}

fn colour(value: &str) -> Colour {
    match value {
        "ok" | "trusted" | "complete" | "anchored" | "proven" => Colour::Green,
        "failed" => Colour::Red,
        "unchecked" => Colour::Dim,
        _ => Colour::Yellow,
    }
}

fn begins(begins: &Begins) -> Value {
    let copies: Vec<Value> = begins
        .copies
        .iter()
        .map(|copy| {
            json!({
                "endpoint": copy.endpoint, "bucket": copy.bucket, "segments": copy.segments, "retain_until": copy.retain_until,
            })
        })
        .collect();
    json!({
        "size": begins.size, "segments": begins.segments, "runs": begins.runs, "plan": begins.plan, "copies": copies,
        "passed_over": begins.passed_over,
    })
}

pub fn data(report: &Report) -> Value {
    let verdicts = &report.verdicts;
    let keys: Vec<Value> = report
        .keys
        .iter()
        .map(|key| {
            json!({ "kid": key.id.hex(), "alg": key.algorithm.name(), "use": key.usage.name(), "standing": key.standing.name() })
        })
        .collect();
    let counters: serde_json::Map<String, Value> =
        report.counters.rows().into_iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    json!({
        "kind": report.subject.name(),
        "ok": report.passed(),
        "reason": report.finding.as_ref().map(|finding| finding.reason.code()),
        "detail": report.finding.as_ref().map(|finding| finding.detail.clone()),
        "seq": report.finding.as_ref().and_then(|finding| finding.seq),
        "index": report.finding.as_ref().and_then(|finding| finding.index),
        "unit": report.finding.as_ref().and_then(|finding| finding.unit),
        "verdicts": {
            "integrity": verdicts.integrity.name(),
            "authenticity": verdicts.authenticity.name(),
            "completeness": verdicts.completeness.name(),
            "anchoring": verdicts.anchoring.name(),
        },
        "begins": report.begins.as_ref().map(begins),
        "run": report.run,
        "iss": report.iss,
        "entries": report.entries,
        "counters": counters,
        "root": report.root.map(|root| format!("root:{}", root.hex())),
        "checkpoint_size": report.checkpoint_size,
        "signatures_verified": report.signatures_verified,
        "keys": keys,
        "stream": report.stream.as_ref().map(stream_data),
        "body": report.body.as_ref().map(body_data),
    })
}

fn body_data(body: &BodyProof) -> Value {
    json!({
        "verdict": body.verdict.name(),
        "call": body.call,
        "part": body.part.name(),
        "seq": body.seq,
        "bytes": body.bytes,
    })
}

fn stream_data(stream: &StreamProof) -> Value {
    json!({
        "verdict": stream.verdict.name(),
        "call": stream.call,
        "seq": stream.seq,
        "units": stream.units,
        "level": stream.level,
        "root": stream.root.map(|root| format!("root:{}", root.hex())),
        "place": stream.place,
        "proven": stream.count,
        "audit_path": stream.path.as_ref().map(|proof| {
            let path: Vec<String> = proof.path.iter().map(|hash| hash.hex()).collect();
            json!({ "node": proof.node.hex(), "index": proof.index, "size": proof.size, "path": path })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_a_bundle_is_what_verified_whatever_becomes_of_the_file() {
        let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/pef/vectors/valid-approved-call");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.pef.zip");
        std::fs::copy(vector.join("bundle.pef.zip"), &path).unwrap();
        let (_, before) = show::read(&path).unwrap();
        let bundle = demand(&path, None).unwrap();
        let other = vector.with_file_name("valid-acts").join("bundle.pef.zip");
        std::fs::write(&path, std::fs::read(other).unwrap()).unwrap();
        let (_, after) = show::entries(&path, &bundle).unwrap();
        let bytes = |lines: &[show::Line]| lines.iter().map(|line| line.bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(bytes(&after), bytes(&before));
        assert_ne!(bytes(&show::read(&path).unwrap().1), bytes(&before));
    }
}
