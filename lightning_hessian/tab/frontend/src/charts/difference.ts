// How much one more sample moves the loss.

import * as Plot from "@observablehq/plot";
import { shortNumber } from "../axes";
import { type Chart, caption, nothing } from "../chart";
import { element } from "../dom";
import type { Entry, Run, Surface } from "../entries";
import type { Row } from "../export";
import type { SurfaceDrawer } from "../host";
import { FONT, type Lines, lineChart, lineRows } from "../lines";
import { reportAt } from "../quantities";
import type { Store } from "../state";

const MOST_SENTENCES = 6;

interface CurvePoint {
  run: string;
  colour: string;
  step: number;
  k: number;
  value: number;
  low: number;
  high: number;
  rms: number;
}

export const difference: Chart = {
  id: "loss-difference",
  title: "Loss difference: is the training set big enough?",
  reading:
    "How far the loss moves when one more sample is added to k others, with two standard errors; the sentence says from " +
    "which size on it moves by less than the threshold that you gave.",
  follows: ["zoom", "step", "focus"],
  isWide: true,
  draw(store, width) {
    const curves = store.shownRuns.flatMap((run) => curveAt(run, store.state.step));
    if (curves.length === 0) {
      return nothing("Nothing yet: LossDifference(thresholds=[1e-4]) tells how much one more sample moves the loss.");
    }
    const content: Node[] = [];
    const run = store.focusRun;
    for (const each of store.shownRuns.slice(0, MOST_SENTENCES)) {
      const entry = reportAt(each, store.state.step, has);
      for (const words of entry?.texts.get("summary") ?? []) {
        content.push(element("p", { className: "verdict", textContent: `${each.name}, step ${entry?.step}: ${words}.` }));
      }
    }
    content.push(caption("mean absolute difference against the number of samples; dotted, the root mean square"), curveChart(curves, thresholds(store), width));
    const rows: Row[] = curves.map(({ colour: _, ...row }) => row);
    const required = families(store.shownRuns);
    if (required.some((family) => family.points.length > 0)) {
      content.push(caption("samples needed to stay below the threshold, with its 95 % interval"), lineChart(store, width, required, { label: "k*", scale: "log", height: 190, hasNames: required.length > 1, rules: sizes(store.shownRuns) }));
      rows.push(...lineRows(required, "samples needed"));
    }
    const at = run ? reportAt(run, store.state.step, (each) => each.surface !== null) : null;
    if (run && at?.surface) content.push(...surfaceParts(at.surface, JSON.stringify([run.name, at.callback, at.step]), store));
    return { content, rows };
  },
};

function has(entry: Entry): boolean {
  return entry.differences !== null;
}

function curveAt(run: Run, step: number): CurvePoint[] {
  const entry = reportAt(run, step, has);
  const of = entry?.differences;
  if (!entry || !of) return [];
  return of.k.map((k, i) => {
    const value = of.meanAbs[i] ?? Number.NaN;
    const error = 2 * (of.meanAbsError[i] ?? 0);
    return { run: run.name, colour: run.colour, step: entry.step, k, value, low: value - error, high: value + error, rms: of.rms[i] ?? Number.NaN };
  });
}

function thresholds(store: Store): number[] {
  const all = store.shownRuns.flatMap((run) => run.entries.flatMap((entry) => entry.required.map((each) => each.threshold)));
  return [...new Set(all)].filter((value) => value > 0);
}

