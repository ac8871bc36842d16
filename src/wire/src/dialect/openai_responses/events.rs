//! The types of the events of a stream.

use memchr::memmem;

/// Events that say nothing of a call and no text of the answer, so that they need no output item. Where one of them says more,
/// no client looks for it.
const FLOWING: [&[u8]; 60] = [
    b"response.created",
    b"response.queued",
    b"response.in_progress",
    b"response.completed",
    b"response.failed",
    b"response.incomplete",
    b"response.metadata",
    b"response.keepalive",
    b"keepalive",
    b"error",
    b"codex.rate_limits",
    b"codex.response.metadata",
    b"response.reasoning.delta",
    b"response.reasoning.done",
    b"response.reasoning_part.added",
    b"response.reasoning_part.done",
    b"response.reasoning_text.delta",
    b"response.reasoning_text.done",
    b"response.reasoning_summary.delta",
    b"response.reasoning_summary.done",
    b"response.reasoning_summary_part.added",
    b"response.reasoning_summary_part.done",
    b"response.reasoning_summary_text.delta",
    b"response.reasoning_summary_text.done",
    b"response.audio.delta",
    b"response.audio.done",
    b"response.audio.transcript.delta",
    b"response.audio.transcript.done",
    b"response.audio_transcript.delta",
    b"response.audio_transcript.done",
    b"response.refusal.done",
    b"response.output_text.annotation.added",
    b"response.output_text_annotation.added",
    b"response.web_search_call.in_progress",
    b"response.web_search_call.searching",
    b"response.web_search_call.completed",
    b"response.file_search_call.in_progress",
    b"response.file_search_call.searching",
    b"response.file_search_call.completed",
    b"response.code_interpreter_call.in_progress",
    b"response.code_interpreter_call.interpreting",
    b"response.code_interpreter_call.completed",
    b"response.image_generation_call.in_progress",
    b"response.image_generation_call.generating",
    b"response.image_generation_call.partial_image",
    b"response.image_generation_call.completed",
    b"response.image_edit.partial_image",
    b"response.image_edit.completed",
    b"response.mcp_call.in_progress",
    b"response.mcp_call.completed",
    b"response.mcp_call.failed",
    b"response.mcp_list_tools.in_progress",
    b"response.mcp_list_tools.completed",
    b"response.mcp_list_tools.failed",
    b"response.shell_call.in_progress",
    b"response.shell_call.completed",
    b"response.apply_patch_call.in_progress",
    b"response.apply_patch_call.completed",
    b"response.shell_call_output_content.delta",
    b"response.shell_call_output_content.done",
];

/// Whether an event of this type needs no output item.
pub(super) fn flows(kind: &[u8]) -> bool {
    FLOWING.contains(&kind)
}

/// The type of the output item that an event tells a part of, if that is a call: `shell_call` of
/// `response.shell_call_command.delta`.
pub(super) fn item_of(kind: &[u8]) -> Option<&[u8]> {
    const CALL: &[u8] = b"_call";
    let rest = kind.strip_prefix(b"response.")?;
    let end = memmem::find(rest, CALL)? + CALL.len();
    matches!(rest.get(end), None | Some(b'_' | b'.')).then(|| rest.get(..end)).flatten()
}
