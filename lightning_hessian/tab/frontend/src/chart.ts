// A card of the page: a chart, how to read it, what to take away.

import { element, download } from "./dom";
import { type Row, csv, svg } from "./export";
import { HELP } from "./help";
import type { Part, Store } from "./state";

export interface Drawing {
  /** What is drawn, or why there is nothing. */
  content: Node[];
  /** The numbers that the drawing shows. */
  rows: Row[];
}

export interface Chart {
  id: string;
  title: string;
  /** In a sentence. */
  reading: string;
  isWide?: boolean;
  /** What it depends on, beside the runs that are shown. */
  follows: Part[];
  draw(store: Store, width: number): Drawing;
}

export class Card {
  readonly node: HTMLElement;
  rows: Row[] = [];
  private readonly body = element("div", { className: "body" });
  private readonly drawing = element("button", { textContent: "SVG", title: "save the chart as a drawing", onclick: () => this.saveDrawing() });
  private readonly table = element("button", { textContent: "CSV", title: "save its numbers", onclick: () => this.saveNumbers() });

  constructor(
    private readonly chart: Chart,
    private readonly store: Store,
  ) {
    const help = element("div", { className: "help" }, element("p", { textContent: chart.reading }));
    const more = HELP[chart.id];
    if (more) {
      const details = element("details", {}, element("summary", { textContent: "more: how it is measured, and what misleads" }));
      details.append(...more.map((paragraph) => element("p", { textContent: paragraph })));
      help.append(details);
    }
    this.node = element(
      "section",
      { className: chart.isWide ? "card wide" : "card", id: chart.id },
      element(
        "header",
        {},
        element("h2", { textContent: chart.title }),
        this.drawing,
        this.table,
      ),
      help,
      this.body,
    );
    store.subscribe((changed) => {
      const parts: Part[] = ["runs", "shown", "isDark", ...chart.follows];
      if (parts.some((part) => changed.has(part))) this.redraw();
    });
  }

  redraw(): void {
    const { content, rows } = this.drawn();
    this.rows = rows;
    this.body.replaceChildren(...content);
    this.drawing.hidden = this.drawings().length === 0;
    this.table.hidden = rows.length === 0;
  }

  /** What one chart cannot draw, of a stranger's file, is no reason for the others to be missing. */
  private drawn(): Drawing {
    try {
      return this.chart.draw(this.store, Math.max(320, this.body.clientWidth));
    } catch (error) {
      console.error(error);
      return nothing(`This chart cannot be drawn: ${error instanceof Error ? error.message : String(error)}.`);
    }
  }

  private saveNumbers(): void {
    download(`${this.chart.id}.csv`, "text/csv", csv(this.rows));
  }

  private saveDrawing(): void {
    download(`${this.chart.id}.svg`, "image/svg+xml", svg(this.drawings()));
  }

  private drawings(): SVGSVGElement[] {
    return [...this.body.querySelectorAll<SVGSVGElement>("svg.plot")];
  }
}

/** In place of a chart: what is missing, and what to do. */
export function nothing(words: string): Drawing {
  return { content: [element("p", { className: "nothing", textContent: words })], rows: [] };
}

export function caption(words: string): HTMLElement {
  return element("p", { className: "caption", textContent: words });
}
