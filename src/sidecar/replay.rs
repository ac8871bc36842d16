//! `estoppel replay …`.

mod compare;
mod database;
mod live;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, Reason, RunCapture, Sha256, SoftKey, disclosure};
use estoppel_replay::certificate::{BodiesBy, Circumstances, Mode, Tool, check_key};
use estoppel_replay::database::DatabaseReplay;
use estoppel_replay::live::LiveReplay;
use estoppel_replay::serve::{Options, ServeError, Server, Side};
use estoppel_replay::{
    Certificate, Classes, Code, Connections, Matching, Normalizers, ReplayError, Status, Tally, judge,
};
use estoppel_verify::PublicKey;
use serde_json::{Value, json};

use crate::arguments::{ReplayCommand, ReplayOf, ReplayRun, ReplayServe, ReplaySide, VerifyCertificate};
use crate::output::{Colour, Failure, Output, plain};
use crate::show::Opened;
use crate::{disclose, identity, input, policy, show, verify};

/// How often it is looked whether a signal came.
const SIGNAL_PAUSE: Duration = Duration::from_millis(50);

pub fn run(output: &Output, command: &ReplayCommand) -> Result<ExitCode, Failure> {
    match command {
        ReplayCommand::Run(run) => judge_again(*output, run),
        ReplayCommand::Serve(serve) => self::serve(*output, serve),
        ReplayCommand::Compare(wanted) => compare::run(*output, wanted),
        ReplayCommand::VerifyCertificate(wanted) => verify_certificate(*output, wanted),
    }
}

/// What both kinds of replay begin with.
struct Prepared {
    bundle: Opened,
    key: SoftKey,
    capture: Option<RunCapture>,
    /// Why the bundle does not verify, and where.
    invalid: Option<(String, Option<u64>)>,
    started: UnixMicros,
}

impl Prepared {
    fn of(of: &ReplayOf) -> Result<Self, Failure> {
        let started = now();
        if of.out.symlink_metadata().is_ok() {
            return Err(exists(&of.out));
        }
        let key = estoppel_journal::keys::load_certifier(&of.key)
            .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))?;
        if of.bundle.is_dir() {
            return Err(Failure::input("ARGUMENT_INVALID", "expected the `.pef.zip`, not a bundle folder"));
        }
        let (report, bytes) = verify::read(&of.bundle, of.trust.as_deref())?;
        if report.exit_code() == 6 {
            let finding = report.finding.as_ref();
            let code = finding.map_or("ARGUMENT_INVALID", |finding| finding.reason.code());
            let detail = finding.map(|finding| finding.detail.clone()).unwrap_or_default();
            return Err(Failure::input(code, plain(&detail)));
        }
        let invalid = report.finding.map(|finding| (finding.reason.code().to_owned(), finding.seq));
        let bundle = show::opened(&of.bundle, bytes)
            .map_err(|failure| refused(&of.bundle, invalid.as_ref(), failure))?;
        check_key(&bundle, estoppel_evidence::Signer::public(&key))
            .map_err(|error| Failure::input("KEY_INVALID", error.to_string()))?;
        // What a bundle that does not verify says of its key is not asked for.
        let (keys, disclosure) = (of.keys.as_deref(), of.disclosure.as_deref());
        let capture = if invalid.is_none() { capture(keys, disclosure, &bundle)? } else { None };
        Ok(Self { bundle, key, capture, invalid, started })
    }
}

/// A bundle that does not verify, and of which not even a certificate can be made.
fn refused(path: &Path, invalid: Option<&(String, Option<u64>)>, failure: Failure) -> Failure {
    let Some((reason, _)) = invalid else { return failure };
    let message = format!("`{}` does not verify ({reason}), and cannot be read", path.display());
    Failure { exit: 2, ..Failure::runtime("BUNDLE_INVALID", plain(&message)) }
        .hint("`estoppel verify` says what is wrong with it")
}

