"""What is asked of a body, section 17: vectors `body-…` and `valid-body-…`.

All of them ask about the same bundle, so it is there once."""

from pef import canonical, disclosure, uuid
from run import Bundle, Run
from tools import flip
from vector import Link, expect, passed, vector

CHANGED, SAME, UNSTORED, REFUSED = range(1, 5)
ASKED, CAME, LEFT = b'{"pin":"0000"}', b'{"a": 1,}', b'{"a": 1}'

run = Run("bodies")


def kept(call, label, data, **more):
    label = f"pef/v0/{label}-body"
    return {"bytes": len(data), "commit": run.capture.commit(label, data, call), "tag": run.capture.tag(label, data), **more}


def call(number, asked, came, left):
    of = run.call_id(number)
    response = {"client": kept(of, "response", left, status=200)}
    if came is not None:
        response["upstream"] = kept(of, "response", came, status=200)
    run.call(number, body={"mode": "hmac"}, request=kept(of, "request", asked, method="POST"), response=response)


call(CHANGED, ASKED, CAME, LEFT)
call(SAME, LEFT, LEFT, LEFT)
run.call(UNSTORED)
call(REFUSED, b"", None, b"refused")
BUNDLE = Bundle(run.seal())
HOME = "valid-body-request"
OTHER = Run("other bodies")


def of(number, scope="call", by=run, of_run=None):
    call = by.call_id(number)
    key = {
        "events": by.capture.events_key(call),
        "call": by.capture.call_key(call),
        "run": by.capture.key,
    }[scope]
    return disclosure(key, scope, (of_run or by).id, None if scope == "run" else call)


def ask(name, about, expected, part, content, *, number=CHANGED, call=None, key=None, **more):
    files = {
        "ask.json": canonical({"call": call or run.call_id(number), "part": part}),
        "disclosure.json": key or of(number),
        "content": content,
        "bundle.pef.zip": BUNDLE.zip() if name == HOME else Link(f"../{HOME}/bundle.pef.zip".encode()),
    }
    vector(name, about, expected, files, **more)


def good(name, about, *question, **more):
    ask(f"valid-body-{name}", about, passed() | {"body": "proven"}, *question, **more)


def bad(name, about, *question, number=CHANGED, **more):
    answer = passed() | {"exit": 2, "reason": "BODY_UNKNOWN", "seq": number, "body": "failed"}
    ask(f"body-{name}", about, answer, *question, number=number, **more)


def unfit(name, about, reason, *question, number=CHANGED, **more):
    answer = passed() | {"exit": 6, "reason": reason, "seq": number, "body": "unchecked"}
    ask(f"body-{name}", about, answer, *question, number=number, **more)


good("request", "The body of a request, under K_call.", "request", ASKED)
good("request-by-run", "The same under K_run.", "request", ASKED, key=of(CHANGED, "run"))
good("upstream", "What came from the upstream, of an answer that was repaired.", "upstream", CAME)
good("client", "What the client was given of it.", "client", LEFT)
good("empty", "A body of no byte.", "request", b"", number=REFUSED)
good("refusal", "The body of a refusal.", "client", b"refused", number=REFUSED)
good("same", "Equal bytes that are all three.", "upstream", LEFT, number=SAME)
bad("bit", "One bit is other.", "request", flip(ASKED, 3))
bad("longer", "A line feed more.", "request", ASKED + b"\n")
bad("nothing", "No byte of a body that has some.", "client", b"")
bad("other-part", "What the client was given is not what came.", "upstream", LEFT)
bad("other-call", "The body of another call.", "request", ASKED, number=SAME)
bad("other-key", "A key that is that of another run.", "request", ASKED,
    key=disclosure(OTHER.capture.call_key(run.call_id(CHANGED)), "call", run.id, run.call_id(CHANGED)))  # fmt: skip
unfit("absent", "A call of which no body was captured.", "BODY_ABSENT", "request", b"", number=UNSTORED)
unfit("no-upstream", "A call that no upstream answered.", "BODY_ABSENT", "upstream", b"refused", number=REFUSED)
unfit("absent-before-key", "No body, and a key of another call.", "BODY_ABSENT", "client", b"", number=UNSTORED, key=of(SAME))
unfit("key-of-events", "K_events proves no body.", "DISCLOSURE_MISMATCH", "request", ASKED, key=of(CHANGED, "events"))
unfit("key-of-other-call", "A key for another call.", "DISCLOSURE_MISMATCH", "request", ASKED, key=of(SAME))
unfit("key-of-other-run", "A key for another run.", "DISCLOSURE_MISMATCH", "request", ASKED, key=of(CHANGED, "run", OTHER))
unfit("commitment", "A K_run to which the run did not commit.", "DISCLOSURE_MISMATCH", "request", ASKED,
      key=of(CHANGED, "run", OTHER, of_run=run))  # fmt: skip
ask("body-disclosure-broken", "A disclosure that ends too early.",
    expect(6, "DISCLOSURE_INVALID") | {"body": "unchecked"}, "request", ASKED, key=of(CHANGED)[:-1])  # fmt: skip
ask("body-call-unknown", "A call that is not of this run.",
    passed() | {"exit": 2, "reason": "CALL_UNKNOWN", "body": "failed"}, "request", ASKED, call=uuid("no call"))  # fmt: skip
