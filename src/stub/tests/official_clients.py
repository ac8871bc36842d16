"""Calls the scripted model with the official clients. Run by official_clients.rs with the base URL."""

import json
import sys
import urllib.request

import anthropic
import openai

BASE = sys.argv[1]
HELLO = [{"role": "user", "content": "hello there"}]
USE_TOOL = [{"role": "user", "content": "use the tool, please"}]
SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}
ARGUMENTS = {"query": "evidence", "limit": 3}
FUNCTION = {"type": "function", "function": {"name": "search", "parameters": SCHEMA}}


def chat(client):
    plain = client.chat.completions.create(model="m-1", messages=HELLO)
    assert plain.choices[0].message.content == "HELLO THERE", plain
    assert plain.choices[0].finish_reason == "stop" and plain.model == "m-1", plain
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="m-1", messages=HELLO, stream=True, stream_options=options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "HELLO THERE" and chunks[-1].usage.completion_tokens == plain.usage.completion_tokens, chunks

    called = client.chat.completions.create(model="m-1", messages=USE_TOOL, tools=[FUNCTION])
    (call,) = called.choices[0].message.tool_calls
    assert called.choices[0].finish_reason == "tool_calls" and call.function.name == "search", called
    assert json.loads(call.function.arguments) == ARGUMENTS

    with client.chat.completions.stream(model="m-1", messages=USE_TOOL, tools=[FUNCTION]) as stream:
        fragments = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
    assert len(fragments) > 2 and json.loads(streamed.function.arguments) == ARGUMENTS, fragments

    history = [*USE_TOOL, called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "found"}]
    after = client.chat.completions.create(model="m-1", messages=history, tools=[FUNCTION])
    assert after.choices[0].message.content == "FOUND" and not after.choices[0].message.tool_calls, after


def responses(client):
    tool = {"type": "function", "name": "search", "parameters": SCHEMA}
    plain = client.responses.create(model="m-1", input="hello there")
    assert plain.output_text == "HELLO THERE" and plain.status == "completed", plain
    assert plain.usage.total_tokens == plain.usage.input_tokens + plain.usage.output_tokens

    with client.responses.stream(model="m-1", input="hello there") as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[0] == "response.created" and types[-1] == "response.completed", types
    assert final.output_text == "HELLO THERE", final

    with client.responses.stream(model="m-1", input=USE_TOOL, tools=[tool]) as stream:
        deltas = [event for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert len(deltas) > 2 and call.name == "search" and json.loads(call.arguments) == ARGUMENTS, call


def messages(client):
    tool = {"name": "search", "input_schema": SCHEMA}
    plain = client.messages.create(model="m-1", max_tokens=9, messages=HELLO)
    assert plain.content[0].text == "HELLO THERE" and plain.stop_reason == "end_turn", plain

    with client.messages.stream(model="m-1", max_tokens=9, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "HELLO THERE" and final.usage.output_tokens == plain.usage.output_tokens, final

    called = client.messages.create(model="m-1", max_tokens=9, messages=USE_TOOL, tools=[tool])
    (block,) = called.content
    assert called.stop_reason == "tool_use" and block.input == ARGUMENTS, called

    with client.messages.stream(model="m-1", max_tokens=9, messages=USE_TOOL, tools=[tool]) as stream:
        (streamed,) = stream.get_final_message().content
    assert streamed.type == "tool_use" and streamed.input == ARGUMENTS, streamed

    result = {"type": "tool_result", "tool_use_id": block.id, "content": "found by the tool"}
    history = [*USE_TOOL, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(model="m-1", max_tokens=9, messages=history, tools=[tool])
    assert after.content[0].text == "FOUND BY THE TOOL", after


def gemini():
    def post(method, query=""):
        body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]}).encode()
        url = f"{BASE}/v1beta/models/g-1:{method}{query}"
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.headers["content-type"], answer.read().decode()

    def text(chunks):
        return "".join(part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"])

    assert text([json.loads(post("generateContent")[1])]) == "HELLO THERE"
    assert text(json.loads(post("streamGenerateContent")[1])) == "HELLO THERE"
    kind, events = post("streamGenerateContent", "?alt=sse")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events.strip().split("\n\n")]
    assert kind == "text/event-stream" and text(chunks) == "HELLO THERE", events


def errors(client, anthropic_client):
    for call, expected in [
        (lambda: client.chat.completions.create(model="m", messages=None), openai.BadRequestError),
        (lambda: anthropic_client.messages.create(model="m", max_tokens=1, messages=None), anthropic.BadRequestError),
    ]:
        try:
            call()
        except expected as error:
            assert "no messages" in str(error), error
        else:
            raise AssertionError("a request without messages must be refused")


def main():
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0, timeout=20)
    anthropic_client = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0, timeout=20)
    assert [model.id for model in client.models.list()] == ["scripted-1"]
    assert [model.display_name for model in anthropic_client.models.list()] == ["Scripted 1"]
    chat(client)
    responses(client)
    messages(anthropic_client)
    gemini()
    client.base_url = f"{BASE}/other/v1"
    errors(client, anthropic_client)


main()
