// All eigenvalues: as ridges over training, and at one step with what is known of each.

import * as Plot from "@observablehq/plot";
import { shortNumber, symlog, symlogTicks, unitBelow } from "../axes";
import { type Chart, caption, nothing } from "../chart";
import type { Density, Entry, Run } from "../entries";
import type { Row } from "../export";
import { FONT } from "../lines";
import { entryAt } from "../quantities";
import type { Store } from "../state";

/** Least width of a kernel on the symmetric logarithmic axis, in decades. */
const KERNEL = 0.035;
const POINTS = 400;
const MOST_RIDGES = 24;
const MOST_COLUMNS = 4;
/** Runs whose densities stand over each other. */
const MOST_CURVES = 12;
const DECADES_BELOW = 2;

interface Axis {
  unit: number;
  low: number;
  high: number;
}

interface CurvePoint {
  run: string;
  colour: string;
  step: number;
  u: number;
  height: number;
  low: number;
  high: number;
}

export const density: Chart = {
  id: "spectral-density",
  title: "Spectral density over training",
  reading:
    "Where the eigenvalues lie, on one axis for all runs and steps: most are a bulk at zero, the few on the right are the " +
    "directions that matter. Heights are logarithmic; below, the step under the pointer, with an error band where several " +
    "probes tell of one. What lies within the resolution of zero is one bulk, however wide it looks.",
  isWide: true,
  follows: ["step", "focus"],
  draw(store, width) {
    const runs = store.shownRuns.filter((run) => run.entries.some(has));
    const axis = commonAxis(runs);
    if (!axis) return nothing(missing(store.shownRuns));
    const columns = chosen(runs, store.focusRun, Math.min(MOST_COLUMNS, Math.max(1, Math.floor(width / 320))));
    const grid = document.createElement("div");
    grid.className = "columns";
    const each = Math.floor(width / columns.length) - 8;
    for (const run of columns) {
      const column = document.createElement("div");
      column.append(caption(run.name), ridges(run, axis, each, store.state.step));
      grid.append(column);
    }
    const curves = runs.slice(0, MOST_CURVES).flatMap((run) => curveAt(run, axis, store.state.step));
    const steps = [...new Set(curves.map((p) => p.step))].join(", ");
    const content = [
      grid,
      caption(`at step ${steps}: number of eigenvalues around each value; triangles are eigenvalues with a bound${runs.length > MOST_CURVES ? `; of the first ${MOST_CURVES} runs` : ""}. ${resolutions(runs, store.state.step)}`),
      detail(curves, runs, axis, width, store.state.step),
    ];
    return { content, rows: nodesAt(runs, store) };
  },
};

/** On what, and how finely, the densities at a step are known. */
function resolutions(runs: Run[], step: number): string {
  const words = runs.slice(0, 4).flatMap((run) => {
    const entry = measuredAt(run, step);
    const samples = entry?.scalars.get("num_samples");
    return entry?.density ? [`${run.name}: ± ${shortNumber(entry.density.bandwidth)}, on ${samples ?? "?"} samples (${entry.callback})`] : [];
  });
  return `Resolved to: ${words.join("; ")}${runs.length > 4 ? " …" : ""}.`;
}

function has(entry: Entry): boolean {
  return entry.density !== null;
}

/** Reports with a density, of one callback: others measured the same on samples of their own. */
function measured(run: Run): Entry[] {
  const having = run.entries.filter(has);
  const first = having.find((entry) => entry.kind === "spectrum") ?? having[0];
  return having.filter((entry) => entry.callback === first?.callback);
}

function measuredAt(run: Run, step: number): Entry | null {
  return entryAt(measured(run), step);
}

/** One axis that holds all nodes of all runs, so that runs and steps can be compared. */
function commonAxis(runs: Run[]): Axis | null {
  const nodes = runs.flatMap((run) => measured(run).flatMap((entry) => entry.density?.nodes ?? [])).filter(Number.isFinite);
  if (nodes.length === 0) return null;
  const least = nodes.reduce((a, b) => Math.min(a, b), 0);
  const most = nodes.reduce((a, b) => Math.max(a, b), 0);
  const unit = unitBelow(Math.max(-least, most), DECADES_BELOW);
  return { unit, low: symlog(least, unit) - 6 * KERNEL, high: symlog(most, unit) + 6 * KERNEL };
}

