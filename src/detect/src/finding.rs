//! What is found, and by whom.

use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// Every one, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in policies, receipts and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The one with this word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// A built-in detector: rules that are switched on together.
    Detector {
        /// Credentials, by the formats of their issuers.
        Secrets "secrets",
        /// Personal data, by their check digits.
        Pii "pii",
        /// Characters that people do not see and programs do.
        Unicode "unicode",
        /// URLs to where no tool should be sent.
        Ssrf "ssrf",
        /// Data that leaves in links and images.
        Exfiltration "exfiltration",
        /// Phrases that are meant for a model. Heuristic.
        Injection "injection",
        /// Phrases in what a tool says of itself. Heuristic.
        Poisoning "poisoning",
    }
}

words! {
    /// What a finding is.
    Class {
        /// A credential.
        Secret "secret",
        /// Personal data.
        Pii "pii",
        /// An attempt to instruct a model.
        Injection "injection",
        /// A tool that instructs a model.
        Poisoning "poisoning",
        /// A channel out.
        Exfiltration "exfiltration",
        /// A destination inside.
        Ssrf "ssrf",
        /// Hidden characters.
        Unicode "unicode",
    }
}

words! {
    /// How sure a rule is: by a format alone, or by what cannot be chance.
    Confidence {
        /// Many texts that mean nothing look so.
        Low "low",
        /// Some do.
        Medium "medium",
        /// A checksum, or a form that nothing else has.
        High "high",
    }
}

words! {
    /// How bad it is if it is what it seems.
    Severity {
        /// For the record.
        Info "info",
        /// Low.
        Low "low",
        /// Medium.
        Medium "medium",
        /// High.
        High "high",
        /// Critical.
        Critical "critical",
    }
}

impl Detector {
    /// Whether its rules are about words, which can be written otherwise, and not about structure.
    pub fn is_heuristic(self) -> bool {
        matches!(self, Self::Exfiltration | Self::Injection | Self::Poisoning)
    }
}

/// A rule, as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleInfo {
    /// Its name: the class, a dot and a word, as `secret.aws_key`.
    pub id: &'static str,
    /// The detector that it belongs to.
    pub detector: Detector,
    /// What its findings are.
    pub class: Class,
    /// How sure it is at best.
    pub confidence: Confidence,
    /// How bad it is.
    pub severity: Severity,
}

/// One finding, while the text is there.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The rule that holds.
    pub rule: &'a RuleInfo,
    /// How sure it is of this one.
    pub confidence: Confidence,
    /// Bytes of the text before it.
    pub at: u64,
    /// What was found. To be hashed or measured, not to be kept.
    pub bytes: &'a [u8],
}
