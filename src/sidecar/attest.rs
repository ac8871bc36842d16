//! `estoppel attest`: what sealed bundles show of a framework, signed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_attest::{
    AttestError, Circumstances, Framework, Statement, Tool, copies, framework_of, verify as verify_statement,
};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, PublicKey, SoftKey};
use serde_json::{Value, json};

use crate::arguments::{Attest, AttestCommand, AttestVerify};
use crate::further::{self, Beginning};
use crate::output::{Colour, Failure, Output, plain};
use crate::{bundles, identity, input, replay, verify};

/// Name of the statement in the folder.
pub const STATEMENT: &str = "attestation.json";
/// Most bytes of a statement.
pub const STATEMENT_BYTES_MAX: u64 = 64 << 20;

pub fn run(output: &Output, asked: &Attest) -> Result<ExitCode, Failure> {
    if let Some(AttestCommand::Verify(wanted)) = &asked.command {
        return judge(*output, wanted);
    }
    let (Some(framework), Some(key), Some(out)) = (&asked.framework, &asked.key, &asked.out) else {
        return Err(Failure::input("ARGUMENT_INVALID", "--framework, --key and --out are needed"));
    };
    let framework = self::framework(framework)?;
    let key = self::key(key)?;
    input::demand_new(out)?;
    let further = further::read(&asked.beside, Beginning::Named)?;
    let mut evidence = bundles::evidence(&asked.of)?;
    if evidence.runs().is_empty() {
        return Err(bundles::failure(&AttestError::Empty));
    }
    evidence.cite(&further).map_err(|error| bundles::failure(&error))?;
    let circumstances = circumstances()?;
    let statement = Statement::sign(&framework, &evidence, &circumstances, &key)
        .map_err(|error| bundles::failure(&error))?;
    input::write_folder(out, &copies(&statement).map_err(|error| bundles::failure(&error))?)?;
    print(*output, statement.predicate());
    further::print(*output, statement.predicate(), &asked.beside);
    output.line(&format!("written      {}", plain(&out.display().to_string())));
    output.line(&format!("statement    {STATEMENT}  {}", statement.digest()));
    let is_failed = statement.predicate()["counts"]["fail"].is_u64();
    let data = json!({
        "path": out,
        "digest": statement.digest().to_string(),
        "attestation": statement.predicate(),
    });
    Ok(output.answer(&data, if asked.strict && is_failed { 3 } else { 0 }))
}

/// A framework by its name or file.
pub fn framework(name: &str) -> Result<Framework, Failure> {
    let told = |error| bundles::failure(&error);
    if Framework::names().any(|known| known == name) {
        return Framework::shipped(name).map_err(told);
    }
    let path = Path::new(name);
    if path.exists() {
        return Framework::parse(&input::limited(path, 1 << 20)?).map_err(told);
    }
    let known: Vec<&str> = Framework::names().collect();
    let failure = Framework::shipped(name).map_err(told).map(drop).err();
    let failure = failure.unwrap_or_else(|| Failure::input("FRAMEWORK_UNKNOWN", plain(name)));
    Err(failure.hint(format!("a file, or one of {}", known.join(", "))))
}

/// The file of the framework that a statement is about: one of those, or one that comes with this program.
pub fn framework_file(statement: &[u8], files: &[PathBuf]) -> Result<Vec<u8>, Failure> {
    let told = |error| bundles::failure(&error);
    let id = framework_of(statement).map_err(told)?;
    for path in files {
        let bytes = input::limited(path, 1 << 20)?;
        if Framework::parse(&bytes).map_err(told)?.id == id {
            return Ok(bytes);
        }
    }
    let unknown = || told(estoppel_attest::AttestError::FrameworkUnknown(id.clone()));
    Framework::shipped_file(&id).map(<[u8]>::to_vec).ok_or_else(unknown)
}

/// The key of whoever attests.
pub fn key(path: &Path) -> Result<SoftKey, Failure> {
    estoppel_journal::keys::load_certifier(path)
        .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))
}

/// The program that this is.
pub fn tool() -> Result<Tool, Failure> {
    let tool = replay::tool()?;
    Ok(Tool { digest: tool.digest, name: tool.name, version: tool.version })
}

