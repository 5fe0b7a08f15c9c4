# SPDX-License-Identifier: GPL-2.0
"""Draws the figures of tools/bench, with gnuplot."""

import subprocess
from pathlib import Path

from .bench import Row, count
from .scaling import Point

OURS, C = "#b7410e", "#8a9ba8"


def draw(path: Path, width: int, height: int, script: str) -> None:
    head = (f'set terminal svg noenhanced size {width},{height} font "sans-serif,13" background "white"\n'
            f'set output "{path}"\n')
    subprocess.run(["gnuplot"], input=head + script, check=True, text=True)


def operations(rows: list[Row], path: Path) -> None:
    """Horizontal bars, ours as a percentage of C."""
    n = len(rows)
    bars = "\n".join(f'{n - i} {100 * row.ratio:.2f} "{row.what}" "{count(row.ours)} of {count(row.c)}"'
                     for i, row in enumerate(rows))
    # The counts stand to the right of the bars.
    right = 100 * max(1, *(row.ratio for row in rows)) + 25
    draw(path, 900, 60 + 26 * n, f"""
set title "Instructions per operation: kvm-riscv-rs, C module = 100 %"
set xrange [0:{right}]
set yrange [0.3:{n + 0.7}]
set format x "%.0f %%"
set xtics 25 nomirror
set ytics nomirror scale 0
set border 3
set grid xtics lc rgb "#dddddd"
set arrow from 100, graph 0 to 100, graph 1 nohead lw 1.5 lc rgb "#aaaaaa" back
unset key
$rows << END
{bars}
END
plot $rows using 2:1:(0):2:($1-0.36):($1+0.36):ytic(3) with boxxyerrorbars fs solid 0.9 noborder lc rgb "{OURS}", \\
     $rows using 2:1:4 with labels left offset 0.6,0
""")


def scaling(points: list[Point], path: Path) -> None:
    """Pairs of bars for each number of vCPUs."""
    lines, place, labels = [], 0.0, []
    for pages in dict.fromkeys(p.pages for p in points):
        group = [p for p in points if p.pages == pages]
        labels.append((place + len(group) / 2 - 0.5, pages))
        for p in group:
            lines.append(f'{place} {p.c.work:.1f} {p.ours.work:.1f} "{p.vcpus}" '
                         f'"{count(p.c.work)}" "{count(p.ours.work)}"')
            place += 1
        place += 0.6
    names = "\n".join(f'set label "host pages {text}" at {x}, graph -0.12 center' for x, text in labels)
    data = "\n".join(lines)
    draw(path, 900, 420, f"""
set title "Demand paging by 1, 2 and 4 vCPUs: instructions per page, waiting left out"
set xrange [-0.7:{place - 0.9}]
set yrange [0:{1.1 * max(p.c.work for p in points)}]
set ytics nomirror
set xtics nomirror scale 0
set bmargin 4
set border 3
set grid ytics lc rgb "#dddddd"
set key top left
{names}
$points << END
{data}
END
plot $points using ($1-0.19):2:(0.36):xtic("") with boxes fs solid 0.9 noborder lc rgb "{C}" title "C", \\
     $points using ($1+0.19):3:(0.36) with boxes fs solid 0.9 noborder lc rgb "{OURS}" title "kvm-riscv-rs", \\
     $points using 1:(0):xtic(4) with points pt 0 notitle, \\
     $points using ($1-0.19):2:5 with labels offset 0,0.6 notitle, \\
     $points using ($1+0.19):3:6 with labels offset 0,0.6 notitle
""")
