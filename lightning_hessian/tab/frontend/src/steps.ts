// The axis of steps, which all charts over steps share: its part that is looked at, and the pointer on it.

import type { Store } from "./state";
import { extent } from "./value_axis";

export const MARGIN = { left: 58, right: 14 };

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

const cursors = new WeakMap<SVGSVGElement, () => void>();

/** Bring the line of the step that is looked at to its place, without drawing the charts anew. */
export function moveCursors(): void {
  for (const chart of document.querySelectorAll<SVGSVGElement>("svg.plot")) cursors.get(chart)?.();
}

/** The step under the pointer becomes everybody's, a drag the part that is looked at. */
export function follow(chart: SVGSVGElement, store: Store, width: number): void {
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
function nearestStep(store: Store, step: number): number {
  const steps = store.shownRuns.flatMap((run) => run.entries.map((entry) => entry.step));
  return steps.reduce((best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best), steps[0] ?? 0);
}
