//! What a certificate says of differences that are tolerated: that it is whole (R6), and that the policies of the bundle do (R7).

use std::collections::BTreeSet;

use super::places::{is_above, is_pointer};
use super::{CertificateReason, Check, fault, number};
use crate::bundle::ENTRIES;
use crate::container::Files;
use crate::view::View;

/// Most that are listed.
const LISTED_MAX: u64 = 64;

/// R6.
pub(super) fn check(predicate: View<'_>, counts: View<'_>) -> Check {
    let refuse = |detail: String| Err(fault(CertificateReason::Status, detail));
    let has_classes = matches!(&*predicate.text_of("mode"), "database" | "live" | "stub");
    let determinism = predicate.member("determinism");
    if determinism.is_some() != has_classes {
        return refuse("`determinism` does not fit `mode`".to_owned());
    }
    let steps = number(counts, "tolerated");
    let Some(determinism) = determinism else {
        return if steps == 0 { Ok(()) } else { refuse(format!("expected no step within, found {steps}")) };
    };
    if determinism.member("policy").is_some() != (determinism.text_of("from") == "file") {
        return refuse("`determinism.policy` does not fit `from`".to_owned());
    }
    let rows: Vec<View<'_>> = determinism.member("tolerated").into_iter().flat_map(View::items).collect();
    let (listed, differences) = (rows.len() as u64, number(determinism, "differences")); // usize fits
    let are_all = listed == differences;
    if !are_all && (listed > differences || listed < LISTED_MAX) {
        return refuse(format!("expected {differences} tolerated differences, found {listed}"));
    }
    let named: BTreeSet<u64> = rows.iter().map(|row| number(*row, "seq")).collect();
    let named = named.len() as u64; // usize fits
    let (matched, truncated) = (number(counts, "matched"), number(counts, "truncated"));
    let fits = match are_all {
        true => named == steps,
        false => (named..=differences).contains(&steps),
    };
    if !fits || steps > matched.saturating_add(truncated) {
        return refuse(format!("expected {steps} steps with tolerated differences, found {named}"));
    }
    check_places(predicate, &rows)?;
    let of_mode = |part: &str| match &*predicate.text_of("mode") {
        "database" => part == "rows",
        "live" => part == "answer",
        _ => part == "request",
    };
    match rows.iter().find(|row| !of_mode(&row.text_of("part")) || !is_difference(**row)) {
        Some(row) => refuse(format!("nothing that is compared differs so at `{}`", row.text_of("at"))),
        None => Ok(()),
    }
}

/// Each step is there once, did not diverge, and has each place once.
fn check_places(predicate: View<'_>, rows: &[View<'_>]) -> Check {
    let refuse = |detail: String| Err(fault(CertificateReason::Status, detail));
    let divergences = predicate.member("divergences").into_iter().flat_map(View::items);
    let diverged: BTreeSet<u64> = divergences
        .filter(|row| row.member("seq").is_some() && row.text_of("code") != "REORDERED")
        .map(|row| number(row, "seq"))
        .collect();
    let mut seen = BTreeSet::new();
    for step in rows.chunk_by(|one, other| number(*one, "seq") == number(*other, "seq")) {
        let places: Vec<String> = step.iter().map(|row| row.text_of("at").into_owned()).collect();
        let calls: BTreeSet<String> = step.iter().map(|row| row.text_of("call").into_owned()).collect();
        let seq = step.first().map_or(0, |row| number(*row, "seq"));
        if !seen.insert(seq) || calls.len() > 1 {
            return refuse(format!("the tolerated differences of seq {seq} are apart, or of several calls"));
        }
        if diverged.contains(&seq) {
            return refuse(format!("seq {seq} diverges, and is tolerated"));
        }
        if let Some(other) = places.iter().find(|place| !is_pointer(place)) {
            return refuse(format!("a tolerated difference is at `{other}`, which is no JSON pointer"));
        }
        let others = |at: usize| places.iter().enumerate().filter(move |(other, _)| *other != at);
        let twice = places
            .iter()
            .enumerate()
            .find(|(at, place)| others(*at).any(|(_, other)| is_above(place, other)));
        if let Some((_, place)) = twice {
            return refuse(format!("what is at `{place}` of seq {seq} is tolerated twice"));
        }
    }
    Ok(())
}

/// The two values have two digests; only what is ignored may be missing on one side.
fn is_difference(row: View<'_>) -> bool {
    let are_both = row.member("recorded").is_some() && row.member("found").is_some();
    row.text_of("recorded") != row.text_of("found") && (are_both || row.text_of("by") == "ignored")
}