function curveChart(curves: CurvePoint[], rules: number[], width: number): SVGSVGElement {
  const drawn = curves.filter((p) => p.value > 0);
  const least = Math.min(...drawn.map((p) => p.value));
  const chart = Plot.plot({
    width,
    height: 260,
    marginLeft: 58,
    style: FONT,
    x: { type: "log", label: "k, number of samples", tickFormat: shortNumber },
    y: { type: "log", label: "difference of the loss", grid: true, tickFormat: shortNumber },
    marks: [
      Plot.areaY(drawn, { x: "k", y1: (p: CurvePoint) => Math.max(p.low, least / 3), y2: "high", z: "run", fill: "colour", fillOpacity: 0.2 }),
      Plot.line(drawn, { x: "k", y: "value", z: "run", stroke: "colour", strokeWidth: 2 }),
      Plot.line(
        drawn.filter((p) => p.rms > 0),
        { x: "k", y: "rms", z: "run", stroke: "colour", strokeDasharray: "1,3" },
      ),
      Plot.ruleY(rules, { strokeDasharray: "5,4" }),
      Plot.text(rules, { y: (y: number) => y, text: (y: number) => `threshold ${shortNumber(y)}`, frameAnchor: "left", textAnchor: "start", dx: 4, dy: -6 }),
      Plot.tip(
        drawn,
        Plot.pointerX({
          x: "k",
          y: "value",
          title: (p: CurvePoint) => `${p.run}, step ${p.step}\nk = ${shortNumber(p.k)}\n${shortNumber(p.value)} (${shortNumber(p.low)} to ${shortNumber(p.high)})`,
        }),
      ),
    ],
  }) as SVGSVGElement;
  chart.classList.add("plot");
  return chart;
}

/** How many samples there are, where all runs have as many. */
function sizes(runs: Run[]): { y: number; words: string }[] {
  const entries = runs.flatMap((run) => run.entries.filter(has));
  const counts = new Set(entries.map((entry) => entry.scalars.get("num_samples") ?? Number.NaN));
  const [count] = counts;
  return counts.size === 1 && count ? [{ y: count, words: `${shortNumber(count)} samples measured: below this line they are enough` }] : [];
}

/** k* of each threshold over training. */
function families(runs: Run[]): Lines[] {
  const tags = new Set(runs.flatMap((run) => run.entries.flatMap((entry) => entry.required.map((each) => each.threshold))));
  return [...tags].map((threshold) => ({
    points: runs.flatMap((run) => {
      const found = run.entries.flatMap((entry) => {
        const each = entry.required.find((one) => one.threshold === threshold);
        return each ? [{ entry, each }] : [];
      });
      const label = `below ${shortNumber(threshold)}`;
      return found.map(({ entry, each }) => ({
        run: run.name, colour: run.colour, callback: entry.callback, label,
        step: entry.step, value: each.size, low: each.lower, high: each.upper, bound: 0,
      }));
    }),
    hasError: true,
  }));
}

/** Surfaces that were drawn: they stay when the card is drawn anew. */
const drawn = new Map<string, HTMLElement>();
let isWanted = false;

/** Drawn once it is asked for, as what draws it is large; from then on at each step that has one. */
function surfaceParts(surface: Surface, key: string, { state }: Store): Node[] {
  const words = caption(`the loss on a plane through the weights (${surface.directions})`);
  const place = drawn.get(key) ?? element("div", { className: "surface" });
  const show = async (): Promise<void> => {
    drawn.set(key, place);
    place.textContent = "loading …";
    try {
      const drawer = await loader();
      place.replaceChildren();
      drawer.draw(place, { x: surface.x, y: surface.y, z: surface.loss }, state.isDark);
    } catch (error) {
      place.textContent = `The surface cannot be drawn: ${error instanceof Error ? error.message : String(error)}.`;
    }
  };
  if (isWanted) {
    if (!drawn.has(key)) void show();
    return [words, place];
  }
  const button = element("button", { className: "show", textContent: "show the surface" });
  button.onclick = () => {
    isWanted = true;
    button.remove();
    void show();
  };
  return [words, button, place];
}

let loader: () => Promise<SurfaceDrawer> = () => Promise.reject(new Error("no page has begun"));

/** Whence comes what draws in three dimensions; the page says. */
export function drawSurfacesBy(load: typeof loader): void {
  loader = load;
}
