"""What goes out by OTLP, read by the published protocol buffers: names and numbers that they do not have are refused."""

import base64
import json
import re

import pytest
from conftest import ROOT, TRACE
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

MESSAGES = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
ENCODINGS = {"protobuf": "application/x-protobuf", "json": "application/json"}

# Of the conventions for GenAI and MCP as of November 2026 (`open-telemetry/semantic-conventions-genai`), and of the stable
# ones. A name that is sent and not listed here was not looked up.
CONVENTIONS = {
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.model",
    "gen_ai.token.type",
    "gen_ai.tool.name",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "mcp.method.name",
    "error.type",
    "http.request.body.size",
    "http.request.method",
    "http.response.body.size",
    "http.response.status_code",
    "log.record.uid",
}
INSTRUMENTS = {
    "gen_ai.client.operation.duration": "s",
    "gen_ai.client.operation.time_to_first_chunk": "s",
    "gen_ai.client.token.usage": "{token}",
    "mcp.server.operation.duration": "s",
}


def unknown(message):
    """Members of a message that the published schema does not have."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    found = [f"{message.DESCRIPTOR.name} {field.field_number}" for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                found += unknown(one)
    return found


def from_protobuf(body, message):
    request = message()
    assert request.MergeFromString(body) == len(body)
    assert unknown(request) == []
    return request


def from_json(body, message):
    """OTLP's JSON is that of protocol buffers, but for ids, which are hexadecimal."""
    request = json.loads(body)

    def ids(value):
        for name, member in value.items() if isinstance(value, dict) else ():
            if name in ("traceId", "spanId", "parentSpanId"):
                value[name] = base64.b64encode(bytes.fromhex(member)).decode()
            ids(member)
        for member in value if isinstance(value, list) else ():
            ids(member)

    ids(request)
    return json_format.ParseDict(request, message())


def values(attributes):
    def value(any_value):
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(one) for one in found.values] if kind == "array_value" else found

    return {pair.key: value(pair.value) for pair in attributes}


@pytest.fixture(scope="session")
def received(live):
    """By encoding and path: what all requests held."""
    found = {(encoding, path): [] for encoding in ENCODINGS for path in MESSAGES}
    for path, headers, body in live["otlp"]:
        encoding = next(name for name, word in ENCODINGS.items() if word == headers["content-type"])
        request = (from_protobuf if encoding == "protobuf" else from_json)(body, MESSAGES[path])
        for resource in list(request.ListFields()[0][1]):
            told = values(resource.resource.attributes)
            assert told["service.name"] == "estoppeld"
            assert told.keys() == {"service.name", "service.version", "service.instance.id"}
            for scope in resource.ListFields()[-1][1]:
                assert scope.scope.name == "estoppel.feeds"
                found[encoding, path] += scope.ListFields()[-1][1]
    return found


@pytest.fixture(scope="session", params=ENCODINGS)
def encoding(request):
    return request.param


@pytest.fixture
def spans(received, encoding):
    return received[encoding, "/v1/traces"]


@pytest.fixture
def metrics(received, encoding):
    return received[encoding, "/v1/metrics"]


@pytest.fixture
def logs(received, encoding):
    return received[encoding, "/v1/logs"]


def test_both_encodings_say_the_same(received):
    for path in ("/v1/traces", "/v1/logs"):
        whole = {name: sorted(one.SerializeToString(deterministic=True) for one in received[name, path]) for name in ENCODINGS}
        assert len(whole["json"]) >= 4
        assert whole["json"] == whole["protobuf"]


def test_there_is_one_span_for_each_receipt_and_a_siem_knows_its_ids(spans, live):
    events = {event["metadata"]["uid"]: event for event in live["ocsf"] if event["class_uid"] in (6003, 4002)}
    told = {values(span.attributes)["estoppel.receipt"]: span for span in spans}
    assert len(told) == len(spans) and told.keys() == events.keys()
    for uid, span in told.items():
        trace = events[uid]["trace"]
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        assert (span.trace_id.hex(), span.span_id.hex()) == (trace["uid"], trace["span"]["uid"])
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano // 1_000_000 == events[uid]["time"]


def test_a_span_joins_the_trace_of_its_caller(spans, live):
    _, trace, parent, _ = TRACE["traceparent"].split("-")
    (joined,) = [span for span in spans if span.parent_span_id]
    assert (joined.trace_id.hex(), joined.parent_span_id.hex(), joined.trace_state) == (trace, parent, TRACE["tracestate"])
    assert sum(event.get("trace", {}).get("uid") == trace for event in live["ocsf"]) == 1
    assert sum(event.get("trace", {}).get("id") == trace for event in live["ecs"]) == 1


