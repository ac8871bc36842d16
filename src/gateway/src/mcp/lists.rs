//! Lists of tools, without those that their caller may not call.

use std::ops::Range;
use std::sync::Arc;

use estoppel_evidence::entry::{EDITS_MAX, Edit, Repair};
use estoppel_policy::{Evaluation, Policy, RequestFacts, Verdict};
use estoppel_wire::dialect::mcp::{TOOLS_CALL, Tool, ToolResult, operation};
use estoppel_wire::dialect::{Dialect, Span};

/// Who asks for a list, and the policy that says what they may call.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) policy: Arc<Policy>,
    pub(crate) route: Arc<str>,
    pub(crate) identity: Option<Box<str>>,
    pub(crate) tenant: Option<Box<str>>,
}

impl Caller {
    /// Whether a call of `tool` would go on. What it would be called with is not known here.
    fn may_call(&self, tool: &str) -> bool {
        let operation = operation(TOOLS_CALL);
        let facts = RequestFacts {
            route: &self.route,
            operation: Some(&operation),
            dialect: Some(Dialect::Mcp.as_str()),
            method: Some("POST"),
            identity: self.identity.as_deref(),
            tenant: self.tenant.as_deref(),
            tools: &[estoppel_policy::Tool::from(tool)],
            evaluation: Evaluation::Evaluated,
            ..RequestFacts::default()
        };
        self.policy.request(&facts).verdict == Verdict::Allow
    }
}

/// What was taken out of the lists of one answer, or changed for its client.
#[derive(Default)]
pub(crate) struct Taken {
    edits: Vec<Edit>,
    lists: bool,
    endpoint: bool,
}

impl Taken {
    /// As the receipt has it: where in its message, and how long, each tool was.
    pub(crate) fn repair(&self) -> Option<Repair> {
        let repair = || Repair {
            applied: true,
            edits: self.edits.clone(),
            lossy: self.lists,
            strategy: if self.lists { "tool_lists" } else { "mcp_endpoint" }.into(),
        };
        (self.lists || self.endpoint).then(repair)
    }

    /// The endpoint of a stream, this long, was given as the gateway's own.
    pub(crate) fn endpoint(&mut self, bytes: usize) {
        self.endpoint = true;
        self.push(&(0..bytes), "endpoint");
    }

    fn note(&mut self, range: &Range<usize>, op: &str) {
        self.lists = true;
        self.push(range, op);
    }

    fn push(&mut self, range: &Range<usize>, op: &str) {
        if self.edits.len() < EDITS_MAX {
            let (at, del) = (range.start as u64, range.len() as u64); // lengths fit
            self.edits.push(Edit { at, del, op: op.into() });
        }
    }
}

