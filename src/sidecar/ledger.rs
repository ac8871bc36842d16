//! `estoppel ledger …` and `estoppel roles …`, and what every command about releases begins with.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, PublicKey, Sha256, Signer as _, SoftKey};
use estoppel_release::audit::{self, EXPORT_BYTES_MAX};
use estoppel_release::git::Git;
use estoppel_release::ledger::{Body, Hand, Known, Ledger, Role, Roles, Store};
use estoppel_release::sync::Mode;
use estoppel_release::{Code, Refusal, promotion, tag};
use serde_json::{Value, json};

use crate::arguments::{
    InRepository, LedgerCommand, LedgerInit, LedgerJoin, LedgerRestore, RoleName, RolesCommand, RolesGrant,
    RolesRevoke, SignedBy,
};
use crate::output::{Failure, Output, plain};
use crate::{identity, input};

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, detail, hint } = refusal;
        let failure = Self::runtime(code.as_str(), plain(&detail));
        let retryable = matches!(code, Code::LedgerBusy | Code::GitTime | Code::RemoteFailed);
        Self { exit: code.exit(), hint, retryable, ..failure }
    }
}

/// The ledger of the repository that is meant, and its remote where that is told of every event.
pub fn store(at: &InRepository) -> Result<Store, Failure> {
    store_in(at, &[Mode::Cloud])
}

/// The same for what the remote is told of also where it is told of promotions only.
pub fn shared(at: &InRepository) -> Result<Store, Failure> {
    store_in(at, &[Mode::Cloud, Mode::Hybrid])
}

fn store_in(at: &InRepository, modes: &[Mode]) -> Result<Store, Failure> {
    let git = Git::open(&at.repo)?;
    let remote = if at.local || !modes.contains(&Mode::of(&git)?) { None } else { git.remote()? };
    Ok(Store::new(git, remote, now))
}

/// The ledger of a repository, without its remote.
pub fn alone(repository: &Path) -> Result<Store, Failure> {
    Ok(Store::new(Git::open(repository)?, None, now))
}

/// The ledger as it is, with that of the remote where there is one and it can be asked.
pub fn read(output: Output, store: &Store) -> Result<Ledger, Failure> {
    if store.remote().is_none() {
        return Ok(store.read()?);
    }
    match store.fetch() {
        Ok(ledger) => Ok(ledger),
        Err(refusal) if refusal.code == Code::RemoteFailed => {
            output.note(&format!("the remote was not asked: {refusal}"));
            Ok(store.read()?)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// A key that signs events, and the machine that it does it on.
pub struct Signing {
    pub key: SoftKey,
    host: String,
}

impl Signing {
    pub fn of(signed: &SignedBy) -> Result<Self, Failure> {
        Self::with(&signed.key)
    }

    pub fn with(key: &Path) -> Result<Self, Failure> {
        let key = estoppel_journal::keys::load_approver(key)
            .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))?;
        if key.public().alg() != estoppel_evidence::Alg::Ed25519 {
            return Err(Failure::input("KEY_INVALID", "events are signed with Ed25519 keys"));
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self { key, host })
    }

    pub fn hand(&self) -> Hand<'_> {
        Hand { signer: &self.key, host: &self.host, now: &now }
    }
}

pub fn now() -> UnixMicros {
    UnixMicros(identity::now_us())
}

pub fn run(output: &Output, command: &LedgerCommand) -> Result<ExitCode, Failure> {
    match command {
        LedgerCommand::Init(init) => self::init(*output, init),
        LedgerCommand::Join(join) => self::join(*output, join),
        LedgerCommand::Verify { at } => verify(*output, at),
        LedgerCommand::Restore(restore) => self::restore(*output, restore),
        LedgerCommand::Show { at } => show(*output, at),
    }
}

fn init(output: Output, init: &LedgerInit) -> Result<ExitCode, Failure> {
    let (store, signing) = (shared(&init.at)?, Signing::of(&init.signed)?);
    let mut roles = Roles::default();
    roles.grant(signing.key.public(), &init.name, Role::ALL.into())?;
    let begun = store.begin(Body::RolesSet(roles), &signing.hand())?;
    output.line(&format!("ledger      {}", begun.event));
    output.line(&format!("owner       {} {}", plain(&init.name), signing.key.public().id()));
    output.line("note        other clones take it with `estoppel ledger join` and this digest; tell it by another way");
    Ok(output.data(&json!({ "genesis": begun.event, "owner": signing.key.public().id() })))
}