/** The run in focus and its neighbours. */
function chosen(runs: Run[], focus: Run | undefined, count: number): Run[] {
  const start = Math.max(0, Math.min(runs.findIndex((run) => run === focus), runs.length - count));
  return runs.slice(start, start + count);
}

/**
 * Number of eigenvalues around each place: within what the measurement resolves there, and within the
 * kernel of the axis, whichever is wider. What lies closer to zero than is resolved is one bulk.
 */
function heights(of: Density, weights: number[], count: number, axis: Axis, grid: number[]): number[] {
  return grid.map((u) => {
    const x = inverse(u, axis.unit);
    const width = Math.hypot(of.bandwidth, KERNEL * Math.LN10 * (Math.abs(x) + axis.unit));
    let sum = 0;
    of.nodes.forEach((node, i) => {
      const distance = (x - node) / width;
      if (Math.abs(distance) < 6) sum += (weights[i] ?? 0) * Math.exp(-0.5 * distance * distance);
    });
    return count * sum;
  });
}

function gridOf(axis: Axis): number[] {
  return Array.from({ length: POINTS }, (_, i) => axis.low + ((axis.high - axis.low) * i) / (POINTS - 1));
}

/** Logarithmic, zero where there is nothing. */
function lifted(count: number): number {
  return Math.log10(1 + Math.max(0, count));
}

function curve(run: Run, entry: Entry, of: Density, axis: Axis): CurvePoint[] {
  const grid = gridOf(axis);
  const count = entry.scalars.get("num_parameters") ?? 1;
  const whole = heights(of, of.weights, count, axis, grid);
  const probes = of.probes.map((weights) => heights(of, weights, count, axis, grid));
  return grid.map((u, i) => {
    const value = whole[i] ?? 0;
    const error = 2 * standardError(probes.map((probe) => probe[i] ?? 0));
    const ends = Number.isNaN(error) ? [value, value] : [value - error, value + error];
    return { run: run.name, colour: run.colour, step: entry.step, u, height: value, low: ends[0] ?? value, high: ends[1] ?? value };
  });
}

/** Of the mean over groups of probes; unknown of fewer than two. */
function standardError(values: number[]): number {
  if (values.length < 2) return Number.NaN;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

function curveAt(run: Run, axis: Axis, step: number): CurvePoint[] {
  const entry = measuredAt(run, step);
  return entry?.density ? curve(run, entry, entry.density, axis) : [];
}

function valueAxis(axis: Axis): Plot.ScaleOptions {
  const ends = [inverse(axis.low, axis.unit), inverse(axis.high, axis.unit)] as const;
  const ticks = symlogTicks(ends[0], ends[1], axis.unit);
  const words = new Map(ticks.map((tick) => [symlog(tick, axis.unit), shortNumber(tick)]));
  return {
    domain: [axis.low, axis.high],
    ticks: ticks.map((tick) => symlog(tick, axis.unit)),
    tickFormat: (u: number) => words.get(u) ?? "",
    label: `eigenvalue (linear within ±${shortNumber(axis.unit)})`,
  };
}

function inverse(u: number, unit: number): number {
  return Math.sign(u) * unit * (10 ** Math.abs(u) - 1);
}

function ridges(run: Run, axis: Axis, width: number, step: number): SVGSVGElement {
  const entries = thinned(measured(run), MOST_RIDGES);
  const space = 1.4;
  const lines = entries.flatMap((entry, row) =>
    curve(run, entry, entry.density as Density, axis).map((p) => ({ ...p, base: row * space, top: row * space + lifted(p.height) })),
  );
  const marked = measuredAt(run, step);
  const chart = Plot.plot({
    width,
    height: Math.max(160, 70 + entries.length * 26),
    marginLeft: 58,
    style: FONT,
    x: valueAxis(axis),
    y: {
      label: "step",
      ticks: entries.map((_, row) => row * space),
      tickFormat: (y: number) => shortNumber(entries[Math.round(y / space)]?.step ?? Number.NaN),
    },
    marks: [
      Plot.areaY(lines, { x: "u", y1: "base", y2: "top", z: "step", fill: run.colour, fillOpacity: 0.25 }),
      Plot.line(lines, { x: "u", y: "top", z: "step", stroke: run.colour, strokeWidth: 1 }),
      Plot.line(
        lines.filter((p) => p.step === marked?.step),
        { x: "u", y: "top", z: "step", stroke: "currentColor", strokeWidth: 2 },
      ),
    ],
  }) as SVGSVGElement;
  chart.classList.add("plot");
  return chart;
}

/** At most so many, the first and the last among them. */
function thinned<T>(items: T[], most: number): T[] {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))] as T);
}