/// The message `text` without the tools of `lists` that `caller` may not call; none if it stays as it is.
///
/// A list that is one caller's own must not be kept for others, so its `cacheScope` becomes `private`.
pub(crate) fn filter(
    text: &[u8],
    lists: &[ToolResult],
    caller: &Caller,
    taken: &mut Taken,
) -> Option<Vec<u8>> {
    let mut changes: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    for list in lists {
        let may_stay = |tool: &&Tool| tool.doubt.is_none() && caller.may_call(&tool.name);
        let (kept, gone): (Vec<_>, Vec<_>) = list.tools.iter().partition(may_stay);
        let (Some(first), Some(last)) = (list.tools.first(), list.tools.last()) else { continue };
        if gone.is_empty() {
            continue;
        }
        gone.iter().for_each(|tool| taken.note(&range(&tool.definition), "tool_denied"));
        let kept: Vec<&[u8]> =
            kept.iter().map(|tool| text.get(range(&tool.definition)).unwrap_or_default()).collect();
        changes.push((range(&first.definition).start..range(&last.definition).end, kept.join(&b',')));
        let scope = list.cache_scope.as_ref().map(range);
        if let Some(scope) = scope.filter(|scope| text.get(scope.clone()) != Some(PRIVATE)) {
            taken.note(&scope, "cache_scope");
            changes.push((scope, PRIVATE.to_vec()));
        }
    }
    if changes.is_empty() {
        return None;
    }
    changes.sort_by_key(|(at, _)| at.start);
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    for (at, with) in changes {
        out.extend_from_slice(text.get(from..at.start).unwrap_or_default());
        out.extend(with);
        from = at.end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Some(out)
}

const PRIVATE: &[u8] = b"\"private\"";

fn range(span: &Span) -> Range<usize> {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    within(span.start)..within(span.end)
}

#[cfg(test)]
mod tests {
    use estoppel_policy::PolicyDocument;
    use estoppel_wire::dialect::mcp::Messages;

    use super::*;

    fn filtered(text: &str) -> Option<(String, Repair)> {
        let policy = "version: 1\nname: x\ndefaults: { verdict: allow }\nrules:\n- { id: a, when: { tool: bad* }, verdict: block, reason: TOOL_DENIED }\n";
        let policy = Arc::new(PolicyDocument::parse(policy).unwrap().compile());
        let caller = Caller { policy, route: "r".into(), identity: None, tenant: None };
        let lists: Vec<_> = Messages::read_lists(text.as_bytes())
            .unwrap()
            .list
            .into_iter()
            .filter_map(|m| m.result)
            .collect();
        let mut taken = Taken::default();
        let text = filter(text.as_bytes(), &lists, &caller, &mut taken)?;
        Some((String::from_utf8(text).unwrap(), taken.repair().unwrap()))
    }

    #[test]
    fn a_list_without_denied_tools_is_not_touched() {
        assert!(filtered(r#"{"id":1,"result":{"tools":[ {"name":"a"} , {"name":"b"} ]}}"#).is_none());
        assert!(filtered(r#"{"id":1,"result":{"tools":[]}}"#).is_none());
        assert!(filtered(r#"{"id":1,"result":{"content":[]}}"#).is_none());
    }

    #[test]
    fn denied_tools_are_taken_out_wherever_they_stand() {
        for (tools, left) in [
            (r#"{"name":"bad"}"#, ""),
            (r#"{"name":"bad"}, {"name":"a"}"#, r#"{"name":"a"}"#),
            (r#"{"name":"a"} ,{"name":"bad"}"#, r#"{"name":"a"}"#),
            (
                r#"{"name":"a"},{"name":"bad","x":[{"name":"z"}]},{"name":"b"}"#,
                r#"{"name":"a"},{"name":"b"}"#,
            ),
            (r#"{"name":"bad1"},{"name":"bad2"}"#, ""),
        ] {
            let (text, repair) =
                filtered(&format!(r#"{{"id":1,"result":{{"tools":[{tools}],"x":1}}}}"#)).unwrap();
            assert_eq!(text, format!(r#"{{"id":1,"result":{{"tools":[{left}],"x":1}}}}"#));
            assert!(repair.applied && repair.lossy && !repair.edits.is_empty());
        }
    }

    #[test]
    fn what_is_no_tool_is_taken_out_with_the_denied_ones() {
        for odd in ["null", "7", r#"{"name":7}"#, r#"{"name":"a","name":"bad"}"#] {
            let (text, _) = filtered(&format!(
                r#"{{"id":1,"result":{{"tools":[{odd},{{"name":"bad"}},{{"name":"a"}}]}}}}"#
            ))
            .unwrap();
            assert_eq!(text, r#"{"id":1,"result":{"tools":[{"name":"a"}]}}"#, "{odd}");
        }
    }

    #[test]
    fn what_was_one_caller_s_list_is_private() {
        let of = |scope: &str| {
            format!(r#"{{"id":1,"result":{{"cacheScope":"{scope}","tools":[{{"name":"bad"}}],"ttlMs":9}}}}"#)
        };
        for scope in ["public", "private"] {
            let (text, _) = filtered(&of(scope)).unwrap();
            assert_eq!(text, of("private").replace(r#"{"name":"bad"}"#, ""));
        }
    }

    #[test]
    fn each_list_of_a_batch_is_filtered() {
        let one = |id: u8| format!(r#"{{"id":{id},"result":{{"tools":[{{"name":"bad"}},{{"name":"a"}}]}}}}"#);
        let (text, repair) = filtered(&format!("[{},{}]", one(1), one(2))).unwrap();
        assert!(!text.contains("bad") && text.matches(r#"{"name":"a"}"#).count() == 2);
        assert_eq!(repair.edits.len(), 2);
    }
}
