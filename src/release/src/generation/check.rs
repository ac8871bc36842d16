//! What a schema cannot say: ids that are unique, references that lead somewhere, and what a type of change asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ERRORS_MAX, GenerationError, GenerationErrorCode as Code, shown};
use super::{Change, ChangePolicy, ChangeType, Hotfix, PerformanceGate, Raw, Step};

/// Everything that is wrong, in the order of the document's parts.
pub(super) fn errors(raw: &Raw) -> Vec<GenerationError> {
    let mut errors = Vec::new();
    unique("changes", raw.changes.iter().map(|change| change.id.as_str()), &mut errors);
    unique("steps", raw.steps.iter().map(|step| step.id.as_str()), &mut errors);
    unique("hooks", raw.hooks.iter().map(|hook| hook.id.as_str()), &mut errors);
    let commands = raw.gates.commands.iter().map(|command| command.id.as_str());
    unique("gates/commands", commands, &mut errors);
    references(raw, &mut errors);
    circle(&raw.steps, &mut errors);
    for (index, change) in raw.changes.iter().enumerate() {
        proven(index, change, raw, &mut errors);
    }
    stages(raw, &mut errors);
    windows(raw, &mut errors);
    raw.gates.perf_budget.iter().for_each(|budget| percentiles(budget, &mut errors));
    raw.hotfix.iter().for_each(|hotfix| mended(raw, hotfix, &mut errors));
    let beyond = errors.len().saturating_sub(ERRORS_MAX);
    errors.truncate(ERRORS_MAX);
    if let Some(last) = errors.last_mut().filter(|_| beyond > 0) {
        last.message = format!("{}; and {beyond} errors more", last.message);
    }
    errors
}

fn unique<'i>(list: &str, ids: impl Iterator<Item = &'i str>, errors: &mut Vec<GenerationError>) {
    let mut seen = BTreeMap::new();
    for (index, id) in ids.enumerate() {
        if let Some(first) = seen.insert(id, index) {
            let message = format!("`{id}` is the id of /{list}/{first} as well");
            errors.push(GenerationError::new(Code::DuplicateId, format!("/{list}/{index}/id"), message));
        }
    }
}

fn references(raw: &Raw, errors: &mut Vec<GenerationError>) {
    let changes: BTreeSet<&str> = raw.changes.iter().map(|change| change.id.as_str()).collect();
    let steps: BTreeSet<&str> = raw.steps.iter().map(|step| step.id.as_str()).collect();
    let mut check = |known: &BTreeSet<&str>, what: &str, id: &str, pointer: String| {
        if !known.contains(id) {
            let known: Vec<_> = known.iter().take(8).map(|id| format!("`{id}`")).collect();
            let message = format!("there is no {what} `{}`; there is {}", shown(id), known.join(", "));
            errors.push(GenerationError::new(Code::UnknownReference, pointer, message));
        }
    };
    for (index, step) in raw.steps.iter().enumerate() {
        for (at, id) in step.needs.iter().enumerate() {
            check(&steps, "step", id.as_str(), format!("/steps/{index}/needs/{at}"));
        }
        if let super::Proves::These(ids) = &step.proves {
            for (at, id) in ids.iter().enumerate() {
                check(&changes, "change", id.as_str(), format!("/steps/{index}/proves/{at}"));
            }
        }
    }
}

/// Takes away steps whose needs are gone, until none is left or the rest go round.
fn circle(steps: &[Step], errors: &mut Vec<GenerationError>) {
    let known: BTreeSet<_> = steps.iter().map(|step| &step.id).collect();
    let mut left: Vec<&Step> = steps.iter().collect();
    loop {
        let open: BTreeSet<_> = left.iter().map(|step| &step.id).collect();
        let waits = |step: &&Step| step.needs.iter().any(|id| open.contains(id) && known.contains(id));
        let (waiting, ready): (Vec<&Step>, Vec<&Step>) = left.iter().copied().partition(waits);
        if ready.is_empty() {
            break;
        }
        left = waiting;
    }
    let Some(first) = left.first() else { return };
    let index = steps.iter().position(|step| step.id == first.id).unwrap_or_default();
    let ids: Vec<_> = left.iter().take(8).map(|step| format!("`{}`", step.id)).collect();
    let message = format!("steps need each other in a circle, or what is in one: {}", ids.join(", "));
    errors.push(GenerationError::new(Code::Cycle, format!("/steps/{index}/needs"), message));
}

