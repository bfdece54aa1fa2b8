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
  const low = entry.scalars.get(`${tag}_lower`);
  const high = entry.scalars.get(`${tag}_upper`);
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

/** A quantity over steps, of all runs, or of one callback of each. */
export function points(
  runs: Run[],
  tag: string,
  { label = "", callback = "", kind = "" } = {},
): Point[] {
  const found: Point[] = [];
  for (const run of runs) {
    for (const entry of run.entries) {
      const value = entry.scalars.get(tag);
      const asked = (!callback || entry.callback === callback) && (!kind || entry.kind === kind);
      if (value === undefined || !asked || entry.failure !== null) continue;
      const [low, high] = interval(entry, tag);
      const bound = entry.scalars.get(errorTag(tag, "bound")) ?? 0;
      const { callback: from, step } = entry;
      found.push({ run: run.name, colour: run.colour, callback: from, label, step, value, low, high, bound });
    }
  }
  return found;
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
  return [...tags].filter((tag) => !isError(tag)).sort();
}

/** The report of a run at a step, or the last one before it, or else its first. */
export function reportAt(run: Run, step: number, has: (entry: Entry) => boolean): Entry | null {
  const usable = run.entries.filter(has);
  const before = usable.filter((entry) => entry.step <= step);
  return before.at(-1) ?? usable[0] ?? null;
}
