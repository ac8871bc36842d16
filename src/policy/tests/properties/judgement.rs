//! The compiled policy decides as the reference does.

use estoppel_policy::{
    BodyStorage, Decision, Evaluation, Policy, PolicyDocument, RequestFacts, ResponseFacts, Step, Then,
    Verdict, Wanted,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{self, NAMES, ROUTES};
use super::reference::{self, Call, Content, Facts, Outcome, TEXTS, Tool};

fn name() -> impl Strategy<Value = String> {
    select(NAMES.to_vec()).prop_map(String::from)
}

fn content() -> impl Strategy<Value = Content> {
    let data = select(vec![None, Some(vec![]), Some(vec!["pii.card"]), Some(vec!["public", "secret.key"])]);
    (select(TEXTS.to_vec()), data).prop_map(|((text, hosts, others), data)| Content {
        text,
        hosts,
        others,
        data,
    })
}

fn tool() -> impl Strategy<Value = Tool> {
    let call = prop_oneof![
        2 => Just(Call::Offered),
        1 => Just(Call::ToCome),
        4 => content().prop_map(Call::With),
    ];
    (name(), call).prop_map(|(name, call)| Tool { name, call })
}

fn facts() -> impl Strategy<Value = Facts> {
    let route = select(ROUTES.to_vec()).prop_map(String::from);
    let identity = proptest::option::of(select(vec!["agent", "Agent", "other"]).prop_map(String::from));
    let tenant = proptest::option::of(select(vec!["t1", "T1"]).prop_map(String::from));
    let model = || proptest::option::of(name());
    let tools = || proptest::collection::vec(tool(), 0..4);
    let body = proptest::option::of(content());
    let said = proptest::option::of(content());
    let request = (route, (identity, tenant), model(), tools(), body, proptest::bool::weighted(0.8));
    let response = (model(), tools(), said, proptest::bool::weighted(0.8));
    (request, response).prop_map(|(request, response)| {
        let (route, (identity, tenant), model, tools, body, evaluated) = request;
        let (model_served, tools_called, said, response_evaluated) = response;
        Facts {
            route,
            identity,
            tenant,
            model,
            tools,
            body,
            evaluated,
            model_served,
            tools_called,
            said,
            response_evaluated,
        }
    })
}

fn read(content: &Content) -> estoppel_policy::Content {
    let read = estoppel_policy::Content::read(content.text.as_bytes(), Wanted { destinations: true });
    match &content.data {
        None => read,
        Some(classes) => read.with_data(classes.iter().map(|class| (*class).into()).collect()),
    }
}

/// Calls `judge` with the facts borrowed.
fn with_facts<T>(facts: &Facts, judge: impl FnOnce(&RequestFacts<'_>, &ResponseFacts<'_>) -> T) -> T {
    type Owned = (String, Option<Option<estoppel_policy::Content>>);
    let owned = |tools: &[Tool]| -> Vec<Owned> {
        let content = |call: &Call| match call {
            Call::Offered => None,
            Call::ToCome => Some(None),
            Call::With(content) => Some(Some(read(content))),
        };
        tools.iter().map(|tool| (tool.name.clone(), content(&tool.call))).collect()
    };
    fn borrowed((name, content): &Owned) -> estoppel_policy::Tool<'_> {
        let call = match content {
            None => estoppel_policy::Call::Offered,
            Some(None) => estoppel_policy::Call::ToCome,
            Some(Some(content)) => estoppel_policy::Call::With(content),
        };
        estoppel_policy::Tool { name, call }
    }
    let (tools, called) = (owned(&facts.tools), owned(&facts.tools_called));
    let (tools, called): (Vec<_>, Vec<_>) =
        (tools.iter().map(borrowed).collect(), called.iter().map(borrowed).collect());
    let (body, said) = (facts.body.as_ref().map(read), facts.said.as_ref().map(read));
    let evaluation = |whole| if whole { Evaluation::Evaluated } else { Evaluation::NotEvaluated };
    let request = RequestFacts {
        route: &facts.route,
        identity: facts.identity.as_deref(),
        tenant: facts.tenant.as_deref(),
        model: facts.model.as_deref(),
        tools: &tools,
        body: body.as_ref(),
        evaluation: evaluation(facts.evaluated),
        ..RequestFacts::default()
    };
    let response = ResponseFacts {
        request,
        model_served: facts.model_served.as_deref(),
        tools_called: &called,
        said: said.as_ref(),
        evaluation: evaluation(facts.response_evaluated),
    };
    judge(&request, &response)
}