fn join(output: Output, join: &LedgerJoin) -> Result<ExitCode, Failure> {
    let store = shared(&join.at)?;
    let genesis = Sha256::parse(&join.genesis)
        .ok_or_else(|| Failure::input("ARGUMENT_INVALID", "expected `sha256:` and 64 hex digits"))?;
    said(output, &store, &store.join(genesis)?)
}

/// From an export, which is judged first. The remote is neither asked nor told.
fn restore(output: Output, restore: &LedgerRestore) -> Result<ExitCode, Failure> {
    let store = alone(&restore.at.repo)?;
    let bytes = input::limited(&restore.file, EXPORT_BYTES_MAX as u64)?; // widening
    let named = restore.genesis.as_deref().map(|text| {
        let wrong = || Failure::input("ARGUMENT_INVALID", "expected `sha256:` and 64 hex digits");
        Sha256::parse(text).ok_or_else(wrong)
    });
    let named = named.transpose()?;
    let events = audit::events(&bytes)?;
    let trusted = store.trusted()?.or(named);
    let found = audit::verify(&bytes, None, trusted)?;
    let ledger = store.restore(&events, named)?;
    output.line(&format!("restored    {} events of the export", found.events));
    said(output, &store, &ledger)
}

fn verify(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = store(at)?;
    let ledger = read(output, &store)?;
    said(output, &store, &ledger)
}

fn said(output: Output, store: &Store, ledger: &Ledger) -> Result<ExitCode, Failure> {
    let genesis = ledger.genesis().map(|genesis| genesis.to_string()).unwrap_or_default();
    let standing = if store.trusted()?.is_some() { "trusted" } else { "self_asserted" };
    output.line(&format!(
        "ledger      {} events, every signature and every link verified",
        ledger.events().len()
    ));
    output.line(&format!("begins      {genesis} {standing}"));
    output.line(&format!("head        {}", ledger.head()));
    if standing != "trusted" {
        output.line("note        nobody has vouched for its beginning; `estoppel ledger join` binds it to one you know");
    }
    let data = json!({
        "events": ledger.events().len(), "genesis": genesis, "head": ledger.head(), "standing": standing,
    });
    Ok(output.data(&data))
}

fn show(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let ledger = read(output, &store(at)?)?;
    let mut rows = Vec::new();
    for event in ledger.events() {
        let document = event.document();
        let body = &document["body"];
        let version = ["version", "from"].iter().find_map(|name| body[name].as_str()).unwrap_or("-");
        let facts = ["result", "stage", "tag", "commit"].iter().filter_map(|name| body[name].as_str());
        let facts: Vec<&str> = facts.collect();
        let who = ledger.roles().name(event.actor).map_or_else(|| event.actor.to_string(), ToOwned::to_owned);
        output.line(&plain(&format!(
            "{} {:<20} {version:<12} {who} {}",
            event.at,
            event.body.kind(),
            facts.join(" ")
        )));
        let mut row = document;
        row["id"] = json!(event.id);
        rows.push(row);
    }
    Ok(output.data(&json!({ "events": rows, "head": ledger.head() })))
}

