"""The curve of `tests.evaluation.answers` as a small SVG."""

from collections.abc import Sequence

from planes.serving.generation.evidence import MIN_SUPPORT

_LINES = (
    ("citation_hit", "an answer cites a gold answer", "#1b6ca8"),
    ("citation_precision", "a citation holds a gold answer", "#2a9d5c"),
    ("off_corpus_declined", "off-corpus question declined", "#c0392b"),
    ("false_rejection", "answerable question declined", "#8e6bbf"),
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 46, 16, 250, 40


def plot(points: Sequence[dict[str, float]]) -> str:
    """Return the figures over the threshold, which rises to the right."""
    first, last = points[0]["threshold"], points[-1]["threshold"]

    def x(threshold: float) -> float:
        return _LEFT + (threshold - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for tenth in range(0, 11, 2):
        level = y(tenth / 10)
        parts.append(
            f'<path d="M{_LEFT} {level:.0f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 8}" y="{level + 4:.0f}" text-anchor="end">{tenth / 10:.1f}</text>'
        )
    for threshold in (0.0, 0.4, 0.8, 1.2):
        parts.append(
            f'<text x="{x(threshold):.0f}" y="{_HEIGHT - 20}" text-anchor="middle">{threshold}'
            "</text>"
        )
    parts.append(
        f'<text x="{x((first + last) / 2):.0f}" y="{_HEIGHT - 4}" text-anchor="middle">'
        "least support of the best sentence</text>"
        f'<path d="M{x(MIN_SUPPORT):.0f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#888" '
        'stroke-dasharray="4 3"/>'
    )
    for row, (name, label, colour) in enumerate(_LINES):
        path = " ".join(f"{x(point['threshold']):.1f},{y(point[name]):.1f}" for point in points)
        where = _WIDTH - _RIGHT + 14
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<path d="M{where} {30 + 22 * row}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{where + 24}" y="{34 + 22 * row}">{label}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