/// The run's key, held against what the run committed to when it was opened.
fn capture(
    keys: Option<&Path>,
    disclosure: Option<&Path>,
    bundle: &Opened,
) -> Result<Option<RunCapture>, Failure> {
    let run = bundle.manifest().run;
    let (key, path) = match (keys, disclosure) {
        (Some(dir), _) => {
            let options =
                "--disclosure takes what `estoppel keys disclose --scope run` wrote; --keys names the folder";
            (Some(disclose::capture_key(dir, options)?.run(run)), dir)
        }
        (None, Some(path)) => {
            let read = disclosure::run_capture(&input::file(path)?);
            (read.and_then(|(of, key)| (of == run).then_some(key)), path)
        }
        (None, None) => return Ok(None),
    };
    let mut entries = bundle.entries().map_err(|error| unread(&ReplayError::from(error)))?;
    let open = entries.next().map_err(|error| unread(&ReplayError::from(error)))?;
    let open: Value = open.and_then(|open| serde_json::from_slice(open.line).ok()).unwrap_or_default();
    let committed = open["capture"]["commitment"].as_str();
    match key {
        Some(key) if committed == Some(&key.commitment().to_string()) => Ok(Some(key)),
        _ => {
            let message = format!("`{}` does not hold the capture key of this run", path.display());
            Err(Failure::reason(Reason::KeyInvalid, plain(&message)))
        }
    }
}

fn capture_missing(message: &str) -> Failure {
    Failure::input("ARGUMENT_INVALID", message)
        .hint("--keys DIR, or --disclosure with what `estoppel keys disclose --scope run` writes")
}

fn judge_again(output: Output, run: &ReplayRun) -> Result<ExitCode, Failure> {
    let prepared = Prepared::of(&run.of)?;
    match (&run.database.url, run.live.live, &prepared.invalid) {
        (Some(url), _, None) => return database::run(output, run, url, &prepared),
        (None, true, None) => return live::run(output, run, &prepared),
        (None, false, None) if run.normalizers.is_some() || run.policy.is_some() => {
            let message = "--normalizers and --policy: of --db and --live; here all is compared";
            return Err(Failure::input("ARGUMENT_INVALID", message));
        }
        _ => {}
    }
    let mut tally = Tally::new(Matching::Strict);
    let mut connections = Connections::default();
    let mode = match &prepared.invalid {
        Some((reason, seq)) => {
            if run.database.url.is_some() || run.live.live {
                output
                    .note(&format!("the bundle does not verify ({reason}), so nothing of it was run again"));
            }
            tally.bundle_invalid(reason, *seq);
            // Entries that cannot be read to their end leave fewer steps, and the bundle's own reason stands.
            let _ = judge::examine(&prepared.bundle, &mut tally);
            connections.look().map_err(|error| unread(&ReplayError::Connections(error)))?;
            Mode::Judge
        }
        None => {
            let key = key()?;
            judge::judge(&prepared.bundle, prepared.capture.as_ref(), key, &mut tally, &mut connections)
                .map_err(|error| unread(&error))?
        }
    };
    let bodies_by = if prepared.capture.is_some() { BodiesBy::Tag } else { BodiesBy::Digest };
    let said = Said { connections: connections.count(), ..Said::of(mode, bodies_by) };
    conclude(output, &run.of, &prepared.bundle, &prepared.key, prepared.started, &tally, said)
}

