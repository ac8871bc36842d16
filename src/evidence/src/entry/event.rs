//! Entries that are not receipts (`spec/pef/schemas/journal_event.schema.json`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{LineTooLong, Link, VERSION, write_line};
use crate::capture::Tag;
use crate::hash::{Commit, Leaf, Root, Sha256};
use crate::id::{CallId, HoldId, Instance, RunId};
use crate::key::{Alg, KeyId, Use};
use crate::reason::Reason;
use crate::time::UnixMicros;

/// Whose calls a run holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunClass {
    /// Callers named it in a header.
    Caller,
    /// Calls that named no run.
    Ambient,
    /// The instance's own events.
    Instance,
}

/// Which entries carry a signature of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// Every entry; a receipt then stands alone. About 10 to 20 µs of CPU each.
    #[default]
    Each,
    /// None; authenticity rests on the checkpoints. For more than about 10,000 calls a second.
    Checkpoint,
}

/// When an entry counts as recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is in the operating system's memory. A power cut loses up to the flush interval (1 s).
    Memory,
    /// When it is on disk; one fdatasync serves many entries. The end of a response waits for it.
    #[default]
    Group,
    /// As `group`, and the intent is on disk before the upstream is contacted.
    Sync,
}

/// Why a run was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealReason {
    Clean,
    Timeout,
    Shutdown,
    CrashRecovered,
}

/// The program that writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    pub name: String,
    pub version: String,
}

/// What a verifier recounts (SPEC section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub allow: u64,
    pub block: u64,
    pub calls: u64,
    pub hold: u64,
    pub incomplete: u64,
    pub interrupted: u64,
    pub repair: u64,
}

/// First entry of a run.
#[derive(Clone, Debug)]
pub struct RunOpen {
    pub build: Build,
    pub capture: (String, Commit),
    pub class: RunClass,
    pub config: Sha256,
    pub durability: Durability,
    pub name: Option<String>,
    pub policy: Sha256,
    pub previous_seal: Option<Leaf>,
    pub sign: Sign,
}

/// The call is about to be sent upstream.
#[derive(Clone, Debug)]
pub struct Intent {
    pub call: CallId,
    pub operation: String,
    pub policy: Sha256,
}

/// No receipt will follow for this call.
#[derive(Clone, Debug)]
pub struct Interrupted {
    pub call: CallId,
    pub intent: Option<Leaf>,
    pub reason: Reason,
}

/// From the next entry on, the key of `use_` is `new`.
#[derive(Clone, Debug)]
pub struct KeyRotate {
    pub alg: Alg,
    pub new: KeyId,
    pub old: KeyId,
    /// Base64 of the new key's signature over [`KeyRotate::possession_message`].
    pub possession: String,
    /// Base64 of the new key.
    pub spki: String,
    pub use_: Use,
}

impl KeyRotate {
    /// The bytes that the new key signs to show that its holder has it.
    pub fn possession_message(iss: &Instance, run: RunId, old: KeyId, new: KeyId, use_: Use) -> Vec<u8> {
        #[derive(Serialize)]
        struct Possession<'a> {
            iss: &'a Instance,
            new: KeyId,
            old: KeyId,
            run: RunId,
            r#use: Use,
        }
        let body = serde_json::to_vec(&Possession { iss, new, old, run, r#use: use_ })
            .expect("ids always serialize");
        crate::envelope::pae(crate::envelope::POSSESSION_TYPE, &body)
    }
}

/// What start-up cut off a torn tail.
#[derive(Clone, Debug)]
pub struct JournalRecover {
    pub dropped_bytes: u64,
    pub dropped_sha256: Option<Sha256>,
    pub last_index: Option<u64>,
    pub segment: Option<String>,
}

/// The policy that judges from now on, or one that was refused.
#[derive(Clone, Debug)]
pub struct PolicyLoad {
    pub policy: Option<Sha256>,
    pub refused: Option<Reason>,
}

/// A span in which nothing could be recorded.
#[derive(Clone, Debug)]
pub struct Gap {
    pub from: UnixMicros,
    pub reason: Reason,
    pub refused: u64,
    pub to: UnixMicros,
}

/// A call waits for people (SPEC section 4).
#[derive(Clone, Debug)]
pub struct Hold {
    /// Keys that may decide: 1 to 16.
    pub approvers: Vec<KeyId>,
    pub call: CallId,
    pub expires: UnixMicros,
    pub hold: HoldId,
    /// How many of them have to approve.
    pub needs: u8,
    /// What `payload` is the tag of.
    pub of: HoldOf,
    pub operation: Option<String>,
    pub payload: Tag,
    pub policy: Sha256,
    pub requester: Option<String>,
    pub rule: Option<String>,
    pub tool: Option<String>,
}

/// What of a call is approved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOf {
    /// The request's body.
    #[default]
    Body,
    /// What a JSON-RPC request asks for, whatever its id.
    Call,
}

