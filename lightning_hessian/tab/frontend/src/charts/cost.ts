// What the measurements cost, and what they had to say beside their numbers.

import { shortNumber } from "../axes";
import { type Chart, nothing } from "../chart";
import { element } from "../dom";
import type { Entry, Run } from "../entries";
import type { Row } from "../export";

export const cost: Chart = {
  id: "cost",
  title: "What it cost, and what to beware of",
  reading:
    "For each run and callback: how many reports, on how many samples, for which share of the training's own work; and in " +
    "words what was refused, left out, or qualifies a number.",
  isWide: true,
  follows: [],
  draw(store) {
    const groups = store.shownRuns.flatMap((run) =>
      [...new Set(run.entries.map((entry) => entry.callback))].map((callback) => ({
        run,
        entries: run.entries.filter((entry) => entry.callback === callback),
        callback,
      })),
    );
    const unread = store.chosenRuns.filter((run) => run.problems.length > 0).map((run) =>
      element("ul", {}, ...run.problems.map((problem) => element("li", { className: "warning" }, `${run.name}, not read: ${problem}`))),
    );
    if (groups.length === 0) return unread.length > 0 ? { content: unread, rows: [] } : nothing("Nothing was measured yet.");
    const rows = groups.map(({ run, callback, entries }) => summary(run, callback, entries));
    const columns = Object.keys(rows[0] ?? {});
    const table = element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { textContent: name })))),
      element(
        "tbody",
        {},
        ...rows.map((row) =>
          element("tr", {}, ...columns.map((name) => element("td", { textContent: shown(row[name]) }))),
        ),
      ),
    );
    const sums = store.shownRuns.map((run) => `${run.name}: ${together(run)}`).join("; ");
    const total = element("p", { className: "verdict", textContent: `All callbacks together, of the training's own work: ${sums}.` });
    const words = groups.flatMap(({ run, callback, entries }) => remarks(run, callback, entries));
    return { content: [table, total, ...unread, ...words], rows };
  },
};

function shown(value: string | number | undefined): string {
  return typeof value === "number" ? shortNumber(value) : (value ?? "");
}

/** The last share of each callback, added up. */
function together(run: Run): string {
  const last = new Map<string, number>();
  for (const entry of run.entries) {
    const share = entry.scalars.get("overhead");
    if (share !== undefined) last.set(entry.callback, share);
  }
  if (last.size === 0) return "–";
  return `${shortNumber(100 * [...last.values()].reduce((a, b) => a + b, 0))} %`;
}

function summary(run: Run, callback: string, entries: Entry[]): Row {
  const last = (tag: string): number => entries.map((e) => e.scalars.get(tag)).findLast((v) => v !== undefined) ?? Number.NaN;
  const sum = (tag: string): number => entries.reduce((total, e) => total + (e.scalars.get(tag) ?? 0), 0);
  const overhead = last("overhead");
  return {
    run: run.name,
    callback,
    reports: entries.length,
    "without numbers": entries.filter((entry) => entry.failure !== null).length,
    "moments left out": sum("num_skipped"),
    products: sum("num_hvps"),
    samples: last("num_samples"),
    seconds: sum("seconds"),
    "share of the training's work": Number.isFinite(overhead) ? `${shortNumber(100 * overhead)} %` : "–",
    "measured on": entries.findLast((entry) => entry.about)?.about ?? "",
  };
}

/** Each thing that was said once, with the steps at which it was. */
function remarks(run: Run, callback: string, entries: Entry[]): Node[] {
  const said = new Map<string, { steps: number[]; kind: string }>();
  const add = (words: string, kind: string, step: number): void => {
    const known = said.get(words) ?? { steps: [], kind };
    known.steps.push(step);
    said.set(words, known);
  };
  for (const entry of entries) {
    if (entry.failure !== null) add(entry.failure, "no numbers", entry.step);
    for (const note of entry.notes) add(note.text, note.qualifies ? "qualifies" : "note", entry.step);
  }
  const parts = [...said].map(([words, { steps, kind }]) =>
    element("li", { className: kind === "note" ? "" : "warning" }, `${kind}, ${when(steps)}: ${words}`),
  );
  return parts.length === 0 ? [] : [element("h3", { textContent: `${run.name}, ${callback}` }), element("ul", {}, ...parts)];
}

function when(steps: number[]): string {
  return steps.length <= 3 ? `step ${steps.join(", ")}` : `${steps.length} reports from step ${steps[0]} on`;
}
