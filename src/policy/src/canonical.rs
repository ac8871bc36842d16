//! A document as RFC 8785 JSON: <https://www.rfc-editor.org/rfc/rfc8785>.
//!
//! Only text, integers below 2^53, lists and objects occur. Names are ASCII, so their byte order is the order
//! of UTF-16 code units that section 3.2.3 asks for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use estoppel_evidence::envelope::base64;

use crate::control::{Control, ControlKind, Of, OnStoreDown, Price, Window};
use crate::detecting::{Confidence, DetectorMode, DetectorWritten};
use crate::determinism::{Determinism, RouteDeterminism, Tolerance, Within};
use crate::document::{BodyStorage, Disconnect, PolicyDocument, Route, Rule, Settings, When};
use crate::hold::{Approver, Hold};
use crate::judging::{
    ChangedTools, ContractText, Formats, Judging, Reask, Release, Repair, Tell, UnknownTools,
};
use crate::limits::{LIMITS, LimitValues};
use crate::operations::Operation;
use crate::pack::PackedContract;
use crate::predicate::{Predicate, Scalar, Test};
use crate::provenance::Provenance;
use crate::snapshot::Snapshotting;
use crate::sql::SqlTerms;

enum Value {
    Text(String),
    Integer(u64),
    /// Negative ones too.
    Number(i64),
    Boolean(bool),
    Null,
    List(Vec<Value>),
    Object(Object),
}

/// Members sorted by name.
#[derive(Default)]
struct Object(BTreeMap<String, Value>);