/// What an approver says of a held call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalDecision {
    Approve,
    Deny,
}

/// What an approver signs (SPEC section 4), in canonical order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalStatement {
    /// Who that is, for people: at most 128 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// At most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    pub decision: ApprovalDecision,
    pub expires: UnixMicros,
    pub hold: HoldId,
    pub iss: Instance,
    /// 32 hex digits, never twice for one hold.
    pub nonce: String,
    pub payload: Tag,
    pub policy: Sha256,
    pub run: RunId,
}

impl ApprovalStatement {
    /// The bytes that are signed.
    pub fn message(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("ids and texts always serialize");
        crate::envelope::pae(crate::envelope::APPROVAL_TYPE, &body)
    }
}

/// One approver's decision on a hold of the same run.
#[derive(Clone, Debug)]
pub struct Approval {
    pub alg: Alg,
    pub approver: KeyId,
    /// Base64 of the signature over [`ApprovalStatement::message`], 64 bytes.
    pub signature: String,
    /// Base64 of the approver's key.
    pub spki: String,
    pub statement: ApprovalStatement,
}

/// Where traffic without a receipt was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BypassSource {
    /// What only traffic beside the gateway calls was called.
    Canary,
    /// The upstream was used without the gateway's credential.
    Credential,
    /// A write to a database that belongs to no call.
    Database,
    /// The provider's own log or bill names a call that no receipt names.
    ProviderLog,
    /// Numbers are missing in a sequence.
    Sequence,
}

impl BypassSource {
    /// Every source.
    pub const ALL: [Self; 5] =
        [Self::Canary, Self::Credential, Self::Database, Self::ProviderLog, Self::Sequence];

    /// As entries write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Credential => "credential",
            Self::Database => "database",
            Self::ProviderLog => "provider_log",
            Self::Sequence => "sequence",
        }
    }
}

/// Traffic that has no receipt.
#[derive(Clone, Debug)]
pub struct Bypass {
    pub at: Option<UnixMicros>,
    pub comment: Option<String>,
    pub count: Option<u64>,
    pub reason: Reason,
    /// What the source calls it.
    pub reference: Option<String>,
    pub source: BypassSource,
    pub upstream: Option<String>,
}

/// What an operator did to the instance.
#[derive(Clone, Debug)]
pub struct Act {
    /// `[a-z][a-z0-9._-]{0,63}`, as `kill` or `resume`.
    pub act: &'static str,
    /// At most 128 characters.
    pub by: String,
    /// At most 256 characters.
    pub comment: Option<String>,
    pub on: Option<String>,
    pub reason: Option<Reason>,
}

/// What a database looked like after a call whose receipt did not wait for it.
#[derive(Clone, Debug)]
pub struct LateSnapshot {
    pub call: CallId,
    pub code: Option<Reason>,
    /// Of its document.
    pub digest: Sha256,
    pub lsn: Option<Box<str>>,
    /// The database's name in the configuration.
    pub source: Arc<str>,
}

/// Last entry of a run.
#[derive(Clone, Debug)]
pub struct RunSeal {
    pub count: u64,
    pub counters: Counters,
    pub head: Leaf,
    pub reason: SealReason,
    pub root: Root,
}

