// Quantities over the steps of trainings, with their errors; all such charts share the axis of steps.

import * as Plot from "@observablehq/plot";
import { shortNumber, symlog, symlogTicks, unitBelow, withInterval } from "./axes";
import type { Row } from "./export";
import type { Point } from "./quantities";
import type { Store } from "./state";

/** Runs from which on error bars would hide the curves. */
const CROWD = 12;

export interface Lines {
  points: Point[];
  dash?: string;
  opacity?: number;
  width?: number;
  /** Whether the interval is drawn. */
  hasError?: boolean;
  /** Whether it is a line to compare with, which does not make the axis much longer. */
  isGuide?: boolean;
  /** Whether points stand alone: a line between them would be read as a course. */
  isLoose?: boolean;
  symbol?: (point: Point) => string;
}

export interface LineOptions {
  label: string;
  scale?: "symlog" | "log" | "linear";
  height?: number;
  /** Ends of the axis, where all that can be is to be seen. */
  ends?: [number, number];
  /** Whether the last point of each family carries its label. */
  hasNames?: boolean;
  /** Horizontal lines with a meaning. */
  rules?: { y: number; words: string }[];
  /** Whether the steps are written below it, or below a chart that follows. */
  hasSteps?: boolean;
}

export const FONT = { fontSize: "11px" };
/** How much longer than its curves a line to compare with may make an axis. */
const FAR = 30;
const MARGIN = { left: 58, right: 14 };

/** One chart of several families of curves. */
export function lineChart(store: Store, width: number, families: Lines[], options: LineOptions): SVGSVGElement {
  const all = families.flatMap((family) => family.points);
  const scale = options.scale ?? "linear";
  const span = domain(store);
  const isShown = (p: Point): boolean => scale !== "log" || p.value > 0;
  const isInside = (p: Point): boolean => p.step >= span[0] && p.step <= span[1] && isShown(p);
  const visible = all.filter(isInside);
  const near = (isGuide: boolean): Point[] =>
    families.filter((family) => (family.isGuide ?? false) === isGuide).flatMap((family) => neighbours(family.points, span).filter(isShown));
  const ends = options.ends ?? range(near(false), near(true), scale, options.rules ?? []);
  const y = axisOf(scale, ends);
  const isCrowded = store.shownRuns.length > CROWD;
  // what has no logarithm interrupts a curve, and an interval that reaches below zero has no lower end
  const place = (value: number): number => (scale === "log" && value <= 0 ? Number.NaN : y.place(value));
  const placeEnd = (value: number): number => y.place(Math.min(Math.max(value, y.low), y.high));
  const marks: Plot.Markish[] = [];
  for (const rule of options.rules ?? []) {
    marks.push(Plot.ruleY([place(rule.y)], { strokeDasharray: "5,4", strokeOpacity: 0.8 }));
    // below the line where there is no room above it
    const isHigh = place(rule.y) > 0.75 * y.place(y.high) + 0.25 * y.place(y.low);
    marks.push(Plot.text([rule.words], { y: place(rule.y), frameAnchor: "left", dx: 4, dy: isHigh ? 8 : -7, textAnchor: "start", fillOpacity: 0.75 }));
  }
  for (const family of families) {
    const points = family.points;
    const opacity = family.opacity ?? 1;
    if (family.hasError && !isCrowded) {
      marks.push(errorBars(points.filter(isShown), placeEnd, opacity));
      marks.push(boundBars(points.filter(isShown), placeEnd, opacity));
    }
    if (!family.isLoose || isCrowded) marks.push(
      Plot.line(points, {
        x: "step",
        y: (p: Point) => place(p.value),
        z: (p: Point) => JSON.stringify([p.run, p.callback, p.label]),
        stroke: "colour",
        strokeWidth: family.width ?? 1.6,
        strokeOpacity: opacity,
        strokeDasharray: family.dash ?? "none",
      }),
    );
    const alone = single(points);
    const dotted = isCrowded || family.dash ? alone : points;
    if (dotted.length > 0) {
      marks.push(
        Plot.dot(dotted.filter(isShown), {
          x: "step",
          y: (p: Point) => place(p.value),
          fill: "colour",
          fillOpacity: opacity,
          r: family.symbol ? 4.5 : 2.2,
          symbol: family.symbol ? (p: Point) => family.symbol?.(p) ?? "circle" : "circle",
        }),
      );
    }
  }
  if (options.hasNames) {
    const last = families.flatMap((family) => {
      const visible = family.points.filter(isInside);
      return visible.sort((a, b) => b.step - a.step).slice(0, 1);
    });
    marks.push(Plot.text(last, { x: "step", y: (p: Point) => place(p.value), text: "label", dy: -9, dx: -4, textAnchor: "end" }));
  }
  marks.push(tip(visible, place));
  const chart = Plot.plot({
    width,
    height: options.height ?? 220,
    style: FONT,
    marginLeft: MARGIN.left,
    marginRight: MARGIN.right,
    marginBottom: options.hasSteps === false ? 12 : 34,
    clip: true,
    x: {
      type: "linear",
      domain: span,
      label: options.hasSteps === false ? null : "step",
      ticks: options.hasSteps === false ? [] : Math.max(3, Math.min(8, width / 90)),
      tickFormat: shortNumber,
    },
    y: { type: "linear", domain: [y.place(y.low), y.place(y.high)], ticks: y.ticks.map(y.place), tickFormat: y.words, label: options.label, grid: true },
    marks,
  }) as SVGSVGElement;
  chart.classList.add("plot");
  follow(chart, store, width);
  return chart;
}

