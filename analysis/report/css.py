"""The report's CSS: quiet, readable on a phone, printable; no font or image from elsewhere."""

CSS = """
:root { color-scheme: light; --ink: #1f1f1f; --quiet: #666; --line: #ddd; --soft: #f6f6f4; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5;
  font: 1rem/1.55 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.1rem 4rem; }
h1, h2, .answer { font-family: Charter, "Bitstream Charter", Georgia, "Times New Roman", serif; font-weight: 600; }
.question { color: var(--quiet); margin: 0 0 .6rem; }
h1.answer { font-size: clamp(1.3rem, 1rem + 1.6vw, 1.9rem); line-height: 1.3; margin: 0 0 1rem; text-wrap: pretty; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; margin: .5rem 0; }
ul { padding-left: 1.1rem; } li { margin: .25rem 0; overflow-wrap: anywhere; }
.resolution { font-size: 1rem; margin: .3rem 0; }
.facts { color: var(--quiet); font-size: .9rem; }
.note { color: var(--quiet); font-size: .875rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1.6rem 2rem;
  margin: 1.2rem 0; align-items: start; }
figure { margin: 0; min-width: 0; max-width: 30rem; } figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; color: var(--quiet); margin-top: .2rem; } figcaption b { color: var(--ink); }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr)); gap: 0 2rem; }
.pairs > * { min-width: 0; }
.scroll { overflow-x: auto; margin: .7rem 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; font-weight: 600; padding: .2rem 0 .35rem; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; border-bottom: 1px solid #eee; vertical-align: baseline; }
th { font-weight: 600; color: var(--quiet); border-bottom: 1px solid #999; vertical-align: bottom;
  white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td.text, th.text { text-align: left; } td.wrap { white-space: normal; min-width: 14rem; }
th.over { text-align: left !important; color: var(--ink); padding-top: .7rem; border-bottom: 1px solid #bbb; }
sup { font-size: .72em; line-height: 0; }
tr.rule td { border-top: 1px solid #999; } tr.strong td { font-weight: 600; }
.family { font-weight: 600; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .84rem; }
pre { background: var(--soft); padding: .7rem .9rem; overflow-x: auto; border-radius: 4px; }
details summary { cursor: pointer; color: var(--quiet); margin: .6rem 0; }
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } details { display: block; } }
"""
