"""The official Anthropic client, unmodified but for its base URL."""

import asyncio
import uuid

import anthropic
import pytest

HELLO = [{"role": "user", "content": "hello there"}]


def run_name():
    return f"anthropic-{uuid.uuid4()}"


def client(gateway, run, cls=anthropic.Anthropic):
    return cls(base_url=f"{gateway.base}/model", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run})


def test_plain_message(gateway):
    run = run_name()
    message = client(gateway, run).messages.create(model="scripted-1", max_tokens=64, messages=HELLO)
    assert message.content[0].text
    (receipt,) = gateway.receipts(run)
    assert receipt["operation"] == "anthropic.messages"
    assert receipt["facts"]["finish"] == [message.stop_reason]
    assert receipt["facts"]["usage"]["input"] == message.usage.input_tokens


def test_streamed_message_with_a_tool_call(gateway):
    run = run_name()
    tool = {"name": "search", "description": "x", "input_schema": {"type": "object"}}
    with client(gateway, run).messages.stream(
        model="scripted-1", max_tokens=64, tools=[tool], messages=[{"role": "user", "content": "use the tool"}]
    ) as stream:
        message = stream.get_final_message()
    assert any(block.type == "tool_use" and block.name == "search" for block in message.content)
    (receipt,) = gateway.receipts(run)
    assert receipt["facts"]["tools_called"] == ["search"]
    assert receipt["sse"]["terminated"] is True


def test_async_client(gateway):
    run = run_name()

    async def go():
        async with client(gateway, run, anthropic.AsyncAnthropic) as asynchronous:
            plain = await asynchronous.messages.create(model="scripted-1", max_tokens=64, messages=HELLO)
            async with asynchronous.messages.stream(model="scripted-1", max_tokens=64, messages=HELLO) as stream:
                text = "".join([piece async for piece in stream.text_stream])
            return plain.content[0].text, text

    plain, streamed = asyncio.run(go())
    assert plain and streamed
    assert len(gateway.receipts(run)) == 2


def test_a_blocked_tool_raises_the_client_s_own_exception(gateway):
    run = run_name()
    tool = {"name": "bash", "description": "x", "input_schema": {"type": "object"}}
    with pytest.raises(anthropic.PermissionDeniedError) as refused:
        client(gateway, run).messages.create(model="scripted-1", max_tokens=64, messages=HELLO, tools=[tool])
    assert refused.value.body["error"]["type"] == "permission_error"
    (receipt,) = gateway.receipts(run)
    assert receipt["verdict"]["reason"] == "TOOL_DENIED"
