"""Spans, if OpenTelemetry is installed; without it, everything but spans."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Serving

from genprm import ScriptedReward

trace = pytest.importorskip("opentelemetry.trace")
pytest.importorskip("opentelemetry.sdk")


async def test_a_request_and_its_verification_are_spans_of_the_callers_trace(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    number = "0af7651916cd43dd8448eb211c80319c"
    async with serving(ScriptedReward(lambda problem, steps, index: 0.875)) as live:
        headers = {"traceparent": f"00-{number}-b7ad6b7169203331-01"}
        body = {"problem": "the secret problem", "steps": ["a"]}
        assert (await live.post("/v1/verify", body, headers=headers))[0] == 200
    inner, outer = exporter.get_finished_spans()
    assert (inner.name, outer.name) == ("genprm.verify", "genprm.request")
    assert {f"{span.context.trace_id:032x}" for span in (inner, outer)} == {number}
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id
    assert outer.attributes is not None and outer.attributes["genprm.status"] == 200
    assert "secret" not in inner.to_json() + outer.to_json()


def test_without_opentelemetry_nothing_is_missing() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from genprm.serve.tracing import span\n"
        "with span('a', {}, b=1) as found: print(found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
