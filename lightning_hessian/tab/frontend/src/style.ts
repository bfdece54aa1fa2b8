// The looks, in TensorBoard's manner; light and dark.

export const STYLE = `
:root { --ink: #212121; --faint: #5f6368; --paper: #fff; --ground: #f5f5f5; --line: #ddd; --accent: #f57c00; }
:root.dark { --ink: #e8e8e8; --faint: #a8a8a8; --paper: #303030; --ground: #1f1f1f; --line: #555; color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; font: 13px/1.45 Roboto, system-ui, sans-serif; color: var(--ink); background: var(--ground); }
.page { display: flex; align-items: flex-start; }
aside { width: 220px; flex: none; padding: 12px; position: sticky; top: 0; max-height: 100vh; overflow: auto; }
aside h2 { font-size: 13px; margin: 0 0 6px; }
aside input[type=search] { width: 100%; margin-bottom: 6px; }
.runs { list-style: none; margin: 8px 0; padding: 0; }
.runs li { display: flex; align-items: center; gap: 6px; }
.swatch { width: 10px; height: 10px; border-radius: 50%; flex: none; }
.name { background: none; border: 0; padding: 2px; color: inherit; font: inherit; text-align: left; overflow-wrap: anywhere; cursor: pointer; }
.name.focus { font-weight: 600; text-decoration: underline; }
.content { flex: 1; min-width: 0; padding: 12px 12px 40px 0; }
nav { display: flex; gap: 18px; align-items: center; position: sticky; top: 0; z-index: 2; padding: 8px 12px; background: var(--ground); }
[hidden] { display: none !important; }
nav input[type=range] { width: 260px; vertical-align: middle; }
nav output { margin-left: 6px; font-variant-numeric: tabular-nums; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 12px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 4px; padding: 10px 14px; min-width: 0; }
.card.wide { grid-column: 1 / -1; }
.card header { display: flex; align-items: baseline; gap: 6px; }
.card h2 { font-size: 15px; font-weight: 500; margin: 0; flex: 1; }
.card h3 { font-size: 12px; margin: 10px 0 2px; }
button, select, input[type=search] { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 3px; }
button { cursor: pointer; }
.card header button { font-size: 11px; }
.help { color: var(--faint); max-width: 110ch; }
.help p { margin: 2px 0 6px; }
summary { cursor: pointer; }
.caption { color: var(--faint); margin: 8px 0 0; }
.verdict { margin: 4px 0; }
.nothing { color: var(--faint); padding: 12px 0; max-width: 90ch; }
.message { padding: 40px; font-size: 15px; }
.columns { display: flex; gap: 8px; flex-wrap: wrap; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; }
.legend .item { display: inline-flex; align-items: center; gap: 5px; overflow-wrap: anywhere; }
.warning { color: var(--accent); }
svg.plot { display: block; max-width: 100%; touch-action: pan-y; user-select: none; --plot-background: var(--paper); background: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 2px 14px 2px 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td:first-child, td:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 12ch; }
th { font-weight: 500; color: var(--faint); }
.card .body { overflow-x: auto; }
`;
