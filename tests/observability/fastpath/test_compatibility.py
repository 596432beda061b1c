"""Lean spans are made only where the interpreter and the SDK are what they rely on."""

from __future__ import annotations

import sys

import pytest
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider

from observability.fastpath.compatibility import lean_spans_fit


def test_they_fit(caplog: pytest.LogCaptureFixture) -> None:
    """They fit the SDK that is installed, and nothing is logged."""
    assert lean_spans_fit()
    assert caplog.records == []


@pytest.mark.parametrize("variable", ["OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_TRACES_SAMPLER_ARG"])
def test_variables_have_no_part_in_it(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """What the variables ask for is looked at by the provider that is made of them."""
    monkeypatch.setenv(variable, "nonsense")
    assert lean_spans_fit()


def test_disabled_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK is disabled there is nothing that might not fit."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert lean_spans_fit()


def test_without_a_gil(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a GIL they are not used."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert not lean_spans_fit()
    assert "there is no GIL" in caplog.text


def _no_tracers(provider: TracerProvider, *_: object) -> None:
    del provider._tracers


def _another_name(span: ReadableSpan) -> str:
    return f"renamed {span._name}"


class _Another(Tracer):
    """Has other arguments."""

    def __init__(self, only: object) -> None:
        self.only = only


@pytest.mark.parametrize(
    ("owner", "name", "other"),
    [
        (TracerProvider, "_apply_tracer_configurator", _no_tracers),
        (Tracer, "__init__", lambda _self: None),
        (ReadableSpan, "to_json", lambda span: span._title),
        (BoundedAttributes, "copy", lambda _self: {}),
        (trace.SpanContext, "__new__", lambda cls, *values, **named: tuple.__new__(cls, (0, *values, *named.values()))),
    ],
)
def test_another_sdk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: type, name: str, other: object
) -> None:
    """Where a part of the SDK has become another, they are not used, and it is said why."""
    monkeypatch.setattr(owner, name, other)
    assert not lean_spans_fit()
    assert "lean spans do not fit" in caplog.text