function detail(curves: CurvePoint[], runs: Run[], axis: Axis, width: number, step: number): SVGSVGElement {
  const found = runs.slice(0, MOST_CURVES).flatMap((run) => eigenvaluesAt(run, step, axis));
  const isOne = new Set(curves.map((p) => p.run)).size === 1;
  const chart = Plot.plot({
    width,
    height: 310,
    marginTop: 30,
    marginLeft: 58,
    style: FONT,
    x: valueAxis(axis),
    y: {
      label: "eigenvalues",
      grid: true,
      ticks: [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9].map(lifted),
      tickFormat: (y: number) => shortNumber(Math.round(10 ** y - 1)),
    },
    marks: [
      Plot.areaY(
        curves.filter((p) => p.high > p.low),
        { x: "u", y1: (p: CurvePoint) => lifted(p.low), y2: (p: CurvePoint) => lifted(p.high), z: "run", fill: "colour", fillOpacity: 0.25 },
      ),
      isOne ? Plot.areaY(curves, { x: "u", y: (p: CurvePoint) => lifted(p.height), fill: "colour", fillOpacity: 0.1 }) : null,
      Plot.line(curves, { x: "u", y: (p: CurvePoint) => lifted(p.height), z: "run", stroke: "colour", strokeWidth: 1.6 }),
      Plot.dot(found, { x: "u", y: 0, dy: -5, fill: "colour", symbol: "triangle", r: 4 }),
      Plot.tip(found, Plot.pointerX({ x: "u", y: 0, title: "words" })),
      Plot.ruleY([0]),
    ],
  }) as SVGSVGElement;
  chart.classList.add("plot");
  return chart;
}

function eigenvaluesAt(run: Run, step: number, axis: Axis): { u: number; colour: string; words: string }[] {
  const entry = measuredAt(run, step);
  if (!entry) return [];
  return [...entry.scalars]
    .filter(([tag]) => /^eig(_min)?_\d+$/.test(tag))
    .map(([tag, value]) => {
      const bound = entry.scalars.get(`${tag}_bound`);
      const words = `${run.name}\neigenvalue ${shortNumber(value)}${bound === undefined ? "" : ` ± ${shortNumber(bound)}`}`;
      return { u: symlog(value, axis.unit), colour: run.colour, words };
    });
}

function nodesAt(runs: Run[], store: Store): Row[] {
  return runs.flatMap((run) => {
    const looked = measuredAt(run, store.state.step);
    return measured(run).flatMap((entry) => {
      const of = entry.density as Density;
      const count = entry.scalars.get("num_parameters") ?? Number.NaN;
      return of.nodes.map((node, i) => ({
        run: run.name,
        callback: entry.callback,
        step: entry.step,
        shown: entry === looked ? 1 : 0,
        eigenvalue: node,
        share: of.weights[i] ?? Number.NaN,
        parameters: count,
      }));
    });
  });
}

function missing(runs: Run[]): string {
  const counts = runs.flatMap((run) => run.entries.filter((e) => e.failure === null && e.kind === "spectrum").map((e) => e.scalars.get("num_hvps") ?? 0));
  if (counts.length === 0) return "No density yet: HessianSpectrum() and CriticalPoint() measure one.";
  return (
    `No report here has a density: it takes 14 products, and these had at most ${Math.max(...counts)}, for that is what the ` +
    "overhead allows in so short a fit. Train longer, or give HessianSpectrum(max_overhead=None, every_n_epochs=1)."
  );
}
