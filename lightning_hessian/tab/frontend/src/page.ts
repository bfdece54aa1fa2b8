// The page: which runs, which step, and the cards.

import { Card, type Chart } from "./chart";
import { anything } from "./charts/anything";
import { cost } from "./charts/cost";
import { density } from "./charts/density";
import { difference, drawSurfacesBy } from "./charts/difference";
import { largest } from "./charts/largest";
import { layers } from "./charts/layers";
import { point } from "./charts/point";
import { trace } from "./charts/trace";
import { colourOf } from "./colours";
import { element } from "./dom";
import { type RawRun, readRun } from "./entries";
import type { Host } from "./host";
import { type State, Store } from "./state";
import { moveCursors } from "./steps";
import { STYLE } from "./style";

const CHARTS: Chart[] = [largest, trace, layers, density, point, difference, cost, anything];
/** Runs that are shown at first. */
const MOST_SHOWN = 50;

export class Page {
  private readonly store: Store;
  private readonly cards: Card[];
  private readonly sidebar = element("aside");
  private readonly controls = element("nav");
  private readonly main = element("main");
  private readonly message = element("p", { className: "nothing message", textContent: "loading …" });
  private readonly known = new Set<string>();
  private filter = "";

  constructor(private readonly host: Host) {
    const state: State = { runs: [], shown: new Set(), focus: "", step: 0, zoom: null, scale: "symlog", isDark: host.isDark() };
    this.store = new Store(state);
    this.cards = CHARTS.map((chart) => new Card(chart, this.store));
    drawSurfacesBy(() => host.surface());
    document.title ||= "Hessian";
    document.head.append(element("style", { textContent: STYLE }));
    this.main.append(...this.cards.map((card) => card.node));
    document.body.append(element("div", { className: "page" }, this.sidebar, element("div", { className: "content" }, this.controls, this.message, this.main)));
    this.store.subscribe((changed) => {
      if (changed.has("step")) moveCursors();
      if (["runs", "shown", "focus", "isDark"].some((part) => changed.has(part as keyof State))) this.drawSidebar();
      if (["step", "zoom", "scale", "shown", "runs"].some((part) => changed.has(part as keyof State))) this.drawControls();
    });
    host.onTheme(() => this.applyTheme());
    host.onReload(() => void this.reload());
    let width = 0;
    new ResizeObserver(() => {
      // of another height it is whenever a chart is: drawing anew would take it from under the pointer
      if (this.main.clientWidth !== width) this.redraw();
      width = this.main.clientWidth;
    }).observe(this.main);
  }

  async reload(): Promise<void> {
    try {
      this.take(await this.host.load());
    } catch (error) {
      this.message.textContent = `The data cannot be read: ${error instanceof Error ? error.message : String(error)}. Reload to try again.`;
      this.message.hidden = false;
    }
  }

  /** Numbers of each chart, for whoever looks from outside. */
  rows(): Record<string, unknown> {
    return Object.fromEntries(this.cards.map((card) => [card.node.id, card.rows]));
  }

  private take(raw: RawRun[]): void {
    const { state } = this.store;
    const runs = raw.map((each, place) => readRun(each, colourOf(place, this.host.isDark())));
    const withData = runs.filter((run) => run.entries.length > 0 || run.problems.length > 0);
    const shown = new Set(state.shown);
    for (const run of withData) {
      if (!this.known.has(run.name) && shown.size < MOST_SHOWN) shown.add(run.name);
      this.known.add(run.name);
    }
    const wasAtEnd = state.runs.length === 0 || state.step >= lastStep(state.runs);
    const step = wasAtEnd ? lastStep(withData) : state.step;
    this.message.hidden = withData.length > 0;
    this.main.hidden = this.controls.hidden = this.sidebar.hidden = withData.length === 0;
    this.message.textContent =
      "No run here has data of lightning_hessian yet. Add HessianSpectrum() to your Trainer's callbacks, keep its " +
      "TensorBoardLogger, and reload once the training has begun: the first report comes before the first step.";
    this.applyTheme();
    this.store.set({ runs: withData, shown, step });
  }