/// R7.
pub(super) fn check_steps(predicate: View<'_>, files: &Files<'_>) -> Check {
    let Some(determinism) = predicate.member("determinism") else { return Ok(()) };
    let lines = files.get(ENTRIES).map(|file| file.bytes).unwrap_or_default();
    let by_bundle = determinism.text_of("from") == "bundle";
    for row in determinism.member("tolerated").into_iter().flat_map(View::items) {
        let (seq, call) = (number(row, "seq"), row.text_of("call"));
        let entry = usize::try_from(seq).ok().and_then(|seq| lines.split(|byte| *byte == b'\n').nth(seq));
        let entry = entry
            .map(View::of)
            .filter(|entry| entry.text_of("kind") == "call" && entry.text_of("call") == call);
        let Some(entry) = entry else {
            let detail = format!("a tolerated difference is at seq {seq}, which is no such call");
            return Err(fault(CertificateReason::Mismatch, detail));
        };
        if by_bundle && !is_declared(entry, files, row) {
            let detail = format!(
                "the policy of seq {seq} does not tolerate `{}` at `{}` of its {}",
                row.text_of("by"),
                row.text_of("at"),
                row.text_of("part")
            );
            return Err(fault(CertificateReason::Mismatch, detail));
        }
    }
    Ok(())
}

/// Whether the policy of a call tolerates this kind of difference there.
fn is_declared(entry: View<'_>, files: &Files<'_>, row: View<'_>) -> bool {
    let hash = entry.member("policy").map(|policy| policy.text_of("hash").into_owned()).unwrap_or_default();
    let hex = hash.strip_prefix("sha256:").unwrap_or_default();
    let Some(policy) = files.get(&format!("policy/{hex}.json")) else { return false };
    let Some(class) = class_of(View::of(policy.bytes), entry) else { return false };
    let by = row.text_of("by");
    let tolerance = class.member("tolerance").and_then(|tolerance| tolerance.member(&row.text_of("part")));
    let at = row.text_of("at");
    tolerance.into_iter().flat_map(View::items).any(|rule| {
        let is_kind = rule.member(&by).is_some() || rule.text_of("as") == by;
        is_kind && is_met(&rule.text_of("at"), &at)
    })
}

/// What a policy declares of a call: of the one tool that it calls, of its operation, or else of its route.
fn class_of<'a>(policy: View<'a>, entry: View<'_>) -> Option<View<'a>> {
    let route = entry.member("request").map(|request| request.text_of("route").into_owned())?;
    let route = policy.member("routes")?.member(&route)?;
    let all = route.member("determinism");
    let tools: Vec<View<'_>> = entry
        .member("facts")
        .and_then(|facts| facts.member("tools_called"))
        .into_iter()
        .flat_map(View::items)
        .collect();
    let own = match tools.as_slice() {
        [tool] if entry.text_of("dialect") == "mcp" => {
            all.and_then(|all| all.member("tools")).and_then(|tools| tools.member(&tool.text()?))
        }
        _ => {
            let id = entry.text_of("operation");
            let operations = route.member("operations").into_iter().flat_map(View::items);
            let mut operations = operations.filter(|operation| operation.text_of("id") == id);
            operations.next().and_then(|operation| operation.member("determinism"))
        }
    };
    own.or(all)
}

/// Whether a path with `*` and `**` means what a pointer leads to.
fn is_met(path: &str, pointer: &str) -> bool {
    let split = |text: &str| -> Vec<String> {
        let tokens =
            text.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>()).unwrap_or_default();
        tokens.into_iter().map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    };
    let (path, names) = (split(path), split(pointer));
    let close = |reached: &mut Vec<bool>| {
        for (at, token) in path.iter().enumerate() {
            if token == "**"
                && reached.get(at) == Some(&true)
                && let Some(next) = reached.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    let mut reached = vec![false; path.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    close(&mut reached);
    for name in &names {
        let mut next = vec![false; path.len() + 1];
        for (at, token) in path.iter().enumerate().filter(|(at, _)| reached.get(*at) == Some(&true)) {
            let to = if token == "**" { at } else { at + 1 };
            let leads = token == "**" || token == "*" || token == name;
            if let Some(next) = next.get_mut(to).filter(|_| leads) {
                *next = true;
            }
        }
        close(&mut next);
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_language_of_policies_says() {
        for (path, pointer, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/a/b", "/a", false),
            ("/*/b", "/0/b", true),
            ("/**/b", "/b", true),
            ("/**/b", "/a/0/b", true),
            ("/**/b", "/a/b/c", false),
            ("/a/**", "/a", true),
            ("/a~1b/~0", "/a~1b/~0", true),
            ("/a~1b", "/a/b", false),
            ("/**/a/*", "/a/a/a/x", true),
            ("/x", "", false),
        ] {
            assert_eq!(is_met(path, pointer), expected, "{path} {pointer}");
        }
    }
}
