// The largest eigenvalue with its companions, the optimiser's edge, and the loss beneath.

import { type Chart, caption, nothing } from "../chart";
import type { Run } from "../entries";
import { type Lines, lineChart, lineRows } from "../lines";
import { type Point, points, samplesOf } from "../quantities";

const COMPANIONS = 8;
/** Runs above which the companions would hide the largest ones. */
const FEW = 4;

export const largest: Chart = {
  id: "largest-eigenvalue",
  title: "Largest eigenvalue, and the optimiser's edge",
  reading:
    "Solid: the sharpest curvature of the loss, with its interval (thin) and its numerical bound (thick). Dashed: what the " +
    "optimiser's step size can stand; a run that is at its dashed line, or above it, is at its edge of stability.",
  isWide: true,
  follows: ["zoom", "scale"],
  draw(store, width) {
    const runs = store.shownRuns;
    const first = points(runs, "eig_1", "largest eigenvalue");
    if (first.length === 0) return nothing(missing(store.chosenRuns));
    const edges = points(runs, "edge_eig_1", "edge of the optimiser");
    const margins = edgeShares(runs);
    const families: Lines[] = [
      { points: edges, dash: "6,4", width: 1.4, isGuide: true },
      { points: first, hasError: true, width: 2.2 },
    ];
    if (runs.length <= FEW) {
      for (let place = 2; place <= COMPANIONS; place += 1) {
        families.unshift({ points: points(runs, `eig_${place}`, `eigenvalue ${place}`), opacity: 0.35, width: 1 });
      }
    }
    families.unshift({ points: points(runs, "eig_min_1", "most negative eigenvalue"), dash: "1,3", hasError: true, opacity: 0.8 });
    const losses = lossCurves(runs);
    const content: Node[] = [lineChart(store, width, families, { label: "eigenvalue", scale: store.state.scale, height: 300, hasSteps: false })];
    const rows = lineRows(families, "");
    content.push(caption(`measured on ${samplesOf(runs, "eig_1")}`));
    if (margins.length > 0) {
      const share: Lines[] = [{ points: margins, hasError: true, width: 2 }];
      const isWide = margins.some((p) => p.value > 10);
      content.push(
        caption(
          "share of the edge: sharpness over what the optimiser can stand. Bars: of one step size (SGD) the interval for the " +
            "whole training set, of others the numerical error alone, on the samples measured",
        ),
        lineChart(store, width, share, {
          label: "share",
          scale: isWide ? "symlog" : "linear",
          height: 140,
          hasSteps: false,
          rules: [{ y: 1, words: "edge: steps grow above" }],
        }),
      );
      rows.push(...lineRows(share, "share of the edge"));
    }
    const without = runs.filter((run) => !margins.some((p) => p.run === run.name)).map((run) => run.name);
    if (without.length > 0) {
      content.push(
        caption(
          `No edge of the optimiser in ${without.length < 4 ? without.join(", ") : `${without.length} runs`}: of SGD with one learning rate it ` +
            "is there by itself, of Adam and others with HessianSpectrum(edge=True).",
        ),
      );
    }
    const loss: Lines[] = [{ points: losses }];
    content.push(
      caption(losses.some((p) => p.callback === "") ? `training loss, as you logged it: ${named(losses)}` : "training loss on the samples measured"),
      lineChart(store, width, loss, { label: "loss", height: 140 }),
    );
    rows.push(...lineRows(loss, "loss"));
    return { content, rows };
  },
};

/** Sharpness over threshold, which compares runs of all optimisers. */
function edgeShares(runs: Run[]): Point[] {
  const found: Point[] = [];
  for (const sharpness of points(runs, "edge_sharpness")) {
    const entry = runs
      .find((run) => run.name === sharpness.run)
      ?.entries.find((each) => each.step === sharpness.step && each.callback === sharpness.callback);
    const threshold = entry?.scalars.get("edge_threshold");
    if (threshold === undefined || threshold === 0) continue;
    const [value, low, high] = [sharpness.value, sharpness.low, sharpness.high].map((each) => each / threshold) as [number, number, number];
    found.push({ ...sharpness, label: "share of the edge", value, low, high, bound: 0 });
  }
  return found;
}

/** What the user logged, in its own tag with most points, or else the loss of the reports. */
function lossCurves(runs: Run[]): Point[] {
  return runs.flatMap((run) => {
    const own = [...run.losses].sort(([a, x], [b, y]) => preference(b) - preference(a) || y.length - x.length)[0];
    if (!own) return points([run], "loss", "loss");
    const [tag, curve] = own;
    const { name, colour } = run;
    return curve.map(({ step, value }) => ({ run: name, colour, callback: "", label: tag, step, value, low: value, high: value, bound: 0 }));
  });
}

/** The training's own loss before parts of it, and these before those of other data. */
function preference(tag: string): number {
  const words = tag.toLowerCase().split(/[^a-z]+/).filter((word) => word !== "");
  if (words.some((word) => OTHER_DATA.has(word))) return 0;
  const isOfTraining = words.some((word) => word === "train" || word === "training");
  return (isOfTraining ? 2 : 1) + (words.every((word) => OWN.has(word)) ? 2 : 0);
}

const OTHER_DATA = new Set(["val", "valid", "validation", "test", "eval", "dev"]);
const OWN = new Set(["train", "training", "loss", "step", "epoch"]);

/** The tags that are drawn. */
function named(losses: Point[]): string {
  return [...new Set(losses.filter((p) => p.callback === "").map((p) => p.label))].join(", ");
}

function missing(runs: Run[]): string {
  const problem = runs.flatMap((run) => run.problems)[0];
  if (problem && runs.every((run) => run.entries.length === 0)) return `No report could be read: ${problem}`;
  const failed = runs.flatMap((run) => run.entries).find((entry) => entry.failure);
  if (failed?.failure) return `No eigenvalue was measured: ${failed.failure}`;
  return "No eigenvalue yet. Add HessianSpectrum() to the Trainer's callbacks: the first report comes before the first step.";
}
