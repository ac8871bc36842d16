//! Rules that can never decide because an earlier one takes all their calls. What is found is so; not all is
//! found.

use std::collections::BTreeMap;

use crate::document::Rule;
use crate::error::{Errors, Place, PolicyError, PolicyErrorCode};
use crate::facts::Condition;
use crate::pattern::Patterns;

/// A warning for each such rule.
pub(crate) fn unreachable(rules: &[(Place, Rule)]) -> Vec<PolicyError> {
    let mut warnings = Errors::default();
    let mut earlier: Vec<Earlier<'_>> = Vec::with_capacity(rules.len());
    for (index, (place, rule)) in rules.iter().enumerate() {
        if let Some(taker) = earlier.iter().find(|earlier| earlier.takes_all_of(rule)) {
            let message = format!("`{}` can never decide: `{}` takes all its calls", rule.id, taker.rule.id);
            warnings.add(PolicyErrorCode::UnreachableRule, *place, format!("rules[{index}]"), message);
        }
        earlier.push(Earlier::new(rule));
    }
    warnings.into_list()
}

struct Earlier<'r> {
    rule: &'r Rule,
    when: BTreeMap<Condition, Patterns>,
    /// It looks into calls or bodies, or has exceptions: nobody knows what it takes.
    is_vague: bool,
}

impl<'r> Earlier<'r> {
    fn new(rule: &'r Rule) -> Self {
        let compile = |(condition, patterns): (&Condition, &Vec<String>)| {
            (*condition, Patterns::new(patterns, condition.case()))
        };
        let is_vague = rule.unless.is_some()
            || Condition::ALL
                .into_iter()
                .any(|condition| condition.is_of_content() && rule.when.has(condition));
        Self { rule, when: rule.when.names.iter().map(compile).collect(), is_vague }
    }

    fn takes_all_of(&self, later: &Rule) -> bool {
        // A served model passes over blocks without a `model`, so a later rule about models may still decide
        // there; so does what an answer says, and `data`.
        let leaves = |condition| !self.rule.when.has(condition) && later.when.has(condition);
        let passed_over =
            !self.rule.verdict.lets_go() && (leaves(Condition::Model) || leaves(Condition::Data));
        let covers = |(condition, patterns): (&Condition, &Patterns)| {
            later
                .when
                .names
                .get(condition)
                .is_some_and(|later| later.iter().all(|pattern| patterns.cover(pattern)))
        };
        !self.is_vague && !passed_over && self.when.iter().all(covers)
    }
}

#[cfg(test)]
mod tests {
    use crate::PolicyDocument;

    fn check(first: &str, second: &str, unreachable: bool) {
        let rule = |id, rule| format!("- {{ id: {id}, reason: X, {rule} }}\n");
        let text = format!("version: 1\nname: nn\nrules:\n{}{}", rule("a", first), rule("b", second));
        let document = PolicyDocument::parse(&text).unwrap();
        let warnings: Vec<_> = document.warnings().iter().map(|warning| warning.to_string()).collect();
        assert_eq!(!warnings.is_empty(), unreachable, "{text}{warnings:?}");
        if unreachable {
            let expected = "line 5, column 3: POLICY_UNREACHABLE_RULE: \
                `rules[1]`: `b` can never decide: `a` takes all its calls";
            assert_eq!(warnings, [expected]);
        }
    }

    #[test]
    fn warns_of_a_rule_whose_calls_an_earlier_one_takes() {
        check("when: {}, verdict: allow", "when: { tool: x }, verdict: block", true);
        check("when: { tool: sh* }, verdict: allow", "when: { tool: [shell, 'SH*x'] }, verdict: block", true);
        check("when: { route: a }, verdict: block", "when: { route: a, tool: x }, verdict: allow", true);
        check("when: { model: '*' }, verdict: block", "when: { model: x }, verdict: block", true);
    }

    #[test]
    fn keeps_quiet_about_a_rule_that_may_decide() {
        check("when: { tool: sh* }, verdict: allow", "when: { tool: [shell, bash] }, verdict: block", false);
        check("when: { tool: '*' }, verdict: allow", "when: { route: a }, verdict: block", false);
        check("when: { route: A }, verdict: allow", "when: { route: a }, verdict: block", false);
        check("when: { tool: 'a*b' }, verdict: allow", "when: { tool: a* }, verdict: block", false);
    }

    #[test]
    fn a_block_without_a_model_leaves_served_models_to_later_rules() {
        check("when: { route: a }, verdict: block", "when: { route: a, model: x }, verdict: block", false);
        check("when: { route: a }, verdict: allow", "when: { route: a, model: x }, verdict: block", true);
    }
}
