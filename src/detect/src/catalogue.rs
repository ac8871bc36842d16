//! Every rule there is: those of the data files, and those that are written as code.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::confirm::Check;
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};
use crate::phrase::Phrase;
use crate::scanner::REACH_MAX;
use crate::{destination, exfiltration, national, personal, unicode};

/// `policies/detectors/secrets.yaml`.
const SECRETS: &str = include_str!("../../../policies/detectors/secrets.yaml");
/// `policies/detectors/phrases.yaml`.
const PHRASES: &str = include_str!("../../../policies/detectors/phrases.yaml");

/// A data file that cannot be used. The ones compiled in can; a test says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is not YAML of this shape.
    #[error("{file}: {problem}")]
    Unreadable { file: &'static str, problem: String },
    /// A rule says what cannot be.
    #[error("rule `{id}`: {problem}")]
    Rule { id: String, problem: String },
}

/// What a rule looks for, and where.
#[derive(Debug)]
pub(crate) enum Looks {
    /// A pattern from one of these words on.
    Pattern { keywords: Vec<String>, pattern: String, left: Edge, right: Edge, check: Check, reach: usize },
    /// Words that follow each other.
    Phrase(Phrase),
    /// By code.
    Code(Code),
}

/// A rule that is written as code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) anchors: Anchors,
    /// Bytes before the anchor that a finding may begin at.
    pub(crate) before: usize,
    /// Bytes from the anchor on that are looked at.
    pub(crate) reach: usize,
    pub(crate) look: fn(&View<'_>) -> Look,
}

/// Where a rule that is written as code is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchors {
    /// At these words, in any letter case.
    Words(&'static [&'static str]),
    /// At the first digit of each run of digits.
    Digits,
    /// At each character that may be hidden: those whose UTF-8 begins with E2, EF or F3.
    Hidden,
}

/// A part of a text around an anchor.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) text: &'a [u8],
    /// Where the anchor is in it.
    pub(crate) at: usize,
    /// Nothing more comes of what this rule may look at.
    pub(crate) is_whole: bool,
}

impl View<'_> {
    /// The byte before the anchor.
    pub(crate) fn before(&self) -> Option<u8> {
        self.at.checked_sub(1).and_then(|before| self.text.get(before)).copied()
    }

    pub(crate) fn ahead(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn behind(&self) -> &[u8] {
        self.text.get(..self.at).unwrap_or_default()
    }
}

/// What a rule says of one anchor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    Nothing,
    /// It cannot be said before more has come.
    Wait,
    /// From here to there in the view.
    Found {
        from: usize,
        to: usize,
        confidence: Confidence,
    },
}

/// What may stand beside a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Edge {
    /// No letter, digit or `_`.
    #[default]
    Word,
    Any,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) info: RuleInfo,
    pub(crate) looks: Looks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsFile {
    rules: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhrasesFile {
    injection: Vec<WrittenPhrase>,
    poisoning: Vec<WrittenPhrase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPhrase {
    id: String,
    words: Vec<Vec<String>>,
    #[serde(default = "usual_gap")]
    gap: usize,
    confidence: String,
    severity: String,
}

fn usual_gap() -> usize {
    3
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    keywords: Vec<String>,
    pattern: String,
    #[serde(default)]
    left: Edge,
    #[serde(default)]
    right: Edge,
    #[serde(default)]
    check: Check,
    #[serde(default = "usual_reach")]
    reach: usize,
    confidence: String,
    severity: String,
}

fn usual_reach() -> usize {
    256
}

static CATALOGUE: LazyLock<Result<Vec<Rule>, CatalogueError>> = LazyLock::new(read);

/// What every rule is, in the order of their files.
pub static RULES: LazyLock<Vec<RuleInfo>> = LazyLock::new(|| {
    rules().map(|rules| rules.iter().map(|rule| rule.info.clone()).collect()).unwrap_or_default()
});

pub(crate) fn rules() -> Result<&'static [Rule], CatalogueError> {
    match &*CATALOGUE {
        Ok(rules) => Ok(rules),
        Err(error) => Err(error.clone()),
    }
}

fn read() -> Result<Vec<Rule>, CatalogueError> {
    let secrets: SecretsFile = parse("secrets.yaml", SECRETS)?;
    let phrases: PhrasesFile = parse("phrases.yaml", PHRASES)?;
    let mut rules = Vec::new();
    for one in secrets.rules {
        rules.push(secret(one)?);
    }
    for (detector, class, written) in [
        (Detector::Injection, Class::Injection, phrases.injection),
        (Detector::Poisoning, Class::Poisoning, phrases.poisoning),
    ] {
        for one in written {
            rules.push(phrase(detector, class, one)?);
        }
    }
    let coded = personal::RULES.iter().chain(national::RULES).chain(unicode::RULES);
    for (info, code) in coded.chain(destination::RULES).chain(exfiltration::RULES) {
        rules.push(Rule { info: info.clone(), looks: Looks::Code(*code) });
    }
    for (index, rule) in rules.iter().enumerate() {
        if rules.iter().take(index).any(|other| other.info.id == rule.info.id) {
            return Err(CatalogueError::Rule {
                id: rule.info.id.into(),
                problem: "it is there twice".into(),
            });
        }
    }
    Ok(rules)
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, CatalogueError> {
    serde_saphyr::from_str(text)
        .map_err(|error| CatalogueError::Unreadable { file, problem: error.to_string() })
}

/// What all rules of the files have.
fn info(
    detector: Detector,
    class: Class,
    id: &str,
    confidence: &str,
    severity: &str,
) -> Result<RuleInfo, CatalogueError> {
    let wrong = |problem: &str| CatalogueError::Rule { id: id.into(), problem: problem.into() };
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(wrong("an id is of a-z, 0-9 and `_`"));
    }
    let confidence = Confidence::parse(confidence).ok_or_else(|| wrong("unknown confidence"))?;
    let severity = Severity::parse(severity).ok_or_else(|| wrong("unknown severity"))?;
    // Leaked once for each rule of a file that is compiled in.
    let id: &'static str = Box::leak(format!("{class}.{id}").into_boxed_str());
    Ok(RuleInfo { id, detector, class, confidence, severity })
}

fn keywords_fit(id: &str, words: &[String]) -> Result<(), CatalogueError> {
    let wrong = || CatalogueError::Rule { id: id.into(), problem: "a keyword has 2 to 40 bytes".into() };
    let fits = !words.is_empty() && words.iter().all(|word| (2..=40).contains(&word.len()));
    if fits { Ok(()) } else { Err(wrong()) }
}

fn secret(written: Written) -> Result<Rule, CatalogueError> {
    let Written { id, keywords, pattern, left, right, check, reach, confidence, severity } = written;
    keywords_fit(&id, &keywords)?;
    if reach > REACH_MAX {
        return Err(CatalogueError::Rule { id, problem: "it reaches too far".into() });
    }
    let info = info(Detector::Secrets, Class::Secret, &id, &confidence, &severity)?;
    Ok(Rule { info, looks: Looks::Pattern { keywords, pattern, left, right, check, reach } })
}

fn phrase(detector: Detector, class: Class, written: WrittenPhrase) -> Result<Rule, CatalogueError> {
    let WrittenPhrase { id, words, gap, confidence, severity } = written;
    keywords_fit(&id, words.first().map_or(&[], Vec::as_slice))?;
    let info = info(detector, class, &id, &confidence, &severity)?;
    Ok(Rule { info, looks: Looks::Phrase(Phrase { words, gap }) })
}
