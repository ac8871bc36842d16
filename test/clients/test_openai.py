"""The official OpenAI client, unmodified but for its base URL."""

import asyncio
import uuid

import openai
import pytest


def run_name():
    return f"openai-{uuid.uuid4()}"


def client(gateway, run, cls=openai.OpenAI):
    return cls(base_url=f"{gateway.base}/model/v1", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run})


HELLO = [{"role": "user", "content": "hello there"}]
SHELL = [{"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}]
SEARCH = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]


def test_plain_chat_leaves_one_receipt(gateway):
    run = run_name()
    raw = client(gateway, run).chat.completions.with_raw_response.create(model="scripted-1", messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content
    (receipt,) = gateway.receipts(run)
    assert receipt["call"] == raw.headers["estoppel-call"]
    assert raw.headers["estoppel-receipt"].startswith("leaf:")
    assert receipt["operation"] == "openai.chat.completions"
    assert receipt["facts"]["model"] == "scripted-1"
    assert receipt["facts"]["usage"]["output"] == answer.usage.completion_tokens
    assert receipt["facts"]["finish"] == [answer.choices[0].finish_reason]
    assert receipt["outcome"] == {"client": "handed_over", "code": "OK", "complete": True}
    assert receipt["verdict"]["action"] == "allow"


def test_streamed_chat_is_notarized(gateway):
    run = run_name()
    text = ""
    with client(gateway, run).chat.completions.create(
        model="scripted-1", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                text += chunk.choices[0].delta.content
    assert text
    (receipt,) = gateway.receipts(run)
    assert receipt["sse"]["terminated"] is True
    assert receipt["sse"]["units"] >= receipt["sse"]["events"] > 2
    assert receipt["facts"]["stream"] is True
    assert receipt["facts"]["usage"]["total"] > 0
    assert receipt["outcome"]["complete"] is True


def test_async_client_streams_and_calls_tools(gateway):
    run = run_name()

    async def go():
        async with client(gateway, run, openai.AsyncOpenAI) as asynchronous:
            plain = await asynchronous.chat.completions.create(
                model="scripted-1", messages=[{"role": "user", "content": "use the tool"}], tools=SEARCH
            )
            names = []
            stream = await asynchronous.chat.completions.create(
                model="scripted-1", messages=[{"role": "user", "content": "use the tool"}], tools=SEARCH, stream=True
            )
            async for chunk in stream:
                for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                    if call.function.name:
                        names.append(call.function.name)
            return plain.choices[0].message.tool_calls[0].function.name, names

    plain, streamed = asyncio.run(go())
    assert plain == "search" and streamed == ["search"]
    first, second = gateway.receipts(run)
    for receipt in (first, second):
        assert receipt["facts"]["tools_offered"] == ["search"]
        assert receipt["facts"]["tools_called"] == ["search"]


def test_responses_api_plain_and_streamed(gateway):
    run = run_name()
    api = client(gateway, run)
    assert api.responses.create(model="scripted-1", input="hello there").output_text
    kinds = [event.type for event in api.responses.create(model="scripted-1", input="hello there", stream=True)]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    plain, streamed = gateway.receipts(run)
    assert plain["operation"] == streamed["operation"] == "openai.responses"
    assert streamed["sse"]["terminated"] is True


def test_a_blocked_tool_raises_the_client_s_own_exception(gateway):
    run = run_name()
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client(gateway, run).chat.completions.create(model="scripted-1", messages=HELLO, tools=SHELL)
    assert refused.value.code == "TOOL_DENIED"
    (receipt,) = gateway.receipts(run)
    assert receipt["verdict"] == {"action": "block", "mode": "enforce", "reason": "TOOL_DENIED"}
    assert "upstream" not in receipt["response"], "nothing went upstream"
    assert receipt["outcome"]["client"] == "refused"


def test_context_headers_become_claims_and_reach_the_manifest(gateway):
    run = run_name()
    api = client(gateway, run)
    headers = {"estoppel-job-id": "job-7", "estoppel-service-id": "billing", "estoppel-pipeline-id": "p-1", "estoppel-agent": "bot/2"}
    api.chat.completions.create(model="scripted-1", messages=HELLO, extra_headers=headers)
    bundle = gateway.seal(run)
    shown = gateway.cli("show", bundle)["data"]
    assert shown["manifest"]["claims"] == {
        "agent": ["bot/2"], "job_id": ["job-7"], "pipeline_id": ["p-1"], "service_id": ["billing"],
    }
