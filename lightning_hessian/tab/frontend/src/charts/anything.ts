// Any number that a report has, also one that no chart of its own is drawn of.

import { type Chart, nothing } from "../chart";
import { element } from "../dom";
import { lineChart, lineRows } from "../lines";
import { allTags, points } from "../quantities";

let chosen = "";

export const anything: Chart = {
  id: "any-quantity",
  title: "Any other number",
  reading: "Choose a tag: each number of a report is here, with its error where one is known.",
  follows: ["zoom", "scale"],
  draw(store, width) {
    const tags = allTags(store.shownRuns);
    if (tags.length === 0) return nothing("Nothing was measured yet.");
    const tag = tags.includes(chosen) ? chosen : (tags.find((each) => each === "loss") ?? (tags[0] as string));
    const select = element("select", { ariaLabel: "quantity" }, ...tags.map((each) => element("option", { value: each, textContent: each, selected: each === tag })));
    select.addEventListener("change", () => {
      chosen = select.value;
      store.set({ shown: new Set(store.state.shown) }); // as nothing else tells this card to draw
    });
    const families = [{ points: points(store.shownRuns, tag, tag), hasError: true }];
    return { content: [select, lineChart(store, width, families, { label: tag, scale: store.state.scale })], rows: lineRows(families, tag) };
  },
};
