//! The one list of reasons: HTTP error code, metric label, receipt field and row of `spec/reasons.json`.
//!
//! A policy's own rules may name further codes; those appear in receipts and answers, and count under
//! [`Reason::PolicyBlock`] in metrics. Codes of the verifiers are a list of their own (SPEC section 11), in the same
//! file, because the verifier shares nothing with this crate.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The caller can mend it.
    Client,
    /// The upstream misbehaved or was not there.
    Upstream,
    /// A rule decided so.
    Policy,
    /// Ours, or of the machine we run on.
    Us,
    /// Nothing went wrong.
    Nobody,
}

impl Fault {
    /// `client`, `upstream`, `policy`, `us` or `nobody`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
            Self::Us => "us",
            Self::Nobody => "nobody",
        }
    }
}

macro_rules! reasons {
    ($($name:ident $code:literal $fault:ident $retry:literal $status:literal $text:literal;)*) => {
        /// Why something ended as it did. Exhaustive on purpose: a new reason must be thought about everywhere.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $text] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of `spec/reasons.json`.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// Whether the same call may succeed later without any change.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// HTTP status of an answer that ends with this reason; 0 where none is ever sent.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short text that is safe to show to a caller.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    Ok "OK" Nobody false 200 "the call went through";

    RouteUnknown "ROUTE_UNKNOWN" Client false 404 "no route takes this request";
    RequestInvalid "REQUEST_INVALID" Client false 400 "the request is not well-formed or its framing is ambiguous";
    HeaderMismatch "HEADER_MISMATCH" Client false 400 "a header does not say what the body says";
    MethodRefused "METHOD_REFUSED" Client false 405 "the route does not take this method";
    NotFederated "NOT_FEDERATED" Client false 400 "a route of several MCP servers offers their tools and prompts, and nothing else";
    SessionUnknown "SESSION_UNKNOWN" Client false 404 "there is no such session; a client begins another";
    HeaderInvalid "HEADER_INVALID" Client false 400 "a header that estoppel reads has a value it does not allow, or comes more than once";
    HeadersMax "HEADERS_MAX" Client false 431 "the request's headers are larger than the limit";
    RequestBytesMax "REQUEST_BYTES_MAX" Client false 413 "the request body is larger than the limit";
    RequestBroken "REQUEST_BROKEN" Client false 400 "the request body ended before it was complete";
    RequestStalled "REQUEST_STALLED" Client true 408 "the request body did not arrive in time";
    ContextUnsigned "CONTEXT_UNSIGNED" Client false 401 "this route takes context headers only with a valid signature";
    IdentityRequired "IDENTITY_REQUIRED" Client false 401 "this route needs a proven identity";
    TokenInvalid "TOKEN_INVALID" Client false 401 "the bearer token is none that is taken here";
    TokenExpired "TOKEN_EXPIRED" Client false 401 "the bearer token has expired, or is not valid yet";
    TokenAudience "TOKEN_AUDIENCE" Client false 401 "the bearer token is meant for somebody else";
    ApiKeyInvalid "API_KEY_INVALID" Client false 401 "the API key is none that is taken here, or has expired";
    IdentityRevoked "IDENTITY_REVOKED" Client false 401 "the credential, or whoever it stands for, has been revoked";
    ScopeMissing "SCOPE_MISSING" Client false 403 "the credential does not have a scope that this route needs";
    ClientGone "CLIENT_GONE" Client true 0 "the client left before the answer was complete";
    ClientStalled "CLIENT_STALLED" Client true 0 "the client stopped reading the answer";
    RunsMax "RUNS_MAX" Client true 429 "too many runs are open";
    UpgradeRefused "UPGRADE_REFUSED" Client false 501 "protocol upgrades and tunnels are not forwarded";

    PolicyBlock "POLICY_BLOCK" Policy false 403 "the policy blocks this call";
    Bypass "BYPASS" Policy false 403 "traffic went round the gateway, or came where only such traffic comes";
    Killed "KILLED" Policy false 403 "an operator has stopped calls like this one";
    ToolDenied "TOOL_DENIED" Policy false 403 "a policy rule blocks this tool";
    ModelDenied "MODEL_DENIED" Policy false 403 "a policy rule blocks this model";
    OperationDenied "OPERATION_DENIED" Policy false 403 "a policy rule blocks this operation";
    ApprovalRequired "APPROVAL_REQUIRED" Policy false 403 "a person has to approve this call first";
    ApproversMissing "APPROVERS_MISSING" Policy false 403 "too few people other than the caller may approve this call";
    HoldPayload "HOLD_PAYLOAD" Client false 409 "this is not the call that was held";
    HoldPolicy "HOLD_POLICY" Policy false 409 "the policy has changed since the call was held";
    HoldExpired "HOLD_EXPIRED" Policy false 403 "nobody let the call pass in time";
    HoldDenied "HOLD_DENIED" Policy false 403 "an approver denied the call";
    HoldClosed "HOLD_CLOSED" Client false 409 "the hold is over: it was used, or its client has left";
    HoldUnknown "HOLD_UNKNOWN" Client false 404 "there is no such hold";
    HoldDecided "HOLD_DECIDED" Client false 409 "the approver has decided already";
    DecisionInvalid "DECISION_INVALID" Client false 403 "the decision is not one of an approver of this hold";
    HoldsMax "HOLDS_MAX" Us true 503 "too many calls wait for people";
    NotEvaluated "NOT_EVALUATED" Policy false 403 "the bytes could not be looked at, and the policy blocks what was not";
    ShadowBytesMax "SHADOW_BYTES_MAX" Nobody false 0 "a shadow policy looks into more bytes than are kept for it, and was not asked";
    ShadowPartial "SHADOW_PARTIAL" Nobody false 0 "of a shadow policy only the rules were asked; its contracts, controls or detectors were not";
    RateMax "RATE_MAX" Policy true 429 "too many calls in too short a time";
    VelocityMax "VELOCITY_MAX" Policy true 429 "too many calls of this tool in too short a time";
    CapMax "CAP_MAX" Policy true 429 "what may be used in this period is used up";
    Frozen "FROZEN" Policy true 403 "the policy blocks such calls at this time";
    IdempotencyKeyMissing "IDEMPOTENCY_KEY_MISSING" Client false 400 "such calls have to bring a key in a header";
    IdempotencyConflict "IDEMPOTENCY_CONFLICT" Client false 422 "the key stands for another call";
    IdempotencyInFlight "IDEMPOTENCY_IN_FLIGHT" Client true 409 "the first call with this key has not ended";
    IdempotencyNoAnswer "IDEMPOTENCY_NO_ANSWER" Client false 409 "the first call with this key may have been done, and there is no answer of it to give again";
    PriceMissing "PRICE_MISSING" Policy false 403 "the policy caps costs and has no price for this model";
    ResponseBytesMax "RESPONSE_BYTES_MAX" Policy false 502 "the response is larger than the limit";

    EvidenceFull "EVIDENCE_FULL" Us true 503 "the evidence queue and its spill file are full";
    EvidenceFailed "EVIDENCE_FAILED" Us true 503 "evidence cannot be written, so nothing is forwarded";
    EvidenceLate "EVIDENCE_LATE" Us true 503 "the receipt was not on disk in time";
    StoreDown "STORE_DOWN" Us true 503 "what the policy counts cannot be counted now";
    InFlightMax "IN_FLIGHT_MAX" Us true 503 "too many calls are in flight";
    Shutdown "SHUTDOWN" Us true 503 "the gateway is shutting down";
    Interrupted "INTERRUPTED" Us true 0 "the gateway stopped while the call was in flight";
    Internal "INTERNAL" Us true 500 "the gateway failed";

    CredentialMissing "CREDENTIAL_MISSING" Client false 401 "the call brings no token that a credential for the upstream could be had for";
    CredentialFailed "CREDENTIAL_FAILED" Upstream true 503 "no credential for the upstream could be had";
    IssuerDown "ISSUER_DOWN" Upstream true 503 "the keys that the token is checked with cannot be had now";
    UpstreamConnect "UPSTREAM_CONNECT" Upstream true 502 "the upstream could not be reached";
    UpstreamTls "UPSTREAM_TLS" Upstream false 502 "the upstream's TLS could not be trusted";
    UpstreamProtocol "UPSTREAM_PROTOCOL" Upstream true 502 "the upstream's answer is not valid HTTP";
    UpstreamReset "UPSTREAM_RESET" Upstream true 502 "the upstream closed before it answered";
    UpstreamError "UPSTREAM_ERROR" Upstream true 200 "the upstream reported an error inside a success";
    Truncated "TRUNCATED" Upstream true 502 "the upstream's answer ended before it was complete";
    TimeoutConnect "TIMEOUT_CONNECT" Upstream true 504 "the upstream did not accept a connection in time";
    TimeoutHeaders "TIMEOUT_HEADERS" Upstream true 504 "the upstream did not answer in time";
    TimeoutFirstEvent "TIMEOUT_FIRST_EVENT" Upstream true 504 "the upstream's first bytes did not arrive in time";
    TimeoutBetween "TIMEOUT_BETWEEN" Upstream true 504 "the upstream went silent inside its answer";
    TimeoutTotal "TIMEOUT_TOTAL" Upstream true 504 "the call took longer than its limit";

    JsonMalformed "JSON_MALFORMED" Upstream false 0 "the JSON is not well-formed";
    InvalidUtf8 "INVALID_UTF8" Upstream false 0 "the bytes are not UTF-8";
    DepthMax "DEPTH_MAX" Upstream false 0 "the JSON is nested deeper than the limit";
    LoneSurrogate "LONE_SURROGATE" Upstream false 0 "an escape names half of a surrogate pair";
    KeyBytesMax "KEY_BYTES_MAX" Upstream false 0 "a member name is longer than the limit";
    NumberBytesMax "NUMBER_BYTES_MAX" Upstream false 0 "a number is longer than the limit";
    DuplicateKey "DUPLICATE_KEY" Upstream false 0 "a member that decides what a body says comes twice, or in other letter case";
    EventBytesMax "EVENT_BYTES_MAX" Upstream false 0 "one event is larger than the limit";
    EncodingUnsupported "ENCODING_UNSUPPORTED" Upstream false 0 "the content encoding is not looked into";
    ContentUnknown "CONTENT_UNKNOWN" Upstream false 0 "nothing here can read this content, or a value in it that decides what it says";

    ContractViolated "CONTRACT_VIOLATED" Upstream true 422 "a value does not keep its contract";
    RequestViolated "REQUEST_VIOLATED" Client false 422 "the request, or a value in it, does not keep its contract";
    ContractMissing "CONTRACT_MISSING" Policy false 422 "a tool is called for which there is no contract";
    ContractUnsupported "CONTRACT_UNSUPPORTED" Client false 422 "the contract of a value cannot be enforced";
    ValueMalformed "VALUE_MALFORMED" Upstream true 422 "a value is not well-formed and may not be repaired";
    ValueAmbiguous "VALUE_AMBIGUOUS" Upstream true 422 "a structured value is given in two ways, or without saying whose it is";
    ValueTruncated "VALUE_TRUNCATED" Upstream true 422 "what was sent ended inside a value";
    ToolUnknown "TOOL_UNKNOWN" Client false 404 "no such tool is pinned, or no such definition of it waits";
    ToolChanged "TOOL_CHANGED" Upstream false 422 "a tool is not what its server first said that it is";
    HeldBytesMax "HELD_BYTES_MAX" Policy false 422 "a value is larger than what may be held back";

    SecretFound "SECRET_FOUND" Policy false 403 "a detector found a secret, and the policy blocks it";
    PiiFound "PII_FOUND" Policy false 403 "a detector found personal data, and the policy blocks it";
    UnicodeFound "UNICODE_FOUND" Policy false 403 "a detector found hidden characters, and the policy blocks them";
    SsrfFound "SSRF_FOUND" Policy false 403 "a detector found a destination that is not to be reached, and the policy blocks it";
    ExfiltrationFound "EXFILTRATION_FOUND" Policy false 403 "a detector found a channel out, and the policy blocks it";
    InjectionFound "INJECTION_FOUND" Policy false 403 "a detector found instructions for a model, and the policy blocks them";
    PoisoningFound "POISONING_FOUND" Policy false 403 "a detector found instructions in what a tool says of itself, and the policy blocks them";
    DetectorFound "DETECTOR_FOUND" Policy false 403 "an external detector objects, and the policy blocks it";
    DetectorTimeout "DETECTOR_TIMEOUT" Us true 503 "a detector that the policy waits for gave no answer in time";
    DetectorFailed "DETECTOR_FAILED" Us true 503 "a detector that the policy waits for gave an answer that cannot be read";
    FindingsMax "FINDINGS_MAX" Policy false 403 "there is more to find than can be told apart";

    DrainMax "DRAIN_MAX" Policy false 0 "the client left, and a bound ended the reading of its answer before it was whole";
    BodyNotStored "BODY_NOT_STORED" Us false 0 "the policy asks to store this body, and it was not stored";

    PreFail "PRE_FAIL" Us true 503 "no snapshot of the database before the call, so nothing is forwarded";
    LsnMissing "LSN_MISSING" Us false 0 "the database does not say where its log of writes is";
    PostTimeout "POST_TIMEOUT" Us false 0 "no snapshot of the database after the call in time";
    RowsMissing "ROWS_MISSING" Us false 0 "rows of a table that were to be in the snapshot are not";
    ReplicaLag "REPLICA_LAG" Us true 503 "the database is a replica, or one that is too far behind";
    LineageMissing "LINEAGE_MISSING" Us false 0 "the rows that name a call could not be counted";
    PolicySkip "POLICY_SKIP" Policy false 0 "the policy asks for no snapshot of the database here";

    ConfigInvalid "CONFIG_INVALID" Us false 0 "the configuration is not valid";
    PolicyInvalid "POLICY_INVALID" Us false 0 "the policy is not valid";
    KeyInvalid "KEY_INVALID" Us false 0 "a key cannot be used";
    KeyPermissions "KEY_PERMISSIONS" Us false 0 "a key file can be read by others";
    PortInUse "PORT_IN_USE" Us true 0 "a listen address is in use";
    ListenFailed "LISTEN_FAILED" Us false 0 "a listen address cannot be used";
    DirectoryMissing "DIRECTORY_MISSING" Us false 0 "a directory does not exist";
    DirectoryReadOnly "DIRECTORY_READ_ONLY" Us false 0 "a directory cannot be written";
    DiskFull "DISK_FULL" Us true 0 "the disk is full";
    DiskFailed "DISK_FAILED" Us false 0 "the disk reported an error";
    JournalLocked "JOURNAL_LOCKED" Us true 0 "another process writes this journal";
    JournalCorrupt "JOURNAL_CORRUPT" Us false 0 "the journal is damaged before its end";
    JournalRollback "JOURNAL_ROLLBACK" Us false 0 "the journal is shorter than a checkpoint that was published";
    JournalFork "JOURNAL_FORK" Us false 0 "the journal does not agree with a checkpoint that was published";
    EvidenceOff "EVIDENCE_OFF" Client false 409 "evidence is off, so there are no runs";
    RunUnknown "RUN_UNKNOWN" Client false 404 "no such run";
    RunSealed "RUN_SEALED" Client false 409 "the run is sealed";
    RunBusy "RUN_BUSY" Us true 409 "the run is open or still in use, so this cannot be done to it now";
    AdminUnreachable "ADMIN_UNREACHABLE" Us true 0 "the daemon's admin listener does not answer";
    FileUnreadable "FILE_UNREADABLE" Client false 0 "a file cannot be read";
    ArgumentInvalid "ARGUMENT_INVALID" Client false 0 "an argument is not valid";
    EncryptionKey "ENCRYPTION_KEY" Client false 0 "it was encrypted for another key";
    EncryptionDamaged "ENCRYPTION_DAMAGED" Us false 0 "what is encrypted was changed, cut off or put in another order, or is nothing that was encrypted";
    BundleDeleted "BUNDLE_DELETED" Nobody false 410 "the bundle was deleted by a rule of retention, and is not written again";
    SegmentDeleted "SEGMENT_DELETED" Nobody false 410 "entries of the run were deleted with the journal's oldest segments, by a rule of retention";
    BodyDeleted "BODY_DELETED" Nobody false 410 "the stored body was deleted by a rule of retention, which a report says";
    KeyHookFailed "KEY_HOOK_FAILED" Us true 503 "what holds the key of encrypted files does not give it";
    RetentionPath "RETENTION_PATH" Us false 0 "what is to be deleted is no plain file at a place where the journal keeps such";
    RetentionStale "RETENTION_STALE" Client true 0 "what was planned may not be deleted any more; plan again";
    RetentionBusy "RETENTION_BUSY" Client true 0 "another process plans, holds or deletes in this journal";
    OutputExists "OUTPUT_EXISTS" Client false 0 "the output exists and is not overwritten";
    DependencyMissing "DEPENDENCY_MISSING" Us false 0 "something that is needed is not installed or not running";
}

impl Reason {
    /// Reads a code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&code).ok_or_else(|| serde::de::Error::custom("not a reason code"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.code()), Some(*reason));
            assert!(reason.code().chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        }
    }
}
