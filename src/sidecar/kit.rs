//! `estoppel kit`: everything an auditor needs, as one file.

mod deep;
mod verifiers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_archive::{Action, Disclosed, Done};
use estoppel_attest::{Archived, Contents, Framework, KIT_BYTES_MAX, Kit, assemble, check, result_of};
use estoppel_evidence::{Sha256, Signer as _};
use estoppel_gateway::packs::Packs;
use serde_json::{Value, json};

use crate::arguments::{Beside, KitBuild, KitCommand, KitVerify};
use crate::output::{Failure, Output, plain};
use crate::{attest, bundles, custody, further, input, policy, show, verify};

/// Most bytes of an archive beside its contents: headers of the most files that it may have.
const HEADERS_BYTES_MAX: u64 = 64 << 20;

pub fn run(output: &Output, command: &KitCommand) -> Result<ExitCode, Failure> {
    match command {
        KitCommand::Build(asked) => build(*output, asked),
        KitCommand::Verify(asked) => judge(*output, asked),
    }
}

fn build(output: Output, asked: &KitBuild) -> Result<ExitCode, Failure> {
    input::demand_new(&asked.out)?;
    let key = attest::key(&asked.key)?;
    let given = custody::giver(&asked.given)?;
    let paths = bundles::paths(&asked.of)?;
    let contents = contents(output, asked, &paths)?;
    let tool = attest::tool()?;
    let told = |error| bundles::failure(&error);
    let kit = verify::with_options(None, |options| assemble(&contents, &tool, &key, options))?
        .map_err(|error| further::failure(&error, "--audit-export"))?;
    let zip = kit.to_zip().map_err(told)?;
    let public = estoppel_evidence::PublicKey::from_spki(key.public().spki()).ok();
    let again = Kit::from_zip(&zip).map_err(told)?;
    let checked =
        verify::with_options(None, |options| check(&again, options, public.as_ref()))?.map_err(told)?;
    let judged = deep::judge_again(&again, &checked.summary)?;
    let digest = Sha256::of(&zip);
    let archives = contents.bundles.iter().map(|bundle| Sha256::of(&bundle.archive));
    let bundles: Vec<(PathBuf, Sha256)> = paths.into_iter().zip(archives).collect();
    if let Some((by, to)) = &given {
        for (bundle, sha256) in &bundles {
            custody::demand(bundle, by, &handed_over(to, digest, *sha256))?;
        }
    }
    input::write_new(&asked.out, &zip)?;
    print(output, &checked.summary);
    print_judged(output, &judged);
    output.line(&format!("written      {}  {digest}", plain(&asked.out.display().to_string())));
    let mut data = json!({
        "digest": digest,
        "judged_again": judged,
        "kid": checked.kid,
        "path": asked.out,
        "summary": checked.summary,
    });
    if let Some((by, to)) = &given {
        let mut told = Vec::new();
        for (bundle, sha256) in &bundles {
            let added = custody::record(bundle, by, &handed_over(to, digest, *sha256));
            let added = added.map_err(|error| {
                let (path, of, all) = (asked.out.display(), told.len(), bundles.len());
                let what = format!("the kit was written to `{path}`, which {of} of {all} lists have");
                custody::unrecorded(&what, &data, bundle, &error)
            })?;
            told.push(custody::told(output, bundle, added.head));
        }
        data["custody"] = told.into();
    }
    Ok(output.data(&data))
}

/// A bundle is given in the kit.
fn handed_over(to: &str, kit: Sha256, bundle: Sha256) -> Done<'_> {
    let given = Action::Disclosed { to, what: Disclosed::Bundle, sha256: Some(kit) };
    Done { sha256: Some(bundle), ..custody::done(given) }
}

fn contents(output: Output, asked: &KitBuild, bundles: &[PathBuf]) -> Result<Contents, Failure> {
    let Some(trust) = &asked.of.trust else {
        return Err(Failure::input("ARGUMENT_INVALID", "a kit has a trust document; --trust names it"));
    };
    let mut contents =
        Contents { trust: input::file(trust)?, further: verifiers::files(), ..Contents::default() };
    for path in bundles {
        let archive = input::limited(path, KIT_BYTES_MAX)?;
        let beside = beside(path, &archive)?;
        contents.bundles.push(Archived { archive, beside });
    }
    let read = |path: &std::path::PathBuf| input::limited(path, KIT_BYTES_MAX);
    contents.custody = asked.custody.iter().map(read).collect::<Result<_, _>>()?;
    contents.archive = asked.archive.as_ref().map(read).transpose()?;
    contents.ledger = asked.audit_export.as_ref().map(read).transpose()?;
    contents.certificates = asked.certificates.iter().map(read).collect::<Result<_, _>>()?;
    for path in &asked.results {
        let result = result_of(&read(path)?).map_err(|error| bundles::failure(&error))?;
        contents.results.push(result);
    }
    for path in &asked.policies {
        add_policy(output, &mut contents, path, asked.packs.as_deref())?;
    }
    for folder in &asked.attestations {
        let statement = input::limited(&folder.join(attest::STATEMENT), attest::STATEMENT_BYTES_MAX)?;
        let framework = attest::framework_file(&statement, &asked.frameworks)?;
        contents.attestations.push((statement, framework));
    }
    Ok(contents)
}

