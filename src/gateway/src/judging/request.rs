//! Requests held against contracts: their bodies, the results of tools in them, and what they ask of their answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{ContractRef, ContractSource};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::UnknownTools;
use estoppel_wire::contract::{self, Contract as Enforceable, Verdict, judge_value};
use estoppel_wire::dialect::Dialect;
use estoppel_wire::schema::HashKey;

use super::asked::{AskedText, AskedTool, Written};
use super::{Asked, GRAMMAR, Objection, RouteTerms, format, reference, results};
use crate::contracts::{Compiled, Schemas};
use crate::store::Contract;

/// What judges the body of a request. It is never repaired. Only one that is `plain`, and no model's, may be other than one
/// JSON text.
fn request_body(
    contract: &Compiled,
    sent: &Sent<'_>,
    is_plain: bool,
    key: HashKey,
) -> Result<contract::Body, Objection> {
    let unsupported = |what: &str| Objection::new(Reason::ContractUnsupported, what);
    if sent.coded {
        return Err(unsupported("the request has a content coding"));
    }
    let stated = match sent.headers.contains_key(http::header::CONTENT_TYPE) {
        true => format(sent.headers),
        false => Some(match contract.enforceable {
            Enforceable::Json(_) => contract::Format::Json,
            Enforceable::Csv(_) => contract::Format::Csv,
        }),
    };
    let terms = contract::Terms { holds: false, held_bytes_max: usize::MAX, repair: None, key };
    stated
        .filter(|format| {
            *format != contract::Format::Events && (is_plain || *format == contract::Format::Json)
        })
        .and_then(|format| contract::Body::new(&contract.enforceable, format, terms))
        .ok_or_else(|| unsupported("the request's content type is not what its contract is for"))
}

impl RouteTerms {
    /// Whether what a request asks of its answer can be enforced, before it is sent: the contract for the text, and those of
    /// its tools where every tool has to have one.
    pub(crate) fn check_asked(&self, asked: &Asked, schemas: &Schemas) -> Result<(), Objection> {
        let check = |place: &str, written: Option<&Written>| {
            let refused = |why: &str| Objection::new(Reason::ContractUnsupported, &format!("{place}: {why}"));
            let written = written.ok_or_else(|| refused("it has two schemas, or none"))?;
            let found =
                schemas.get(Sha256::of(&written.recorded()), written.language, self.formats, &written.text);
            found.map(drop).map_err(|why| refused(&why))
        };
        match &asked.text {
            _ if self.text.is_some() => {}
            Some(AskedText::Schema(written)) => check("the text", Some(written))?,
            Some(AskedText::Bare(written)) => check("the text", written.as_ref())?,
            Some(AskedText::Json | AskedText::AnyJson) | None => {}
        }
        if self.unknown_tools == UnknownTools::Json {
            return Ok(());
        }
        let mut own: Vec<_> =
            asked.tools.iter().filter(|(name, _)| !self.tools.contains_key(*name)).collect();
        own.sort_unstable_by_key(|(name, _)| *name);
        own.into_iter().try_for_each(|(name, tool)| {
            let place = format!("tool `{}`", name.escape_debug());
            match tool {
                AskedTool::Schema(written) => check(&place, Some(written)),
                AskedTool::Twice => check(&place, None),
                AskedTool::Grammar => {
                    Err(Objection::new(Reason::ContractUnsupported, &format!("{place}: {GRAMMAR}")))
                }
                AskedTool::AnyText | AskedTool::Custom => Ok(()),
            }
        })
    }
}

/// What of a request was held against contracts.
#[derive(Default)]
pub(crate) struct RequestJudged {
    body: Option<Arc<Compiled>>,
    results: BTreeMap<String, Arc<Compiled>>,
}

