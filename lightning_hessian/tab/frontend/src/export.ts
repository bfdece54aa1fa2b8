// A chart as a picture for a paper, and its numbers as a table.

export type Row = Record<string, string | number>;

/** Comma-separated, each cell safe for a spreadsheet, which takes what begins with = for a formula. */
export function csv(rows: Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value: string | number | undefined): string => {
    if (value === undefined || (typeof value === "number" && !Number.isFinite(value))) return "";
    if (typeof value === "number") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = rows.map((row) => columns.map((column) => cell(row[column])).join(","));
  return [columns.map(cell).join(","), ...lines].join("\n") + "\n";
}

/** Charts under one another as one drawing of its own, which needs no style sheet. */
export function svg(charts: SVGSVGElement[]): string {
  const space = 12;
  const sizes = charts.map((chart) => [chart.width.baseVal.value, chart.height.baseVal.value] as const);
  const width = Math.max(...sizes.map(([w]) => w));
  const height = sizes.reduce((sum, [, h]) => sum + h + space, -space);
  const whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  whole.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  whole.setAttribute("viewBox", `0 0 ${width} ${height}`);
  whole.setAttribute("width", String(width));
  whole.setAttribute("height", String(height));
  whole.setAttribute("font-family", "system-ui, sans-serif");
  whole.setAttribute("font-size", "10");
  whole.setAttribute("style", "color: #222; background: #fff");
  let top = 0;
  charts.forEach((chart, place) => {
    const copy = chart.cloneNode(true) as SVGSVGElement;
    copy.querySelectorAll('[aria-label="tip"]').forEach((tip) => tip.remove());
    copy.setAttribute("y", String(top));
    whole.append(copy);
    top += (sizes[place]?.[1] ?? 0) + space;
  });
  return new XMLSerializer().serializeToString(whole);
}
