// Which part of the network the curvature sits in: bars at a step, lines over steps.

import * as Plot from "@observablehq/plot";
import { shortNumber, withInterval } from "../axes";
import { type Chart, caption, nothing } from "../chart";
import { element } from "../dom";
import type { Run } from "../entries";
import type { Row } from "../export";
import { FONT, lineChart, lineRows } from "../lines";
import { interval, members, points, reportAt } from "../quantities";
import type { Store } from "../state";

const FAMILIES = [
  { prefix: "trace/", words: "trace of the layer's block" },
  { prefix: "eig_1/", words: "largest eigenvalue of the layer's block" },
  { prefix: "norm/", words: "norm of the layer's weights (no curvature)" },
];
const MOST_BARS = 40;
const MOST_LINES = 12;
const NO_BLOCKS =
  'No curvature by layer: HessianSpectrum(parameter_blocks="modules") splits the trace by module at no further product, in ' +
  "reports whose products are enough for a sweep, as with max_overhead=None or in longer trainings; with " +
  "eigenvalues_per_block=1 each block's largest eigenvalue is there too.";

interface Bar {
  run: string;
  colour: string;
  layer: string;
  step: number;
  value: number;
  low: number;
  high: number;
}

export const layers: Chart = {
  id: "by-layer",
  title: "By layer",
  reading:
    "Each bar is one layer at the step under the pointer, in the colours of the runs; below, the same over steps for one " +
    "run. The longest bar of a trace is the layer that most of the curvature sits in.",
  follows: ["zoom", "step", "focus"],
  draw(store, width) {
    const family = FAMILIES.find(({ prefix }) => members(store.shownRuns, prefix).length > 0);
    if (!family) return nothing(NO_BLOCKS);
    const shown = FAMILIES.filter(({ prefix }) => members(store.shownRuns, prefix).length > 0);
    const content: Node[] = [];
    const rows: Row[] = [];
    if (family.prefix === "norm/") content.push(element("p", { className: "verdict", textContent: NO_BLOCKS }));
    for (const { prefix, words } of shown) {
      const bars = barsAt(store, prefix);
      const steps = [...new Set(bars.map((bar) => bar.step))].join(", ");
      const most = largestFew(bars, MOST_BARS);
      const part = most.length < bars.length ? `; the ${MOST_BARS} largest of ${new Set(bars.map((bar) => bar.layer)).size} layers, all in the CSV` : "";
      content.push(caption(`${words}, at step ${steps}${part}`), barChart(most, width));
      rows.push(...bars.map(({ colour: _, ...bar }) => ({ quantity: prefix.slice(0, -1), ...bar })));
    }
    const having = store.shownRuns.filter((each) => members([each], family.prefix).length > 0);
    const run = having.find((each) => each.name === store.focusRun?.name) ?? having[0];
    if (run) {
      const names = largestFew(barsAt(store, family.prefix).filter((bar) => bar.run === run.name), MOST_LINES).map((bar) => bar.layer);
      const families = names.map((name, place) => ({
        points: points([run], family.prefix + name, name).map((p) => ({ ...p, colour: shade(place, names.length) })),
        hasError: names.length <= 6,
      }));
      const colours = names.map((name, place) => [name, shade(place, names.length)] as const);
      content.push(caption(`${family.words} over steps, of run ${run.name}`), lineChart(store, width, families, { label: family.prefix.slice(0, -1), height: 220 }), legend(colours));
      rows.push(...lineRows(families, family.prefix));
    }
    return { content, rows };
  },
};

function barsAt(store: Store, prefix: string): Bar[] {
  const names = members(store.shownRuns, prefix);
  const of = (run: Run): Bar[] => {
    const entry = reportAt(run, store.state.step, (each) => names.some((name) => each.scalars.has(prefix + name)));
    if (!entry) return [];
    return names.flatMap((layer) => {
      const value = entry.scalars.get(prefix + layer);
      if (value === undefined) return [];
      const [low, high] = interval(entry, prefix + layer);
      return [{ run: run.name, colour: run.colour, layer, step: entry.step, value, low, high }];
    });
  };
  return store.shownRuns.flatMap(of);
}

/** The bars of those layers that have the largest, in the order of the layers. */
function largestFew(bars: Bar[], most: number): Bar[] {
  const sizes = new Map<string, number>();
  for (const bar of bars) sizes.set(bar.layer, Math.max(sizes.get(bar.layer) ?? 0, Math.abs(bar.value)));
  const kept = new Set([...sizes].sort(([, a], [, b]) => b - a).slice(0, most).map(([layer]) => layer));
  return bars.filter((bar) => kept.has(bar.layer));
}

/** One row of bars for each layer, in it one bar for each run. */
function barChart(bars: Bar[], width: number): SVGSVGElement {
  const layerNames = [...new Set(bars.map((bar) => bar.layer))];
  const runNames = [...new Set(bars.map((bar) => bar.run))];
  const height = 34 + layerNames.length * Math.max(16, runNames.length * 10 + 6);
  const chart = Plot.plot({
    width,
    height,
    marginLeft: Math.min(160, 14 + 6.2 * Math.max(...layerNames.map((name) => Math.min(name.length, 24)))),
    marginRight: 14,
    style: FONT,
    x: { grid: true, label: null, tickFormat: shortNumber, ticks: 5 },
    y: { axis: null, domain: runNames },
    fy: { domain: layerNames, label: null, axis: "left", tickFormat: (name: string) => (name.length > 24 ? `…${name.slice(-23)}` : name) },
    marks: [
      Plot.barX(bars, { x: "value", y: "run", fy: "layer", fill: "colour", fillOpacity: 0.85 }),
      Plot.ruleY(
        bars.filter((bar) => bar.high > bar.low),
        { x1: "low", x2: "high", y: "run", fy: "layer", strokeWidth: 1.2 },
      ),
      Plot.ruleX([0]),
      Plot.tip(
        bars,
        Plot.pointerY({
          x: "value",
          y: "run",
          fy: "layer",
          title: (bar: Bar) => `${bar.layer}\n${bar.run}, step ${bar.step}\n${withInterval(bar.value, bar.low, bar.high)}`,
        }),
      ),
    ],
  }) as SVGSVGElement;
  chart.classList.add("plot");
  return chart;
}

function legend(colours: (readonly [string, string])[]): HTMLElement {
  const items = colours.map(([name, colour]) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour;
    return element("span", { className: "item" }, swatch, name);
  });
  return element("div", { className: "legend" }, ...items);
}

function shade(place: number, count: number): string {
  return `hsl(${Math.round((360 * place) / Math.max(count, 1) + 210) % 360} 60% 48%)`;
}
