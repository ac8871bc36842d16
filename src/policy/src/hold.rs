//! Calls that wait for people: who they are, how many have to agree, how long a call waits, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use estoppel_evidence::{KeyId, PublicKey};

/// Most approvers of a policy.
pub(crate) const APPROVERS_MAX: usize = 64;
/// Most approvers of one rule: as many as an entry of the journal lists.
pub(crate) const HOLD_APPROVERS_MAX: usize = 16;
/// How long a call may wait, in milliseconds.
pub(crate) const HOLD_MS: RangeInclusive<u64> = 1_000..=604_800_000;
/// How long it waits where the rule does not say.
const HOLD_MS_DEFAULT: u64 = 900_000;

/// Somebody who may let held calls pass. Whoever holds the private key decides in that name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approver {
    /// What decisions are verified with.
    pub key: PublicKey,
    /// The subject that the same person calls as. Its calls cannot be approved with this key.
    pub identity: Option<String>,
}

/// What a rule with the verdict `hold` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Names of approvers. INVARIANT: each is one of the policy's, none is there twice.
    pub(crate) approvers: Vec<String>,
    pub(crate) needs: Option<u64>,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) mode: Option<HoldMode>,
}

/// How a call waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HoldMode {
    /// It is answered at once, and the client sends it again when it has been approved.
    #[default]
    Accepted,
    /// Its client waits for the answer.
    Wait,
}

impl HoldMode {
    pub(crate) const ALL: [Self; 2] = [Self::Accepted, Self::Wait];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Wait => "wait",
        }
    }
}

impl fmt::Display for HoldMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds a call, ready to be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldTerms {
    /// Who may decide, by name. Nobody has the key of another.
    pub approvers: BTreeMap<String, Approver>,
    /// How many of them have to approve; at least 1.
    pub needs: u8,
    /// How long the call waits at most.
    pub ttl_ms: u64,
    /// How it waits.
    pub mode: HoldMode,
}

impl HoldTerms {
    pub(crate) fn new(hold: &Hold, all: &BTreeMap<String, Approver>) -> Self {
        let known = hold.approvers.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
        Self {
            approvers: known.collect(),
            needs: hold.needs.and_then(|needs| u8::try_from(needs).ok()).unwrap_or(1),
            ttl_ms: hold.ttl_ms.unwrap_or(HOLD_MS_DEFAULT),
            mode: hold.mode.unwrap_or_default(),
        }
    }

    /// Who may decide on calls of this requester: nobody on their own.
    pub fn approvers_for(&self, requester: Option<&str>) -> Vec<(&str, &Approver)> {
        let own =
            |approver: &Approver| approver.identity.as_deref().is_some_and(|own| Some(own) == requester);
        let others = self.approvers.iter().filter(|(_, approver)| !own(approver));
        others.map(|(name, approver)| (name.as_str(), approver)).collect()
    }
}

impl Approver {
    /// The key's id, which receipts name.
    pub fn id(&self) -> KeyId {
        self.key.id()
    }
}