/// The policy that a result was judged by, and its contracts of packs.
fn add_policy(
    output: Output,
    contents: &mut Contents,
    path: &Path,
    packs: Option<&Path>,
) -> Result<(), Failure> {
    let document = policy::parsed(output, path, &input::text(path)?, &Packs::at(packs))?;
    let hash = document.hash().to_string();
    let of = |result: &Vec<u8>| {
        let result: Value = serde_json::from_slice(result).unwrap_or_default();
        result["policy_hash"] == hash
    };
    if !contents.results.iter().any(of) {
        let message = format!("none of the results is by `{}`, which has the hash {hash}", path.display());
        return Err(Failure::input("KIT_POLICY", plain(&message)));
    }
    let compiled = document.compile();
    let texts = document.packed().keys().filter_map(|name| compiled.contracts().get(name));
    contents.contracts.extend(texts.map(|contract| contract.text.clone().into_bytes()));
    contents.policies.push(document.canonical());
    Ok(())
}

/// What the manifest of a bundle whose bytes were read says is beside it.
fn beside(path: &Path, archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let opened = show::over(path, archive)?;
    let rows = opened.manifest().externals.iter().map(|row| {
        let sha256 = row.sha256.hex();
        let content = input::limited(&input::Beside::of(path).path(&sha256), KIT_BYTES_MAX)?;
        Ok((sha256, content))
    });
    rows.collect()
}

fn judge(output: Output, asked: &KitVerify) -> Result<ExitCode, Failure> {
    let trust = asked.trust.as_deref();
    let signer = asked.signer.as_deref().map(attest::signer).transpose()?;
    let bytes = input::limited(&asked.kit, KIT_BYTES_MAX + HEADERS_BYTES_MAX)?;
    let told = |error| bundles::failure(&error);
    let kit = Kit::from_zip(&bytes).map_err(told)?;
    let digest = Sha256::of(&bytes).to_string();
    drop(bytes);
    let checked =
        verify::with_options(trust, |options| check(&kit, options, signer.as_ref()))?.map_err(told)?;
    let judged = asked.deep.then(|| deep::judge_again(&kit, &checked.summary)).transpose()?;
    if asked.deep {
        deep::demand_policies(&checked.summary)?;
    }
    let ours = verifiers::files();
    let programs = kit.files.iter().filter(|(path, _)| path.starts_with("verif"));
    let is_ours = programs.eq(ours.iter());
    let foreign = foreign_frameworks(&kit);
    print(output, &checked.summary);
    print_judged(output, judged.as_deref().unwrap_or_default());
    for id in &foreign {
        output.line(&plain(&format!(
            "framework    {id} is none that comes with this version: read it before its words"
        )));
    }
    let standing = if signer.is_some() { "trusted" } else { "self_asserted" };
    output.line(&format!("signer       {standing} {}", checked.kid));
    if !is_ours {
        output.line(
            "verifiers    the guide and programs in the kit are not those of this version: do not run them",
        );
    }
    if trust.is_none() {
        output.line(
            "note         the kit brings its trust document itself; give --trust to bind it to keys you know",
        );
    }
    let mut data = json!({
        "digest": digest,
        "foreign_frameworks": foreign,
        "kid": checked.kid,
        "signer": standing,
        "summary": checked.summary,
        "verifiers": if is_ours { "of this version" } else { "others" },
    });
    if let Some(judged) = judged {
        data["judged_again"] = judged.into();
    }
    Ok(output.data(&data))
}

/// Frameworks that say something else than those of this version, whatever they are called.
fn foreign_frameworks(kit: &Kit) -> Vec<String> {
    let named = kit.files.iter().filter_map(|(path, content)| {
        Some((path.strip_prefix("frameworks/")?.strip_suffix(".toml")?, content))
    });
    let foreign = named.filter(|(id, content)| Framework::shipped_file(id) != Some(content.as_slice()));
    foreign.map(|(id, _)| id.to_owned()).collect()
}

fn print_judged(output: Output, judged: &[Value]) {
    for row in judged {
        let path = plain(row["path"].as_str().unwrap_or("-"));
        output.line(&format!("judged       {} calls of {path} again: all as it says", row["rows"]));
    }
}

fn print(output: Output, summary: &Value) {
    let length = |name: &str| summary[name].as_array().map(Vec::len).unwrap_or_default();
    let counters = &summary["counters"];
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    output.line(&format!("kit          {} runs, {} attestations", length("runs"), length("attestations")));
    output.line(&format!(
        "calls        {} ({} allow, {} repair, {} hold, {} block)",
        counters["calls"], counters["allow"], counters["repair"], counters["hold"], counters["block"]
    ));
    for row in summary["certificates"].as_array().into_iter().flatten() {
        let (run, status, mode) = (text(&row["run"]), text(&row["status"]), text(&row["mode"]));
        output.line(&format!("replay       {status}, {mode}, run {run}"));
    }
    for row in summary["regress"].as_array().into_iter().flatten() {
        let counts = ["same", "changed", "undecided"].map(|name| format!("{} {name}", row[name]));
        output.line(&format!("regress      {} by policy {}", counts.join(", "), text(&row["policy_hash"])));
    }
    further::print(output, summary, &Beside::default());
    for row in summary["attestations"].as_array().into_iter().flatten() {
        let counts = row["counts"].as_object().into_iter().flatten();
        let counts: Vec<String> =
            counts.map(|(word, count)| format!("{count} {}", word.replace('_', " "))).collect();
        let framework = row["framework"].as_str().unwrap_or("-");
        output.line(&plain(&format!("attestation  {framework}: {}", counts.join(", "))));
    }
}
