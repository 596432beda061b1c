"""The current span of a block: as the SDK's, however the block is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, StatusCode, Tracer, get_current_span

from tests.observability.fastpath.pairs import both_providers, difference


class _Stop(BaseException):
    """No error."""


def _nothing(_span: Span) -> None:
    pass


def _error(_span: Span) -> None:
    raise ValueError("wrong\nand more")


def _stop(_span: Span) -> None:
    raise _Stop


def _stop_iteration(_span: Span) -> None:
    raise StopIteration("a")


def _ended(span: Span) -> None:
    span.end(2)
    raise ValueError("late")


def _decided(span: Span) -> None:
    span.set_status(StatusCode.OK)
    raise ValueError("not that wrong")


def _attributes(span: Span) -> None:
    span.set_attribute("a", 1)
    span.add_event("b", {"c": 1}, 3)


def _outcome(block: Callable[[], object]) -> object:
    try:
        return block()
    except BaseException as error:  # noqa: BLE001 - it is compared
        return type(error), error.args, error.__cause__ is None, error.__context__ is None


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("options", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("work", [_nothing, _error, _stop, _stop_iteration, _ended, _decided, _attributes])
def test_how_a_block_is_left(work: Callable[[Span], None], options: tuple[bool, bool], sampled: bool) -> None:
    """However it is left, the span has the same status and event of the exception, and the parent is current again."""
    record, status = options

    def play(provider: TracerProvider) -> object:
        tracer = provider.get_tracer("t")

        def block() -> object:
            with tracer.start_as_current_span(
                "a",
                start_time=1,
                attributes={"b": 1},
                record_exception=record,
                set_status_on_exception=status,
                end_on_exit=False,
            ) as span:
                spans.append(span)
                assert get_current_span() is span
                work(span)
            return "left"

        spans: list[Span] = []
        before = get_current_span()
        told = _outcome(block)
        (span,) = spans
        recording = span.is_recording()
        untimed = [event for event in getattr(span, "events", ()) if event.name == "exception"]
        for event in untimed:
            event._timestamp = 2
        span.end(3)
        return told, recording, get_current_span() is before

    sampler = None if sampled else ALWAYS_OFF
    assert difference(play, alone=True, sampler=sampler) == ""
    assert difference(play, alone=False, sampler=sampler) == ""


def test_it_ends_with_the_block() -> None:
    """Unless it is asked not to, a span ends with its block, also one that fails."""

    def play(provider: TracerProvider) -> object:
        tracer = provider.get_tracer("t")
        with tracer.start_as_current_span("a") as span:
            assert span.is_recording()
        with pytest.raises(ValueError, match="wrong"), tracer.start_as_current_span("b") as failed:
            _error(failed)
        with tracer.start_as_current_span("c", end_on_exit=False) as open_:
            pass
        return [one.is_recording() for one in (span, failed, open_)]

    for provider in both_providers():
        assert play(provider) == [False, False, True]


def test_no_frame_of_a_generator() -> None:
    """A traceback begins where the block is, and not in the generators that the SDK makes of it."""
    stacks = []
    for provider in both_providers():
        with pytest.raises(ValueError, match="wrong"), provider.get_tracer("t").start_as_current_span("a") as span:
            _error(span)
        (event,) = span.events  # type: ignore[attr-defined]
        stacks.append([line for line in event.attributes["exception.stacktrace"].splitlines() if "  File " in line])
    sdk, lean = stacks
    assert [line.split(", in ")[1] for line in lean] == ["test_no_frame_of_a_generator", "_error"]
    assert sdk[-2:] == lean


def test_as_a_decorator() -> None:
    """Each call of a decorated function has a span, which lasts as long as it, also if it is asynchronous."""

    def play(provider: TracerProvider) -> object:
        tracer = provider.get_tracer("t")

        @tracer.start_as_current_span("a", start_time=1)
        def work(number: int) -> tuple[int, bool]:
            """Works."""
            return number, get_current_span().is_recording()

        @tracer.start_as_current_span("b", start_time=1)
        async def work_later(number: int) -> tuple[int, bool]:
            await asyncio.sleep(0)
            return number, get_current_span().is_recording()

        async def both() -> object:
            return await asyncio.gather(work_later(1), work_later(2))

        return work(1), work(2), work.__doc__, work.__name__, asyncio.run(both()), get_current_span().is_recording()

    sdk, lean = (play(provider) for provider in both_providers())
    assert lean == sdk


def test_spans_of_a_decorated_function_differ() -> None:
    """Two calls of a decorated function have two spans."""
    for provider in both_providers():

        @provider.get_tracer("t").start_as_current_span("a")
        def work() -> int:
            return get_current_span().get_span_context().span_id

        assert work() != work()


def test_in_a_generator_that_is_closed() -> None:
    """A generator that is closed within a block ends the span, without an error."""

    def within(tracer: Tracer, spans: list[Span]) -> Iterator[None]:
        with tracer.start_as_current_span("a") as span:
            spans.append(span)
            yield

    for provider in both_providers():
        spans: list[Span] = []
        going = within(provider.get_tracer("t"), spans)
        next(going)
        going.close()  # type: ignore[attr-defined]
        assert (spans[0].is_recording(), spans[0].status.status_code) == (False, StatusCode.UNSET)  # type: ignore[attr-defined]


def test_a_block_that_ends_in_another_context(caplog: pytest.LogCaptureFixture) -> None:
    """A block whose end comes in another task's context complains as OpenTelemetry does, and the span ends."""

    async def within(tracer: Tracer, spans: list[Span]) -> AsyncIterator[None]:
        with tracer.start_as_current_span("a") as span:
            spans.append(span)
            yield

    async def play(provider: TracerProvider) -> Span:
        spans: list[Span] = []
        going = within(provider.get_tracer("t"), spans)
        await asyncio.create_task(anext(going))  # type: ignore[arg-type]
        await asyncio.create_task(going.aclose())  # type: ignore[attr-defined]
        return spans[0]

    for provider in both_providers():
        caplog.clear()
        span = asyncio.run(play(provider))
        assert [record.getMessage() for record in caplog.records] == ["Failed to detach context"]
        assert not span.is_recording()
