"""An upstream that dies in the middle of its answer: the client's stream breaks, and the receipt says that it was cut."""

from scene import calls, check, post, shown

WHAT = "an answer that was cut off looks complete"
OTHERS = "maximhq/bifrost issue 5546 (fixed by 5566, 2026-07-27)"

POLICY = "version: 1\nname: chat\ndefaults: { verdict: allow, on_not_evaluated: block }\n"
EVENTS = [
    {"data": '{"model":"m","choices":[{"index":0,"delta":{"content":"The dose is "},"finish_reason":null}]}'},
    {"data": '{"model":"m","choices":[{"index":0,"delta":{"content":"not more than 5 mg"},"finish_reason":null}]}'},
]
ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "how much?"}]}


def show(scene):
    cut = len(f"data: {EVENTS[0]['data']}\n\n") + 20
    reply = {"headers": [["content-type", "text/event-stream"]], "body": {"sse": {"events": EVENTS}}, "faults": [{"truncate": {"after_bytes": cut}}]}
    gateway = scene.gateway(POLICY, scene.stub({"rules": [{"reply": reply}]}), dialect="auto")
    _, _, body, whole = post(gateway.url, ASKED, "cut", "/v1/chat/completions")
    check(f"what came before the cut arrives: {body}", b"The dose is" in body)
    check(f"no client takes it for whole: {body}", not whole and b"[DONE]" not in body)
    receipt = calls(scene, gateway.seal("cut"))[0]
    outcome = receipt["outcome"]
    check(f"TRUNCATED: {outcome}", outcome["code"] == "TRUNCATED" and outcome["complete"] is False)
    return "the client's stream breaks off without an end", f"receipt seq {receipt['seq']}: {outcome['code']}, complete false"


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
