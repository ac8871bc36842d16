"""Structured values of answers, held against the request's own schemas, as the official clients see it.

Surface matrix: client x {plain, stream} x {valid, repairable, without a required member, cut off}. Each sees a well-formed
answer, or an exception of the class that its provider's own errors raise.
"""

import asyncio
import json
import uuid

import anthropic
import openai
import pytest

from conftest import Daemon, free_port, start_stub

POLICY = """version: 1
name: judged
defaults:
  verdict: allow
  judge: { unknown_tools: block, repair: r1 }
contracts:
  place: { json: '{ "type": "object", "required": ["city"], "properties": { "city": { "type": "string" } } }' }
routes:
  custom: { judge: { tools: { weather: place } } }
limits: { keepalive_ms: 20 }
"""
GOOD = '{"city": "Köln"}'
CASES = {
    "valid": GOOD,
    "repair": '```json\n{"city": "Köln",}\n```',
    "missing": '{"town": "Köln"}',
    "cut": '{"city": "Kö',
    "slow": GOOD,
}
REASONS = {"missing": "CONTRACT_VIOLATED", "cut": "VALUE_TRUNCATED"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PATHS = {"chat_completions": "*/chat/completions", "responses": "*/responses", "messages": "*/messages"}


def with_ids():
    """A slow chat whose events have ids, as of a server that can resume."""

    def event(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        return {"id": "7", "data": json.dumps(chunk)}

    def call(**function):
        return event({"tool_calls": [{"index": 0, "function": function}]})

    begin = {"index": 0, "id": "x", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [call(arguments=piece) for piece in ('{"city"', ': "K', 'öln"}')]
    events = [event({"content": "Wait"}), event({"tool_calls": [begin]}), *pieces, event({}, "tool_calls")]
    return {"body": {"sse": {"events": [*events, {"data": "[DONE]"}]}}, "delay_ms": {"between_writes": 200}}


def custom(said):
    """A call of a custom tool, in pieces."""

    def event(kind, **rest):
        return {"event": kind, "data": json.dumps({"type": kind, "sequence_number": 0, **rest})}

    def item(text, status):
        return {"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "weather", "input": text, "status": status}

    def response(status, output):
        return {"id": "r", "object": "response", "created_at": 0, "model": "m", "status": status, "output": output,
                "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}

    at = {"output_index": 0, "item_id": "i"}
    pieces = [said[:4], said[4:]]
    events = [
        event("response.created", response=response("in_progress", [])),
        event("response.output_item.added", output_index=0, item=item("", "in_progress")),
        *(event("response.custom_tool_call_input.delta", delta=piece, **at) for piece in pieces),
        event("response.custom_tool_call_input.done", input=said, **at),
        event("response.output_item.done", output_index=0, item=item(said, "completed")),
        event("response.completed", response=response("completed", [item(said, "completed")])),
    ]
    return {"body": {"sse": {"events": events}}}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A model that calls `weather` with the arguments of the case that the last message names."""
    folder = tmp_path_factory.mktemp("judged")

    def model(dialect, case, arguments):
        body = {"model": {"dialect": dialect, "calls": [{"name": "weather", "arguments": arguments}]}}
        return {"body": body, "delay_ms": {"between_writes": 200 if case == "slow" else 0}}

    def text(dialect, said):
        return {"body": {"model": {"dialect": dialect, "text": said}}}

    rules = [
        {"path": path, "body_contains": f"case-{case}", "reply": model(dialect, case, arguments)}
        for dialect, path in PATHS.items()
        for case, arguments in CASES.items()
    ] + [
        {"path": path, "body_contains": f"text-{case}", "reply": text(dialect, said)}
        for dialect, path in PATHS.items()
        for case, said in CASES.items()
    ] + [
        {"path": "*/responses", "body_contains": f"custom-{case}", "reply": custom(said)} for case, said in CASES.items()
    ] + [{"path": "*/chat/completions", "body_contains": "case-ids", "reply": with_ids()}]
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules, "otherwise": {"status": 404}}))
    port = free_port()
    process = start_stub(port, folder / "stub.log", script)
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    url = f"http://127.0.0.1:{port}"
    daemon = Daemon(folder, {"model": url, "custom": url}, policy=policy)
    yield daemon
    daemon.stop()
    process.kill()
    process.wait()


def run_name():
    return f"judged-{uuid.uuid4()}"


def openai_client(gateway, run, cls=openai.OpenAI):
    return cls(base_url=f"{gateway.base}/model/v1", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run})


def anthropic_client(gateway, run):
    return anthropic.Anthropic(
        base_url=f"{gateway.base}/model", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run}
    )


def ask(case):
    return [{"role": "user", "content": f"case-{case}"}]


CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
RESPONSES_TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
MESSAGES_TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


def chat_plain(gateway, run, case):
    answer = openai_client(gateway, run).chat.completions.create(model="m", messages=ask(case), tools=CHAT_TOOLS)
    return [call.function.arguments for call in answer.choices[0].message.tool_calls]


def chat_stream(gateway, run, case):
    with openai_client(gateway, run).chat.completions.stream(model="m", messages=ask(case), tools=CHAT_TOOLS) as stream:
        answer = stream.get_final_completion()
    return [call.function.arguments for call in answer.choices[0].message.tool_calls]


def chat_async_stream(gateway, run, case):
    async def go():
        said = ""
        async with openai_client(gateway, run, openai.AsyncOpenAI) as client:
            async for chunk in await client.chat.completions.create(
                model="m", messages=ask(case), tools=CHAT_TOOLS, stream=True
            ):
                for choice in chunk.choices:
                    for call in choice.delta.tool_calls or []:
                        said += call.function.arguments or ""
        return [said]

    return asyncio.run(go())


def responses_plain(gateway, run, case):
    answer = openai_client(gateway, run).responses.create(model="m", input=f"case-{case}", tools=RESPONSES_TOOLS)
    return [item.arguments for item in answer.output if item.type == "function_call"]


def responses_stream(gateway, run, case):
    with openai_client(gateway, run).responses.stream(model="m", input=f"case-{case}", tools=RESPONSES_TOOLS) as stream:
        answer = stream.get_final_response()
    return [item.arguments for item in answer.output if item.type == "function_call"]


def messages_stream(gateway, run, case):
    with anthropic_client(gateway, run).messages.stream(
        model="m", max_tokens=64, messages=ask(case), tools=MESSAGES_TOOLS
    ) as stream:
        answer = stream.get_final_message()
    return [json.dumps(block.input) for block in answer.content if block.type == "tool_use"]


SURFACES = [chat_plain, chat_stream, chat_async_stream, responses_plain, responses_stream, messages_stream]
# What a provider's own refusal, or error inside a stream, raises.
RAISES = (openai.APIError, anthropic.APIError)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
@pytest.mark.parametrize("case", ["valid", "repair", "slow"])
def test_a_value_that_passes_is_well_formed(judged, surface, case):
    run = run_name()
    (arguments,) = surface(judged, run, case)
    assert json.loads(arguments) == {"city": "Köln"}
    (receipt,) = judged.receipts(run)
    assert receipt["verdict"]["action"] == ("repair" if case == "repair" else "allow")
    assert receipt["evaluated"]["response"]["state"] == "judged"
    assert receipt["contract"]["response"]["id"] == "weather"
    assert receipt["outcome"]["complete"] is True


@pytest.mark.parametrize("surface", [chat_stream, chat_async_stream, responses_stream, messages_stream])
def test_keepalives_are_nothing_to_the_clients(judged, surface):
    for case in ["slow", "ids"] if surface in (chat_stream, chat_async_stream) else ["slow"]:
        run = run_name()
        (arguments,) = surface(judged, run, case)
        assert json.loads(arguments) == {"city": "Köln"}
        (receipt,) = judged.receipts(run)
        assert receipt["outcome"] == {"client": "handed_over", "code": "OK", "complete": True}
        said = receipt["response"]["client"]["bytes"] - receipt["response"]["upstream"]["bytes"]
        assert said > 0, "no keep-alive was sent"


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
@pytest.mark.parametrize("case", ["missing", "cut"])
def test_a_value_that_does_not_pass_raises_as_the_provider_would(judged, surface, case):
    run = run_name()
    with pytest.raises(RAISES) as raised:
        surface(judged, run, case)
    assert REASONS[case] in str(raised.value) or REASONS[case] in str(getattr(raised.value, "body", "")), raised.value
    (receipt,) = judged.receipts(run)
    assert receipt["verdict"] == {"action": "block", "mode": "enforce", "reason": REASONS[case]}


def custom_stream(gateway, run, case, route, tool):
    client = openai.OpenAI(
        base_url=f"{gateway.base}/{route}/v1", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run}
    )
    with client.responses.stream(model="m", input=f"custom-{case}", tools=[tool]) as stream:
        events = list(stream)
    said = "".join(event.delta for event in events if event.type == "response.custom_tool_call_input.delta")
    (done,) = [event.input for event in events if event.type == "response.custom_tool_call_input.done"]
    (item,) = [item.input for item in events[-1].response.output if item.type == "custom_tool_call"]
    assert said == done == item
    return item


def test_the_input_of_a_custom_tool_is_judged(judged):
    custom = {"type": "custom", "name": "weather"}
    any_text = {**custom, "format": {"type": "text"}}
    for case in ["valid", "repair"]:
        assert json.loads(custom_stream(judged, run_name(), case, "custom", custom)) == {"city": "Köln"}
    assert custom_stream(judged, run_name(), "cut", "model", any_text) == CASES["cut"]
    refused = [("missing", "custom", custom, "CONTRACT_VIOLATED"), ("cut", "custom", any_text, "VALUE_TRUNCATED")]
    for case, route, tool, reason in [*refused, ("valid", "model", custom, "CONTRACT_MISSING")]:
        run = run_name()
        with pytest.raises(openai.APIError):
            custom_stream(judged, run, case, route, tool)
        (receipt,) = judged.receipts(run)
        assert receipt["verdict"] == {"action": "block", "mode": "enforce", "reason": reason}


def test_an_answer_that_was_asked_for_as_json_is_judged(judged):
    schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    for case, stream in [("valid", False), ("repair", False), ("valid", True), ("repair", True)]:
        run = run_name()
        create = openai_client(judged, run).chat.completions.create
        messages = [{"role": "user", "content": f"text-{case}"}]
        answer = create(model="m", messages=messages, response_format=schema, stream=stream)
        if stream:
            said = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        else:
            said = answer.choices[0].message.content
        assert json.loads(said) == {"city": "Köln"}, (case, stream)
    with pytest.raises(openai.UnprocessableEntityError):
        messages = [{"role": "user", "content": "text-missing"}]
        openai_client(judged, run_name()).chat.completions.create(model="m", messages=messages, response_format=schema)