fn circumstances() -> Result<Circumstances, Failure> {
    let made = UnixMicros(identity::now_us());
    Ok(Circumstances { id: CallId::new(made.0 / 1000, identity::random()?), made, tool: tool()? })
}

/// The key in a PEM file that a reader knows a signer by.
pub fn signer(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_spki(&verify::spki(path)?)
        .map_err(|error| Failure::input("KEY_INVALID", plain(&format!("--signer: {error}"))))
}

fn judge(output: Output, wanted: &AttestVerify) -> Result<ExitCode, Failure> {
    let path = statement_of(&wanted.attestation);
    let bytes = input::limited(&path, STATEMENT_BYTES_MAX)?;
    let signer = wanted.signer.as_deref().map(self::signer).transpose()?;
    let framework = match &wanted.framework {
        Some(path) => self::framework(&path.to_string_lossy())?,
        None => Framework::shipped(&framework_of(&bytes).map_err(|error| bundles::failure(&error))?)
            .map_err(|error| bundles::failure(&error).hint("--framework names its file"))?,
    };
    let further = further::read(&wanted.beside, Beginning::Any)?;
    let mut evidence = bundles::evidence(&wanted.of)?;
    let verified = verify_statement(&bytes, &framework, &mut evidence, &further, signer.as_ref())
        .map_err(|error| further::failure(&error, "--ledger"))?;
    if wanted.attestation.is_dir() {
        compare(&wanted.attestation, &verified.statement)?;
    }
    let standing = if signer.is_some() { "trusted" } else { "self_asserted" };
    print(output, verified.statement.predicate());
    further::print(output, verified.statement.predicate(), &wanted.beside);
    output.line(&format!("signer       {standing} {}", verified.kid));
    output.line(&format!("statement    {}", verified.statement.digest()));
    Ok(output.data(&json!({
        "attestation": verified.statement.predicate(),
        "digest": verified.statement.digest().to_string(),
        "kid": verified.kid,
        "signer": standing,
    })))
}

fn statement_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(STATEMENT) } else { path.to_owned() }
}

/// What lies beside a statement is what follows from it, and there is nothing else.
fn compare(folder: &Path, statement: &Statement) -> Result<(), Failure> {
    let expected = copies(statement).map_err(|error| bundles::failure(&error))?;
    let altered = |name: &str| bundles::failure(&estoppel_attest::AttestError::Copy(name.to_owned()));
    for (name, bytes) in &expected {
        let found = input::optional(&folder.join(name))?;
        if found.as_ref() != Some(bytes) {
            return Err(altered(name));
        }
    }
    let entries = std::fs::read_dir(folder).map_err(|error| input::unreadable(folder, &error))?;
    for entry in entries {
        let name = entry.map_err(|error| input::unreadable(folder, &error))?.file_name();
        if !expected.iter().any(|(known, _)| name.as_encoded_bytes() == known.as_bytes()) {
            return Err(altered(&name.to_string_lossy()));
        }
    }
    Ok(())
}

fn print(output: Output, predicate: &Value) {
    let framework = &predicate["framework"];
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    output.line(&format!("framework    {} {}", text(&framework["title"]), text(&framework["edition"])));
    let bundles = predicate["bundles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let calls: u64 = bundles.iter().filter_map(|bundle| bundle["counters"]["calls"].as_u64()).sum();
    output.line(&format!("evidence     {} bundles, {calls} calls", bundles.len()));
    for (word, count) in predicate["counts"].as_object().into_iter().flatten() {
        output.line(&format!("{:<12} {count}", plain(word).replace('_', " ")));
    }
    for control in predicate["controls"].as_array().into_iter().flatten() {
        if control["result"] != "fail" {
            continue;
        }
        for check in control["checks"].as_array().into_iter().flatten() {
            let lacks = check["lacks"].as_str().map(|kind| format!("there are no {kind}"));
            let against = check["against"].as_str().map(|kind| format!("there are {kind}"));
            if let Some(why) = lacks.or(against) {
                let line = format!("FAIL         {} {}: {why}", text(&control["id"]), text(&check["check"]));
                output.line(&output.paint(Colour::Red, &plain(&line)));
            }
        }
    }
}
