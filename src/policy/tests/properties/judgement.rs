//! The compiled policy decides as the reference does.

use estoppel_policy::{
    BodyStorage, Decision, Evaluation, Policy, PolicyDocument, RequestFacts, ResponseFacts, Step, Verdict,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{self, NAMES, ROUTES};
use super::reference::{self, Facts, Outcome};

fn name() -> impl Strategy<Value = String> {
    select(NAMES.to_vec()).prop_map(String::from)
}

fn facts() -> impl Strategy<Value = Facts> {
    let route = select(ROUTES.to_vec()).prop_map(String::from);
    let identity = proptest::option::of(select(vec!["agent", "Agent", "other"]).prop_map(String::from));
    let model = || proptest::option::of(name());
    let tools = || proptest::collection::vec(name(), 0..4);
    let request = (route, identity, model(), tools(), proptest::bool::weighted(0.8));
    let response = (model(), tools(), proptest::bool::weighted(0.8));
    (request, response).prop_map(
        |((route, identity, model, tools, evaluated), (model_served, tools_called, response_evaluated))| {
            Facts { route, identity, model, tools, evaluated, model_served, tools_called, response_evaluated }
        },
    )
}

/// Calls `judge` with the facts borrowed.
fn with_facts<T>(facts: &Facts, judge: impl FnOnce(&RequestFacts<'_>, &ResponseFacts<'_>) -> T) -> T {
    let tools: Vec<_> = facts.tools.iter().map(String::as_str).collect();
    let tools_called: Vec<_> = facts.tools_called.iter().map(String::as_str).collect();
    let evaluation = |whole| if whole { Evaluation::Evaluated } else { Evaluation::NotEvaluated };
    let request = RequestFacts {
        route: &facts.route,
        identity: facts.identity.as_deref(),
        model: facts.model.as_deref(),
        tools: &tools,
        evaluation: evaluation(facts.evaluated),
        ..RequestFacts::default()
    };
    let response = ResponseFacts {
        request,
        model_served: facts.model_served.as_deref(),
        tools_called: &tools_called,
        evaluation: evaluation(facts.response_evaluated),
    };
    judge(&request, &response)
}

fn outcome(decision: Decision<'_>) -> Outcome {
    Outcome {
        block: decision.verdict == Verdict::Block,
        rule: decision.rule.map(|rule| rule.to_string()),
        reason: decision.reason.map(|reason| reason.to_string()),
        storage: match decision.body_storage {
            BodyStorage::None => json!("none"),
            BodyStorage::Hmac => json!("hmac"),
            BodyStorage::Full { reason, redact } if redact.is_empty() => {
                json!({ "full": { "reason": reason } })
            }
            BodyStorage::Full { reason, redact } => {
                let redact: Vec<_> = redact.iter().map(|path| path.text().to_string()).collect();
                json!({ "full": { "reason": reason, "redact": redact } })
            }
        },
    }
}

fn compile(policy: &Value) -> Policy {
    PolicyDocument::parse(&policy.to_string()).unwrap().compile()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_the_reference_does(policy in generate::policy(), facts in facts()) {
        let compiled = compile(&policy);
        let (request, response) = with_facts(&facts, |request, response| {
            (outcome(compiled.request(request)), outcome(compiled.response(response)))
        });
        prop_assert_eq!(request, reference::request(&policy, &facts));
        prop_assert_eq!(response, reference::response(&policy, &facts));
    }

    #[test]
    fn the_order_of_tools_changes_nothing(policy in generate::policy(), facts in facts()) {
        let compiled = compile(&policy);
        let mut turned = facts.clone();
        turned.tools.reverse();
        turned.tools_called.reverse();
        let judge = |facts: &Facts| with_facts(facts, |request, response| {
            (outcome(compiled.request(request)), outcome(compiled.response(response)))
        });
        prop_assert_eq!(judge(&facts), judge(&turned));
    }

    #[test]
    fn judging_called_tools_one_by_one_blocks_as_judging_them_together(
        policy in generate::policy(),
        mut facts in facts(),
        first in name(),
    ) {
        let compiled = compile(&policy);
        facts.tools_called.push(first);
        facts.response_evaluated = true;
        let (together, apart) = with_facts(&facts, |_, response| {
            let one = |tool| compiled.response(&ResponseFacts { tools_called: &[tool], ..*response }).verdict;
            let apart = response.tools_called.iter().map(|tool| one(tool)).min();
            (compiled.response(response).verdict, apart)
        });
        prop_assert_eq!(Some(together), apart);
    }

    #[test]
    fn an_explanation_holds_the_decision_and_its_step(policy in generate::policy(), facts in facts()) {
        let compiled = compile(&policy);
        with_facts(&facts, |request, response| {
            let pairs = [
                (compiled.explain_request(request), compiled.request(request)),
                (compiled.explain_response(response), compiled.response(response)),
            ];
            for (explanation, decision) in pairs {
                assert_eq!(explanation.decision, decision);
                let decided = |step: &Step<'_, '_>| {
                    matches!(step, Step::Rule { rule, failed: None, .. } if Some(*rule) == decision.rule)
                };
                assert!(decision.rule.is_none() || explanation.steps.iter().any(decided));
            }
        });
    }

    #[test]
    fn another_tool_never_lifts_a_block(policy in generate::policy(), facts in facts(), other in name()) {
        let compiled = compile(&policy);
        let mut more = facts.clone();
        more.tools.push(other.clone());
        more.tools_called.push(other);
        let judge = |facts: &Facts| with_facts(facts, |request, _| compiled.request(request).verdict);
        if !facts.tools.is_empty() {
            prop_assert!(judge(&more) <= judge(&facts)); // block is less than allow
        }
    }
}