fn serve(output: Output, serve: &ReplayServe) -> Result<ExitCode, Failure> {
    if !serve.listen.ip().is_loopback() {
        let message = format!("--listen: a replay listens on loopback only, not on `{}`", serve.listen);
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let Prepared { bundle, key, capture, invalid, started } = Prepared::of(&serve.of)?;
    if let Some((reason, _)) = invalid {
        let message =
            format!("`{}` does not verify ({reason}), so nothing of it is served", serve.of.bundle.display());
        return Err(Failure { exit: 2, ..Failure::runtime("BUNDLE_INVALID", plain(&message)) }
            .hint("`estoppel replay run` certifies that it fails; `estoppel verify` says what is wrong"));
    }
    let capture = capture.ok_or_else(|| {
        capture_missing("requests are known by their tags, for which the run's capture key is needed")
    })?;
    let normalizers = serve.normalizers.as_deref().map(normalizers).transpose()?;
    let digest = normalizers.as_ref().map(Normalizers::digest);
    let side = match serve.side {
        ReplaySide::Client => Side::Client,
        ReplaySide::Upstream => Side::Upstream,
    };
    let matching = if serve.lenient { Matching::Lenient } else { Matching::Strict };
    let stopped = stop_at_signals()?;
    let prefix = serve.prefix.clone();
    let classes = classes(output, serve.policy.as_deref())?;
    let policy = classes.policy();
    let options = Options { side, matching, normalizers, capture, classes, is_timed: serve.timed, prefix };
    let server = Server::start(bundle, options, serve.listen).map_err(|error| match &error {
        ServeError::Replay(error) => unread(error),
        ServeError::Start(_) => Failure::runtime("LISTEN_FAILED", plain(&causes(&error))),
    })?;
    let url = format!("http://{}", server.addr());
    output.note(&format!("{} recorded calls on {url}", server.steps()));
    output.data(&json!({ "listening": url, "steps": server.steps() }));
    while !stopped.load(Ordering::Relaxed) {
        if server.wait(SIGNAL_PAUSE) && serve.until_done {
            break;
        }
    }
    let finished = server.finish().map_err(|error| unread(&error))?;
    let connections = finished.upstream_connections;
    let (mode, bodies_by) = (Mode::Stub, BodiesBy::Tag);
    let said =
        Said { side: Some(side), normalizers: digest, connections, policy, ..Said::of(mode, bodies_by) };
    conclude(output, &serve.of, finished.bundle(), &key, started, &finished.tally, said)
}

fn normalizers(path: &Path) -> Result<Normalizers, Failure> {
    Normalizers::parse(&input::file(path)?).map_err(|error| {
        Failure::input("ARGUMENT_INVALID", plain(&format!("`{}`: {}", path.display(), causes(&error))))
    })
}

/// By what calls may differ: the policies of the bundle, or the one that is given.
fn classes(output: Output, path: Option<&Path>) -> Result<Classes, Failure> {
    let Some(path) = path else { return Ok(Classes::default()) };
    Ok(Classes::of_policy(policy::read(output, path)?))
}

/// From here on signals end the replay, and not the program.
fn stop_at_signals() -> Result<Arc<AtomicBool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::runtime("INTERNAL", format!("no signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut int, mut term) = {
        let _inside = runtime.enter();
        let told = |kind| signal(kind).map_err(failed);
        (told(SignalKind::interrupt())?, told(SignalKind::terminate())?)
    };
    let stopped = Arc::new(AtomicBool::new(false));
    let told = stopped.clone();
    let wait = async move {
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        told.store(true, Ordering::Relaxed);
    };
    let waits = move || runtime.block_on(wait);
    std::thread::Builder::new().name("signals".to_owned()).spawn(waits).map_err(failed)?;
    Ok(stopped)
}

/// What a kind of replay has to say of itself.
struct Said {
    mode: Mode,
    bodies_by: BodiesBy,
    side: Option<Side>,
    normalizers: Option<Sha256>,
    connections: u64,
    database: Option<DatabaseReplay>,
    live: Option<LiveReplay>,
    policy: Option<Sha256>,
}

impl Said {
    fn of(mode: Mode, bodies_by: BodiesBy) -> Self {
        Self {
            mode,
            bodies_by,
            side: None,
            normalizers: None,
            connections: 0,
            database: None,
            live: None,
            policy: None,
        }
    }
}

fn conclude(
    output: Output,
    of: &ReplayOf,
    bundle: &Opened,
    key: &SoftKey,
    started: UnixMicros,
    tally: &Tally,
    said: Said,
) -> Result<ExitCode, Failure> {
    // A clock that was set back in between makes no replay end before it began.
    let finished = now().max(started);
    let unfound = said.database.as_ref().map(|replayed| replayed.unfound().clone()).unwrap_or_default();
    let unnamed = said.live.as_ref().map_or(0, LiveReplay::unnamed);
    let circumstances = Circumstances {
        id: CallId::new(finished.0 / 1000, identity::random()?),
        bodies_by: said.bodies_by,
        mode: said.mode,
        side: said.side,
        normalizers: said.normalizers,
        tool: tool()?,
        started,
        finished,
        upstream_connections: said.connections,
        database: said.database,
        live: said.live,
        policy: said.policy,
    };
    let certificate = Certificate::sign(bundle, tally, &circumstances, key)
        .map_err(|error| Failure::input("KEY_INVALID", causes(&error)))?;
    input::write_new(&of.out, &certificate.bytes)?;
    let statement: Value = serde_json::from_slice(&certificate.statement).unwrap_or_default();
    let predicate = &statement["predicate"];
    print(output, predicate);
    output.line(&format!("certificate {}", plain(&of.out.display().to_string())));
    let unfound = unfound.into_iter().map(|(pointer, calls)| {
        output.line(&plain(&format!("undecided   {calls} calls: nothing of them is at `{pointer}`")));
        json!({ "pointer": pointer, "calls": calls })
    });
    let mut data = json!({ "path": of.out, "certificate": predicate });
    let unfound: Vec<Value> = unfound.collect();
    if !unfound.is_empty() {
        data["unfound"] = json!(unfound);
    }
    if unnamed > 0 {
        output.line(&format!("undecided   {unnamed} calls: no --target is what they asked for"));
        data["unnamed"] = json!(unnamed);
    }
    let exit = match certificate.status {
        Status::Success => 0,
        Status::Partial if of.allow_partial => 0,
        Status::Failed if tally.bundle_reason().is_some() => 2,
        Status::Partial | Status::Failed => 5,
    };
    Ok(output.answer(&data, exit))
}

fn print(output: Output, predicate: &Value) {
    let status = predicate["status"].as_str().unwrap_or("-");
    let colour = match status {
        "success" => Colour::Green,
        "partial" => Colour::Yellow,
        _ => Colour::Red,
    };
    output.line(&format!("replay      {}", output.paint(colour, &plain(status))));
    let words = ["mode", "matching", "side"].map(|name| predicate[name].as_str());
    output
        .line(&plain(&format!("how         {}", words.into_iter().flatten().collect::<Vec<_>>().join(", "))));
    if let Some(digest) = predicate["normalizers"].as_str() {
        let said = format!("normalizers {digest}: bodies may differ where that file says so");
        output.line(&output.paint(Colour::Yellow, &plain(&said)));
    }
    print_database(output, &predicate["database"]);
    if let Some(upstream) = predicate["live"]["upstream"].as_str() {
        output.line(&plain(&format!("live        {} calls to {upstream}", predicate["live"]["sent"])));
    }
    if let Some(reason) = predicate["bundle"]["reason"].as_str() {
        let text = format!("bundle      does not verify: {reason}");
        output.line(&output.paint(Colour::Red, &plain(&text)));
    }
    let counts = &predicate["counts"];
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    let several = |name: &str| -> String {
        let rows = counts[name].as_array().into_iter().flatten();
        let row = |row: &Value| format!(" {} {}", plain(row["code"].as_str().unwrap_or("-")), row["count"]);
        rows.map(row).collect()
    };
    output.line(&format!("steps       {} recorded, {} matched", number("recorded"), number("matched")));
    for (name, rest) in [("drift", several("drift")), ("skipped", several("skipped"))] {
        if !rest.is_empty() {
            output.line(&format!("{name:<11}{rest}"));
        }
    }
    for name in ["miss", "missing", "reordered", "tolerated", "truncated"] {
        if number(name) > 0 {
            output.line(&format!("{name:<11} {}", number(name)));
        }
    }
    for row in predicate["divergences"].as_array().into_iter().flatten() {
        let seq = row["seq"].as_u64().map(|seq| format!(" at seq {seq}")).unwrap_or_default();
        let at: Vec<&str> = row["at"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let code = row["code"].as_str().unwrap_or("-");
        let text = Code::ALL.iter().find(|known| known.as_str() == code).map_or("", |code| code.text());
        let at = if at.is_empty() { String::new() } else { format!(": {}", at.join(", ")) };
        output.line(&plain(&format!("diverged    {code}{seq}: {text}{at}")));
        for row in row["beyond"].as_array().into_iter().flatten() {
            let word = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            let (at, by, of, within) = (word("at"), word("by"), word("of"), word("within"));
            output.line(&plain(&format!("            {at} by {by}; {of} tolerance {within}")));
        }
    }
    print_tolerated(output, &predicate["determinism"]);
    output.line(&format!("upstream    {} connections", predicate["upstream_connections"]));
}

fn print_tolerated(output: Output, determinism: &Value) {
    let listed = determinism["tolerated"].as_array().map(Vec::as_slice).unwrap_or_default();
    for row in listed {
        let word = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let (at, by, part) = (word("at"), word("by"), word("part"));
        let text = format!("tolerated   {part} at seq {}: {at} ({by})", row["seq"]);
        output.line(&output.paint(Colour::Yellow, &plain(&text)));
    }
    let count = determinism["differences"].as_u64().unwrap_or_default();
    let beyond = count.saturating_sub(listed.len() as u64); // widening
    if beyond > 0 {
        output.line(&format!("            and {beyond} differences more that are tolerated"));
    }
    if let Some(policy) = determinism["policy"].as_str() {
        output.line(&plain(&format!("tolerance   by policy {policy}, which is not of the bundle")));
    }
}

fn print_database(output: Output, database: &Value) {
    let Some(name) = database["server"]["database"].as_str() else { return };
    let (kept, gone) = (&database["kept"], &database["gone"]);
    let after = match (kept == true, gone == true) {
        (true, true) => "rolled back, scratch schema gone",
        (true, false) => "SCRATCH SCHEMA LEFT",
        (false, _) => "THE TRANSACTION WAS LEFT",
    };
    let user = database["server"]["user"].as_str().unwrap_or("-");
    output.line(&plain(&format!(
        "database    {name} as {user}: {} statements, {after}",
        database["statements"]
    )));
    // Certificates of before do not have it.
    if let (Some(rows), Some(counts)) =
        (database["compared"]["rows"].as_u64(), database["compared"]["counts"].as_u64())
    {
        output.line(&format!("compared    rows of {rows} statements, their number of {counts}"));
    }
    for (member, word, label) in [("denied", "code", "denied"), ("not_recreated", "part", "not there")] {
        for row in database[member].as_array().into_iter().flatten() {
            let what = row[word].as_str().unwrap_or("-");
            output.line(&plain(&format!("{label:<11} {what} {}", row["count"])));
        }
    }
}

fn verify_certificate(output: Output, wanted: &VerifyCertificate) -> Result<ExitCode, Failure> {
    let bytes = input::evidence(&wanted.certificate)?;
    let signer = wanted.signer.as_deref().map(verify::spki).transpose()?;
    let signer = signer
        .map(|spki| PublicKey::of_spki(&spki).ok_or(()))
        .transpose()
        .map_err(|()| Failure::input("KEY_INVALID", "--signer: neither an Ed25519 nor a P-256 key"))?;
    let bundle = input::evidence(&wanted.bundle)?;
    let report =
        verify::certificate(&bytes, signer.as_ref(), (&wanted.bundle, &bundle), wanted.trust.as_deref())?;
    let finding = report.bundle.as_ref().and_then(|bundle| bundle.finding.as_ref());
    let refused = match (&report.fault, finding) {
        (Some(fault), _) => Some((fault.reason.code(), fault.detail.clone())),
        (None, Some(finding)) => Some((finding.reason.code(), finding.detail.clone())),
        (None, None) => None,
    };
    let exit = report.exit_code();
    let statement = report.statement.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    let predicate = statement.map(|statement: Value| statement["predicate"].clone()).unwrap_or_default();
    let standing = if report.is_signer_given { "trusted" } else { "self_asserted" };
    output.line(&format!("certificate {}", plain(&wanted.certificate.display().to_string())));
    match &refused {
        Some((code, detail)) => {
            output.line(&output.paint(Colour::Red, &format!("REFUSED     {code}: {}", plain(detail))));
        }
        None => {
            let key = predicate["key"]["kid"].as_str().unwrap_or("-");
            output.line(&format!("signer      {standing} {}", plain(key)));
            print(output, &predicate);
        }
    }
    let data = json!({
        "ok": refused.is_none(),
        "reason": refused.as_ref().map(|(code, _)| code),
        "detail": refused.as_ref().map(|(_, detail)| detail),
        "signer": refused.is_none().then_some(standing),
        "status": refused.is_none().then(|| predicate["status"].clone()),
        "certificate": refused.is_none().then_some(&predicate),
    });
    Ok(output.answer(&data, exit))
}

fn unread(error: &ReplayError) -> Failure {
    Failure::reason(error.reason(), plain(&causes(error)))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn exists(path: &Path) -> Failure {
    let message = format!("`{}` exists and is not overwritten", path.display());
    Failure::reason(Reason::OutputExists, plain(&message))
}

/// The program that this is: the bytes that run, also where its file has been replaced since.
pub fn tool() -> Result<Tool, Failure> {
    let read = std::fs::read("/proc/self/exe").or_else(|_| std::env::current_exe().and_then(std::fs::read));
    let bytes = read.map_err(|error| Failure::runtime("INTERNAL", format!("the own program: {error}")))?;
    Ok(Tool {
        digest: Sha256::of(&bytes),
        name: "estoppel".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn now() -> UnixMicros {
    UnixMicros(identity::now_us())
}

fn key() -> Result<[u64; 2], Failure> {
    let number = u128::from_le_bytes(identity::random()?);
    Ok([number as u64, (number >> 64) as u64]) // the two halves
}
