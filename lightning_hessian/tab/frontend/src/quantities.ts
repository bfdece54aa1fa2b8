// A number of a report with what is known of its error, by the tags that stand beside it.

import type { Entry, Run } from "./entries";

export interface Point {
  run: string;
  colour: string;
  callback: string;
  label: string;
  step: number;
  value: number;
  /** Ends of the interval, both of the value itself where none is known. */
  low: number;
  high: number;
  /** Residual bound of an eigenvalue, zero where there is none. */
  bound: number;
}

const STANDARD_ERRORS = 2;

/** Intervals before standard errors before bounds. */
export function interval(entry: Entry, tag: string): [number, number] {
  const value = entry.scalars.get(tag) ?? Number.NaN;
  // a layer may be called as an end of another's interval would be
  const isOfLayer = tag.includes("/");
  const low = isOfLayer ? undefined : entry.scalars.get(`${tag}_lower`);
  const high = isOfLayer ? undefined : entry.scalars.get(`${tag}_upper`);
  if (low !== undefined && high !== undefined) return [low, high];
  const error = entry.scalars.get(errorTag(tag, "standard_error"));
  if (error !== undefined) return [value - STANDARD_ERRORS * error, value + STANDARD_ERRORS * error];
  const bound = entry.scalars.get(errorTag(tag, "bound")) ?? 0;
  return [value - bound, value + bound];
}

/** Of a block `eig_1/<name>` the bound is `eig_1_bound/<name>`, of its trace it stands at the end. */
function errorTag(tag: string, kind: string): string {
  const slash = tag.indexOf("/");
  return kind === "bound" && slash >= 0
    ? `${tag.slice(0, slash)}_bound${tag.slice(slash)}`
    : `${tag}_${kind}`;
}

/** Callbacks that measure the same, each on samples of its own: one kind of them is drawn. */
const SPECTRA_FIRST = ["spectrum", "critical_point", "loss_difference"];
export const POINTS_FIRST = ["critical_point", "spectrum"];

/** A quantity over steps, of each run by the first kind of callback that has it. */
export function points(runs: Run[], tag: string, label = "", kinds = SPECTRA_FIRST): Point[] {
  return runs.flatMap((run) => {
    const having = run.entries.filter((entry) => entry.failure === null && entry.scalars.has(tag));
    const kind = kinds.find((each) => having.some((entry) => entry.kind === each));
    const chosen = kind === undefined ? having : having.filter((entry) => entry.kind === kind);
    const isOne = new Set(chosen.map((entry) => entry.callback)).size === 1;
    return chosen.map((entry) => {
      const [low, high] = interval(entry, tag);
      return {
        run: run.name,
        colour: run.colour,
        callback: entry.callback,
        label: isOne ? label : `${label} (${entry.callback})`,
        step: entry.step,
        value: entry.scalars.get(tag) as number,
        low,
        high,
        bound: entry.scalars.get(errorTag(tag, "bound")) ?? 0,
      };
    });
  });
}

/** On how many samples, and by which callbacks, a quantity was measured. */
export function samplesOf(runs: Run[], tag: string): string {
  const found = new Set<string>();
  for (const point of points(runs, tag)) {
    const run = runs.find((each) => each.name === point.run);
    const entry = run?.entries.find((each) => each.step === point.step && each.callback === point.callback);
    found.add(`${entry?.scalars.get("num_samples") ?? "?"} samples (${point.callback})`);
  }
  const all = [...found];
  return all.length <= 3 ? all.join(", ") : `${all.slice(0, 3).join(", ")} and others`;
}

/** Tags of a family such as `trace/<name>`: the names, in the order in which they first appear. */
export function members(runs: Run[], family: string): string[] {
  const names = new Set<string>();
  for (const run of runs) {
    for (const entry of run.entries) {
      for (const tag of entry.scalars.keys()) {
        if (tag.startsWith(family) && !tag.endsWith("_standard_error")) names.add(tag.slice(family.length));
      }
    }
  }
  return [...names];
}

/** All quantities that are no errors of others. */
export function allTags(runs: Run[]): string[] {
  const tags = new Set<string>();
  for (const run of runs) for (const entry of run.entries) for (const tag of entry.scalars.keys()) tags.add(tag);
  const isError = (tag: string) => /(_lower|_upper|_standard_error|_bound)($|\/)/.test(tag);
  return [...tags].filter((tag) => !isError(tag) && tag !== "failed").sort();
}

/** The report at a step, or the last one before it, or else the first. */
export function entryAt(entries: Entry[], step: number): Entry | null {
  return entries.filter((entry) => entry.step <= step).at(-1) ?? entries[0] ?? null;
}

/** The same among those reports of a run that have something. */
export function reportAt(run: Run, step: number, has: (entry: Entry) => boolean): Entry | null {
  return entryAt(run.entries.filter(has), step);
}
