"""Runs that look like real ones: a language model, an ETL job, a robot on screens, the instance itself."""

from pef import canonical, content, root, sha_hex, stream_nodes, units
from run import POLICY, Run, stamp

CHAT = canonical(
    {"messages": [{"content": "Which invoices are overdue?", "role": "user"}], "model": "m-1", "stream": True}
)
STREAM = (
    b": hello\r\n\r\n"
    b'data: {"choices":[{"delta":{"content":"Three"}}]}\n\n'
    b'event: delta\ndata: {"choices":[{"delta":{"content":" are."}}]}\n\n'
    b"data: [DONE]\n\n"
)


def evaluated(request, response, **response_members):
    """How much was looked at, by number of bytes."""

    def side(size):
        return {"bytes": size, "skipped": 0, "state": "judged" if size else "empty"}

    return {"request": side(request), "response": side(response) | response_members}


def captured(run, call, label, data, **members):
    """A body as `hmac` records it."""
    label = f"pef/v0/{label}"
    tags = {"commit": run.capture.commit(label, data, call), "tag": run.capture.tag(label, data)}
    return {"bytes": len(data), **tags, **members}


def request_of(run, call, data, method="POST", target=b"/v1/chat/completions", **members):
    tag = run.capture.tag("pef/v0/request-target", target)
    return captured(run, call, "request-body", data, method=method, target_tag=tag, version="1.1", **members)


def response_of(run, call, data, status=200):
    body = captured(run, call, "response-body", data, status=status)
    return {"client": body, "upstream": dict(body)}


def sse(run, call, stream, *, events, comments=0, stored=True, **members):
    """Section 7; `stored` puts the nodes into the bundle."""
    nodes = stream_nodes(run.capture, call, units(stream))
    made = {"comments": comments, "events": events, "root": "root:" + root(nodes).hex(), "units": len(nodes)}
    if stored:
        data = b"".join(nodes)
        run.streams[call] = data
        made |= {"level": 0, "nodes": content(data)}
    return made | members


def language_model(label="llm", keys=None, **members):
    """A streamed chat, a repaired answer, a blocked tool, and a second try after a failure."""
    run = Run(label, keys, name="overdue invoices", **members)
    contract = canonical({"properties": {"total": {"type": "string"}}, "type": "object"})
    run.contracts[content(contract)] = contract
    claims = {
        "agent": "clerk/4",
        "job_id": "job-7",
        "pipeline_id": "billing",
        "runtime": "py-3.11",
        "service_id": "dunning",
    }
    common = {
        "body": {"mode": "hmac"},
        "dialect": "openai",
        "operation": "chat.completions",
        "upstream": "models",
    }

    call = run.call_id(1)
    run.call(
        1,
        total=812_345,
        **common,
        claims=claims,
        evaluated=evaluated(len(CHAT), len(STREAM), events=3),
        facts={
            "finish": ["stop"],
            "model": "m-1",
            "stream": True,
            "usage": {"input": 12, "output": 5, "total": 17},
        },
        identity={"kind": "mtls", "subject": "spiffe://example.org/dunning"},
        request=request_of(run, call, CHAT, route="chat"),
        response=response_of(run, call, STREAM),
        sse=sse(run, call, STREAM, events=3, comments=1, first_us=210_000, last_us=810_000, terminated=True),
    )
    call, answer = run.call_id(2), b'{"total": 12.50}'
    mended = b'{"total":"12.50"}'
    response = response_of(run, call, answer)
    response["client"] = captured(run, call, "response-body", mended, status=200)
    run.call(
        2,
        action="repair",
        total=40_100,
        after=900_000,
        **common,
        claims=claims,
        contract={"response": {"digest": content(contract), "id": "total", "source": "policy"}},
        evaluated=evaluated(9, len(answer)),
        repair={
            "applied": True,
            "edits": [{"at": 10, "del": 5, "ins": '"12.50"', "op": "string"}],
            "lossy": False,
        },
        request=request_of(run, call, b'{"q":"1"}'),
        response=response,
    )
    call = run.call_id(3)
    run.call(
        3,
        action="block",
        total=900,
        **common,
        evaluated=evaluated(11, 0),
        facts={"model": "m-1", "tools_offered": ["delete_invoice"]},
        outcome={"client": "handed_over", "code": "TOOL_DENIED", "complete": True},
        policy={"hash": content(POLICY), "rule": "no-deletes", "version": "3"},
        request=request_of(run, call, b'{"tools":1}'),
        response={"client": {"bytes": 90, "status": 403}},
        risk=80,
        threat={"class": "tool", "ids": ["owasp_llm:2026/LLM06"], "severity": "high"},
        verdict={"action": "block", "mode": "enforce", "reason": "TOOL_DENIED"},
    )
    for attempt, code in ((1, "UPSTREAM_RESET"), (2, "OK")):
        run.call(
            3 + attempt,
            total=5_000 * attempt,
            complete=code == "OK",
            attempt=attempt,
            downgrades=[] if code == "OK" else [{"code": code, "detail": "tried again"}],
            outcome={"client": "handed_over", "code": code, "complete": code == "OK"},
        )
    return run.seal()