/// An entry that is not a receipt.
#[derive(Clone, Debug)]
pub enum Event {
    RunOpen(RunOpen),
    Intent(Intent),
    Interrupted(Interrupted),
    KeyRotate(KeyRotate),
    JournalRecover(JournalRecover),
    PolicyLoad(PolicyLoad),
    Gap(Gap),
    Hold(Hold),
    Approval(Box<Approval>),
    Bypass(Bypass),
    Act(Act),
    Snapshot(LateSnapshot),
    RunSeal(RunSeal),
}

impl Event {
    /// Writes the event's line into `out`, which is cleared first.
    ///
    /// # Errors
    /// [`LineTooLong`], which no event with bounded names can cause.
    pub fn write(&self, out: &mut Vec<u8>, link: &Link<'_>) -> Result<(), LineTooLong> {
        write_line(out, &self.document(link))
    }

    fn document<'a>(&'a self, link: &Link<'a>) -> EventDocument<'a> {
        let mut document = EventDocument::new(link);
        match self {
            Self::RunOpen(open) => document.run_open(open),
            Self::Intent(intent) => {
                document.kind = "intent";
                document.call = Some(intent.call);
                document.operation = Some(&intent.operation);
                document.policy = Some(intent.policy);
            }
            Self::Interrupted(interrupted) => {
                document.kind = "interrupted";
                document.call = Some(interrupted.call);
                document.intent = interrupted.intent;
                document.reason = Some(interrupted.reason.code());
            }
            Self::KeyRotate(rotate) => document.key_rotate(rotate),
            Self::JournalRecover(recover) => {
                document.kind = "journal.recover";
                document.dropped_bytes = Some(recover.dropped_bytes);
                document.dropped_sha256 = recover.dropped_sha256;
                document.last_index = recover.last_index;
                document.segment = recover.segment.as_deref();
            }
            Self::PolicyLoad(load) => {
                document.kind = "policy.load";
                document.policy = load.policy;
                document.reason = load.refused.map(Reason::code);
                document.state = Some(if load.refused.is_some() { "refused" } else { "active" });
            }
            Self::Gap(gap) => {
                document.kind = "gap";
                document.from = Some(gap.from);
                document.reason = Some(gap.reason.code());
                document.refused = Some(gap.refused);
                document.to = Some(gap.to);
            }
            Self::Hold(hold) => document.hold(hold),
            Self::Approval(approval) => document.approval(approval),
            Self::Bypass(bypass) => {
                document.kind = "bypass";
                document.at = bypass.at;
                document.comment = bypass.comment.as_deref();
                document.count = bypass.count;
                document.reason = Some(bypass.reason.code());
                document.r#ref = bypass.reference.as_deref();
                document.source = Some(bypass.source.as_str());
                document.upstream = bypass.upstream.as_deref();
            }
            Self::Act(act) => {
                document.kind = "act";
                document.act = Some(act.act);
                document.by = Some(&act.by);
                document.comment = act.comment.as_deref();
                document.on = act.on.as_deref();
                document.reason = act.reason.map(Reason::code);
            }
            Self::Snapshot(late) => {
                document.kind = "snapshot";
                document.call = Some(late.call);
                document.code = late.code.map(Reason::code);
                document.digest = Some(late.digest);
                document.lsn = late.lsn.as_deref();
                document.source = Some(&late.source);
            }
            Self::RunSeal(seal) => document.run_seal(seal),
        }
        document
    }
}

#[derive(Serialize)]
struct CaptureDocument<'a> {
    commitment: Commit,
    id: &'a str,
}

/// Every member that an event may have, in canonical order.
#[derive(Serialize)]
struct EventDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<Alg>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approver: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approvers: Option<&'a [KeyId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<UnixMicros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<&'a Build>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<CaptureDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<RunClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<ApprovalDecision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_sha256: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<UnixMicros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<UnixMicros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<Leaf>,
    iss: &'a Instance,
    kid: KeyId,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<&'a str>,
    mono_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<HoldOf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    possession: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_seal: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<Root>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    run: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<&'a str>,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign: Option<Sign>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spki: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<UnixMicros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    ts: UnixMicros,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#use: Option<Use>,
    v: &'static str,
}

