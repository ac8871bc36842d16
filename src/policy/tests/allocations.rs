//! Counts what judging allocates.
#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use estoppel_policy::{Call, Content, Evaluation, PolicyDocument, RequestFacts, ResponseFacts, Tool, Wanted};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> usize {
    let before = COUNT.get();
    black_box(work());
    COUNT.get() - before
}

#[test]
fn judging_allocates_nothing() {
    let policy = PolicyDocument::parse(include_str!("../fixtures/good/everything.yaml")).unwrap().compile();
    let content = Content::read(br#"{"path":"/etc/x","n":[1,2]}"#, Wanted { destinations: true });
    let tool = |name| Tool { name, call: Call::With(&content) };
    for tools in [&[tool("search"), tool("x_exec"), "bash".into()][..], &[tool("fetch")], &[]] {
        for evaluation in [Evaluation::Evaluated, Evaluation::NotEvaluated] {
            let request = RequestFacts {
                route: "llm",
                operation: Some("openai.chat.completions"),
                dialect: Some("openai_chat"),
                method: Some("POST"),
                identity: Some("CN=agent, O=Example"),
                tenant: Some("t1"),
                model: Some("gpt-4o"),
                tools,
                body: Some(&content),
                approved: None,
                evaluation,
            };
            let response = ResponseFacts {
                request,
                model_served: Some("gpt-4o-2024"),
                tools_called: tools,
                said: Some(&content),
                evaluation,
            };
            assert_eq!(allocations(|| black_box(policy.request(&request).verdict)), 0);
            assert_eq!(allocations(|| black_box(policy.response(&response).verdict)), 0);
        }
    }
    assert_eq!(allocations(|| *black_box(Box::new(1))), 1, "the counter counts");
}
