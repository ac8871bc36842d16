//! `estoppel audit …`: the ledger for people who audit, and whether what they have is it.

use std::process::ExitCode;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use estoppel_release::Code;
use estoppel_release::audit::{self, EXPORT_BYTES_MAX, Format, Span};
use estoppel_release::git::Git;
use estoppel_release::ledger::Store;
use serde_json::{Value, json};

use crate::arguments::{self, AuditCommand, AuditExport, AuditFormat, AuditVerify, InRepository};
use crate::ledger::{read, store};
use crate::output::{Failure, Output, plain};
use crate::{input, reconcile};

pub fn run(output: &Output, command: &AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Export(export) => self::export(*output, export),
        AuditCommand::Verify(verify) => self::verify(*output, verify),
    }
}

fn export(output: Output, export: &AuditExport) -> Result<ExitCode, Failure> {
    let moment = |text: &Option<String>| Ok::<_, Failure>(reconcile::time(text.as_deref())?.map(UnixMicros));
    let span = Span { from: moment(&export.from)?, to: moment(&export.to)? };
    let (format, name) = match export.format {
        AuditFormat::Json => (Format::Json, "json"),
        AuditFormat::Csv => (Format::Csv, "csv"),
        AuditFormat::Html => (Format::Html, "html"),
    };
    let ledger = read(output, &store(&export.at)?)?;
    let text = audit::export(&ledger, span, format);
    let data = json!({
        "format": name, "head": ledger.head(), "events": ledger.events().len(), "sha256": Sha256::of(text.as_bytes()),
    });
    let Some(out) = &export.out else {
        let mut data = data;
        data["text"] = Value::String(text.clone());
        return output.text(&text, &data);
    };
    input::write_new(out, text.as_bytes())?;
    output.line(&plain(&format!("written     {}", out.display())));
    output.line(&format!("ledger      {} of {} events", ledger.head(), ledger.events().len()));
    Ok(output.data(&data))
}

/// What the clone at hand trusts, and its ledger, as far as there is one.
fn here(at: &InRepository) -> Result<Option<Store>, Failure> {
    match Git::open(&at.repo) {
        Ok(_) => store(at).map(Some),
        Err(refusal) if refusal.code == Code::NotARepository => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

fn verify(output: Output, verify: &AuditVerify) -> Result<ExitCode, Failure> {
    let bytes = input::limited(&verify.file, EXPORT_BYTES_MAX as u64)?; // widening
    let named = verify.genesis.as_deref().map(arguments::digest);
    let store = here(&verify.at)?;
    let trusted = match (named.transpose()?, &store) {
        (Some(named), _) => Some(named),
        (None, Some(store)) => store.trusted()?,
        (None, None) => None,
    };
    let ledger = match &store {
        Some(store) if audit::needs_ledger(&bytes) => Some(read(output, store)?),
        _ => None,
    };
    let found = audit::verify(&bytes, ledger.as_ref(), trusted)?;
    let standing = if trusted.is_some() { "trusted" } else { "self_asserted" };
    output.line(&format!("export      is what the ledger gives, byte for byte; {} events", found.events));
    output.line(&format!("begins      {} {standing}", found.genesis));
    output.line(&format!("head        {}", found.head));
    if trusted.is_none() {
        output.line("note        nobody has vouched for its beginning; name the one you know with --genesis");
    }
    let data = json!({
        "events": found.events, "genesis": found.genesis, "head": found.head, "standing": standing,
        "from": found.span.from, "to": found.span.to,
    });
    Ok(output.data(&data))
}