fn proven(index: usize, change: &Change, raw: &Raw, errors: &mut Vec<GenerationError>) {
    let proofs: Vec<&Step> = raw.steps.iter().filter(|step| step.proves.takes(&change.id)).collect();
    let pointer = format!("/changes/{index}");
    if proofs.is_empty() {
        let message = format!("no step proves `{}`; name it in the `proves` of one", change.id);
        errors.push(GenerationError::new(Code::Unproven, pointer.clone(), message));
    }
    let Some(policy) = raw.change_policies.get(&change.kind) else { return };
    for message in lacks(change, change.kind, policy, &proofs) {
        errors.push(GenerationError::new(Code::ChangePolicy, pointer.clone(), message));
    }
}

fn lacks(change: &Change, kind: ChangeType, policy: &ChangePolicy, proofs: &[&Step]) -> Vec<String> {
    let (id, lacking) = (&change.id, policy.steps.iter());
    let lacking = lacking.filter(|wanted| !proofs.iter().any(|step| step.kind == **wanted));
    let steps =
        lacking.map(|wanted| format!("`{id}` is of type `{kind}` and no step of kind `{wanted}` proves it"));
    let (found, wanted) = (change.fixtures.len(), policy.fixtures_min);
    let fixtures = (found < wanted).then(|| {
        format!("`{id}` is of type `{kind}` and has {found} fixtures, at least {wanted} are asked for")
    });
    steps.chain(fixtures).collect()
}

fn contradiction(pointer: &str, message: impl Into<String>) -> GenerationError {
    GenerationError::new(Code::Contradiction, pointer, message)
}

fn stages(raw: &Raw, errors: &mut Vec<GenerationError>) {
    let order: Vec<_> = raw.stages.iter().map(|stage| stage.stage).collect();
    if let Some(at) = order.windows(2).position(|pair| matches!(pair, [low, high] if low >= high)) {
        let message = "stages go up, each once: alpha, beta, rc, final";
        errors.push(contradiction(&format!("/stages/{}", at + 1), message));
    }
    if order.last().is_some_and(|last| *last != super::StageName::Final) {
        errors.push(contradiction("/stages", "the last stage is `final`"));
    }
    if raw.stages.iter().any(|stage| stage.stage == super::StageName::Final && stage.soak_hours > 0) {
        let at = format!("/stages/{}/soak_hours", raw.stages.len().saturating_sub(1));
        errors.push(contradiction(&at, "nothing comes after `final` that would wait for it"));
    }
    for (pointer, from) in raw.gates.from() {
        if from != super::StageName::Final && !order.contains(&from) {
            let message = format!("there is no stage `{from}` in `stages`");
            errors.push(GenerationError::new(Code::UnknownReference, pointer, message));
        }
    }
}

fn windows(raw: &Raw, errors: &mut Vec<GenerationError>) {
    let windows = raw.gates.freeze_window.iter().flat_map(|gate| &gate.windows);
    for (index, window) in windows.enumerate() {
        // Both are in UTC and of one width, so that their order is that of their texts.
        if window.from >= window.to {
            let message = format!("`{}` is not before `{}`", window.from, window.to);
            errors.push(contradiction(&format!("/gates/freeze_window/windows/{index}"), message));
        }
    }
}

fn percentiles(budget: &PerformanceGate, errors: &mut Vec<GenerationError>) {
    let given: Vec<u32> = [budget.p50_ms, budget.p95_ms, budget.p99_ms].into_iter().flatten().collect();
    if !given.is_sorted() {
        let message = "the slower of a hundred calls cannot be faster: p50_ms <= p95_ms <= p99_ms";
        errors.push(contradiction("/gates/perf_budget", message));
    }
}

fn mended(raw: &Raw, hotfix: &Hotfix, errors: &mut Vec<GenerationError>) {
    if !raw.version.is_later_patch_of(&hotfix.base) {
        let message =
            format!("{} is no later patch of {}, which a hotfix has to be", raw.version, hotfix.base);
        errors.push(contradiction("/hotfix/base", message));
    }
    if !matches!(raw.changes.as_slice(), [Change { kind: ChangeType::Fix, .. }]) {
        errors.push(contradiction("/changes", "a hotfix has one change, and its type is `fix`"));
    }
}
