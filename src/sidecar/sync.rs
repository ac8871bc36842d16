//! `estoppel sync …`: this clone's ledger and that of the remote.

use std::process::ExitCode;
use std::time::Duration;

use estoppel_release::git::Git;
use estoppel_release::ledger::Store;
use estoppel_release::sync::{self, Mode, Outbox};
use estoppel_release::{Code, Refusal};
use serde_json::{Value, json};

use crate::arguments::{InRepository, SyncCommand, SyncPush};
use crate::ledger::now;
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &SyncCommand) -> Result<ExitCode, Failure> {
    match command {
        SyncCommand::Status { at } => status(*output, at),
        SyncCommand::Pull { at } => {
            let ledger = sync::pull(&store(at)?)?;
            output.line(&format!("pulled      {} events, head {}", ledger.events().len(), ledger.head()));
            Ok(output.data(&json!({ "events": ledger.events().len(), "head": ledger.head() })))
        }
        SyncCommand::Push(push) => self::push(*output, push),
    }
}

/// Whatever the mode says: who asks for it wants the remote.
fn store(at: &InRepository) -> Result<Store, Failure> {
    let git = Git::open(&at.repo)?;
    let remote = if at.local { None } else { git.remote()? };
    Ok(Store::new(git, remote, now))
}

fn status(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = store(at)?;
    let mode = Mode::of(store.git())?;
    let outbox = Outbox::read(store.git());
    let waits = outbox
        .as_ref()
        .map(|outbox| json!({ "tries": outbox.tries, "not_before": outbox.not_before, "why": outbox.why }));
    output.line(&format!("mode        {}", mode.as_str()));
    if let Some(outbox) = &outbox {
        let Outbox { tries, not_before, why } = outbox;
        output.line(&plain(&format!("outbox      failed {tries} times, again after {not_before}: {why}")));
    }
    let compared = match sync::compare(&store) {
        Ok(compared) => compared,
        Err(refusal) if refusal.code == Code::RemoteFailed => {
            let pending = sync::pending(&store)?;
            output.line(&plain(&format!("remote      was not asked: {refusal}")));
            output.line(&format!("pending     {pending} events that the remote is not known to have"));
            let data = json!({
                "mode": mode.as_str(), "remote": store.remote(), "asked": false, "pending": pending, "outbox": waits,
            });
            return Ok(output.data(&data));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let mut rows = Vec::new();
    for (version, difference) in &compared.versions {
        let is_both = difference.ahead > 0 && difference.behind > 0;
        let state = match (is_both && compared.conflict.is_some(), difference.ahead, difference.behind) {
            (true, _, _) => "conflict",
            (false, _, 0) => "ahead",
            (false, 0, _) => "behind",
            (false, _, _) => "both",
        };
        let name = version.as_ref().map_or_else(|| "roles".to_owned(), ToString::to_string);
        output
            .line(&format!("{name:<12} {state:<9} {} ahead, {} behind", difference.ahead, difference.behind));
        rows.push(json!({
            "version": version, "state": state, "ahead": difference.ahead, "behind": difference.behind,
        }));
    }
    let (ahead, behind) = (compared.ahead, compared.behind);
    output.line(&format!("events      {ahead} ahead, {behind} behind; {} tags to send", compared.tags.len()));
    if let Some(conflict) = &compared.conflict {
        output.line(&plain(&format!("{}    {conflict}", output.paint(Colour::Red, "CONFLICT"))));
    }
    let conflict: Option<Value> = compared
        .conflict
        .as_ref()
        .map(|conflict| json!({ "code": conflict.code.as_str(), "message": conflict.detail }));
    let data = json!({
        "mode": mode.as_str(), "remote": store.remote(), "asked": true, "ahead": ahead, "behind": behind,
        "pending": ahead, "tags": compared.tags, "versions": rows, "conflict": conflict, "outbox": waits,
    });
    Ok(output.answer(&data, compared.conflict.map_or(0, |conflict| conflict.code.exit())))
}

fn push(output: Output, push: &SyncPush) -> Result<ExitCode, Failure> {
    let store = store(&push.at)?;
    let mut left = if push.wait { push.tries } else { 1 };
    loop {
        let before = Outbox::read(store.git());
        let wait = if push.now { 0 } else { sync::wait(before.as_ref(), now()) };
        if wait > 0 && !push.wait {
            let until = before.as_ref().map(|before| before.not_before.to_string()).unwrap_or_default();
            let message = format!("the remote failed, and is asked again after {until}");
            let failure = Failure::runtime("SYNC_WAITS", message);
            let failure = Failure { retryable: true, ..failure };
            return Err(failure.hint("`--now` asks it now, `--wait` waits until then"));
        }
        std::thread::sleep(Duration::from_micros(wait));
        left -= 1;
        match sync::push(&store) {
            Ok((events, tags)) => {
                Outbox::clear(store.git())?;
                output.line(&format!("pushed      {events} events, {tags} tags"));
                return Ok(output.data(&json!({ "events": events, "tags": tags })));
            }
            Err(refusal) if store.remote().is_some() && is_outage(&refusal) => {
                let after = Outbox::failed(before.as_ref(), now(), &refusal.detail, chance());
                after.write(store.git())?;
                if left == 0 {
                    return Err(refusal.into());
                }
                output.note(&format!("the remote failed, again after {}: {refusal}", after.not_before));
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

fn is_outage(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::RemoteFailed | Code::GitTime | Code::LedgerBusy)
}

/// For the wait alone, so that one that can be guessed does no harm.
pub fn chance() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_le_bytes(bytes)
}
