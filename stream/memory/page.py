"""The page: the story, the picture, every figure, and how it was measured; one file, no script."""

from __future__ import annotations

from html import escape

from stream.memory.chart import What, arm_words, heading, legend, panel
from stream.memory.drawing import to_svg
from stream.memory.findings import Arm, Experiment
from stream.memory.story import Story
from workers.experiment_messages import Stretch

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f7f5f1; --raised: #ffffff; --grid: #e6e1d8; --ink: #1f1c1a; --faint: #6a645c;
  --accent: #c9401f; --memory: #2f6690; --time: #4d7c4f;
  --first: #fbe9e2; --last: #ece9f6; --before: #f1eee8;
  font: 16px/1.55 -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #141211; --raised: #1e1b1a; --grid: #383330; --ink: #f1ece6; --faint: #a69d94;
    --accent: #f0764f; --memory: #7db5de; --time: #8fc191;
    --first: #3a241d; --last: #2a2739; --before: #262221;
  }
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); padding: 40px clamp(16px, 4vw, 56px); }
main { max-width: 1500px; margin-inline: auto; }
.what { color: var(--faint); }
h1 { font-size: clamp(1.4rem, 1rem + 1.5vw, 2rem); line-height: 1.25; letter-spacing: -.015em;
  margin-block: 4px 20px; max-width: 52ch; text-wrap: balance; }
h2 { font-size: 1rem; }
section > h2 { margin-block: 40px 8px; font-size: 1.125rem; }
p.story { max-width: 78ch; margin-bottom: 12px; }
.grid { display: grid; grid-template-columns: 200px 1fr 1fr; gap: 14px 22px; margin-top: 32px;
  align-items: center; }
.grid .head { font-weight: 600; align-self: end; }
.grid .head small { display: block; font-weight: 400; color: var(--faint); }
.arm h2 { line-height: 1.3; margin-bottom: 6px; }
.arm p, .legend, .note { font-size: .8125rem; color: var(--faint); line-height: 1.45; }
.legend { margin-top: 14px; }
figure { background: var(--raised); border-radius: 12px; overflow-x: auto; }
figcaption { display: none; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 600; color: var(--faint); }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
summary { cursor: pointer; font-weight: 600; margin-block: 32px 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; font-size: .875rem; }
dt { color: var(--faint); }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
@media (max-width: 900px) {
  .grid { grid-template-columns: 1fr; }
  .grid .head { display: none; }
  .arm { margin-top: 20px; }
  svg { min-width: 520px; }
  figcaption { display: block; padding: 8px 12px 0; font-size: .8125rem; font-weight: 600; }
}
"""


def page(it: Experiment, title: str, story: Story, command: str) -> str:
    """A whole HTML document."""
    paragraphs = "".join(f'<p class="story">{escape(text)}</p>' for text in story.paragraphs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(it.model)}: the first and the last batch</title>"
        f"<style>{STYLE}</style></head><body><main>"
        f'<p class="what">{escape(title)}</p><h1>{escape(story.headline)}</h1>{paragraphs}'
        f"{_grid(it)}"
        f'<p class="legend">{escape(legend(it))}</p>'
        f"<details><summary>Every batch, in numbers</summary>{_table(it)}</details>"
        f"<section><h2>How it was measured</h2>{_how(it, command)}</section>"
        "</main></body></html>\n"
    )


def _grid(it: Experiment) -> str:
    heads = "".join(f'<div class="head">{escape(heading(it, what))}</div>' for what in What)
    rows = "".join(
        f'<div class="arm"><h2>{escape(arm.name.capitalize())}</h2>'
        f"<p>{escape(arm_words(it, arm))}</p></div>" + "".join(_figure(it, arm, w) for w in What)
        for arm in it.arms
    )
    return f'<div class="grid"><div class="head"></div>{heads}{rows}</div>'


def _figure(it: Experiment, arm: Arm, what: What) -> str:
    label = f"{heading(it, what)}: {arm.name}"
    return (
        f"<figure><figcaption>{escape(heading(it, what))}</figcaption>"
        f"{to_svg(panel(it, arm, what), label)}</figure>"
    )


def _table(it: Experiment) -> str:
    names = [
        "arm", "run", "frames", "rows", "ms", "MB before", "MB after", "minor faults",
        "major faults", "graphs compiled",
    ]  # fmt: skip
    if it.on_cuda:
        names += ["device allocations", "retries", "replayed"]
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(it, arm, stretch)) + "</tr>"
        for arm in it.arms
        for stretch in arm.stretches
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cells(it: Experiment, arm: Arm, stretch: Stretch) -> list[str]:
    cells = [
        arm.name,
        f"{stretch.phase} {stretch.number}",
        str(stretch.real),
        str(stretch.rows),
        f"{stretch.took_ms:,.1f}",
        f"{stretch.before_bytes / 1e6:,.1f}",
        f"{stretch.after_bytes / 1e6:,.1f}",
        f"{stretch.minor_faults:,}",
        f"{stretch.major_faults:,}",
        str(stretch.compiled_graphs),
    ]
    if it.on_cuda:
        cells += [
            str(stretch.device_allocations),
            str(stretch.alloc_retries),
            "yes" if stretch.is_replay else "no",
        ]
    return cells


def _how(it: Experiment, command: str) -> str:
    facts = it.facts
    rows = {
        "command": f"<code>{escape(command)}</code>",
        "device": escape(it.device_words),
        "model": f"{escape(it.model)}, {facts.parameters:,} parameters"
        + (", through torch.compile (dynamic=False)" if it.is_compiled else ""),
        "torch": escape(facts.torch),
        "frames": f"{it.frames} of {facts.geometry}, noise, float32, in batches of {it.batch}: "
        f"{it.columns - 1} whole ones and one of {it.short}",
        "each arm": "a fresh process, once; a batch's time is from frames in host memory to "
        "avatars in host memory, the model in plain torch between buffers made before",
        "memory": escape(
            "what the CUDA caching allocator has reserved, before and after each batch"
            if it.on_cuda
            else "the process's resident set, before and after each batch, with the allocator set "
            "as a worker has it: freed memory stays in the process for the next batch"
        ),
    }
    return (
        "<dl>"
        + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows.items())
        + ("</dl>")
    )
