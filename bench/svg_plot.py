"""Two kinds of plot as SVG, readable on light and dark pages: accuracies with intervals, and curves.

Values are (value, low, high), or None where there is none.
"""

from html import escape
from math import floor, log10

COLORS = 6
STYLE = """<style>
.p{font:12px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#dde2e8;
--c0:#1f6feb;--c1:#c2330a;--c2:#2f7d32;--c3:#8f1d9e;--c4:#9a6700;--c5:#57606a}
@media(prefers-color-scheme:dark){.p{--page:#0d1117;--ink:#e6edf3;--soft:#9aa4af;--line:#2c333c;
--c0:#79b8ff;--c1:#ff8a5c;--c2:#7ee787;--c3:#e59bf5;--c4:#e3b341;--c5:#c9d1d9}}
.p .page{fill:var(--page)}.p text{fill:var(--ink)}.p .soft{fill:var(--soft)}.p .head{font-size:14px;font-weight:600}
.p .m{text-anchor:middle}.p .e{text-anchor:end}.p .grid{stroke:var(--line)}.p path,.p .whisker{fill:none;stroke-width:1.6}
""" + "".join(f".p .f{i}{{fill:var(--c{i})}}.p .s{i}{{stroke:var(--c{i})}}" for i in range(COLORS)) + "</style>"


def page(title, width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="p" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img"><title>{escape(title)}</title>\n{STYLE}\n'
            f'<rect class="page" width="{width}" height="{height}"/>\n<text class="head" x="12" y="22">{escape(title)}</text>\n'
            + "\n".join(body) + "\n</svg>\n")


def text(x, y, words, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def line(x0, y0, x1, y1, kind):
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" class="{kind}"/>'


def dot(x, y, i):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" class="f{i % COLORS}"/>'


def legend(names, y):
    """One line, or more where they are long."""
    body, x = [], 16
    for i, name in enumerate(names):
        room = 24 + 6.6 * len(name)
        if x + room > 740 and x > 16:
            x, y = 16, y + 18
        body += [dot(x, y - 4, i), text(x + 9, y, name)]
        x += room
    return body, y


def dots(title, labels, series):
    """Accuracies from 0 to 100%, a group of lines for each label. series: [(name, [value of each label])]"""
    body, y = legend([name for name, _ in series], 44)
    left, right, top = 20 + 6.6 * max(len(label) for label in labels), 730, y + 24
    each = 11 * len(series) + 12
    place = lambda share: left + share * (right - left)
    bottom = top + each * len(labels)
    for tenth in range(0, 11, 2):
        body += [line(place(tenth / 10), top, place(tenth / 10), bottom, "grid"),
                 text(place(tenth / 10), bottom + 16, f"{10 * tenth}%", "soft m")]
    for k, label in enumerate(labels):
        begin = top + each * k
        body.append(text(left - 10, begin + each / 2 + 4, label, "e"))
        if k:
            body.append(line(left, begin, right, begin, "grid"))
        for i, (_, values) in enumerate(series):
            at = begin + 11.5 + 11 * i
            if values[k]:
                value, low, high = values[k]
                body += [line(place(low), at, place(high), at, f"whisker s{i % COLORS}"), dot(place(value), at, i)]
    return page(title, 760, bottom + 28, body)


def lines(title, xs, series, percent=True):
    """A curve for each series over the names `xs`, which stand at equal distances. Not percent: a logarithmic axis."""
    body, y = legend([name for name, _ in series], 44)
    left, right, top, bottom = 66, 730, y + 20, y + 240
    shown = [v for _, values in series for v in values if v and (percent or v[0] > 0)]
    if percent:
        place = lambda v: bottom - v * (bottom - top)
        ticks = [(k / 5, f"{20 * k}%") for k in range(6)]
    else:
        least = floor(log10(min((v[0] for v in shown), default=1)))
        most = max(floor(log10(max((v[0] for v in shown), default=1))) + 1, least + 1)
        place = lambda v: bottom - (log10(v) - least) / (most - least) * (bottom - top)
        ticks = [(10.0**k, f"{10.0**k:g}") for k in range(least, most + 1, max(1, (most - least) // 6))]
    for value, name in ticks:
        body += [line(left, place(value), right, place(value), "grid"), text(left - 8, place(value) + 4, name, "soft e")]
    across = lambda k: left + (k + 0.5) / len(xs) * (right - left)
    for k, x in enumerate(xs):
        body.append(text(across(k), bottom + 18, str(x), "soft m"))
    for i, (_, values) in enumerate(series):
        points = [(across(k), v) for k, v in enumerate(values) if v and (percent or v[0] > 0)]
        path = "M" + "L".join(f"{x:.1f} {place(v[0]):.1f}" for x, v in points) if points else ""
        body.append(f'<path d="{path}" class="s{i % COLORS}"/>')
        for x, v in points:
            if percent:
                body.append(line(x, place(v[1]), x, place(v[2]), f"whisker s{i % COLORS}"))
            body.append(dot(x, place(v[0]), i))
    return page(title, 760, bottom + 34, body)
