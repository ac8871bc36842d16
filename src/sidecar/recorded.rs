//! Recorded calls as a sealed bundle, or a fixture made from one, has them.

use estoppel_bundle::{Bundle, BundlePath, Source};
use estoppel_gateway::recorded::{self, RecordedCall, Retrial, goes_by_bytes};
use estoppel_policy::{Policy, PolicyDocument};
use serde_json::Value;

use crate::output::{Failure, plain};
use crate::trial;

/// Most bytes of one stored body that are read.
pub const BODY_BYTES_MAX: u64 = 64 << 20;
/// Codes of controls, which name a rule as well.
const CONTROLS: [&str; 7] =
    ["RATE_MAX", "VELOCITY_MAX", "CAP_MAX", "FROZEN", "PRICE_MISSING", "STORE_DOWN", "KILLED"];

/// What was stored under a digest.
pub trait StoredBodies {
    fn under(&self, sha256: &str) -> Option<Vec<u8>>;
}

impl<S: Source> StoredBodies for Bundle<S> {
    fn under(&self, sha256: &str) -> Option<Vec<u8>> {
        stored(self, &format!("bodies/{}", sha256.strip_prefix("sha256:")?))
    }
}

/// The policy that judged then, as the bundle has it.
pub fn policy_text<S: Source>(bundle: &Bundle<S>, hash: &str) -> Option<String> {
    let text = stored(bundle, &format!("policy/{}.json", hash.strip_prefix("sha256:")?))?;
    String::from_utf8(text).ok()
}

/// A policy of the evidence, ready to judge again.
pub fn retrial(text: Option<String>, hash: &str) -> Result<Retrial, Failure> {
    let unreadable = || {
        Failure::input(
            "POLICY_INVALID",
            plain(&format!("the policy `{hash}` of the evidence cannot be read")),
        )
    };
    let policy = PolicyDocument::parse(&text.ok_or_else(unreadable)?).map_err(|_| unreadable())?;
    again(policy.compile())
}

/// A policy that judges again.
pub fn again(policy: Policy) -> Result<Retrial, Failure> {
    let key = trial::random().map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    Ok(Retrial::new(policy, key))
}

fn stored<S: Source>(bundle: &Bundle<S>, path: &str) -> Option<Vec<u8>> {
    let path: BundlePath = path.parse().ok()?;
    bundle.read(&path, BODY_BYTES_MAX).ok()
}

/// Why a call's verdict goes by more than the call.
pub fn state(entry: &Value) -> Option<String> {
    if !entry["approval"].is_null() {
        return Some("people let it pass".into());
    }
    if entry["verdict"]["action"] != "block" {
        return None;
    }
    let reason = entry["verdict"]["reason"].as_str().unwrap_or_default();
    let of_rule = !entry["policy"]["rule"].is_null() && !CONTROLS.contains(&reason);
    if !of_rule && !goes_by_bytes(reason) {
        return Some(format!("it was blocked with {reason}, which goes by more than the call"));
    }
    let of_server = |side: &str| entry["contract"][side]["source"] == "mcp";
    (!of_rule && (of_server("request") || of_server("response")))
        .then(|| "it was held against what its server had said of its tools, which is not recorded".into())
}

/// What is known of a call. `approved` is the rule that held it, if people let it pass.
pub fn call_of(
    bodies: &dyn StoredBodies,
    (entry, approved): (&Value, Option<&str>),
    own: &Retrial,
) -> RecordedCall {
    let is_full = entry["body"]["mode"] == "full";
    let body = |side: &Value| bodies.under(side["sha256"].as_str().filter(|_| is_full)?);
    let (upstream, client) = (&entry["response"]["upstream"], &entry["response"]["client"]);
    // What was given is what came where both have one tag.
    let given = || body(client).filter(|_| upstream["tag"] == client["tag"]);
    let answer = body(upstream).or_else(given);
    let bodies = recorded::Bodies { request: body(&entry["request"]), answer };
    RecordedCall::of_receipt(entry, bodies, approved, own)
}
