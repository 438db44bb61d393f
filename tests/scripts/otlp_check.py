# SPDX-License-Identifier: Apache-2.0
"""Reads bodies of OTLP/HTTP in JSON, one a line, with the published schema (PyPI: opentelemetry-proto)."""
import base64
import json
import sys

try:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
except ImportError:
    print("skipped: PyPI's opentelemetry-proto is not installed")
    sys.exit(0)

spans = []
for line in open(sys.argv[1], encoding="utf-8"):
    body = json.loads(line)
    for resource in body["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                # OTLP's JSON has ids in hexadecimal, protobuf's own mapping in base64.
                for field in ("traceId", "spanId", "parentSpanId"):
                    if field in span:
                        span[field] = base64.b64encode(bytes.fromhex(span[field])).decode()
    request = ParseDict(body, ExportTraceServiceRequest())
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            spans.extend(scope.spans)

assert spans, "no spans"
ids = {span.span_id for span in spans}
assert len(ids) == len(spans), "two spans have one id"
for span in spans:
    assert len(span.trace_id) == 16 and any(span.trace_id), span
    assert len(span.span_id) == 8 and any(span.span_id), span
    assert span.start_time_unix_nano <= span.end_time_unix_nano, span
    assert span.start_time_unix_nano > 1_600_000_000_000_000_000, "this is no time since 1970"
    assert not span.parent_span_id or span.parent_span_id in ids, "a parent is missing"
print(f"{len(spans)} spans follow the schema")
