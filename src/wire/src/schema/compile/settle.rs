//! What is known of nodes once all of them are there: that no schema applies itself to the same value, which
//! nodes are only other names, how wide their branches are, and what they keep of a string.

use super::super::{
    SchemaError, SchemaLimits,
    at_once::AtOnce,
    choice::Choice,
    error::Fault,
    node::{Branch, Keep, NodeId, Program},
};

pub(super) fn settle(mut program: Program, limits: &SchemaLimits) -> Result<Program, SchemaError> {
    let order = inside_out(&program)?;
    let mut same: Vec<NodeId> = (0..program.nodes.len()).map(NodeId::new).collect();
    for id in &order {
        rename_branches(&mut program, *id, &same);
        same[id.index()] = stands_in(&program, *id);
    }
    let to = |id: &mut NodeId| *id = same[id.index()];
    program.objects.iter_mut().for_each(|rules| rules.each_mut(to));
    program.arrays.iter_mut().for_each(|rules| rules.each_mut(to));
    to(&mut program.root);
    widths(&program, &order, limits)?;
    for id in &order {
        sum_up(&mut program, *id);
    }
    for rules in &mut program.objects {
        rules.counts = rules.max.is_some() || rules.property_names != NodeId::TRUE;
        for name in rules.names.list_mut() {
            name.never = program.nodes[name.child.index()].is_never();
        }
    }
    for at in 0..program.nodes.len() {
        program.nodes[at].choice = Choice::of(&program, &program.nodes[at]).map(Box::new);
    }
    Ok(program)
}

/// All nodes, each after its branches.
fn inside_out(program: &Program) -> Result<Vec<NodeId>, SchemaError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Never; program.nodes.len()];
    let mut order = Vec::with_capacity(program.nodes.len());
    for start in (0..program.nodes.len()).map(NodeId::new) {
        let mut stack = vec![start];
        while let Some(id) = stack.last().copied() {
            if visits[id.index()] != Visit::Never {
                stack.pop();
                if visits[id.index()] == Visit::Open {
                    visits[id.index()] = Visit::Done;
                    order.push(id);
                }
                continue;
            }
            visits[id.index()] = Visit::Open;
            let mut looped = false;
            for branch in &program.node(id).branches {
                branch.each(|next| match visits[next.index()] {
                    Visit::Open => looped = true,
                    Visit::Never => stack.push(next),
                    Visit::Done => {}
                });
            }
            if looped {
                let pointer = program.node(id).pointer.to_string();
                return Err(SchemaError { pointer, fault: Fault::ReferenceLoop });
            }
        }
    }
    Ok(order)
}

fn rename_branches(program: &mut Program, id: NodeId, same: &[NodeId]) {
    let node = &mut program.nodes[id.index()];
    let mut branches = std::mem::take(&mut node.branches).into_vec();
    branches.iter_mut().for_each(|branch| branch.each_mut(|id| *id = same[id.index()]));
    branches.retain(|branch| !matches!(branch, Branch::All(NodeId::TRUE)));
    node.branches = branches.into();
}

/// The node that says the same: `true` for one without duties, the other for one that is only a reference.
fn stands_in(program: &Program, id: NodeId) -> NodeId {
    let node = program.node(id);
    match &*node.branches {
        _ if !node.has_no_duty_of_its_own() => id,
        [] => NodeId::TRUE,
        [Branch::All(other)] => *other,
        _ => id,
    }
}

fn widths(program: &Program, order: &[NodeId], limits: &SchemaLimits) -> Result<(), SchemaError> {
    let mut widths = vec![1_usize; program.nodes.len()];
    for id in order {
        let mut width = 1_usize;
        for branch in &program.node(*id).branches {
            branch.each(|next| width = width.saturating_add(widths[next.index()]));
        }
        if width > limits.branches_max {
            let fault = Fault::BranchesMax { limit: limits.branches_max };
            return Err(SchemaError { pointer: program.node(*id).pointer.to_string(), fault });
        }
        widths[id.index()] = width;
    }
    Ok(())
}

/// What a node and its branches keep of a string, and whether it needs tasks.
fn sum_up(program: &mut Program, id: NodeId) {
    let node = program.node(id);
    let array = program.array(id);
    let simple = node.branches.is_empty()
        && array.contains.is_none()
        && !array.unique
        && array.unevaluated.is_none()
        && program.object(id).unevaluated.is_none();
    let mut keep = Keep::Nothing;
    let mut counts = false;
    if let Some(text) = &node.text {
        counts = text.min > 0 || text.max.is_some();
        if text.pattern.is_some() || text.format.is_some() {
            keep = Keep::Whole;
        }
    }
    if let Some(allowed) = &node.allowed {
        let longest = allowed.texts.iter().map(|text| text.bytes.len()).max().unwrap_or_default();
        keep = keep.max(Keep::Bytes(longest));
    }
    for branch in &node.branches {
        branch.each(|next| {
            let next = program.node(next);
            keep = keep.max(next.keep);
            counts |= next.counts;
        });
    }
    let node = &mut program.nodes[id.index()];
    (node.simple, node.keep, node.counts) = (simple, keep, counts);
    node.at_once = AtOnce::of(node);
}
