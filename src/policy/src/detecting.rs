//! What a policy says of detectors: which of them run, on what, and what becomes of a finding.

use crate::document::{Severity, ThreatId};
use crate::pattern::{Case, Patterns};

/// A detector as written, at the top of a document or for one route.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct DetectorWritten {
    pub(crate) on: Option<Vec<Surface>>,
    pub(crate) mode: Option<DetectorMode>,
    pub(crate) min_confidence: Option<Confidence>,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) except: Option<Vec<String>>,
    pub(crate) severity: Option<Severity>,
    pub(crate) threat: Option<Vec<ThreatId>>,
    pub(crate) external: Option<External>,
}

impl DetectorWritten {
    /// This, and what `wider` says where this says nothing.
    fn over(self, wider: Self) -> Self {
        Self {
            on: self.on.or(wider.on),
            mode: self.mode.or(wider.mode),
            min_confidence: self.min_confidence.or(wider.min_confidence),
            only: self.only.or(wider.only),
            except: self.except.or(wider.except),
            severity: self.severity.or(wider.severity),
            threat: self.threat.or(wider.threat),
            external: self.external.or(wider.external),
        }
    }
}

/// A detector in force on a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetectorTerms {
    /// Its name: a built-in detector's, or one that the policy gives.
    pub name: String,
    /// What it looks at.
    pub surfaces: Vec<Surface>,
    /// What becomes of what it finds.
    pub mode: DetectorMode,
    /// Findings that are less sure are recorded as in shadow.
    pub min_confidence: Confidence,
    /// Patterns of the rules that count; empty: all.
    pub only: Vec<String>,
    /// Patterns of rules that do not.
    pub except: Vec<String>,
    /// What the receipt says of a finding that blocks; none: what the rule says.
    pub severity: Option<Severity>,
    /// What the receipt says that it stands against.
    pub threat: Vec<ThreatId>,
    /// Where it is asked. None: it is built in.
    pub external: Option<External>,
}

impl DetectorTerms {
    /// The detectors of a document on one route, without those that are off.
    pub(crate) fn resolve(
        own: Option<&std::collections::BTreeMap<String, DetectorWritten>>,
        all: &std::collections::BTreeMap<String, DetectorWritten>,
    ) -> Vec<Self> {
        let over = |(name, wider): (&String, &DetectorWritten)| {
            let own = own.and_then(|own| own.get(name)).cloned().unwrap_or_default();
            Self::new(name, own.over(wider.clone()))
        };
        all.iter().map(over).filter(|terms| terms.mode != DetectorMode::Off).collect()
    }

    fn new(name: &str, written: DetectorWritten) -> Self {
        let built_in = BuiltIn::ALL.into_iter().find(|one| one.as_str() == name);
        Self {
            name: name.into(),
            surfaces: written.on.unwrap_or_else(|| match built_in {
                Some(built_in) => built_in.usual_surfaces().to_vec(),
                None => vec![Surface::Request, Surface::Answer],
            }),
            mode: written.mode.unwrap_or(match built_in {
                Some(built_in) if !built_in.is_heuristic() => DetectorMode::Enforce,
                _ => DetectorMode::Shadow,
            }),
            min_confidence: written.min_confidence.unwrap_or(Confidence::High),
            only: written.only.unwrap_or_default(),
            except: written.except.unwrap_or_default(),
            severity: written.severity,
            threat: written.threat.unwrap_or_default(),
            external: written.external,
        }
    }
}

/// A detector that is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuiltIn {
    /// Credentials.
    Secrets,
    /// Personal data.
    Pii,
    /// Hidden characters.
    Unicode,
    /// Destinations inside.
    Ssrf,
    /// Channels out. Heuristic.
    Exfiltration,
    /// Phrases for a model. Heuristic.
    Injection,
    /// Phrases in descriptions of tools. Heuristic.
    Poisoning,
}

impl BuiltIn {
    pub(crate) const ALL: [Self; 7] = [
        Self::Secrets,
        Self::Pii,
        Self::Unicode,
        Self::Ssrf,
        Self::Exfiltration,
        Self::Injection,
        Self::Poisoning,
    ];

    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Pii => "pii",
            Self::Unicode => "unicode",
            Self::Ssrf => "ssrf",
            Self::Exfiltration => "exfiltration",
            Self::Injection => "injection",
            Self::Poisoning => "poisoning",
        }
    }

    /// About words, which can be written otherwise.
    fn is_heuristic(self) -> bool {
        matches!(self, Self::Exfiltration | Self::Injection | Self::Poisoning)
    }

    fn usual_surfaces(self) -> &'static [Surface] {
        match self {
            Self::Secrets | Self::Pii => {
                &[Surface::Request, Surface::Answer, Surface::Tools, Surface::Results]
            }
            Self::Unicode => &[Surface::Tools, Surface::Descriptions],
            Self::Ssrf => &[Surface::Tools],
            Self::Exfiltration => &[Surface::Answer, Surface::Tools],
            Self::Injection => &[Surface::Request, Surface::Results],
            Self::Poisoning => &[Surface::Descriptions],
        }
    }
}

/// A part of the traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Surface {
    /// What a client sends, but for the rest of this list.
    Request,
    /// What an upstream answers, but for the rest of this list.
    Answer,
    /// Arguments of calls of tools, by a model or to an MCP server.
    Tools,
    /// Results of tools, on their way to a model or from an MCP server.
    Results,
    /// What is said of tools: definitions in requests, lists of MCP servers.
    Descriptions,
}

impl Surface {
    pub(crate) const ALL: [Self; 5] =
        [Self::Request, Self::Answer, Self::Tools, Self::Results, Self::Descriptions];

    /// The word in documents and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Tools => "tools",
            Self::Results => "results",
            Self::Descriptions => "descriptions",
        }
    }
}

/// What becomes of findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DetectorMode {
    /// A finding blocks the call.
    Enforce,
    /// A finding is recorded.
    Shadow,
    /// It does not run.
    Off,
}

impl DetectorMode {
    pub(crate) const ALL: [Self; 3] = [Self::Enforce, Self::Shadow, Self::Off];

    /// The word in documents and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "none",
        }
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Confidence {
    /// Many texts that mean nothing look so.
    Low,
    /// Some do.
    Medium,
    /// A checksum, or a form that nothing else has.
    High,
}

impl Confidence {
    pub(crate) const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A detector that is asked over HTTP (spec/detector.schema.json). A call waits for one that may block, and for no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct External {
    /// Where: `https`, or `http` on loopback.
    pub url: String,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) on_timeout: Option<crate::Verdict>,
    pub(crate) in_flight_max: Option<u64>,
    pub(crate) per_second: Option<u64>,
}

impl External {
    /// How long an answer may take. Default 200.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(200)
    }

    /// What becomes of the call when there is no answer in time, or none that can be read, or no room to ask. Default a block.
    pub fn on_timeout(&self) -> crate::Verdict {
        self.on_timeout.unwrap_or(crate::Verdict::Block)
    }

    /// Most questions at a time. Default 16.
    pub fn in_flight_max(&self) -> u64 {
        self.in_flight_max.unwrap_or(16)
    }

    /// Most questions in a second. Default 100.
    pub fn per_second(&self) -> u64 {
        self.per_second.unwrap_or(100)
    }
}

impl DetectorTerms {
    /// Whether the rule of this name counts.
    pub fn wants(&self, rule: &str) -> bool {
        let named = |patterns: &[String]| Patterns::new(patterns, Case::Exact).matches(rule);
        (self.only.is_empty() || named(&self.only)) && (self.except.is_empty() || !named(&self.except))
    }
}