impl Object {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Leaves an empty value out.
    fn set_filled(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = match &value {
            Value::List(items) => items.is_empty(),
            Value::Object(object) => object.0.is_empty(),
            Value::Text(_) | Value::Integer(_) | Value::Number(_) | Value::Boolean(_) | Value::Null => false,
        };
        if !empty {
            self.set(name, value);
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Boolean(value) => Self::Boolean(*value),
            Scalar::Number(value) => Self::Number(*value),
            Scalar::Text(text) => text.into(),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

pub(crate) fn document(document: &PolicyDocument) -> Vec<u8> {
    let mut object = Object::default();
    object.set("version", 1);
    object.set("name", document.name.as_str());
    object.set_some("description", document.description.as_deref());
    let mut defaults = Object::default();
    set_settings(&mut defaults, &document.defaults);
    object.set_filled("defaults", defaults);
    object.set_filled("limits", limits(&document.limits));
    let mut contracts = Object::default();
    for (name, text) in &document.contracts {
        contracts.set(name, contract(text));
    }
    for (name, contract) in &document.packed {
        contracts.set(name, packed(contract));
    }
    object.set_filled("contracts", contracts);
    let mut approvers = Object::default();
    for (name, said) in &document.approvers {
        approvers.set(name, approver(said));
    }
    object.set_filled("approvers", approvers);
    object.set_filled("detectors", detectors(&document.detectors));
    let mut routes = Object::default();
    for (name, settings) in &document.routes {
        routes.set(name, route(settings));
    }
    object.set_filled("routes", routes);
    object.set_filled("rules", document.rules.iter().map(rule).collect::<Value>());
    object.set_filled("controls", document.controls.iter().map(control).collect::<Value>());
    object.set_filled("prices", document.prices.iter().map(price).collect::<Value>());
    let mut out = String::new();
    write(&mut out, &object.into());
    out.into_bytes()
}

fn set_settings(object: &mut Object, settings: &Settings) {
    object.set_some("verdict", settings.verdict.map(|verdict| verdict.as_str()));
    object.set_some("body_storage", settings.body_storage.as_ref().map(body_storage));
    object.set_some("on_not_evaluated", settings.on_not_evaluated.map(|verdict| verdict.as_str()));
    object.set_some("disconnect", settings.disconnect.map(disconnect));
    object.set_some("tool_lists", settings.tool_lists.map(|lists| lists.as_str()));
    object.set_some("judge", settings.judge.as_ref().map(judge));
    object.set_some("snapshot", settings.snapshot.as_ref().map(snapshot));
}

fn route(route: &Route) -> Object {
    let mut object = Object::default();
    set_settings(&mut object, &route.settings);
    object.set_filled("detectors", detectors(&route.detectors));
    object.set_some("determinism", route.determinism.as_ref().map(route_determinism));
    object.set_filled("limits", limits(&route.limits));
    object.set_filled("operations", route.operations.iter().map(operation).collect::<Value>());
    object.set_some("other_operations", route.operations.others.map(|verdict| verdict.as_str()));
    object
}

fn packed(packed: &PackedContract) -> Object {
    let mut object = Object::default();
    object.set("pack", packed.pack.as_str());
    object.set("contract", packed.contract.as_str());
    object.set("sha256", packed.sha256.as_str());
    object
}

fn operation(operation: &Operation) -> Object {
    let mut object = Object::default();
    object.set("id", operation.id.as_str());
    object.set("method", operation.method.as_str());
    object.set("path", operation.path.as_str());
    object.set_some("judge", operation.judge.as_ref().map(judge));
    object.set_some("snapshot", operation.snapshot.as_ref().map(snapshot));
    object.set_some("determinism", operation.determinism.as_ref().map(determinism));
    object
}

fn route_determinism(said: &RouteDeterminism) -> Object {
    let mut object = determinism(&said.all);
    let mut tools = Object::default();
    for (name, said) in &said.tools {
        tools.set(name, determinism(said));
    }
    object.set_filled("tools", tools);
    object
}

fn determinism(said: &Determinism) -> Object {
    let mut object = Object::default();
    object.set("class", said.class());
    if let Determinism::E1(tolerances) = said {
        let mut parts = Object::default();
        for (name, list) in tolerances.parts() {
            parts.set_filled(name, list.iter().map(tolerance).collect::<Value>());
        }
        object.set("tolerance", parts);
    }
    object
}

fn tolerance(said: &Tolerance) -> Object {
    let mut object = Object::default();
    object.set("at", &**said.at.text());
    match &said.within {
        Within::Absolute(amount) | Within::Relative(amount) => {
            object.set(said.within.as_str(), amount.as_str());
        }
        Within::AnyOrder | Within::Ignored => object.set("as", said.within.as_str()),
    }
    object
}

fn limits(values: &LimitValues) -> Object {
    let mut object = Object::default();
    for (limit, value) in LIMITS.iter().zip(values) {
        object.set_some(limit.key, *value);
    }
    object
}

fn body_storage(storage: &BodyStorage) -> Value {
    match storage {
        BodyStorage::None => "none".into(),
        BodyStorage::Hmac => "hmac".into(),
        BodyStorage::Full { reason, redact } => {
            let mut full = Object::default();
            full.set("reason", reason.as_str());
            full.set_filled("redact", redact.iter().map(|path| &**path.text()).collect::<Value>());
            let mut object = Object::default();
            object.set("full", full);
            object.into()
        }
    }
}

fn disconnect(disconnect: Disconnect) -> Value {
    match disconnect {
        Disconnect::Cancel => "cancel".into(),
        Disconnect::Drain { bytes, seconds } => {
            let mut drain = Object::default();
            drain.set("bytes", bytes);
            drain.set("seconds", seconds);
            let mut object = Object::default();
            object.set("drain", drain);
            object.into()
        }
    }
}

fn snapshot(said: &Snapshotting) -> Value {
    let Snapshotting::On(asked) = said else { return "none".into() };
    let mut object = Object::default();
    object.set("source", asked.source.as_str());
    object.set("mode", asked.mode.as_str());
    object.into()
}

fn judge(judge: &Judging) -> Value {
    let Judging::On(terms) = judge else { return "none".into() };
    let mut object = Object::default();
    object.set_some("unknown_tools", terms.unknown_tools.map(UnknownTools::as_str));
    object.set_some("changed_tools", terms.changed_tools.map(ChangedTools::as_str));
    object.set_some("repair", terms.repair.as_ref().map(repair));
    object.set_some("reask", terms.reask.map(reask));
    object.set_some("release", terms.release.map(Release::as_str));
    object.set_some("formats", terms.formats.map(Formats::as_str));
    object.set_filled("tools", named(&terms.tools));
    object.set_filled("results", named(&terms.results));
    object.set_some("text", terms.text.as_deref());
    object.set_some("request", terms.request.as_deref());
    object.set_some("answer", terms.answer.as_deref());
    object.into()
}

/// Tools with the names of contracts.
fn named(contracts: &BTreeMap<String, String>) -> Object {
    let mut object = Object::default();
    for (tool, contract) in contracts {
        object.set(tool, contract.as_str());
    }
    object
}

fn repair(repair: &Repair) -> Value {
    match repair {
        Repair::None => "none".into(),
        Repair::R1(classes) if classes.is_empty() => "r1".into(),
        Repair::R1(classes) => {
            let mut object = Object::default();
            object.set("r1", classes.iter().map(|class| class.as_str()).collect::<Value>());
            object.into()
        }
    }
}

fn approver(approver: &Approver) -> Value {
    let key = base64(approver.key.spki());
    let Some(identity) = &approver.identity else { return key.as_str().into() };
    let mut object = Object::default();
    object.set("key", key.as_str());
    object.set("identity", identity.as_str());
    object.into()
}

fn hold(hold: &Hold) -> Object {
    let mut object = Object::default();
    object.set("approvers", hold.approvers.iter().collect::<Value>());
    object.set_some("needs", hold.needs);
    object.set_some("ttl_ms", hold.ttl_ms);
    object.set_some("mode", hold.mode.map(|mode| mode.as_str()));
    object
}

fn reask(reask: Reask) -> Value {
    let Reask::Once(terms) = reask else { return "none".into() };
    let mut once = Object::default();
    once.set_some("tell", terms.tell.map(Tell::as_str));
    once.set_some("bytes_max", terms.bytes_max);
    if once.0.is_empty() {
        return "once".into();
    }
    let mut object = Object::default();
    object.set("once", once);
    object.into()
}

fn contract(contract: &ContractText) -> Object {
    let mut object = Object::default();
    object.set(contract.kind.as_str(), contract.text.as_str());
    object
}

fn detectors(detectors: &BTreeMap<String, DetectorWritten>) -> Object {
    let mut object = Object::default();
    for (name, written) in detectors {
        object.set(name, detector(written));
    }
    object
}

fn detector(written: &DetectorWritten) -> Object {
    let texts = |list: &Option<Vec<String>>| {
        list.as_ref().map(|list| list.iter().map(String::as_str).collect::<Value>())
    };
    let mut object = Object::default();
    object.set_some(
        "surfaces",
        written.on.as_ref().map(|on| on.iter().map(|one| one.as_str()).collect::<Value>()),
    );
    object.set_some("mode", written.mode.map(DetectorMode::as_str));
    object.set_some("min_confidence", written.min_confidence.map(Confidence::as_str));
    object.set_some("only", texts(&written.only));
    object.set_some("except", texts(&written.except));
    object.set_some("severity", written.severity.map(|severity| severity.as_str()));
    let threat = written.threat.as_ref();
    object.set_some("threat", threat.map(|list| list.iter().map(|id| id.as_str()).collect::<Value>()));
    if let Some(external) = &written.external {
        object.set("url", external.url.as_str());
        object.set_some("timeout_ms", external.timeout_ms);
        object.set_some("on_timeout", external.on_timeout.map(|verdict| verdict.as_str()));
        object.set_some("in_flight_max", external.in_flight_max);
        object.set_some("per_second", external.per_second);
    }
    object
}

fn rule(rule: &Rule) -> Object {
    let mut object = Object::default();
    object.set("id", rule.id.as_str());
    object.set("when", when(&rule.when));
    object.set_some("unless", rule.unless.as_ref().map(when));
    object.set("verdict", rule.verdict.as_str());
    object.set_some("hold", rule.hold.as_ref().map(hold));
    object.set_some("reason", rule.reason.as_ref().map(|reason| reason.as_str()));
    object.set_some("message", rule.message.as_deref());
    object.set_some("severity", rule.severity.map(|severity| severity.as_str()));
    object.set_filled("threat", rule.threat.iter().map(|id| id.as_str()).collect::<Value>());
    object.set_some("body_storage", rule.body_storage.as_ref().map(body_storage));
    object
}

fn when(when: &When) -> Object {
    let mut object = Object::default();
    for (condition, patterns) in &when.names {
        object.set(condition.as_str(), patterns.iter().collect::<Value>());
    }
    object.set_filled("arguments", when.arguments.iter().map(predicate).collect::<Value>());
    object.set_filled("body", when.body.iter().map(predicate).collect::<Value>());
    object.set_some("provenance", when.provenance.as_ref().map(provenance));
    object
}

fn provenance(provenance: &Provenance) -> Object {
    let mut object = Object::default();
    object.set_some("min_length", provenance.min_length);
    object.set_some("from", provenance.from.as_ref().map(|from| from.iter().collect::<Value>()));
    let paths = provenance.argument.as_ref();
    object
        .set_some("argument", paths.map(|paths| paths.iter().map(|path| &**path.text()).collect::<Value>()));
    object
}

fn predicate(predicate: &Predicate) -> Object {
    let mut object = Object::default();
    object.set("at", &**predicate.at.text());
    let value = match &predicate.test {
        Test::Equals(scalar) => scalar.into(),
        Test::In(list) | Test::NotIn(list) => list.iter().collect(),
        Test::Matches(patterns) | Test::NotMatches(patterns) => patterns.iter().collect(),
        Test::Exists(value) => Value::Boolean(*value),
        Test::GreaterThan(bound) | Test::LessThan(bound) => Value::Number(*bound),
        Test::LongerThan(bound) => Value::Integer(*bound),
        Test::Contains(part) => part.into(),
        Test::Sql(terms) | Test::SqlNot(terms) => sql(terms).into(),
        Test::Tenant(whose) => whose.as_str().into(),
    };
    object.set(predicate.test.key(), value);
    object
}

fn sql(terms: &SqlTerms) -> Object {
    let mut object = Object::default();
    let patterns = |list: &Vec<String>| list.iter().collect::<Value>();
    object.set("statements", terms.statements.iter().map(|statement| statement.as_str()).collect::<Value>());
    object.set_some("require_selector", terms.require_selector.map(Value::Boolean));
    object.set_some("rows_max", terms.rows_max);
    object.set_some("tables", terms.tables.as_ref().map(patterns));
    object.set_some("tables_not", terms.tables_not.as_ref().map(patterns));
    object.set_some("functions", terms.functions.as_ref().map(patterns));
    object
}

/// As the rule that it is, without the verdict, which is no choice.
fn control(control: &Control) -> Object {
    let mut object = rule(&control.rule);
    object.0.remove("verdict");
    object.set("kind", control.kind.as_str());
    match control.kind {
        ControlKind::Rate { limit, seconds }
        | ControlKind::Velocity { limit, seconds }
        | ControlKind::Distinct { limit, seconds } => {
            object.set("limit", limit);
            object.set("seconds", u64::from(seconds));
        }
        ControlKind::Freeze => object.set("windows", control.windows.iter().map(window).collect::<Value>()),
        ControlKind::Idempotency { seconds, required, answer_bytes_max } => {
            object.set("seconds", u64::from(seconds));
            object.set_some("required", required.map(Value::Boolean));
            object.set_some("answer_bytes_max", answer_bytes_max);
            object.set_some("header", control.header.as_deref());
        }
        ControlKind::Cap { unit, limit, per, estimate } => {
            object.set("unit", unit.as_str());
            object.set("limit", limit);
            object.set("per", per.as_str());
            object.set_some("estimate", estimate);
        }
    }
    object.set_some("of", control.of.as_ref().map(Of::text));
    object.set_some("by", control.by.as_ref().map(|by| by.iter().map(|by| by.as_str()).collect::<Value>()));
    object.set_some(
        "on_store_down",
        control.on_store_down.map(|down| match down {
            OnStoreDown::Closed => Value::from("closed"),
            OnStoreDown::LocalBudget(calls) => {
                let mut object = Object::default();
                object.set("local_budget", calls);
                object.into()
            }
        }),
    );
    object
}

fn window(window: &Window) -> Object {
    let mut object = Object::default();
    let (from, until) = match window {
        Window::Once { from, until } => (from, until),
        Window::Weekly { days, from, until } => {
            object.set("days", days.iter().map(|day| day.as_str()).collect::<Value>());
            (from, until)
        }
    };
    object.set("from", from.0.as_str());
    object.set("until", until.0.as_str());
    object
}

fn price(price: &Price) -> Object {
    let mut object = Object::default();
    object.set("model", price.model.as_str());
    object.set("from", price.from.as_str());
    object.set("input", price.input);
    object.set("output", price.output);
    object.set_some("cached", price.cached);
    object
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Text(text) => write_text(out, text),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (name, value)) in object.0.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_text(out, name);
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// RFC 8785 section 3.2.2.2.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c)); // a `String` takes everything
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_rfc_8785_asks() {
        let mut out = String::new();
        write_text(&mut out, "\"\\/\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}é€😀");
        assert_eq!(out, "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}é€😀\"");
    }

    #[test]
    fn canonical_bytes_are_what_the_reference_says() {
        let document = PolicyDocument::parse(
            "rules:
- verdict: block # why
  id: a
  when: { tool: shell*, model: [a, b] }
  reason: TOOL_DENIED
  threat: ['owasp_llm:2025/LLM06']
routes: { llm: { judge: { repair: r1 } }, b: { judge: none, limits: { total_ms: 5 } } }
limits: {}
name: nn
version: 1
defaults: { disconnect: { drain: { seconds: 2, bytes: 10 } }, body_storage: { full: { reason: 'a \"b\"' } } }
",
        )
        .unwrap();
        let expected = concat!(
            r#"{"defaults":{"body_storage":{"full":{"reason":"a \"b\""}},"#,
            r#""disconnect":{"drain":{"bytes":10,"seconds":2}}},"#,
            r#""name":"nn","routes":{"b":{"judge":"none","limits":{"total_ms":5}},"llm":{"judge":{"repair":"r1"}}},"#,
            r#""rules":[{"id":"a","reason":"TOOL_DENIED","threat":["owasp_llm:2025/LLM06"],"#,
            r#""verdict":"block","#,
            r#""when":{"model":["a","b"],"tool":["shell*"]}}],"version":1}"#
        );
        assert_eq!(String::from_utf8(document.canonical()).unwrap(), expected);
    }
}