/// `estoppel verify tag NAME`.
pub fn verify_tag(output: Output, name: &str) -> Result<ExitCode, Failure> {
    let store = alone(Path::new("."))?;
    let ledger = store.read()?;
    let (tag, event, commit) = promotion::verify_tag(store.git(), &ledger, name)?;
    let who = ledger.roles().name(event.actor).unwrap_or_default().to_owned();
    let standing = if store.trusted()?.is_some() { "trusted" } else { "self_asserted" };
    output.line(&plain(&format!("tag         {tag} on {commit}")));
    output.line(&plain(&format!("by          {who} {}, {standing}", event.actor)));
    output.line(&format!("event       {} {}", event.body.kind(), event.id));
    // A candidate that came to `rc` keeps its tag.
    let reached = ledger.events().iter().find_map(|event| match &event.body {
        Body::StagePromoted(body) if body.tag == tag => Some((body.stage, event, &body.version)),
        _ => None,
    });
    if let Some((stage, event, _)) = reached {
        output.line(&format!("stage       {stage} since {}", event.at));
    }
    let back = match &event.body {
        Body::PromotionFinished(body) => ledger.rolled_back(&body.version),
        Body::StagePromoted(body) => ledger.rolled_back(&body.version),
        _ => reached.and_then(|(_, _, version)| ledger.rolled_back(version)),
    };
    if let Some((event, back)) = back {
        output.line(&plain(&format!("taken back  to {} at {}: {}", back.to, event.at, back.reason)));
    }
    let data = json!({
        "tag": tag, "commit": commit, "actor": event.actor, "event": event.id, "kind": event.body.kind(),
        "body": event.document()["body"], "standing": standing,
        "stage": reached.map(|(stage, event, _)| json!({ "stage": stage, "event": event.id, "at": event.at })),
        "taken_back": back.map(|(event, back)| json!({ "event": event.id, "to": back.to, "reason": back.reason })),
    });
    Ok(output.data(&data))
}

/// `estoppel roles …`.
pub fn roles(output: &Output, command: &RolesCommand) -> Result<ExitCode, Failure> {
    match command {
        RolesCommand::List { at } => {
            let ledger = read(*output, &store(at)?)?;
            Ok(list(*output, ledger.roles()))
        }
        RolesCommand::Grant(grant) => self::grant(*output, grant),
        RolesCommand::Revoke(revoke) => self::revoke(*output, revoke),
        RolesCommand::Signers { at } => {
            let ledger = read(*output, &store(at)?)?;
            let keys: Vec<PublicKey> =
                ledger.roles().rows().filter_map(|(id, _, _)| ledger.roles().key(id)).collect();
            let lines: Vec<String> = keys.iter().filter_map(tag::allowed_signer).collect();
            output.text(&(lines.join("\n") + "\n"), &json!({ "signers": lines }))
        }
    }
}

fn list(output: Output, roles: &Roles) -> ExitCode {
    let mut rows: Vec<Value> = Vec::new();
    for (kid, name, roles) in roles.rows() {
        let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        output.line(&plain(&format!("{kid} {name:<20} {}", words.join(", "))));
        rows.push(json!({ "kid": kid, "name": name, "roles": words }));
    }
    output.data(&json!({ "roles": rows }))
}

fn grant(output: Output, grant: &RolesGrant) -> Result<ExitCode, Failure> {
    let text = input::text(&grant.public)?;
    let key = estoppel_journal::keys::public_from_pem(&text).ok_or_else(|| {
        let said = format!("`{}` is not a public key in PEM", grant.public.display());
        Failure::input("KEY_INVALID", plain(&said))
    })?;
    let wanted: BTreeSet<Role> = grant.role.iter().map(|role| role_of(*role)).collect();
    let (store, signing) = (store(&grant.at)?, Signing::of(&grant.signed)?);
    change(output, &store, &signing, &|roles| roles.grant(&key, &grant.name, wanted.clone()))
}

fn revoke(output: Output, revoke: &RolesRevoke) -> Result<ExitCode, Failure> {
    let kid = KeyId::parse(&revoke.kid)
        .ok_or_else(|| Failure::input("ARGUMENT_INVALID", "expected a key id of 64 hex digits"))?;
    let (store, signing) = (store(&revoke.at)?, Signing::of(&revoke.signed)?);
    change(output, &store, &signing, &|roles| roles.revoke(kid))
}

fn change(
    output: Output,
    store: &Store,
    signing: &Signing,
    change: &dyn Fn(&mut Roles) -> Result<(), Refusal>,
) -> Result<ExitCode, Failure> {
    let mut after = Roles::default();
    store.append(&signing.hand(), &mut |Known { ledger, .. }| {
        let mut roles = ledger.roles().clone();
        change(&mut roles)?;
        after = roles.clone();
        Ok(Body::RolesSet(roles).into())
    })?;
    Ok(list(output, &after))
}

fn role_of(name: RoleName) -> Role {
    match name {
        RoleName::Auditor => Role::Auditor,
        RoleName::Approver => Role::Approver,
        RoleName::Author => Role::Author,
        RoleName::Owner => Role::Owner,
        RoleName::Releaser => Role::Releaser,
        RoleName::Runner => Role::Runner,
    }
}
