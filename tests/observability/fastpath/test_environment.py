"""Senders as the variables ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from observability.fastpath.destination import Signal
from observability.fastpath.environment import DELAY_MS, MAX_BATCH, MAX_ENTRIES, sender_from_environment


def test_defaults() -> None:
    """Without variables the delay is the SDK's for each signal."""
    for signal in Signal:
        sender = sender_from_environment(signal, NoOpMeterProvider(), close_timeout_s=0)
        assert sender is not None
        assert (sender._delay_s, sender._max_batch) == (DELAY_MS[signal] / 1000, MAX_BATCH)
        assert sender._buffer._max_entries == MAX_ENTRIES
        sender.shutdown()


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal has its own, as with the SDK; what is no number is as if it was not there."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "soon")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "250")
    spans = sender_from_environment(Signal.TRACES, NoOpMeterProvider(), close_timeout_s=0)
    records = sender_from_environment(Signal.LOGS, NoOpMeterProvider(), close_timeout_s=0)
    assert spans is not None
    assert records is not None
    assert (spans._buffer._max_entries, spans._max_batch, spans._delay_s) == (20, 10, 5)
    assert (records._buffer._max_entries, records._delay_s) == (MAX_ENTRIES, 0.25)
    spans.shutdown()
    records.shutdown()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_SCHEDULE_DELAY", "0"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1")],
)
def test_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """What the SDK refuses is refused here too."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match="OTEL_BSP_"):
        sender_from_environment(Signal.TRACES, NoOpMeterProvider(), close_timeout_s=0)


def test_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the destination does not cover has no sender."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")
    assert sender_from_environment(Signal.TRACES, NoOpMeterProvider(), close_timeout_s=0) is None


def test_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each signal has a folder of its own in the one that is named, and what cannot be written to is told at once."""
    monkeypatch.setenv("CLEARSPAN_SPOOL", str(tmp_path))
    monkeypatch.setenv("CLEARSPAN_SPOOL_MAX_BYTES", "4096")
    senders = [sender_from_environment(signal, NoOpMeterProvider(), close_timeout_s=0) for signal in Signal]
    assert {path.name for path in tmp_path.iterdir()} == {"traces", "logs"}
    for sender in senders:
        assert sender is not None
        assert sender._spool is not None
        assert sender._spool._max_bytes == 4096
        sender.shutdown()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLEARSPAN_SPOOL", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"CLEARSPAN_SPOOL=.* cannot be written to: Not a directory"):
        sender_from_environment(Signal.TRACES, NoOpMeterProvider(), close_timeout_s=0)