/** The numbers of curves, as a table. */
export function lineRows(families: Lines[], name: string): Row[] {
  return families.flatMap((family) =>
    family.points.map((p) => ({
      run: p.run,
      callback: p.callback,
      quantity: p.label || name,
      step: p.step,
      value: p.value,
      // nothing where nothing is known
      low: p.low < p.high ? p.low : Number.NaN,
      high: p.low < p.high ? p.high : Number.NaN,
    })),
  );
}

/** All steps that there are, or the part that is looked at. */
export function domain(store: Store): [number, number] {
  if (store.state.zoom) return store.state.zoom;
  const steps = store.shownRuns.flatMap((run) => [
    ...run.entries.map((entry) => entry.step),
    ...[...run.losses.values()].flatMap((curve) => curve.slice(-1).map((point) => point.step)),
  ]);
  const [first, last] = extent(steps);
  const end = Math.max(1, last);
  return [Math.min(0, first) - 0.01 * end, 1.01 * end];
}

/** Points within a part of the steps, and those next to it, to which lines lead out of it. */
function neighbours(points: Point[], [first, last]: [number, number]): Point[] {
  const series = Map.groupBy(points, (p) => JSON.stringify([p.run, p.callback, p.label]));
  return [...series.values()].flatMap((each) => {
    const before = each.filter((p) => p.step < first).at(-1);
    const after = each.find((p) => p.step > last);
    const inside = each.filter((p) => p.step >= first && p.step <= last);
    return inside.length > 0 ? inside : [before, after].filter((p) => p !== undefined);
  });
}

/** Those that no line leads to. */
function single(points: Point[]): Point[] {
  const series = Map.groupBy(points, (p) => JSON.stringify([p.run, p.callback, p.label]));
  return [...series.values()].filter((each) => each.length === 1).flat();
}

function errorBars(points: Point[], place: (value: number) => number, opacity: number): Plot.Markish {
  const known = points.filter((p) => p.high > p.low);
  return Plot.ruleX(known, {
    x: "step",
    y1: (p: Point) => place(p.low),
    y2: (p: Point) => place(p.high),
    stroke: "colour",
    strokeOpacity: 0.55 * opacity,
    strokeWidth: 1.2,
  });
}

/** Residual bounds, which the interval may be much wider than, as thick bars. */
function boundBars(points: Point[], place: (value: number) => number, opacity: number): Plot.Markish {
  return Plot.ruleX(
    points.filter((p) => p.bound > 0),
    {
      x: "step",
      y1: (p: Point) => place(p.value - p.bound),
      y2: (p: Point) => place(p.value + p.bound),
      stroke: "colour",
      strokeOpacity: 0.5 * opacity,
      strokeWidth: 5,
    },
  );
}

function tip(points: Point[], place: (value: number) => number): Plot.Markish {
  return Plot.tip(
    points,
    Plot.pointer({
      x: "step",
      y: (p: Point) => place(p.value),
      maxRadius: 60,
      title: (p: Point) => `${p.run}\n${p.label ? `${p.label}, ` : ""}step ${p.step}\n${words(p)}`,
    }),
  );
}

/** A residual bound is no interval: an eigenvalue lies within it, another may lie beyond. */
function words(p: Point): string {
  const isBound = p.bound > 0 && p.low === p.value - p.bound && p.high === p.value + p.bound;
  return isBound ? `${shortNumber(p.value)}, an eigenvalue within ± ${shortNumber(p.bound)}` : withInterval(p.value, p.low, p.high);
}

interface Axis {
  low: number;
  high: number;
  place: (value: number) => number;
  ticks: number[];
  words: (placed: number) => string;
}