impl RequestJudged {
    /// What the receipt names, and the contract that it names.
    pub(crate) fn record(&self) -> Option<(ContractRef, Contract)> {
        if self.results.is_empty() {
            return self.body.as_ref().map(|body| (reference(body), body.stored.clone()));
        }
        let raw = |contract: &Compiled| serde_json::from_slice::<serde_json::Value>(&contract.stored.1).ok();
        let results: serde_json::Map<_, _> =
            self.results.iter().filter_map(|(tool, contract)| Some((tool.clone(), raw(contract)?))).collect();
        let mut document = serde_json::json!({ "results": results });
        if let Some(body) = self.body.as_ref().and_then(|body| raw(body)) {
            document["body"] = body;
        }
        let canonical =
            Bytes::from(estoppel_evidence::canonical::foreign(document.to_string().as_bytes()).ok()?);
        let digest = Sha256::of(&canonical);
        Some((ContractRef { digest, id: None, source: ContractSource::Policy }, (digest, canonical)))
    }
}

impl RouteTerms {
    /// Holds what a request brings against its contracts. `judged` says afterwards which ones these were.
    pub(crate) fn judge_request(
        &self,
        dialect: Dialect,
        sent: &Sent<'_>,
        key: HashKey,
        judged: &mut RequestJudged,
    ) -> Result<(), Objection> {
        if let Some(contract) = self.request.as_ref().filter(|_| !sent.asks_only()) {
            let is_plain = matches!(dialect, Dialect::Json | Dialect::Bytes);
            let mut body = request_body(contract, sent, is_plain, key)?;
            judged.body = Some(contract.clone());
            let (mut chunks, mut out) = (sent.chunks.iter(), Vec::new());
            let fed = chunks.try_for_each(|chunk| body.feed(chunk, &mut out));
            let ended = fed.and_then(|()| body.finish(&mut out));
            ended.map_err(|refused| Objection::of_body(&refused))?;
            if body.units() == 0 && matches!(contract.enforceable, Enforceable::Json(_)) {
                return Err(Objection::new(Reason::ContractViolated, "there is no value in the body"));
            }
        }
        if self.results.is_empty()
            || matches!(dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes)
            || sent.coded
        {
            return Ok(()); // a coded body is not evaluated
        }
        let body = sent.chunks.concat();
        if dialect == Dialect::Gemini && !estoppel_evidence::canonical::keeps_numbers(&body) {
            return Err(Objection::new(Reason::ValueAmbiguous, "a number that readers round"));
        }
        // What comes twice, two readers read in two ways.
        let body = estoppel_evidence::canonical::foreign(&body);
        let body = body.map_err(|error| Objection::new(Reason::ValueMalformed, &error.to_string()))?;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        for result in results::results(dialect, &body).iter().filter(|result| !result.failed) {
            self.judge_result(result, key, judged)?;
        }
        Ok(())
    }

    fn judge_result(
        &self,
        result: &results::ToolResult<'_>,
        key: HashKey,
        judged: &mut RequestJudged,
    ) -> Result<(), Objection> {
        let ambiguous = |what: &str| Objection::new(Reason::ValueAmbiguous, what);
        let name =
            result.name.ok_or_else(|| ambiguous("a result of a tool that the request does not call"))?;
        let Some(contract) = self.results.get(name) else { return Ok(()) };
        judged.results.insert(name.to_owned(), contract.clone());
        let place = format!("result of `{}`", name.escape_debug());
        let text = result.text.as_ref().ok_or_else(|| ambiguous(&format!("{place}: it is not one text")))?;
        let Enforceable::Json(schema) = &contract.enforceable else {
            return Err(Reason::ContractUnsupported.into()); // a policy that says so is not accepted
        };
        match judge_value(schema, key, None, text.as_bytes()) {
            Verdict::Valid | Verdict::Repaired(_) => Ok(()),
            Verdict::Refused(violation) => {
                let found = Objection::of_value(&violation);
                Err(Objection::new(found.reason, &format!("{place}: {violation}")))
            }
        }
    }
}

/// What a client sent.
pub(crate) struct Sent<'a> {
    pub(crate) method: &'a str,
    pub(crate) headers: &'a http::HeaderMap,
    pub(crate) coded: bool,
    pub(crate) chunks: &'a [Bytes],
}

impl Sent<'_> {
    fn asks_only(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "DELETE" | "OPTIONS" | "TRACE")
            && self.chunks.iter().all(Bytes::is_empty)
    }
}
