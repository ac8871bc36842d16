//! Results of regress in a kit, judged again by the policies that the kit has for them.

use estoppel_attest::Kit;
use estoppel_gateway::recorded::Retrial;
use estoppel_gateway::{contract_errors, language};
use estoppel_policy::{PackFile, PackedContract, PolicyDocument};
use serde_json::{Value, json};

use crate::output::{Failure, plain};
use crate::recorded;
use crate::regress::Recordings;

/// Most characters of a word that is told.
const WORD_CHARS_MAX: usize = 200;

/// Judges the calls of every result that has its policy in the kit again. The kit has been checked. Gives `path` and `rows` of each.
///
/// # Errors
/// Exit code 2: a row or a number is not what comes out.
pub fn judge_again(kit: &Kit, summary: &Value) -> Result<Vec<Value>, Failure> {
    let results = || summary["regress"].as_array().into_iter().flatten();
    let judgeable: Vec<[&str; 2]> =
        results().filter_map(|row| Some([row["path"].as_str()?, row["policy"].as_str()?])).collect();
    if judgeable.is_empty() {
        return Ok(Vec::new());
    }
    let archives =
        kit.files.iter().filter(|(path, _)| path.starts_with("bundles/") && path.ends_with(".pef.zip"));
    let recordings = Recordings::of(archives.map(|(_, archive)| archive.as_slice()))?;
    let mut judged = Vec::new();
    for [path, policy] in judgeable {
        let stated: Value = serde_json::from_slice(content(kit, path)?).unwrap_or_default();
        let again = recordings.remade(&stated, &current(kit, policy)?).map_err(|failure| Failure {
            message: plain(&format!("`{path}`: {}", failure.message)),
            ..failure
        })?;
        let rows = compare(path, &stated, &again)?;
        judged.push(json!({ "path": path, "rows": rows }));
    }
    Ok(judged)
}

/// Refuses where a result has no policy in the kit.
///
/// # Errors
/// `KIT_NOT_JUDGED`.
pub fn demand_policies(summary: &Value) -> Result<(), Failure> {
    let mut results = summary["regress"].as_array().into_iter().flatten();
    match results.find(|row| row["policy"].is_null()) {
        None => Ok(()),
        Some(row) => {
            let path = row["path"].as_str().unwrap_or_default();
            let message = format!("the kit has no policy to judge the calls of `{path}` again by");
            Err(Failure::input("KIT_NOT_JUDGED", plain(&message))
                .hint("`estoppel kit build --policy` puts it in"))
        }
    }
}

fn content<'k>(kit: &'k Kit, path: &str) -> Result<&'k [u8], Failure> {
    let found = kit.files.get(path).map(Vec::as_slice);
    found.ok_or_else(|| {
        let message = plain(&format!("`{path}` is not there"));
        Failure { exit: 2, ..Failure::runtime("KIT_MISSING", message) }
    })
}

/// A policy of the kit with the contracts that it takes from packs.
fn current(kit: &Kit, path: &str) -> Result<Retrial, Failure> {
    let unusable = |code: &str, why: &str| Failure::input(code, plain(&format!("`{path}`: {why}")));
    let bytes = content(kit, path)?;
    let text = std::str::from_utf8(bytes).map_err(|_| unusable("POLICY_INVALID", "it is not UTF-8"))?;
    let find = |packed: &PackedContract| {
        let file = format!("contracts/{}", packed.sha256);
        let bytes = kit.files.get(&file).ok_or_else(|| format!("`{file}` is not there"))?.clone();
        Ok(PackFile { kind: language(&String::from_utf8_lossy(&bytes)), file, bytes })
    };
    let read = PolicyDocument::parse(text).and_then(|mut policy| policy.take_packed(find).map(|()| policy));
    let policy = read.map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        unusable("POLICY_INVALID", &first)
    })?;
    if policy.canonical() != bytes {
        return Err(unusable("POLICY_INVALID", "it is not in canonical form"));
    }
    let compiled = policy.compile();
    match contract_errors(&compiled).first() {
        None => recorded::again(compiled),
        Some(error) => Err(unusable("CONTRACT_INVALID", &error.to_string())),
    }
}

/// What is stated is what came out, row by row and in every number. Gives how many rows there are.
fn compare(path: &str, stated: &Value, again: &Value) -> Result<usize, Failure> {
    let of = if stated["calls"].is_array() { "calls" } else { "fixtures" };
    let rows = |result: &Value| result[of].as_array().cloned().unwrap_or_default();
    let (stated_rows, again_rows) = (rows(stated), rows(again));
    for index in 0..stated_rows.len().max(again_rows.len()) {
        let (row, other) = (stated_rows.get(index), again_rows.get(index));
        if row != other {
            return Err(differs(path, row, other));
        }
    }
    let mut names =
        stated.as_object().into_iter().chain(again.as_object()).flat_map(|members| members.keys());
    match names.find(|name| stated.get(name) != again.get(name)) {
        None => Ok(stated_rows.len()),
        Some(name) => Err(otherwise(&format!("`{path}`: its `{name}` is not what comes out"), json!({}))),
    }
}

fn differs(path: &str, row: Option<&Value>, again: Option<&Value>) -> Failure {
    let place = again.or(row).unwrap_or(&Value::Null);
    let row = row.filter(|row| row["call"] == place["call"]);
    let message = format!(
        "`{path}`, call {} at seq {}: it says {}, judged again it is {}",
        place["call"].as_str().unwrap_or("-"),
        place["seq"],
        said(row),
        said(again)
    );
    let rows =
        json!({ "again": again, "call": place["call"], "path": path, "seq": place["seq"], "stated": row });
    otherwise(&message, rows)
}

/// A row in a few words.
fn said(row: Option<&Value>) -> String {
    let Some(row) = row else { return "nothing".to_owned() };
    let (now, expected) = (&row["now"], &row["expected"]);
    let told = [("", &row["state"]), ("", &now["verdict"]), ("by ", &now["rule"]), ("with ", &now["reason"])];
    let why = [
        ("for: ", &row["cause"]),
        ("because of the ", &row["because"]),
        ("expected by its ", &expected["by"]),
    ];
    let words = told.into_iter().chain(why).filter_map(|(before, word)| Some((before, word.as_str()?)));
    let cut = |word: &str| word.chars().take(WORD_CHARS_MAX).collect::<String>();
    words.map(|(before, word)| format!("{before}{}", cut(word))).collect::<Vec<_>>().join(" ")
}

fn otherwise(message: &str, data: Value) -> Failure {
    let failure = Failure::runtime("KIT_JUDGED_OTHERWISE", plain(message));
    Failure { exit: 2, data: Some(data), ..failure }
}
