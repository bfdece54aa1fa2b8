// The axis of values: its ends, its ticks, and where a value stands on it.

import { shortNumber, symlog, symlogTicks, unitBelow } from "./axes";

export type Scale = "symlog" | "log" | "linear";

/** What an axis must hold of a number. */
interface Reach {
  value: number;
  low: number;
  high: number;
}

/** How much longer than its curves a line to compare with may make an axis. */
const FAR = 30;

export interface Axis {
  low: number;
  high: number;
  place: (value: number) => number;
  ticks: number[];
  words: (placed: number) => string;
}

export function axisOf(scale: Scale, [low, high]: [number, number]): Axis {
  if (scale === "linear") {
    const ticks = niceTicks(low, high);
    return { low, high, place: (v) => v, ticks, words: shortNumber };
  }
  const unit = scale === "log" ? low : unitBelow(Math.max(Math.abs(low), Math.abs(high)), 2);
  const place = scale === "log" ? (v: number) => Math.log10(v) : (v: number) => symlog(v, unit);
  const powers = (scale === "log" ? logTicks(low, high) : symlogTicks(low, high, unit)).filter((tick) => tick >= low && tick <= high);
  const ticks = powers.length > 2 ? powers : [...new Set([...powers, ...niceTicks(low, high).filter((tick) => scale !== "log" || tick > 0)])];
  const words = new Map(ticks.map((tick) => [place(tick), shortNumber(tick)]));
  return { low, high, place, ticks, words: (placed) => words.get(placed) ?? "" };
}

function logTicks(low: number, high: number): number[] {
  const ticks: number[] = [];
  const decades = Math.log10(high / low);
  const factors = decades < 1 ? [1, 1.5, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 8));
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every) {
    for (const factor of factors) {
      const tick = Number((factor * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

function niceTicks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const ticks: number[] = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step) {
    ticks.push(Number(tick.toPrecision(12)));
  }
  return ticks;
}

/** Least and largest; zero to zero of none. */
export function extent(values: number[]): [number, number] {
  const first = values[0] ?? 0;
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [first, first]);
}

/** Values with their intervals, of which a wild one does not hide the values. */
export function range(points: Reach[], guides: Reach[], scale: Scale, rules: { y: number }[]): [number, number] {
  const own = points.map((p) => p.value);
  const reached = FAR * Math.max(...extent(own).map(Math.abs));
  const values = [...own, ...guides.map((p) => p.value).filter((value) => Math.abs(value) <= reached), ...rules.map((rule) => rule.y)];
  if (values.length === 0) return scale === "log" ? [0.1, 1] : [0, 1];
  const [low, high] = extent(values);
  const reach = Math.max(high - low, 0.1 * Math.abs(high), 1e-12);
  const bottom = Math.max(extent([low, ...points.map((p) => p.low)])[0], low - reach);
  const top = Math.min(extent([high, ...points.map((p) => p.high)])[1], high + reach);
  if (scale === "log") return [Math.max(Math.min(bottom, low), 0.3 * low) * 0.9 || 0.3 * low, top * 1.15];
  const room = 0.06 * (top - bottom || Math.abs(top) || 1);
  return [bottom - room, top + room];
}