function axisOf(scale: "symlog" | "log" | "linear", [low, high]: [number, number]): Axis {
  if (scale === "linear") {
    const ticks = niceTicks(low, high);
    return { low, high, place: (v) => v, ticks, words: shortNumber };
  }
  const unit = scale === "log" ? low : unitBelow(Math.max(Math.abs(low), Math.abs(high)), 2);
  const place = scale === "log" ? (v: number) => Math.log10(v) : (v: number) => symlog(v, unit);
  const powers = (scale === "log" ? logTicks(low, high) : symlogTicks(low, high, unit)).filter((tick) => tick >= low && tick <= high);
  const ticks = powers.length > 2 ? powers : [...new Set([...powers, ...niceTicks(low, high).filter((tick) => scale !== "log" || tick > 0)])];
  const words = new Map(ticks.map((tick) => [place(tick), shortNumber(tick)]));
  return { low, high, place, ticks, words: (placed) => words.get(placed) ?? "" };
}

function logTicks(low: number, high: number): number[] {
  const ticks: number[] = [];
  const decades = Math.log10(high / low);
  const factors = decades < 1 ? [1, 1.5, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 8));
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every) {
    for (const factor of factors) {
      const tick = Number((factor * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

function niceTicks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const ticks: number[] = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step) {
    ticks.push(Number(tick.toPrecision(12)));
  }
  return ticks;
}

/** Least and largest; zero to zero of none. */
function extent(values: number[]): [number, number] {
  const first = values[0] ?? 0;
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [first, first]);
}

/** Values with their intervals, of which a wild one does not hide the values. */
function range(points: Point[], guides: Point[], scale: string, rules: { y: number }[]): [number, number] {
  const own = points.map((p) => p.value);
  const reached = FAR * Math.max(...extent(own).map(Math.abs));
  const values = [...own, ...guides.map((p) => p.value).filter((value) => Math.abs(value) <= reached), ...rules.map((rule) => rule.y)];
  if (values.length === 0) return scale === "log" ? [0.1, 1] : [0, 1];
  const [low, high] = extent(values);
  const reach = Math.max(high - low, 0.1 * Math.abs(high), 1e-12);
  const bottom = Math.max(extent([low, ...points.map((p) => p.low)])[0], low - reach);
  const top = Math.min(extent([high, ...points.map((p) => p.high)])[1], high + reach);
  if (scale === "log") return [Math.max(Math.min(bottom, low), 0.3 * low) * 0.9 || 0.3 * low, top * 1.15];
  const room = 0.06 * (top - bottom || Math.abs(top) || 1);
  return [bottom - room, top + room];
}

const cursors = new WeakMap<SVGSVGElement, () => void>();

/** Bring the line of the step that is looked at to its place, without drawing the charts anew. */
export function moveCursors(): void {
  for (const chart of document.querySelectorAll<SVGSVGElement>("svg.plot")) cursors.get(chart)?.();
}

/** The step under the pointer becomes everybody's, a drag the part that is looked at. */
function follow(chart: SVGSVGElement, store: Store, width: number): void {
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", "14");
  cursor.setAttribute("y2", String(chart.height.baseVal.value - 14));
  cursor.setAttribute("stroke", "currentColor");
  cursor.setAttribute("stroke-dasharray", "2,3");
  cursor.setAttribute("stroke-opacity", "0.45");
  chart.append(cursor);
  const move = (): void => {
    const [first, last] = domain(store);
    const share = (store.state.step - first) / (last - first);
    const x = String(MARGIN.left + share * (width - MARGIN.left - MARGIN.right));
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", share >= 0 && share <= 1 ? "visible" : "hidden");
  };
  cursors.set(chart, move);
  move();
  const stepAt = (event: PointerEvent): number => {
    const [first, last] = domain(store);
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const share = (x - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    return first + Math.min(Math.max(share, 0), 1) * (last - first);
  };
  let from: number | null = null;
  // before the tip's own, which keeps the event to itself where a point is near
  chart.addEventListener(
    "pointerdown",
    (event) => {
      from = stepAt(event);
    },
    { capture: true },
  );
  chart.addEventListener("pointerup", (event) => {
    const [first, last] = domain(store);
    const to = stepAt(event);
    if (from !== null && Math.abs(to - from) > 0.03 * (last - first)) {
      store.set({ zoom: [Math.min(from, to), Math.max(from, to)] });
    }
    from = null;
  });
  chart.addEventListener("pointermove", (event) => store.set({ step: nearestStep(store, stepAt(event)) }));
  chart.addEventListener("dblclick", () => store.set({ zoom: null }));
}

/** The step of a report that is nearest. */
export function nearestStep(store: Store, step: number): number {
  const steps = store.shownRuns.flatMap((run) => run.entries.map((entry) => entry.step));
  return steps.reduce((best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best), steps[0] ?? 0);
}
