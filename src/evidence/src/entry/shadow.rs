//! What a policy that changes nothing says of a call (`shadow` of the receipt).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::VerdictAction;
use crate::hash::Sha256;

/// Most policies that are asked beside the one that decides.
pub const SHADOWS_MAX: usize = 8;

/// One policy's word. Members in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowRecord {
    pub policy: Sha256,
    /// Why it would not let the call go on, or why it was not asked, or what of it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The rule that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    pub state: ShadowState,
    /// None where it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictAction>,
}

/// Whether a policy was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShadowState {
    Judged,
    Skipped,
}

impl ShadowRecord {
    /// Drops what is long and not needed to know the verdict.
    pub fn shorten(&mut self) {
        self.rule = None;
    }
}
