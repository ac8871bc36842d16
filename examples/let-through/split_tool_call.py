"""A model calls a tool in pieces, in a stream whose bytes are cut anywhere. What the policy forbids is judged whole, before it leaves."""

import json

from scene import calls, check, post, shown

WHAT = "a guard never sees a tool call that is streamed in pieces"
OTHERS = (
    "BerriAI/litellm pull request 35999 (2026-08-05, the fix): tool call arguments were never scanned; api7/aisix 559 (2026-06-08, the fix): "
    "streamed ones were not; invariantlabs-ai/invariant-gateway 26: guardrails are checked on the last chunk"
)

POLICY = """version: 1
name: payments
defaults: { verdict: allow, on_not_evaluated: block }
rules:
- { id: limit, when: { tool: transfer, arguments: [{ at: /cents, greater_than: 50000 }] }, verdict: block, reason: TRANSFER_LIMIT }
"""
ARGUMENTS = '{"to":"DE02100100109307118603","cents":9000000}'
TOOLS = [{"type": "function", "function": {"name": "transfer", "parameters": {"type": "object"}}}]
ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "pay"}], "tools": TOOLS}


def chunk(delta, finish=None):
    return {"data": json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})}


def pieces():
    yield chunk({"role": "assistant", "content": "One moment."})
    function = {"name": "transfer", "arguments": ""}
    yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
    for at in range(0, len(ARGUMENTS), 3):
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": ARGUMENTS[at : at + 3]}}]})
    yield chunk({}, "tool_calls")
    yield {"data": "[DONE]"}


def called(body):
    """What a client has of the arguments."""
    events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in map(json.loads, events) for choice in event.get("choices", [])]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    return "".join(call["function"].get("arguments", "") for call in calls)


def show(scene):
    reply = {"headers": [["content-type", "text/event-stream"]], "body": {"sse": {"events": list(pieces())}}, "writes": {"each": {"bytes": 7}}}
    upstream, path = scene.stub({"rules": [{"reply": reply}]}), "/v1/chat/completions"
    check("the model says it all", called(post(upstream, ASKED, path=path)[2]) == ARGUMENTS)
    gateway = scene.gateway(POLICY, upstream, dialect="auto")
    status, _, body, whole = post(gateway.url, ASKED, "pay", path)
    check(f"text goes on at once: {status} {body}", status == 200 and b"One moment." in body)
    check(f"no byte of the arguments reaches the client: {body}", called(body) == "" and b"DE02" not in body)
    check(f"the stream says why and breaks off: {body}", b"TRANSFER_LIMIT" in body and b"[DONE]" not in body and not whole)
    receipt = calls(scene, gateway.seal("pay"))[0]
    verdict = receipt["verdict"]
    check(f"a receipt of it: {verdict}", verdict["action"] == "block" and verdict["reason"] == "TRANSFER_LIMIT")
    line = f"receipt seq {receipt['seq']}: {verdict['action']} {verdict['reason']}, rule {receipt['policy']['rule']}"
    return "the text arrives, 0 bytes of the arguments do, the stream breaks off", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
