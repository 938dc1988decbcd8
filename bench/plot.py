# SPDX-License-Identifier: MIT
"""Bars with their spread as SVG, one group of bars a key; logarithmic, since floors and peers lie far apart."""

import math
from html import escape

COLOURS = ("#1b6ca8", "#5fa8d3", "#c8553d", "#e0a458", "#588157", "#a3b18a", "#6d597a", "#888888")
WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 860, 14, 16, 150, 110, 64


def bars(title, unit, rows, labels):
    """`rows`: [(key, {label: (median, low, high)})]. Returns the text of an SVG."""
    values = [v for _, members in rows for m in members.values() for v in m if v > 0]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values) * 1.0001))
    span = math.log10(high / low)

    def x(v):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(max(v, low) / low) / span

    height = TOP + sum(len(m) * BAR + GAP for _, m in rows) + 24
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
           f'font-size="11"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">{escape(title)} ({escape(unit)})</text>']
    at = LEFT
    for i, label in enumerate(labels):
        out.append(f'<rect x="{at}" y="28" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
                   f'<text x="{at + 13}" y="37">{escape(label)}</text>')
        at += 24 + 6.2 * len(label)
    decade = low
    while decade <= high * 1.0001:
        out.append(f'<line x1="{x(decade):.1f}" y1="{TOP - 8}" x2="{x(decade):.1f}" y2="{height - 20}" stroke="#ddd"/>'
                   f'<text x="{x(decade):.1f}" y="{height - 6}" text-anchor="middle">{number(decade)}</text>')
        decade *= 10
    y = TOP
    for key, members in rows:
        out.append(f'<text x="{LEFT - 8}" y="{y + len(members) * BAR / 2 + 4:.1f}" text-anchor="end">{escape(key)}</text>')
        for label, (mid, least, most) in members.items():
            colour = COLOURS[labels.index(label) % len(COLOURS)]
            out.append(f'<rect x="{LEFT}" y="{y}" width="{x(mid) - LEFT:.1f}" height="{BAR - 3}" fill="{colour}"/>'
                       f'<line x1="{x(least):.1f}" y1="{y + 5.5}" x2="{x(most):.1f}" y2="{y + 5.5}" stroke="black"/>'
                       f'<text x="{x(most) + 4:.1f}" y="{y + 10}">{number(mid)}</text>')
            y += BAR
        y += GAP
    return "\n".join(out) + "\n</svg>\n"


def number(v):
    """A figure with three digits, as people read it."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if v >= limit:
            v /= {" G": 1e9, " M": 1e6, " k": 1e3}[suffix]
            break
    else:
        suffix = ""
    text = f"{v:.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}" if v >= 0.1 else f"{v:.3g}"
    return text + suffix
