"""Models that are asked again where their answer is refused, as the official OpenAI client sees it."""

import json

import openai
import pytest

from conftest import Daemon, free_port, start_stub

POLICY = """version: 1
name: again
defaults:
  verdict: allow
  judge: { unknown_tools: block, reask: once, release: hold_all }
"""
GOOD = '{"city": "Köln"}'
BAD = '{"town": "SECRET"}'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A model that gets the arguments of `weather` right once it is told, unless the question is hopeless."""
    folder = tmp_path_factory.mktemp("reask")

    def says(dialect, arguments):
        return {"body": {"model": {"dialect": dialect, "calls": [{"name": "weather", "arguments": arguments}]}}}

    rules = []
    for dialect, path in {"chat_completions": "*/chat/completions", "responses": "*/responses"}.items():
        rules += [
            {"path": path, "body_contains": "hopeless", "reply": says(dialect, BAD)},
            {"path": path, "body_contains": "CONTRACT_VIOLATED", "reply": says(dialect, GOOD)},
            {"path": path, "reply": says(dialect, BAD)},
        ]
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules, "otherwise": {"status": 404}}))
    port = free_port()
    process = start_stub(port, folder / "stub.log", script)
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    daemon = Daemon(folder, {"model": f"http://127.0.0.1:{port}"}, policy)
    yield daemon
    daemon.stop()
    process.kill()
    process.wait()


def client(daemon, run):
    headers = {"estoppel-run": run}
    return openai.OpenAI(base_url=f"{daemon.base}/model/v1", api_key="k", max_retries=0, default_headers=headers)


def chat(sdk, question):
    messages = [{"role": "user", "content": question}]
    answer = sdk.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
    return answer.choices[0].message.tool_calls[0].function.arguments


def chat_stream(sdk, question):
    messages = [{"role": "user", "content": question}]
    with sdk.chat.completions.stream(model="m", messages=messages, tools=CHAT_TOOLS) as stream:
        return stream.get_final_completion().choices[0].message.tool_calls[0].function.arguments


def responses(sdk, question):
    return sdk.responses.create(model="m", input=question, tools=TOOLS).output[0].arguments


def responses_stream(sdk, question):
    with sdk.responses.stream(model="m", input=question, tools=TOOLS) as stream:
        return stream.get_final_response().output[0].arguments


SURFACES = [chat, chat_stream, responses, responses_stream]


@pytest.mark.parametrize("ask", SURFACES)
def test_the_client_gets_the_second_answer_and_two_receipts_name_each_other(asked, ask):
    run = f"again-{ask.__name__}"
    assert json.loads(ask(client(asked, run), "weather?")) == json.loads(GOOD)
    first, second = asked.receipts(run)
    assert first["ext"] == {"reask": {"next": second["call"]}}
    assert second["ext"] == {"reask": {"of": first["call"]}}
    assert (first["verdict"]["reason"], second["outcome"]["code"]) == ("CONTRACT_VIOLATED", "OK")


@pytest.mark.parametrize("ask", SURFACES)
def test_a_hopeless_answer_raises_once(asked, ask):
    run = f"hopeless-{ask.__name__}"
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        ask(client(asked, run), "hopeless")
    assert raised.value.code == "CONTRACT_VIOLATED" and "SECRET" not in str(raised.value)
    assert [receipt["verdict"]["action"] for receipt in asked.receipts(run)] == ["block", "block"]