def etl(label="etl", keys=None, **members):
    """A nightly extract: paged reads, one bulk load whose body is stored, lineage, and no language model."""
    run = Run(label, keys, name="nightly ledger load", durability="sync", **members)
    claims = {"idempotency_key": "2026-11-21/ledger", "pipeline_id": "ledger", "schema": "ledger/v5"}
    pages = [b"id,amount\n1,10\n2,20\n", b"id,amount\n3,-5\n"]
    for number, page in enumerate(pages, 1):
        call = run.call_id(number)
        run.add(
            "intent", call=call, method="GET", operation="ledger.page", policy=content(POLICY), upstream="erp"
        )
        run.call(
            number,
            after=30_000,
            total=29_000 + number,
            body={"mode": "full", "reason": "audit: ledgers are kept"},
            claims=claims,
            data_class=["finance"],
            evaluated=evaluated(0, len(page)),
            lineage=[{"key": "id", "rows": page.count(b"\n") - 1, "table": "erp.ledger"}],
            operation="ledger.page",
            request={"bytes": 0, "method": "GET", "version": "1.1"},
            response={
                side: {"bytes": len(page), "sha256": run.body(page), "status": 200}
                for side in ("client", "upstream")
            },
            upstream="erp",
        )
    load = b"".join(pages)
    run.add("intent", call=run.call_id(3), method="POST", policy=content(POLICY), upstream="warehouse")
    run.call(
        3,
        after=80_000,
        total=79_990,
        body={"mode": "redacted", "reason": "amounts", "redacted": ["/amount"]},
        claims=claims | {"job_id": "load-1"},
        idempotency={"decision": "first"},
        operation="warehouse.load",
        request={"bytes": len(load), "method": "POST", "sha256": run.body(b"id\n1\n2\n3\n")},
        response={"client": {"bytes": 2, "status": 201}},
        snapshot={"post": {"lsn": "0/16B6C50"}, "pre": {"lsn": "0/16B6C00"}, "source": "warehouse"},
    )
    return run.seal()


def robot(label="rpa", keys=None, **members):
    """A robot that fills forms; one step waits for a person, and the gateway stops before the last ends."""
    run = Run(
        label,
        keys,
        name="vendor onboarding \u2013 \u00c5ngstr\u00f6m \U0001f9fe",
        durability="sync",
        **members,
    )
    claims = {"agent": "robot/2", "job_id": "onboard-19", "service_id": "rpa"}
    run.call(1, total=2_000, claims=claims, operation="form.open", destination="erp.example.org")
    held = {"expires": stamp(60_000_000), "id": run.call_id(20), "outcome": "approved", "us": 1_000_000}
    run.call(
        2, after=1_100_000, total=1_050_000, action="hold", claims=claims, hold=held, operation="form.submit"
    )
    run.add(
        "gap", **{"from": stamp(run.clock), "to": stamp(run.clock + 500)}, reason="EVIDENCE_FULL", refused=2
    )
    run.add("intent", call=run.call_id(3), method="POST", policy=content(POLICY))
    run.add("interrupted", call=run.call_id(3), reason="SHUTDOWN")
    run.add("interrupted", call=run.call_id(4), reason="INTERRUPTED")
    return run.seal("shutdown")


def instance(label="instance", keys=None, **members):
    """The instance's own events: no call at all."""
    run = Run(label, keys, klass="instance", **members)
    run.add("policy.load", policy=content(POLICY), state="active", version="3")
    run.add("policy.load", reason="POLICY_INVALID", state="refused")
    run.add("journal.recover", dropped_bytes=113, dropped_sha256=content(b"torn"), last_index=41, segment="0")
    run.add("gap", reason="DISK_FULL")
    return run.seal("timeout")


def externals(label="external", content_bytes=b"large " * 20):
    """A run with one stored body inside and one beside the bundle."""
    run = Run(label)
    beside, inside = content_bytes, b"small"
    run.externals[sha_hex(beside)] = beside
    run.call(
        1,
        body={"mode": "full", "reason": "kept"},
        request={"bytes": len(inside), "method": "PUT", "sha256": run.body(inside)},
        response={"client": {"bytes": len(beside), "sha256": content(beside), "status": 200}},
    )
    return run.seal()
