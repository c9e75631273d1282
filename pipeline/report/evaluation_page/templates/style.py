"""The page's style: one set of colours for light and print, one for dark screens."""

STYLE = """\
:root {
  color-scheme: light;
  --paper: #ffffff; --panel: #f4f5f7; --line: #c9ced6; --ink: #1a1d21; --soft: #555c66;
  --good: #2a6fb0; --bad: #b3401f; --other: #6b6f76; --mark: #1a1d21; --focus: #0b57d0;
  --note: #fff4d6; --note-line: #a66f00; --oracle: #6a3fa0;
  --h0: #ffffff; --h1: #fdeee3; --h2: #fbd9c2; --h3: #f7bd98; --h4: #f19f72; --h5: #e98556;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --paper: #15181c; --panel: #1f242a; --line: #454c56; --ink: #e8eaed; --soft: #aab1bb;
    --good: #6fb1ee; --bad: #f0916f; --other: #a3a8b0; --mark: #e8eaed; --focus: #8ab4f8;
    --note: #3a2f12; --note-line: #d9a441; --oracle: #c6a5f2;
    --h0: #15181c; --h1: #2d211b; --h2: #45291c; --h3: #5d311c; --h4: #77391b; --h5: #8f421b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 0.5rem; }
h3 { font-size: 1.05rem; margin: 1.25rem 0 0.4rem; overflow-wrap: anywhere; }
p, ul { margin: 0.4rem 0; max-width: 48rem; }
a { color: var(--focus); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.soft, caption, small { color: var(--soft); }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; padding: 0; list-style: none; }
nav ul { max-width: none; }
nav a { display: inline-block; padding: 0.3rem 0; }
.note { background: var(--note); border-left: 4px solid var(--note-line); padding: 0.5rem 0.8rem; }
.note ul { padding-left: 1.2rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.3rem 0; }
th, td { padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; }
th, td { border-bottom: 1px solid var(--line); }
thead th { background: var(--panel); vertical-align: bottom; }
tbody th { font-weight: 600; background: var(--paper); overflow-wrap: break-word; }
tbody th:first-child { overflow-wrap: anywhere; }
tbody th[scope="row"]:first-child { min-width: 8rem; max-width: 18rem; }
tbody th[scope="rowgroup"] { background: var(--panel); font-weight: 400; }
.whole { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.total th, .total td { border-top: 2px solid var(--line); }
.tag { display: block; font-size: 0.8rem; font-weight: 400; color: var(--soft); }
.tag.oracle { color: var(--oracle); }
.bar { display: block; width: 130px; height: 12px; margin-top: 0.2rem; }
.bar .track { stroke: var(--line); } .bar .span { stroke: var(--bad); stroke-width: 3; }
.bar .dot { fill: var(--ink); } .bar.alarm .span { stroke: var(--good); }
.heat td { text-align: center; white-space: nowrap; border: 1px solid var(--line); }
.heat td small { color: inherit; }
.heat thead .policy { text-align: center; }
.heat .policy span {
  writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11rem; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; font-weight: 600; text-align: left;
}
.h0 { background: var(--h0); } .h1 { background: var(--h1); } .h2 { background: var(--h2); }
.h3 { background: var(--h3); } .h4 { background: var(--h4); } .h5 { background: var(--h5); }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem; padding: 0; list-style: none; }
.legend .step { padding: 0.1rem 0.5rem; border: 1px solid var(--line); font-size: 0.85rem; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); }
figure { margin: 0; padding: 0.6rem; border: 1px solid var(--line); border-radius: 6px; }
figure { break-inside: avoid; overflow-wrap: anywhere; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: 0.9rem; } figure ul { font-size: 0.85rem; padding: 0; list-style: none; }
.front { max-width: 32rem; }
svg text { font-size: 11px; fill: var(--ink); } svg .axis { stroke: var(--line); fill: none; }
svg .quiet { fill: var(--soft); }
.good { fill: var(--good); } .bad { fill: var(--bad); }
.other { fill: none; stroke: var(--other); stroke-width: 1.5; stroke-dasharray: 3 2; }
.side { paint-order: stroke; stroke: var(--paper); stroke-width: 4; stroke-linejoin: round; }
.cut { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 5 2; }
.stairs { fill: none; stroke: var(--good); stroke-width: 1.5; }
.away { stroke: var(--other); stroke-width: 1; }
.held { fill: var(--paper); stroke: var(--bad); stroke-width: 2; }
.ring { fill: none; stroke: var(--ink); stroke-width: 2.5; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; padding: 0.3rem 0; overflow-wrap: anywhere; }
.cards { display: grid; gap: 0.8rem; padding: 0; list-style: none; max-width: none; }
.cards { grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
.card { display: flex; gap: 0.7rem; border: 1px solid var(--line); border-radius: 6px; }
.card { padding: 0.6rem; break-inside: avoid; font-size: 0.85rem; min-width: 0; }
.card p { margin: 0 0 0.2rem; overflow-wrap: anywhere; } .card > div { min-width: 0; }
.card svg, .none { flex: 0 0 96px; width: 96px; height: 96px; }
.none { border: 1px dashed var(--line); color: var(--soft); padding: 0.3rem; font-size: 0.75rem; }
.store { position: absolute; width: 0; height: 0; overflow: hidden; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; font-size: 0.85rem; }
dl { margin: 0; gap: 0.1rem 0.8rem; } dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 40rem) {
  body { padding: 0.7rem; }
  tbody th[scope="row"]:first-child { max-width: 9rem; min-width: 7.5rem; }
  .scroll td:not(.number) { min-width: 8.5rem; }
  .scroll .heat td:not(.number) { min-width: 3.2rem; }
  dl { grid-template-columns: 1fr; } dd { padding-left: 0.8rem; }
}
@media screen {
  tbody th[scope="row"]:first-child { position: sticky; left: 0; z-index: 1; }
}
@media print {
  @page { margin: 1.2cm; }
  html { font-size: 9pt; } body { max-width: none; padding: 0; }
  nav, .skip { display: none; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } thead { display: table-header-group; }
  tr, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; }
  th, td { padding: 0.15rem 0.3rem; }
  td, .step, .bar, figure { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""
