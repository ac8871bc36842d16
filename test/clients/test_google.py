"""The official Google client, unmodified but for its base URL."""

import asyncio
import json
import uuid

import pytest
from google import genai
from google.genai import errors, types

from conftest import Daemon, free_port, start_stub

POLICY = """version: 1
name: google
defaults: { verdict: allow }
rules:
  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }
routes:
  judged: { judge: { unknown_tools: block, repair: r1 } }
"""
SCHEMA = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
SEARCH = types.Tool(function_declarations=[{"name": "search", "parameters": SCHEMA}])


def run_name():
    return f"google-{uuid.uuid4()}"


def client(gateway, run, route="model"):
    options = types.HttpOptions(
        base_url=f"{gateway.base}/{route}",
        headers={"estoppel-run": run},
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(api_key="test", vertexai=False, http_options=options)


def said(*parts, finish=None):
    """A response with these parts."""
    candidate = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    return json.dumps({"candidates": [candidate | ({"finishReason": finish} if finish else {})], "modelVersion": "m"})


def call(name, **args):
    return {"functionCall": {"name": name, "args": args}}


def events(*data, end="\r\n\r\n"):
    """A stream of these responses; the last has this end."""
    body = "".join(f"data: {one}\r\n\r\n" for one in data[:-1]) + f"data: {data[-1]}{end}"
    return {"body": {"text": body}, "headers": [["content-type", "text/event-stream"]]}


WAIT = said({"text": "Wait"})
PIECES = [said({"text": piece}) for piece in ("```json\n", '{"city": "K', 'öln",}', "\n```")]
REPLIES = {
    "shell-named": events(WAIT, said(call("shell"), finish="STOP")),
    "shell-unfinished": events(WAIT, said(call("shell"), finish="STOP"), end=""),
    "shell-line": events(WAIT, said(call("shell"), finish="STOP"), end="\n"),
    "wrong-place": events(WAIT, said(call("search", town="Köln"), finish="STOP")),
    "right-place": events(WAIT, said(call("search", city="Köln"), finish="STOP")),
    "fenced": events(*PIECES, said({"text": ""}, finish="STOP")),
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """A model that answers what the message names."""
    folder = tmp_path_factory.mktemp("google")
    rules = [{"path": "*", "body_contains": case, "reply": reply} for case, reply in REPLIES.items()]
    script, policy = folder / "script.json", folder / "policy.yaml"
    script.write_text(json.dumps({"rules": rules, "otherwise": {"status": 404}}))
    policy.write_text(POLICY)
    port = free_port()
    process = start_stub(port, folder / "stub.log", script)
    url = f"http://127.0.0.1:{port}"
    daemon = Daemon(folder, {"model": url, "judged": url}, policy=policy)
    yield daemon
    daemon.stop()
    process.kill()
    process.wait()


def read(stream):
    """The text of a stream, its calls, and the error that it ended with."""
    text, calls = "", []
    try:
        for chunk in stream:
            for part in chunk.candidates[0].content.parts or []:
                text += part.text or ""
                calls += [(part.function_call.name, part.function_call.args)] if part.function_call else []
    except errors.APIError as error:
        return text, calls, error
    return text, calls, None


def stream(gateway, run, route, case, **config):
    api = client(gateway, run, route)
    return read(api.models.generate_content_stream(model="m", contents=case, config=types.GenerateContentConfig(**config)))


def test_plain_content(gateway):
    run = run_name()
    api = client(gateway, run)
    answer = api.models.generate_content(model="scripted-1", contents="hello there")
    assert answer.text
    (receipt,) = gateway.receipts(run)
    assert receipt["operation"] == "gemini.generate_content"
    assert receipt["facts"]["model"] == "scripted-1"
    assert receipt["facts"]["finish"] == [answer.candidates[0].finish_reason.value]
    assert receipt["facts"]["usage"]["output"] == answer.usage_metadata.candidates_token_count
    assert receipt["outcome"] == {"client": "handed_over", "code": "OK", "complete": True}


def test_streamed_content_and_calls_also_by_the_async_client(gateway):
    run = run_name()
    api = client(gateway, run)
    text, calls, error = read(api.models.generate_content_stream(model="scripted-1", contents="hello there"))
    assert text and not calls and error is None

    async def go():
        config = types.GenerateContentConfig(tools=[SEARCH])
        stream = await api.aio.models.generate_content_stream(model="scripted-1", contents="use the tool", config=config)
        parts = [part async for chunk in stream for part in chunk.candidates[0].content.parts or []]
        return [part.function_call.name for part in parts if part.function_call]

    assert asyncio.run(go()) == ["search"]
    first, second = gateway.receipts(run)
    assert first["facts"]["stream"] is True and first["sse"]["events"] > 1
    assert second["facts"]["tools_offered"] == second["facts"]["tools_called"] == ["search"]


def test_a_blocked_tool_raises_the_client_s_own_exception(gateway):
    run = run_name()
    api = client(gateway, run)
    shell = types.Tool(function_declarations=[{"name": "shell", "parameters": SCHEMA}])
    config = types.GenerateContentConfig(tools=[shell])
    with pytest.raises(errors.ClientError) as refused:
        api.models.generate_content(model="scripted-1", contents="hello", config=config)
    assert refused.value.code == 403 and "TOOL_DENIED" in str(refused.value)
    (receipt,) = gateway.receipts(run)
    assert receipt["verdict"]["reason"] == "TOOL_DENIED" and "upstream" not in receipt["response"]


@pytest.mark.parametrize("case", ["shell-named", "shell-unfinished", "shell-line"])
def test_a_streamed_call_that_a_rule_blocks_does_not_reach_the_client(scripted, case):
    run = run_name()
    text, calls, error = stream(scripted, run, "model", case)
    assert calls == [] and text in ("", "Wait"), "events that are read at once are judged by names at once"
    assert "TOOL_DENIED" in str(error)
    (receipt,) = scripted.receipts(run)
    assert receipt["verdict"]["reason"] == "TOOL_DENIED"
    assert receipt["facts"]["tools_called"] == ["shell"]


def test_a_streamed_call_is_held_against_what_the_request_offers(scripted):
    for case, expected in {"right-place": [("search", {"city": "Köln"})], "wrong-place": []}.items():
        run = run_name()
        text, calls, error = stream(scripted, run, "judged", case, tools=[SEARCH])
        assert (text, calls) == ("Wait", expected)
        assert ("CONTRACT_VIOLATED" in str(error)) == (not expected)
        (receipt,) = scripted.receipts(run)
        assert receipt["verdict"]["action"] == ("allow" if expected else "block")


def test_a_streamed_text_that_was_asked_for_as_json_is_repaired(scripted):
    run = run_name()
    text, _, error = stream(
        scripted, run, "judged", "fenced", response_mime_type="application/json", response_schema=SCHEMA
    )
    assert (json.loads(text), error) == ({"city": "Köln"}, None)
    (receipt,) = scripted.receipts(run)
    assert receipt["verdict"]["action"] == "repair" and receipt["repair"]["applied"] is True
