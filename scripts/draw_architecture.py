"""Draw docs/images/architecture.svg from the layers that the import contracts hold: `make docs`."""

# ruff: noqa: E501 - lines of the picture stand whole
from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images" / "architecture.svg"

# Band → its note, its hue, and the module of the contract that it begins with. A band holds all layers up to the next.
BANDS = (
    ("Faces", "what people and programs use; they decide nothing", "indigo", "__main__"),
    ("Store", "one object; finds products and definitions", "violet", "catalog"),
    ("Flows", "each reads top to bottom, over protocols", "teal", "flows"),
    ("Edges", "a protocol each, and a package per product", "amber", "config"),
    ("Pure middle", "no I/O, no clock", "green", "planning"),
    ("Base", "types, times, errors", "slate", "types"),
)

CAPTIONS = {
    "__main__": "python -m asof",
    "testing": "suites and a clock for tests",
    "cli": "the command line",
    "demo": "a shop, end to end",
    "feast": "Feast’s names over this store",
    "server": "features over HTTP",
    "client": "asks a server from Python",
    "catalog": "pages over the store’s verbs",
    "store": "FeatureStore, one line per verb",
    "opening": "products, opened on first use",
    "applied": "the snapshot in use",
    "repository": "loads a repository’s Python files",
    "config": "feature_store .yaml",
    "registry": "what is applied",
    "sources": "where rows come from",
    "offline": "history and joins",
    "online": "rows for serving",
    "log": "topics and offsets",
    "connections": "shared by products",
    "planning": "changes and checks",
    "selection": "what a request means",
    "expressions": "the closed language",
    "sql": "meaning, as statements",
    "aggregation": "events to windows",
    "derive": "on-demand functions",
    "values": "fit, pack, JSON, frames",
    "decoding": "messages to columns",
    "lineage": "columns that a feature reads",
    "definitions": "what users write: frozen data",
    "types": "the value types",
    "online_response": "what an online read returns",
    "dtypes": "types and their Arrow forms",
    "timing": "times and durations",
    "errors": "one tree, with next steps",
    "defaults": "defaults of options",
    "distribution": "its name and version",
    "flows.admin": "audit, explain, doctor, forget",
    "flows.apply": "plan and apply",
    "flows.push": "pushed rows",
    "flows.batch": "materialize, backfill",
    "flows.stream": "workers, dead letters",
    "flows.online": "reads for serving",
    "flows.generations": "builds of online rows",
    "flows.offline": "reads for training",
    "flows.rows": "rows on their way",
    "flows.facts": "shared state",
    "flows.stores": "what a flow is given",
}
"""Module below `asof` → a few words on it. One that is not here is drawn with the first line of its docstring."""

WIDTH, MARGIN, LABEL = 1080, 28, 168
GAP, CHEVRON, PAD = 8, 22, 14
TITLE_HEIGHT, BAND_GAP = 84, 22

