//! What a certificate counts does not contradict what it lists, and fits its mode (step R6).

use std::collections::{BTreeMap, BTreeSet};

use super::live::check_allowed;
use super::places::check_beyond;
use super::{CertificateReason, Check, fault, number};
use crate::view::View;

/// Codes that only one mode has.
const OF_MODES: [(&str, &str); 8] = [
    ("ARG_DRIFT", "stub"),
    ("DB_DRIFT", "database"),
    ("NOT_COMPARED", "database"),
    ("OPERATION_NOT_ALLOWED", "live"),
    ("SCHEMA_DRIFT", "stub"),
    ("STATEMENT_BOUND", "database"),
    ("STATEMENT_DENIED", "database"),
    ("TOOL_NOT_ALLOWED", "live"),
];
/// Most divergences that are listed.
const LISTED_MAX: u64 = 64;

fn refuse(detail: String) -> Check {
    Err(fault(CertificateReason::Status, detail))
}

/// A code is one of the mode, and only a client that runs again asks for steps.
pub(super) fn check_codes(mode: &str, counts: View<'_>, codes: &[&str]) -> Check {
    let other = OF_MODES.iter().find(|(code, of)| *of != mode && codes.contains(code));
    if let Some((code, _)) = other {
        return refuse(format!("`{code}` is none of mode `{mode}`"));
    }
    let asked = ["miss", "missing", "reordered"].into_iter().find(|name| number(counts, name) > 0);
    match asked {
        Some(name) if mode != "stub" => refuse(format!("`{name}` is none of mode `{mode}`")),
        _ => Ok(()),
    }
}

/// Each call and each statement that was sent came to something.
pub(super) fn check_sent(
    predicate: View<'_>,
    counts: View<'_>,
    drift: &[(String, u64)],
    skipped: &[(String, u64)],
) -> Check {
    let of = |wanted: &[&str]| {
        let rows = drift.iter().filter(|(code, _)| wanted.contains(&code.as_str()));
        rows.fold(number(counts, "matched"), |sum, row| sum.saturating_add(row.1))
    };
    if let Some(live) = predicate.member("live") {
        let (sent, came) = (number(live, "sent"), of(&["ANSWER_DRIFT", "STATUS_DRIFT"]));
        if sent != came {
            return refuse(format!("`sent`: expected {came}, found {sent}"));
        }
        check_allowed(predicate, live, skipped)?;
    }
    if let Some(database) = predicate.member("database") {
        let (sent, came) = (number(database, "statements"), of(&["DB_DRIFT"]));
        if sent < came {
            return refuse(format!("`statements`: expected {came} or more, found {sent}"));
        }
        let compared = database.member("compared");
        let more = ["counts", "rows"].map(|name| compared.map_or(0, |compared| number(compared, name)));
        if more.into_iter().any(|count| count > sent) {
            return refuse(format!("`compared`: more than the {sent} that were sent"));
        }
    }
    Ok(())
}

/// As many divergences are listed or left out as are counted, of each code no more than that.
pub(super) fn check_divergences(
    predicate: View<'_>,
    counts: View<'_>,
    drift: &[(String, u64)],
    is_invalid: bool,
) -> Check {
    let mut counted: BTreeMap<&str, u64> =
        drift.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    for (code, name) in [("MISS", "miss"), ("MISSING", "missing"), ("REORDERED", "reordered")] {
        counted.insert(code, number(counts, name));
    }
    counted.insert("BUNDLE_INVALID", u64::from(is_invalid));
    let expected = counted.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let more = number(predicate, "divergences_more");
    let rows: Vec<View<'_>> = predicate.member("divergences").into_iter().flat_map(View::items).collect();
    let listed = rows.len() as u64; // usize fits
    if listed.saturating_add(more) != expected || more > 0 && listed < LISTED_MAX {
        return refuse(format!("expected {expected} divergences, found {listed}, and {more} left out"));
    }
    let mut steps = BTreeSet::new();
    for row in rows {
        let code = row.text_of("code");
        let left = counted.get_mut(&*code).filter(|left| **left > 0);
        let Some(left) = left else {
            return refuse(format!("more divergences are `{code}` than are counted"));
        };
        *left -= 1;
        let (has_seq, has_call) = (row.member("seq").is_some(), row.member("call").is_some());
        let fits = match &*code {
            "MISS" => !has_seq && !has_call,
            "BUNDLE_INVALID" => !has_call,
            _ => has_seq && has_call,
        };
        if !fits {
            return refuse(format!("`{code}` is not at a step, or is at none"));
        }
        if has_call && !steps.insert(number(row, "seq")) {
            return refuse(format!("seq {} diverges twice", number(row, "seq")));
        }
        check_beyond(row, predicate.member("determinism").is_some())?;
    }
    Ok(())
}
