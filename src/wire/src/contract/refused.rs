//! Why a body is refused.

use std::fmt;

use crate::schema::Cause;
use crate::{Defect, csv, schema};

/// The first unit that is not valid, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A JSON text.
    Json {
        /// Which one, from 1.
        unit: u64,
        violation: schema::Violation,
    },
    Csv(csv::Violation),
    /// CSV that would take more edits than may be made.
    CsvRepair(csv::Finding),
    /// The body ends inside an event.
    Truncated,
    /// More would have to be kept back than may be.
    HeldBytesMax,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is not what its format wants.
    Malformed,
    /// It is, and not what the contract wants.
    Violated,
    /// It ends too soon.
    Truncated,
    HeldBytesMax,
}

impl Refused {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Json { violation, .. } => match violation.cause {
                Cause::Json(Defect::Truncated) => Kind::Truncated,
                Cause::Json(_) | Cause::DuplicateKey => Kind::Malformed,
                Cause::Keyword(_) | Cause::Cap(_) => Kind::Violated,
            },
            Self::Csv(violation) if violation.finding.is_of_the_contract() => Kind::Violated,
            Self::Csv(violation) if violation.finding == csv::Finding::UnterminatedQuote => Kind::Truncated,
            Self::Csv(_) | Self::CsvRepair(_) => Kind::Malformed,
            Self::Truncated => Kind::Truncated,
            Self::HeldBytesMax => Kind::HeldBytesMax,
        }
    }

    /// The stable code of what was found.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { violation, .. } => violation.cause.code(),
            Self::Csv(violation) => violation.finding.code(),
            Self::CsvRepair(finding) => finding.code(),
            Self::Truncated => Defect::Truncated.code(),
            Self::HeldBytesMax => "HELD_BYTES_MAX",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { unit: 1, violation } => violation.fmt(f),
            Self::Json { unit, violation } => write!(f, "text {unit}: {violation}"),
            Self::Csv(violation) => violation.fmt(f),
            Self::CsvRepair(finding) => finding.fmt(f),
            Self::Truncated => f.write_str("the stream ends inside an event"),
            Self::HeldBytesMax => f.write_str("more would have to be kept back than may be"),
        }
    }
}

impl std::error::Error for Refused {}