LIGHT = {
    "paper": "#ffffff", "edge": "#d8dee8", "ink": "#172033", "soft": "#566178", "card": "#ffffff",
    "indigo": "#4f5bd5", "violet": "#8a4fc9", "teal": "#0e8078", "amber": "#a96505", "green": "#2c7d32", "slate": "#55647b",
}  # fmt: skip
DARK = {
    "paper": "#10151f", "edge": "#2c3648", "ink": "#e9eef8", "soft": "#a3afc4", "card": "#1a2231",
    "indigo": "#98a1ff", "violet": "#c99bf7", "teal": "#54d1c4", "amber": "#f2b452", "green": "#85d28a", "slate": "#a9b8d0",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One module: its name, a few words, and the products that it ships."""

    name: str
    caption: str
    products: tuple[str, ...] = ()


@dataclass
class Band:
    """Layers that are drawn side by side; each may use those to its right, and all bands below."""

    title: str
    note: str
    hue: str
    layers: list[list[Card]] = field(default_factory=list)


def contracts(project: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Container → its layers, top first, as lists of module names, from pyproject.toml."""
    found = {}
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            for container in contract["containers"]:
                layers = [[name.strip(" ()") for name in re.split(r"[|:]", layer)] for layer in contract["layers"]]
                found[container] = layers
    return found


def bands(project: dict[str, Any], source: Path) -> list[Band]:
    """The picture's content: the contracts' layers whose modules are there, in bands."""
    held = contracts(project)
    begins = {first: (title, note, hue) for title, note, hue, first in BANDS}
    found: list[Band] = []
    for layer in held["asof"]:
        for name in layer:
            if name in begins:
                found.append(Band(*begins[name]))
        if layer == ["flows"] and "asof.flows" in held:
            inner = [[_card(f"flows.{name}", project, source) for name in each] for each in held["asof.flows"]]
            found[-1].layers += inner
            continue
        cards = [_card(name, project, source) for name in layer if _file(name, source)]
        if cards:
            found[-1].layers.append(cards)
    return found


def _file(name: str, source: Path) -> Path | None:
    path = source / name.replace(".", "/")
    return next((each for each in (path / "__init__.py", path.with_suffix(".py")) if each.exists()), None)


def _card(name: str, project: dict[str, Any], source: Path) -> Card:
    points = project["project"].get("entry-points", {}).get(f"asof.{name}", {})
    caption = CAPTIONS.get(name)
    if caption is None:
        path = _file(name, source)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else ""
        caption = re.split(r"[:.;,]", (text or "").split("\n")[0])[0]
    return Card(name.removeprefix("flows."), caption, tuple(sorted(points)))


# ---- Drawing ----


def _wrapped(text: str, width: float) -> list[str]:
    """The text in lines that fit into `width` pixels of the caption's type."""
    room, lines = max(8, int(width / 6.0)), [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _columns(layer: list[Card]) -> int:
    """How many cards of a layer stand side by side: two stand one above the other, as do the halves of many."""
    return 1 if len(layer) <= 2 else len(layer) if len(layer) <= 5 else -(-len(layer) // 2)


def _band(band: Band, top: float) -> tuple[list[str], float]:
    """A band's SVG, and its height."""
    left, right = MARGIN + LABEL, WIDTH - MARGIN - PAD
    columns = sum(_columns(layer) for layer in band.layers)
    gaps = sum((_columns(layer) - 1) * GAP for layer in band.layers) + CHEVRON * (len(band.layers) - 1)
    width = (right - left - gaps) / columns
    captions = {card.name: _wrapped(card.caption, width - 20) for layer in band.layers for card in layer}
    note = _wrapped(band.note, LABEL - 42)
    deep = {id(layer): -(-len(layer) // _columns(layer)) for layer in band.layers}
    tall = {id(layer): max(_height(card, captions[card.name]) for card in layer) for layer in band.layers}
    stacks = [deep[id(layer)] * (tall[id(layer)] + GAP) - GAP for layer in band.layers]
    height = 2 * PAD + max(*stacks, 26 + 16 * len(note))
    lines = [
        f'<rect class="band {band.hue}" x="{MARGIN}" y="{top:.1f}" width="{WIDTH - 2 * MARGIN}" height="{height:.1f}" rx="14"/>',
        f'<rect class="fill {band.hue}" x="{MARGIN}" y="{top:.1f}" width="6" height="{height:.1f}" rx="3"/>',
        f'<text class="title {band.hue}" x="{MARGIN + 22}" y="{top + PAD + 18:.1f}">{escape(band.title)}</text>',
    ]
    for place, text in enumerate(note):
        y = top + PAD + 38 + 16 * place
        lines.append(f'<text class="note" x="{MARGIN + 22}" y="{y:.1f}">{escape(text)}</text>')
    x = float(left)
    for place, layer in enumerate(band.layers):
        across = _columns(layer)
        # A layer that is less deep than its band stands in the middle of it.
        start = top + (height - stacks[place]) / 2
        for index, card in enumerate(layer):
            column, row = index % across, index // across
            at = (x + column * (width + GAP), start + row * (tall[id(layer)] + GAP))
            lines += _drawn(card, band.hue, at, (width, tall[id(layer)]), captions[card.name])
        x += across * width + (across - 1) * GAP
        if place + 1 < len(band.layers):
            middle, y = x + CHEVRON / 2, top + height / 2
            lines.append(f'<path class="arrow {band.hue}" d="M{middle - 3:.1f} {y - 6:.1f}l6 6l-6 6"/>')
            x += CHEVRON
    return lines, height


def _height(card: Card, caption: list[str]) -> float:
    return 36 + 15 * len(caption) + (8 + 18 * len(card.products) if card.products else 0)


def _drawn(card: Card, hue: str, at: tuple[float, float], size: tuple[float, float], caption: list[str]) -> list[str]:
    (x, y), (width, height) = at, size
    # A long name of a narrow card is set smaller, so that it stays inside.
    type_px = min(14.0, (width - 20) / (0.602 * len(card.name)))
    lines = [
        f'<rect class="card {hue}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8"/>',
        f'<text class="name" x="{x + 10:.1f}" y="{y + 22:.1f}" style="font-size:{type_px:.1f}px">{escape(card.name)}</text>',
    ]
    for place, text in enumerate(caption):
        lines.append(f'<text class="caption" x="{x + 10:.1f}" y="{y + 39 + 15 * place:.1f}">{escape(text)}</text>')
    start = y + 36 + 15 * len(caption) + 4
    for place, product in enumerate(card.products):
        at = start + 18 * place
        lines.append(f'<circle class="fill {hue}" cx="{x + 14:.1f}" cy="{at + 8:.1f}" r="2.5"/>')
        lines.append(f'<text class="product {hue}" x="{x + 22:.1f}" y="{at + 12:.1f}">{escape(product)}</text>')
    return lines


def _style() -> str:
    hues = [band[2] for band in BANDS]
    rules = [
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}",
        ".paper{fill:var(--paper);stroke:var(--edge)}",
        ".headline{font-size:22px;font-weight:700;fill:var(--ink)}",
        ".lead{font-size:13.5px;fill:var(--soft)}",
        ".title{font-size:16px;font-weight:700}",
        ".note{font-size:12px;fill:var(--soft)}",
        ".name{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-weight:600;fill:var(--ink)}",
        ".caption{font-size:11px;fill:var(--soft)}",
        ".product{font-size:11.5px;font-weight:600}",
        ".band{fill-opacity:.09;stroke:none}",
        ".card{fill:var(--card)!important;stroke-opacity:.45}",
        ".arrow{fill:none!important;stroke-width:2.2;stroke-linecap:round;stroke-linejoin:round}",
        ".down{fill:none;stroke:var(--soft);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}",
        *(f".{hue}{{fill:var(--{hue});stroke:var(--{hue})}}" for hue in hues),
        "text{stroke:none!important}.fill{stroke:none!important}.band{stroke:none!important}",
    ]
    light = "".join(f"--{name}:{colour};" for name, colour in LIGHT.items())
    dark = "".join(f"--{name}:{colour};" for name, colour in DARK.items())
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n" + "\n".join(rules)


def picture(project: dict[str, Any], source: Path) -> str:
    """The SVG's text."""
    drawn: list[str] = []
    top = float(MARGIN + TITLE_HEIGHT)
    found = bands(project, source)
    for place, band in enumerate(found):
        lines, height = _band(band, top)
        drawn += lines
        top += height
        if place + 1 < len(found):
            y = top + BAND_GAP / 2
            drawn.append(f'<path class="down" d="M{WIDTH / 2 - 6:.1f} {y - 3:.1f}l6 6l6 -6"/>')
            top += BAND_GAP
    height = top + MARGIN
    alt = "; ".join(
        f"{band.title}: {', '.join(card.name for layer in band.layers for card in layer)}" for band in found
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="t d">',
            "<!-- Drawn by scripts/draw_architecture.py from pyproject.toml. Do not edit: run `make docs`. -->",
            '<title id="t">The layers of Asof</title>',
            f'<desc id="d">From top to bottom. {escape(alt)}.</desc>',
            f"<style>\n{_style()}\n</style>",
            f'<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="18"/>',
            f'<text class="headline" x="{MARGIN}" y="{MARGIN + 22}">The layers of asof</text>',
            f'<text class="lead" x="{MARGIN}" y="{MARGIN + 46}">A module imports what is in a band below it or, within its band, to the right of a chevron: never what is above or to the left.</text>',
            f'<text class="lead" x="{MARGIN}" y="{MARGIN + 65}">Products (•) are found by entry points, so a store of yours can be a package of yours.</text>',
            *drawn,
            "</svg>\n",
        ]
    )


def drawn_now() -> str:
    """The picture that belongs to the code as it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return picture(project, ROOT / "src" / "asof")


def main() -> int:
    """Write the picture if it differs, and say so."""
    text = drawn_now()
    if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != text:
        OUTPUT.write_text(text, encoding="utf-8")
        print(f"wrote {OUTPUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
