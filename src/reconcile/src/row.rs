/// Token counts, as receipts and logs both state them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
}

/// One call of a provider's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Place in the log, counted from 1. Calls that a log only counts share one.
    pub place: u64,
    /// What the provider calls the request in the head of its answer.
    pub request: Option<String>,
    /// What a finding calls the row: the request, another id, or a digest of the row.
    pub name: String,
    /// When the call was: from and to, microseconds since 1970. None where the log does not say.
    pub when: Option<(u64, u64)>,
    pub model: Option<String>,
    pub tokens: Option<Tokens>,
    /// The log counts it as a use, and says no more of it.
    pub counted: bool,
}

impl Row {
    /// Whether the provider says that a model worked for it, which it does not for calls that it refused.
    pub fn is_use(&self) -> bool {
        self.counted || self.tokens.is_some_and(|tokens| tokens.output > 0)
    }
}

/// Tokens that a log only adds up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub place: u64,
    pub when: (u64, u64),
    pub model: Option<String>,
    pub tokens: Tokens,
}