impl<'a> EventDocument<'a> {
    fn new(link: &Link<'a>) -> Self {
        Self {
            act: None,
            alg: None,
            approver: None,
            approvers: None,
            at: None,
            build: None,
            by: None,
            call: None,
            capture: None,
            class: None,
            code: None,
            comment: None,
            config: None,
            count: None,
            counters: None,
            decision: None,
            digest: None,
            dropped_bytes: None,
            dropped_sha256: None,
            durability: None,
            expires: None,
            from: None,
            head: None,
            hold: None,
            intent: None,
            iss: link.iss,
            kid: link.kid,
            kind: "",
            last_index: None,
            lsn: None,
            mono_us: link.mono_us,
            name: None,
            needs: None,
            new: None,
            nonce: None,
            of: None,
            old: None,
            on: None,
            operation: None,
            payload: None,
            policy: None,
            possession: None,
            prev: link.prev,
            previous_seal: None,
            reason: None,
            r#ref: None,
            refused: None,
            requester: None,
            root: None,
            rule: None,
            run: link.run,
            segment: None,
            seq: link.seq,
            sign: None,
            signature: None,
            source: None,
            spki: None,
            state: None,
            to: None,
            tool: None,
            ts: link.ts,
            upstream: None,
            r#use: None,
            v: VERSION,
        }
    }

    fn run_open(&mut self, open: &'a RunOpen) {
        self.kind = "run.open";
        self.build = Some(&open.build);
        self.capture = Some(CaptureDocument { commitment: open.capture.1, id: &open.capture.0 });
        self.class = Some(open.class);
        self.config = Some(open.config);
        self.durability = Some(open.durability);
        self.name = open.name.as_deref();
        self.policy = Some(open.policy);
        self.previous_seal = open.previous_seal;
        self.sign = Some(open.sign);
    }

    fn hold(&mut self, hold: &'a Hold) {
        self.kind = "hold";
        self.approvers = Some(&hold.approvers);
        self.call = Some(hold.call);
        self.expires = Some(hold.expires);
        self.hold = Some(hold.hold);
        self.needs = Some(hold.needs.into());
        self.of = Some(hold.of).filter(|of| *of != HoldOf::Body);
        self.operation = hold.operation.as_deref();
        self.payload = Some(&hold.payload);
        self.policy = Some(hold.policy);
        self.requester = hold.requester.as_deref();
        self.rule = hold.rule.as_deref();
        self.tool = hold.tool.as_deref();
    }

    fn approval(&mut self, approval: &'a Approval) {
        let statement = &approval.statement;
        self.kind = "approval";
        self.alg = Some(approval.alg);
        self.approver = Some(approval.approver);
        self.by = statement.by.as_deref();
        self.comment = statement.comment.as_deref();
        self.decision = Some(statement.decision);
        self.expires = Some(statement.expires);
        self.hold = Some(statement.hold);
        self.nonce = Some(&statement.nonce);
        self.payload = Some(&statement.payload);
        self.policy = Some(statement.policy);
        self.signature = Some(&approval.signature);
        self.spki = Some(&approval.spki);
    }

    fn key_rotate(&mut self, rotate: &'a KeyRotate) {
        self.kind = "key.rotate";
        self.alg = Some(rotate.alg);
        self.new = Some(rotate.new);
        self.old = Some(rotate.old);
        self.possession = Some(&rotate.possession);
        self.spki = Some(&rotate.spki);
        self.r#use = Some(rotate.use_);
    }

    fn run_seal(&mut self, seal: &'a RunSeal) {
        self.kind = "run.seal";
        self.count = Some(seal.count);
        self.counters = Some(seal.counters);
        self.head = Some(seal.head);
        self.reason = Some(match seal.reason {
            SealReason::Clean => "clean",
            SealReason::Timeout => "timeout",
            SealReason::Shutdown => "shutdown",
            SealReason::CrashRecovered => "crash_recovered",
        });
        self.root = Some(seal.root);
    }
}
