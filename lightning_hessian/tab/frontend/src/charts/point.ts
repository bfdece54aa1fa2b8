// What kind of point the weights are at.

import * as Plot from "@observablehq/plot";
import { type Chart, caption, nothing } from "../chart";
import type { Escape } from "../entries";
import { FONT, type Lines, lineChart, lineRows } from "../lines";
import { POINTS_FIRST, type Point, points, reportAt } from "../quantities";
import { shortNumber } from "../axes";
import type { Row } from "../export";

const SYMBOLS = new Map([["minimum", "triangle"], ["saddle", "diamond"], ["flat", "square"]]);
const SHARE = "index_relative_1e-3";

export const point: Chart = {
  id: "kind-of-point",
  title: "Kind of point",
  reading:
    "How steep the loss still is, and which share of its curvature points down: near a minimum both vanish, near a saddle " +
    "the gradient does and the share does not. Symbols: circle not critical, diamond saddle, triangle minimum, square flat.",
  follows: ["zoom", "step", "focus"],
  draw(store, width) {
    const runs = store.shownRuns;
    const gradient = points(runs, "gradient_norm", "gradient norm", POINTS_FIRST);
    if (gradient.length === 0) return nothing("Nothing yet: CriticalPoint() tells what kind of point the weights are at.");
    const kinds = new Map(
      runs.flatMap((run) => run.entries.filter((e) => e.point).map((e) => [JSON.stringify([run.name, e.step]), e.point ?? ""] as const)),
    );
    const symbol = (p: Point): string => SYMBOLS.get(kinds.get(JSON.stringify([p.run, p.step])) ?? "") ?? "circle";
    const norms: Lines[] = [{ points: gradient, symbol }];
    const content: Node[] = [
      caption("norm of the gradient"),
      lineChart(store, width, norms, { label: "|g|", scale: "log", height: 170, hasSteps: false }),
    ];
    const rows: Row[] = lineRows(norms, "gradient norm");
    const left: Lines[] = [{ points: points(runs, "gradient_left_0.01", "gradient left within 1 %") }];
    if (left[0]?.points.length) {
      content.push(
        caption("gradient that is left within 1 % of the weights' length: below .05 a critical point is near"),
        lineChart(store, width, left, { label: "left", height: 120, hasSteps: false, ends: [0, 1.05], rules: [{ y: 0.05, words: "near" }] }),
      );
      rows.push(...lineRows(left, ""));
    }
    const shares = runs.flatMap((run) => {
      const own = points([run], SHARE, "share of negative eigenvalues");
      return own.length > 0 ? own : points([run], "negative_fraction", "share of negative eigenvalues");
    });
    const share: Lines[] = [{ points: shares, hasError: true, isLoose: true }];
    if (share[0]?.points.length) {
      content.push(caption("share of negative eigenvalues: it lies somewhere in its bracket, the dot is no more than an estimate"), lineChart(store, width, share, { label: "share", height: 150, ends: [0, 1] }));
      rows.push(...lineRows(share, ""));
    }
    const run = store.focusRun;
    const entry = run ? reportAt(run, store.state.step, (each) => each.escape !== null) : null;
    if (run && entry?.escape) {
      content.push(caption(`run ${run.name}, step ${entry.step}: down the most negative direction; dashed, as foreseen`), way(entry.escape, run.colour, width));
    }
    const words = run ? reportAt(run, store.state.step, (each) => each.texts.has("verdict")) : null;
    if (run && words) content.push(caption(`run ${run.name}, step ${words.step}: ${words.texts.get("verdict")?.join(" ") ?? ""}`));
    return { content, rows };
  },
};

function way(escape: Escape, colour: string, width: number): SVGSVGElement {
  const rows = escape.distance.map((distance, i) => ({ distance, loss: escape.loss[i] ?? Number.NaN, predicted: escape.predicted[i] ?? Number.NaN }));
  const losses = rows.map((row) => row.loss).filter(Number.isFinite);
  const low = Math.min(...losses);
  const high = Math.max(...losses);
  const chart = Plot.plot({
    width,
    height: 170,
    marginLeft: 58,
    style: FONT,
    x: { label: "distance along it", tickFormat: shortNumber },
    y: { label: "loss", domain: [low - 0.3 * (high - low), high + 0.1 * (high - low)], grid: true, tickFormat: shortNumber },
    marks: [
      Plot.line(rows, { x: "distance", y: "predicted", stroke: colour, strokeDasharray: "5,4", clip: true }),
      Plot.line(rows, { x: "distance", y: "loss", stroke: colour, strokeWidth: 2 }),
      Plot.dot(rows, { x: "distance", y: "loss", fill: colour, r: 2.5, tip: true }),
    ],
  }) as SVGSVGElement;
  chart.classList.add("plot");
  return chart;
}