fn outcome(decision: Decision<'_>) -> Outcome {
    Outcome {
        verdict: decision.verdict,
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
        first in tool(),
    ) {
        let compiled = compile(&policy);
        facts.tools_called.push(first);
        facts.response_evaluated = true;
        let (together, apart) = with_facts(&facts, |_, response| {
            let one = |tool| compiled.response(&ResponseFacts { tools_called: &[tool], ..*response }).verdict;
            let apart = response.tools_called.iter().map(|tool| one(*tool)).min();
            (compiled.response(response).verdict, apart)
        });
        prop_assert_eq!(Some(together), apart);
    }

    #[test]
    fn approving_a_rule_lifts_its_hold_and_nothing_else(policy in generate::policy(), facts in facts(), rule in 0..8usize) {
        let compiled = compile(&policy);
        let id = format!("r{rule}");
        let (before, after) = with_facts(&facts, |request, _| {
            let approved = RequestFacts { approved: Some(&id), ..*request };
            (outcome(compiled.request(request)), outcome(compiled.request(&approved)))
        });
        if before.verdict == Verdict::Hold && before.rule.as_deref() == Some(&id) {
            prop_assert!(after.verdict != Verdict::Block && (after.verdict == Verdict::Allow || after.rule != before.rule));
        } else {
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn what_could_not_be_told_is_named_beside_the_same_decision(policy in generate::policy(), facts in facts()) {
        let compiled = compile(&policy);
        with_facts(&facts, |request, response| {
            for (told, explanation) in [
                (compiled.request_and_unknown(request), compiled.explain_request(request)),
                (compiled.response_and_unknown(response), compiled.explain_response(response)),
            ] {
                let (decision, unknown) = told;
                assert_eq!(decision, explanation.decision);
                let asked = explanation.steps.iter().filter_map(|step| match step {
                    Step::Unknown { failed, .. } => failed.condition,
                    _ => None,
                });
                assert_eq!(unknown, asked.collect::<Vec<_>>());
            }
        });
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
                    matches!(step, Step::Rule { rule, failed: None, .. }
                        | Step::ToCome { rule, then: Then::Decides, .. } if Some(*rule) == decision.rule)
                };
                assert!(decision.rule.is_none() || explanation.steps.iter().any(decided));
            }
        });
    }

    #[test]
    fn another_tool_never_lifts_a_block(policy in generate::policy(), facts in facts(), other in tool()) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn other_rules_in_between_change_nothing(mut policy in generate::policy(), facts in facts(), every in 1..90usize) {
        let others = |count: usize| (0..count).map(move |index| json!({
            "id": format!("other-{count}-{index}"), "when": { "tool": [format!("other_{index}*"), format!("*_{index}")] },
            "verdict": "block", "reason": "OTHER",
        }));
        let rules = std::mem::take(policy["rules"].as_array_mut().unwrap());
        let spread = rules.into_iter().enumerate().flat_map(|(at, rule)| others(every + at).chain([rule]));
        policy["rules"] = spread.collect::<Vec<_>>().into();
        let compiled = compile(&policy);
        let (request, response) = with_facts(&facts, |request, response| {
            (outcome(compiled.request(request)), outcome(compiled.response(response)))
        });
        prop_assert_eq!(request, reference::request(&policy, &facts));
        prop_assert_eq!(response, reference::response(&policy, &facts));
    }
}
