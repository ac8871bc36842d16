//! Bytes in, findings out: secrets, personal data, hidden text and suspicious destinations, found as they pass.
//!
//! | type | is |
//! |---|---|
//! | [`Engine`] | the rules that somebody asked for, ready to search |
//! | [`Scanner`] | one text that comes in pieces; what is found does not depend on where they were cut |
//! | [`RULES`] | every rule there is, with its [`Detector`], [`Class`] and [`Confidence`] |
//! | [`walk`] | the strings of a JSON text, each with its place |
//!
//! ```
//! use estoppel_detect::{Engine, Scanner};
//!
//! let engine = Engine::new(|rule| rule.id == "secret.aws_key").unwrap();
//! let mut scanner = Scanner::default();
//! let mut found = Vec::new();
//! for piece in ["the key is AKIA", "IOSFODNN7EXAMPLE, keep it"] {
//!     scanner.push(&engine, piece.as_bytes(), &mut |one| found.push((one.rule.id, one.at)));
//! }
//! scanner.finish(&engine, &mut |one| found.push((one.rule.id, one.at)));
//! assert_eq!(found, [("secret.aws_key", 11)]);
//! ```
//!
//! What this crate promises:
//!
//! - Every split of the same bytes gives the same findings.
//! - A rule looks at a bounded part of the text around each place where it may hold, so time is linear in the text; a
//!   scanner keeps a few times [`REACH_MAX`] bytes.
//! - [`Scanner::settled`] says how much of a text no later byte can make part of a finding.
//! - A finding names its place. The text itself is shown to the caller's closure only, and kept nowhere.
//!
//! Left to others: what a finding does to a call (policy, gateway), and what texts there are (wire).

mod catalogue;
mod confirm;
mod destination;
mod engine;
mod exfiltration;
mod finding;
mod json;
mod national;
mod pattern;
mod personal;
mod phrase;
mod scanner;
mod unicode;

pub use catalogue::{CatalogueError, RULES};
pub use engine::{Engine, EngineError};
pub use finding::{Class, Confidence, Detector, Found, RuleInfo, Severity};
pub use json::{PLACE_CHARS_MAX, Text, is_json_like, unescaped, walk};
pub use scanner::{LOOK_BACK, REACH_MAX, Scanner};
