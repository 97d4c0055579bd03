"""Charts as SVG, drawn on the server: scales, axes, lines, points and intervals. Colours come from the style sheet."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from analysis.figures.drawing.style import numbers_of
from analysis.web.svg import Axis, scale, shape

Point = tuple[float, float]
_RIGHT, _TOP, _BOTTOM = 10.0, 10.0, 40.0
_NAME, _LETTER = 24.0, 8.0
"""Room for the name of the vertical axis, and for a letter at its ticks on a phone, where letters are largest."""


class Chart:
    """A chart under construction, in pixels of its view box."""

    def __init__(self, x: Axis, y: Axis, label: str, size: tuple[int, int] = (520, 300)) -> None:
        """
        Args:
            label: what the chart shows, for those who do not see it.
        """
        self._size = size
        self._label = label
        self._x, self._y = x, y
        width, height = size
        self._left = _NAME + _LETTER * max((len(text) for _, text in y.ticks), default=0)
        self.x = scale(x, self._left, width - _RIGHT)
        self.y = scale(y, height - _BOTTOM, _TOP)
        self._parts: list[Markup] = []

    def line(self, points: Sequence[Point], classes: str) -> None:
        """Draw a line through points, in values of the axes."""
        if len(points) > 1:
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
            self._parts.append(Markup('<polyline class="{}" points="{}"/>').format(classes, path))

    def interval(self, x: float, low: float, high: float, classes: str, shift: float = 0.0) -> None:
        """Draw a vertical interval; ``shift`` moves it to the right, in pixels."""
        at = f"{self.x(x) + shift:.1f}"
        self._parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                classes, at, at, self.y(low), self.y(high)
            )
        )

    def mark(self, point: Point, number: int, classes: str, words: str = "", shift: float = 0.0) -> None:
        """Draw a mark whose shape depends on a number; ``words`` are shown when it is pointed at."""
        x, y = self.x(point[0]) + shift, self.y(point[1])
        title = Markup("<title>{}</title>").format(words) if words else ""
        self._parts.append(Markup('<path class="{}" d="{}">{}</path>').format(classes, shape(number, x, y), title))

    def level(self, y: float) -> None:
        """Draw a horizontal line across the chart."""
        if self._y.low <= y <= self._y.high:
            at = f"{self.y(y):.1f}"
            self._parts.append(
                Markup('<line class="zero" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    self._left, self._size[0] - _RIGHT, at, at
                )
            )

    def markup(self, clip: str) -> Markup:
        """Return the SVG.

        Args:
            clip: a name that no other chart of the page has.
        """
        width, height = self._size
        inner = Markup("").join(self._parts)
        return Markup(
            '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
            '<clipPath id="{clip}"><rect x="{x}" y="{y}" width="{iw}" height="{ih}"/></clipPath>'
            '{axes}<g clip-path="url(#{clip})">{inner}</g></svg>'
        ).format(
            w=width,
            h=height,
            label=self._label,
            clip=clip,
            x=self._left - 4,
            y=_TOP - 4,
            iw=width - self._left - _RIGHT + 8,
            ih=height - _TOP - _BOTTOM + 8,
            axes=self._axes(),
            inner=inner,
        )

    def _axes(self) -> Markup:
        width, height = self._size
        bottom, right = height - _BOTTOM, width - _RIGHT
        parts = [Markup('<g class="axes" aria-hidden="true">')]
        for value, text in self._y.ticks:
            at = self.y(value)
            parts.append(Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(self._left, right, at, at))
            parts.append(Markup('<text x="{}" y="{:.1f}" class="end">{}</text>').format(self._left - 6, at + 4, text))
        for value, text in self._x.ticks:
            parts.append(
                Markup('<text x="{:.1f}" y="{}" class="middle">{}</text>').format(self.x(value), bottom + 17, text)
            )
        parts.append(
            Markup('<text x="{}" y="{}" class="middle name">{}</text>').format(
                (self._left + right) / 2, height - 6, self._x.label
            )
        )
        middle = (_TOP + bottom) / 2
        parts.append(
            Markup('<text transform="translate(11 {}) rotate(-90)" class="middle name">{}</text></g>').format(
                middle, self._y.label
            )
        )
        return Markup("").join(parts)


def key(place: int, text: str, dashed: bool = False) -> Markup:
    """Return an entry of a legend: a mark on a line, and its text; the place decides the look."""
    colour, marker = numbers_of(place)
    line = Markup('<line class="line{}" x1="1" x2="23" y1="7" y2="7"/>').format(" dashed" if dashed else "")
    mark = "" if dashed else Markup('<path class="mark" d="{}"/>').format(shape(marker, 12, 7))
    return Markup('<span class="key s{}"><svg viewBox="0 0 24 14" aria-hidden="true">{}{}</svg>{}</span>').format(
        colour, line, mark, escape(text)
    )
