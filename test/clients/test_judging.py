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
"""
GOOD = '{"city": "Köln"}'
CASES = {
    "valid": GOOD,
    "repair": '```json\n{"city": "Köln",}\n```',
    "missing": '{"town": "Köln"}',
    "cut": '{"city": "Kö',
}
REASONS = {"missing": "CONTRACT_VIOLATED", "cut": "VALUE_MALFORMED"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PATHS = {"chat_completions": "*/chat/completions", "responses": "*/responses", "messages": "*/messages"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A model that calls `weather` with the arguments of the case that the last message names."""
    folder = tmp_path_factory.mktemp("judged")

    def model(dialect, arguments):
        return {"body": {"model": {"dialect": dialect, "calls": [{"name": "weather", "arguments": arguments}]}}}

    def text(dialect, said):
        return {"body": {"model": {"dialect": dialect, "text": said}}}

    rules = [
        {"path": path, "body_contains": f"case-{case}", "reply": model(dialect, arguments)}
        for dialect, path in PATHS.items()
        for case, arguments in CASES.items()
    ] + [
        {"path": path, "body_contains": f"text-{case}", "reply": text(dialect, said)}
        for dialect, path in PATHS.items()
        for case, said in CASES.items()
    ]
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules, "otherwise": {"status": 404}}))
    port = free_port()
    process = start_stub(port, folder / "stub.log", script)
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    daemon = Daemon(folder, {"model": f"http://127.0.0.1:{port}"}, policy=policy)
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
@pytest.mark.parametrize("case", ["valid", "repair"])
def test_a_value_that_passes_is_well_formed(judged, surface, case):
    run = run_name()
    (arguments,) = surface(judged, run, case)
    assert json.loads(arguments) == {"city": "Köln"}
    (receipt,) = judged.receipts(run)
    assert receipt["verdict"]["action"] == ("repair" if case == "repair" else "allow")
    assert receipt["evaluated"]["response"]["state"] == "judged"
    assert receipt["contract"]["response"]["id"] == "weather"
    assert receipt["outcome"]["complete"] is True


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
@pytest.mark.parametrize("case", ["missing", "cut"])
def test_a_value_that_does_not_pass_raises_as_the_provider_would(judged, surface, case):
    run = run_name()
    with pytest.raises(RAISES) as raised:
        surface(judged, run, case)
    assert REASONS[case] in str(raised.value) or REASONS[case] in str(getattr(raised.value, "body", "")), raised.value
    (receipt,) = judged.receipts(run)
    assert receipt["verdict"] == {"action": "block", "mode": "enforce", "reason": REASONS[case]}


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