def test_spans_have_the_names_of_the_conventions(spans):
    named = {span.name: (span, values(span.attributes)) for span in spans}
    chat, attributes = named["chat m"]
    assert chat.kind == Span.SPAN_KIND_CLIENT and chat.status.code == Status.STATUS_CODE_UNSET
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.provider.name"] in ("openai", "anthropic")
    denied, attributes = named["tools/call delete_account"]
    assert denied.status.code == Status.STATUS_CODE_ERROR
    assert attributes["mcp.method.name"] == "tools/call"
    assert attributes["gen_ai.operation.name"] == "execute_tool"
    assert attributes["gen_ai.tool.name"] == "delete_account"
    assert attributes["error.type"] == "TOOL_DENIED"
    assert attributes["estoppel.verdict.action"] == "block"
    lost, attributes = named["POST nobody"]
    assert lost.kind == Span.SPAN_KIND_SERVER
    assert (attributes["error.type"], attributes["http.response.status_code"]) == ("UPSTREAM_CONNECT", 502)


def test_durations_are_histograms_that_add_up(metrics):
    total = {}
    for metric in metrics:
        histogram = metric.histogram
        assert histogram.aggregation_temporality == 1  # delta
        for point in histogram.data_points:
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
            assert sum(point.bucket_counts) == point.count > 0
            assert point.start_time_unix_nano < point.time_unix_nano
            total[metric.name] = total.get(metric.name, 0) + point.count
            assert metric.unit == INSTRUMENTS[metric.name]
    assert total["gen_ai.client.operation.duration"] == 2
    assert total["mcp.server.operation.duration"] == 1


def test_log_records_are_what_a_siem_is_told(logs, live):
    told = {values(record.attributes)["log.record.uid"]: record for record in logs}
    assert len(told) == len(logs)
    events = {event["event"]["id"]: event for event in live["ecs"]}
    assert told.keys() == events.keys()
    for uid, record in told.items():
        event, attributes = events[uid], values(record.attributes)
        assert record.body.string_value == event["message"]
        assert record.event_name.startswith("estoppel.")
        assert attributes["estoppel.kind"] == event["estoppel"]["kind"]
        of_call = events.get(attributes.get("estoppel.receipt"), {})
        assert record.trace_id.hex() == of_call.get("trace", {}).get("id", "")
        assert record.span_id.hex() == of_call.get("span", {}).get("id", "")
        range_of = {1: 9, 2: 10, 3: 13, 4: 17, 5: 21}
        assert record.severity_number == range_of[event["event"]["severity"]]
        assert SeverityNumber.Name(record.severity_number) == f"SEVERITY_NUMBER_{record.severity_text}"
    names = {record.event_name for record in logs}
    assert {"estoppel.call", "estoppel.policy.load", "estoppel.run.open", "estoppel.finding.threat"} <= names


def golden_names():
    """Names of attributes in everything that the fixtures give, by format."""
    found = {}
    for name in ("traces", "metrics", "logs"):
        lines = (ROOT / f"src/feeds/fixtures/otlp_{name}.ndjson").read_text().splitlines()
        found[name] = {pair["key"] for line in lines for pair in json.loads(line)["attributes"]}
    return found


def test_names_are_those_of_the_conventions_or_our_own(spans, metrics, logs):
    live = [pair.key for one in spans + logs for pair in one.attributes]
    live += [pair.key for metric in metrics for point in metric.histogram.data_points for pair in point.attributes]
    sent = set().union(*golden_names().values(), live)
    assert {name for name in sent if not name.startswith("estoppel.")} == CONVENTIONS
    instruments = {json.loads(line)["name"] for line in (ROOT / "src/feeds/fixtures/otlp_metrics.ndjson").read_text().splitlines()}
    assert instruments == set(INSTRUMENTS)


def test_the_mapping_document_names_every_attribute_and_no_other():
    text = (ROOT / "docs/siem.md").read_text()
    section = re.search(r"<!-- fields: otlp -->\n(.*?)\n<!-- end -->", text, re.DOTALL).group(1)
    listed = {name for row in section.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert set().union(*golden_names().values()) == listed
    assert set(re.findall(r"`((?:gen_ai|mcp)\.(?:client|server)\.[a-z_.]+)`", text)) == set(INSTRUMENTS)


def test_nothing_of_a_body_is_sent(live):
    assert len(live["otlp"]) >= 6
    assert all(b"PLANTED-SECRET" not in body for _, _, body in live["otlp"])


def test_the_decoder_refuses_what_is_not_of_the_protocol():
    with pytest.raises(json_format.ParseError):
        from_json('{"resourceSpans":[{"colour":1,"scopeSpans":[]}]}', ExportTraceServiceRequest)
    with pytest.raises(AssertionError, match="ExportTraceServiceRequest 9"):
        from_protobuf(b"\x48\x01", ExportTraceServiceRequest)
