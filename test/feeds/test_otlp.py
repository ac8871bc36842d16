"""What goes out by OTLP, read by the published protocol buffers: names that they do not have are refused."""

import base64
import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def decode(body, message):
    """OTLP's JSON is that of protocol buffers, but for ids, which are hexadecimal."""
    request = json.loads(body)
    for resource in request.get("resourceSpans", ()):
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            for name, size in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                if name in span:
                    raw = bytes.fromhex(span[name])
                    assert len(raw) == size and any(raw)
                    span[name] = base64.b64encode(raw).decode()
    return json_format.ParseDict(request, message())


def values(attributes):
    def value(any_value):
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(one) for one in found.values] if kind == "array_value" else found

    return {pair.key: value(pair.value) for pair in attributes}


@pytest.fixture(scope="session")
def spans(live):
    found = []
    for path, headers, body in live["otlp"]:
        if path == "/v1/traces":
            assert headers["content-type"] == "application/json"
            for resource in decode(body, ExportTraceServiceRequest).resource_spans:
                assert values(resource.resource.attributes)["service.name"] == "estoppeld"
                found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


@pytest.fixture(scope="session")
def metrics(live):
    found = []
    for path, _, body in live["otlp"]:
        if path == "/v1/metrics":
            for resource in decode(body, ExportMetricsServiceRequest).resource_metrics:
                found += [metric for scope in resource.scope_metrics for metric in scope.metrics]
    return found


def test_there_is_one_span_for_each_receipt_and_a_siem_knows_its_ids(spans, live):
    events = {event["metadata"]["uid"]: event for event in live["ocsf"] if event["class_uid"] in (6003, 4002)}
    told = {values(span.attributes)["estoppel.receipt"]: span for span in spans}
    assert len(told) == len(spans) and told.keys() == events.keys()
    for uid, span in told.items():
        trace = events[uid]["trace"]
        assert (span.trace_id.hex(), span.span_id.hex()) == (trace["uid"], trace["span"]["uid"])
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano // 1_000_000 == events[uid]["time"]


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
            assert metric.unit in ("s", "{token}")
    assert total["gen_ai.client.operation.duration"] == 2
    assert total["mcp.server.operation.duration"] == 1


def test_nothing_of_a_body_is_sent(live):
    assert len(live["otlp"]) >= 2
    assert all(b"PLANTED-SECRET" not in body for _, _, body in live["otlp"])


def test_the_decoder_refuses_what_is_not_of_the_protocol():
    with pytest.raises(json_format.ParseError):
        decode('{"resourceSpans":[{"colour":1,"scopeSpans":[]}]}', ExportTraceServiceRequest)
