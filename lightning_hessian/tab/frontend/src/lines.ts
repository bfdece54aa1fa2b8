// Quantities over the steps of trainings, with their errors; all such charts share the axis of steps.

import * as Plot from "@observablehq/plot";
import { shortNumber, withInterval } from "./axes";
import type { Row } from "./export";
import type { Point } from "./quantities";
import type { Store } from "./state";
import { MARGIN, domain, follow } from "./steps";
import { type Axis, type Scale, axisOf, range } from "./value_axis";

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
  scale?: Scale;
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

/** One chart of several families of curves. */
export function lineChart(store: Store, width: number, families: Lines[], options: LineOptions): SVGSVGElement {
  const scale = options.scale ?? "linear";
  const span = domain(store);
  const isShown = (p: Point): boolean => scale !== "log" || p.value > 0;
  const reached = (isGuide: boolean): Point[] =>
    families.filter((family) => (family.isGuide ?? false) === isGuide).flatMap((family) => near(family.points, span).filter(isShown));
  const y = axisOf(scale, options.ends ?? range(reached(false), reached(true), scale, options.rules ?? []));
  // what has no logarithm interrupts a curve, and an interval that reaches below zero has no lower end
  const place = (value: number): number => (scale === "log" && value <= 0 ? Number.NaN : y.place(value));
  const placeEnd = (value: number): number => y.place(Math.min(Math.max(value, y.low), y.high));
  const isCrowded = store.shownRuns.length > CROWD;
  const isVisible = (p: Point): boolean => p.step >= span[0] && p.step <= span[1] && isShown(p);
  const drawn = families.map((family) => ({ ...family, hasError: family.hasError && !isCrowded, isLoose: family.isLoose && !isCrowded }));
  const marks = [
    ...(options.rules ?? []).flatMap((rule) => ruleMarks(rule, y)),
    ...drawn.flatMap((family) => [
      ...(family.hasError ? errorMarks(family.points.filter(isShown), placeEnd, family.opacity ?? 1) : []),
      ...(family.isLoose ? [] : [curveMark(family, place)]),
      dotMark(family, isCrowded || family.dash ? single(family.points) : family.points, place),
    ]),
    ...(options.hasNames ? [nameMark(families, isVisible, place)] : []),
    tip(families.flatMap((family) => family.points).filter(isVisible), place),
  ];
  const hasSteps = options.hasSteps !== false;
  const chart = Plot.plot({
    width,
    height: options.height ?? 220,
    style: FONT,
    marginLeft: MARGIN.left,
    marginRight: MARGIN.right,
    marginBottom: hasSteps ? 34 : 12,
    clip: true,
    x: {
      type: "linear",
      domain: span,
      label: hasSteps ? "step" : null,
      ticks: hasSteps ? Math.max(3, Math.min(8, width / 90)) : [],
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

/** What tells one curve from another. */
function keyOf(p: Point): string {
  return JSON.stringify([p.run, p.callback, p.label]);
}

function curvesOf(points: Point[]): Point[][] {
  return [...Map.groupBy(points, keyOf).values()];
}

/** Points within a part of the steps, or, of a curve without any, those next to it: a line leads through. */
function near(points: Point[], [first, last]: [number, number]): Point[] {
  return curvesOf(points).flatMap((curve) => {
    const inside = curve.filter((p) => p.step >= first && p.step <= last);
    const beside = [curve.filter((p) => p.step < first).at(-1), curve.find((p) => p.step > last)];
    return inside.length > 0 ? inside : beside.filter((p) => p !== undefined);
  });
}

/** Those that no line leads to. */
function single(points: Point[]): Point[] {
  return curvesOf(points).filter((curve) => curve.length === 1).flat();
}

type Place = (value: number) => number;

/** A horizontal line, and its word, below it where there is no room above. */
function ruleMarks(rule: { y: number; words: string }, axis: Axis): Plot.Markish[] {
  const y = axis.place(rule.y);
  const isHigh = y > 0.75 * axis.place(axis.high) + 0.25 * axis.place(axis.low);
  return [
    Plot.ruleY([y], { strokeDasharray: "5,4", strokeOpacity: 0.8 }),
    Plot.text([rule.words], { y, frameAnchor: "left", dx: 4, dy: isHigh ? 8 : -7, textAnchor: "start", fillOpacity: 0.75 }),
  ];
}

function curveMark(family: Lines, place: Place): Plot.Markish {
  return Plot.line(family.points, {
    x: "step",
    y: (p: Point) => place(p.value),
    z: keyOf,
    stroke: "colour",
    strokeWidth: family.width ?? 1.6,
    strokeOpacity: family.opacity ?? 1,
    strokeDasharray: family.dash ?? "none",
  });
}

function dotMark(family: Lines, points: Point[], place: Place): Plot.Markish {
  return Plot.dot(points, {
    x: "step",
    y: (p: Point) => place(p.value),
    fill: "colour",
    fillOpacity: family.opacity ?? 1,
    r: family.symbol ? 4.5 : 2.2,
    symbol: family.symbol ?? "circle",
  });
}

/** Intervals as thin bars; residual bounds, which these may be much wider than, as thick ones. */
function errorMarks(points: Point[], place: Place, opacity: number): Plot.Markish[] {
  const known = points.filter((p) => p.high > p.low);
  const bounded = points.filter((p) => p.bound > 0);
  const ends = (low: (p: Point) => number, high: (p: Point) => number, width: number) => ({
    x: "step",
    y1: (p: Point) => place(low(p)),
    y2: (p: Point) => place(high(p)),
    stroke: "colour",
    strokeOpacity: 0.55 * opacity,
    strokeWidth: width,
  });
  return [
    Plot.ruleX(known, ends((p) => p.low, (p) => p.high, 1.2)),
    Plot.ruleX(bounded, ends((p) => p.value - p.bound, (p) => p.value + p.bound, 5)),
  ];
}

/** The label of each family at its last point. */
function nameMark(families: Lines[], isVisible: (p: Point) => boolean, place: Place): Plot.Markish {
  const last = families.flatMap((family) => family.points.filter(isVisible).sort((a, b) => b.step - a.step).slice(0, 1));
  return Plot.text(last, { x: "step", y: (p: Point) => place(p.value), text: "label", dy: -9, dx: -4, textAnchor: "end" });
}

function tip(points: Point[], place: Place): Plot.Markish {
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

