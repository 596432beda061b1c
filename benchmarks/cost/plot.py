"""Bars as SVG, which need no library, and no colours but those of whoever looks: light or dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from benchmarks.cost.figures import Spread

_ROW, _TOP, _LEFT, _WIDTH, _RIGHT = 30, 44, 170, 480, 60
_TICKS = (0, 0.25, 0.5, 0.75, 1)

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.tick { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0 }
.bar { fill: #8c959f } .own { fill: #0969da }
.spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .tick { fill: #9198a1 } .grid { stroke: #3d444d }
.bar { fill: #656c76 } .own { fill: #4493f8 } .spread { stroke: #f0f6fc }
}
"""


def bars(title: str, shares: Mapping[str, Spread], own: str = "clearspan") -> str:
    """A bar for each share of 1, with a line from quartile to quartile; those of our own stand out."""
    height = _TOP + _ROW * len(shares) + 28
    width = _LEFT + _WIDTH + _RIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
    ]
    bottom = _TOP + _ROW * len(shares)
    for tick in _TICKS:
        x = _LEFT + tick * _WIDTH
        parts.append(f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{_TOP - 6}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:g}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for row, (name, share) in enumerate(shares.items()):
        y = _TOP + row * _ROW
        end, low, high = (_LEFT + value * _WIDTH for value in (share.median, share.low, share.high))
        kind = "bar own" if name.startswith(own) else "bar"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="20" rx="2"/>',
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10}" y2="{y + 10}"/>',
            f'<text x="{max(end, high) + 6:.1f}" y="{y + 15}">{share.median:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
