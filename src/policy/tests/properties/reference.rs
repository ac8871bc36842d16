//! A slow evaluator, written from docs/policy.md over the JSON of a policy. It shares no code with the crate.

use serde_json::Value;

/// Owned facts.
#[derive(Clone, Debug)]
pub struct Facts {
    pub route: String,
    pub identity: Option<String>,
    pub model: Option<String>,
    pub tools: Vec<String>,
    pub evaluated: bool,
    pub model_served: Option<String>,
    pub tools_called: Vec<String>,
    pub response_evaluated: bool,
}

/// Verdict, rule, reason and storage.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub block: bool,
    pub rule: Option<String>,
    pub reason: Option<String>,
    pub storage: Value,
}

pub fn request(policy: &Value, facts: &Facts) -> Outcome {
    let rules = policy["rules"].as_array().unwrap();
    let found = some_or_none(&facts.tools).into_iter().map(|tool| {
        match rules.iter().position(|rule| holds(rule, facts, facts.model.as_deref(), tool)) {
            Some(index) => (is_block(&rules[index]["verdict"]), Some(index)),
            None => (is_block(&setting(policy, facts, "verdict")), None),
        }
    });
    conclude(policy, facts, found.collect(), facts.evaluated)
}

pub fn response(policy: &Value, facts: &Facts) -> Outcome {
    let rules = policy["rules"].as_array().unwrap();
    let mut found = Vec::new();
    for tool in &facts.tools_called {
        let model = facts.model.as_deref();
        match rules.iter().position(|rule| holds(rule, facts, model, Some(tool))) {
            Some(index) => found.push((is_block(&rules[index]["verdict"]), Some(index))),
            None => found.push((is_block(&setting(policy, facts, "verdict")), None)),
        }
    }
    let lower = |name: &Option<String>| name.as_ref().map(|name| name.to_ascii_lowercase());
    if facts.model_served.is_some() && lower(&facts.model_served) != lower(&facts.model) {
        let speaks = |rule: &Value| !is_block(&rule["verdict"]) || rule["when"].get("model").is_some();
        for tool in some_or_none(&facts.tools_called) {
            let served = facts.model_served.as_deref();
            let holds = |rule: &Value| speaks(rule) && holds(rule, facts, served, tool);
            if let Some(index) = rules.iter().position(holds) {
                found.push((is_block(&rules[index]["verdict"]), Some(index)));
            }
        }
    }
    conclude(policy, facts, found, facts.response_evaluated)
}

fn conclude(policy: &Value, facts: &Facts, found: Vec<(bool, Option<usize>)>, evaluated: bool) -> Outcome {
    let any_block = found.iter().any(|(block, _)| *block);
    let unseen = !evaluated && !any_block && is_block(&setting(policy, facts, "on_not_evaluated"));
    let first = found.iter().filter(|(block, _)| *block == any_block).filter_map(|(_, rule)| *rule).min();
    let rule = first.filter(|_| !unseen).map(|index| &policy["rules"][index]);
    let text =
        |key: &str| rule.and_then(|rule| rule.get(key)).map(|value| value.as_str().unwrap().to_string());
    let reason = match (any_block, unseen) {
        (_, true) => Some("NOT_EVALUATED".to_string()),
        (true, false) => text("reason").or(Some("POLICY_BLOCK".into())),
        (false, false) => text("reason"),
    };
    let storage = rule.and_then(|rule| rule.get("body_storage")).cloned();
    let storage = storage.unwrap_or_else(|| setting(policy, facts, "body_storage"));
    Outcome { block: any_block || unseen, rule: text("id"), reason, storage }
}

fn setting(policy: &Value, facts: &Facts, key: &str) -> Value {
    let fallback = if key == "body_storage" { "hmac" } else { "block" };
    let of_route = policy["routes"].get(&facts.route).and_then(|route| route.get(key));
    of_route.or(policy["defaults"].get(key)).cloned().unwrap_or(fallback.into())
}

fn is_block(verdict: &Value) -> bool {
    verdict == "block"
}

fn some_or_none(names: &[String]) -> Vec<Option<&str>> {
    if names.is_empty() { vec![None] } else { names.iter().map(|name| Some(name.as_str())).collect() }
}

fn holds(rule: &Value, facts: &Facts, model: Option<&str>, tool: Option<&str>) -> bool {
    rule["when"].as_object().unwrap().iter().all(|(key, patterns)| {
        let (fact, fold) = match key.as_str() {
            "route" => (Some(facts.route.as_str()), false),
            "identity" => (facts.identity.as_deref(), false),
            "model" => (model, true),
            "tool" => (tool, true),
            other => panic!("{other} is not generated"),
        };
        let case = |text: &str| if fold { text.to_ascii_lowercase() } else { text.to_string() };
        let matches =
            |pattern: &Value| fact.is_some_and(|fact| glob(&case(pattern.as_str().unwrap()), &case(fact)));
        patterns.as_array().unwrap().iter().any(matches)
    })
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            (0..=name.len()).any(|taken| name.is_char_boundary(taken) && glob(rest, &name[taken..]))
        }),
    }
}
