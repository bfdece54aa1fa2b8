// The trace with its interval.

import { type Chart, nothing } from "../chart";
import { lineChart, lineRows } from "../lines";
import { points } from "../quantities";

export const trace: Chart = {
  id: "trace",
  title: "Trace",
  reading:
    "The sum of all eigenvalues, with its 95 % interval: how curved the loss is in a random direction, times the number of " +
    "parameters. Intervals that overlap tell of no difference.",
  follows: ["zoom", "scale"],
  draw(store, width) {
    const families = [{ points: points(store.shownRuns, "trace", "trace"), hasError: true, width: 2 }];
    if (families[0]?.points.length === 0) {
      return nothing("No trace yet: HessianSpectrum(trace=True), the default, measures one with each report.");
    }
    const chart = lineChart(store, width, families, { label: "trace", scale: store.state.scale, height: 260 });
    return { content: [chart], rows: lineRows(families, "trace") };
  },
};