  private applyTheme(): void {
    const isDark = this.host.isDark();
    document.documentElement.classList.toggle("dark", isDark);
    const order = this.store.state.runs.map((run) => run.colour);
    for (const run of this.store.state.runs) run.colour = recoloured(run.colour, isDark);
    if (order.length > 0 || isDark !== this.store.state.isDark) this.store.set({ isDark });
  }

  private redraw(): void {
    if (this.store.state.runs.length > 0) for (const card of this.cards) card.redraw();
  }

  private drawSidebar(): void {
    const { runs, shown } = this.store.state;
    const search = element("input", { type: "search", placeholder: "filter runs", value: this.filter, ariaLabel: "filter runs" });
    const list = element("ul", { className: "runs" });
    const fill = (): void => {
      const visible = runs.filter((run) => run.name.toLowerCase().includes(this.filter.toLowerCase()));
      list.replaceChildren(...visible.map((run) => this.runItem(run.name, run.colour, shown.has(run.name))));
    };
    search.addEventListener("input", () => {
      this.filter = search.value;
      fill();
    });
    fill();
    const all = element("button", { textContent: "all", onclick: () => this.store.set({ shown: new Set(runs.map((run) => run.name)) }) });
    const none = element("button", { textContent: "none", onclick: () => this.store.set({ shown: new Set() }) });
    this.sidebar.replaceChildren(element("h2", { textContent: "Runs" }), search, element("div", {}, all, none), list);
  }

  private runItem(name: string, colour: string, isShown: boolean): HTMLElement {
    const box = element("input", { type: "checkbox", checked: isShown, ariaLabel: `show ${name}` });
    box.addEventListener("change", () => {
      const shown = new Set(this.store.state.shown);
      if (box.checked) shown.add(name);
      else shown.delete(name);
      this.store.set({ shown });
    });
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour;
    const isFocus = this.store.focusRun?.name === name;
    const label = element("button", {
      className: isFocus ? "name focus" : "name",
      textContent: name === "" || name === "." ? "(this folder)" : name,
      title: "show this run where only one can be shown",
      onclick: () => this.store.set({ focus: name }),
    });
    return element("li", {}, box, swatch, label);
  }

  private drawControls(): void {
    const { step, scale, zoom } = this.store.state;
    const steps = [...new Set(this.store.shownRuns.flatMap((run) => run.entries.map((entry) => entry.step)))].sort((a, b) => a - b);
    const place = Math.max(0, steps.findLastIndex((each) => each <= step));
    let slider = this.controls.querySelector<HTMLInputElement>("input[type=range]");
    if (!slider) {
      slider = element("input", { type: "range", min: "0", ariaLabel: "step" });
      const select = element(
        "select",
        { ariaLabel: "scale of values" },
        ...(["symlog", "log", "linear"] as const).map((each) => element("option", { value: each, textContent: each })),
      );
      select.addEventListener("change", () => this.store.set({ scale: select.value as State["scale"] }));
      const reset = element("button", { className: "reset", textContent: "all steps", onclick: () => this.store.set({ zoom: null }) });
      this.controls.append(element("label", {}, "step ", slider, element("output")), element("label", {}, "values ", select), reset);
    }
    slider.oninput = () => this.store.set({ step: steps[Number(slider.value)] ?? 0 });
    slider.max = String(Math.max(0, steps.length - 1));
    slider.value = String(place);
    slider.setAttribute("aria-valuetext", `step ${steps[place] ?? step}`);
    (this.controls.querySelector("output") as HTMLOutputElement).value = String(steps[place] ?? step);
    (this.controls.querySelector("select") as HTMLSelectElement).value = scale;
    (this.controls.querySelector(".reset") as HTMLButtonElement).disabled = zoom === null;
  }
}

function lastStep(runs: { entries: { step: number }[] }[]): number {
  return runs.reduce((last, run) => Math.max(last, run.entries.at(-1)?.step ?? 0), 0);
}

/** Between light and dark one colour of TensorBoard's changes. */
function recoloured(colour: string, isDark: boolean): string {
  const [light, dark] = [colourOf(0, false), colourOf(0, true)];
  if (colour === light || colour === dark) return isDark ? dark : light;
  return colour;
}
