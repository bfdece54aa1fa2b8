// What an event file or a JSON file says, taken as a stranger's: numbers are numbers or nothing.

export interface Density {
  nodes: number[];
  weights: number[];
  probes: number[][];
  /** What the measurement resolves, in units of eigenvalues. */
  bandwidth: number;
}

export interface Differences {
  k: number[];
  meanAbs: number[];
  meanAbsError: number[];
  rms: number[];
}

export interface Required {
  threshold: number;
  size: number;
  lower: number;
  upper: number;
}

export interface Surface {
  x: number[];
  y: number[];
  loss: number[][];
  difference: number[][];
  k: number;
  directions: string;
}

export interface Escape {
  distance: number[];
  loss: number[];
  predicted: number[];
}

/** One report of one callback. */
export interface Entry {
  callback: string;
  kind: string;
  step: number;
  epoch: number;
  about: string;
  scalars: Map<string, number>;
  texts: Map<string, string[]>;
  notes: { text: string; qualifies: boolean }[];
  failure: string | null;
  point: string | null;
  density: Density | null;
  escape: Escape | null;
  differences: Differences | null;
  required: Required[];
  surface: Surface | null;
}

/** One training, with what the user logged as its losses. */
export interface Run {
  name: string;
  colour: string;
  entries: Entry[];
  problems: string[];
  losses: Map<string, { step: number; value: number }[]>;
}

/** A run as a host delivers it, before anything of it is believed. */
export interface RawRun {
  name: string;
  entries: unknown[];
  problems: unknown;
  losses: unknown;
}

type Raw = Record<string, unknown>;

export function isRecord(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function finite(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : Number.NaN;
}

function numbers(value: unknown): number[] {
  return Array.isArray(value) ? value.map(finite) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function pairs(value: unknown): [string, unknown][] {
  return isRecord(value) ? Object.entries(value) : [];
}

function density(value: unknown): Density | null {
  if (!isRecord(value)) return null;
  const nodes = numbers(value.nodes);
  const weights = numbers(value.weights);
  const probes = list(value.probes).map(numbers);
  const fits = [weights, ...probes].every((each) => each.length === nodes.length);
  const bandwidth = Math.max(0, finite(value.bandwidth) || 0);
  return nodes.length > 0 && fits ? { nodes, weights, probes, bandwidth } : null;
}

function differences(value: unknown): Differences | null {
  if (!isRecord(value)) return null;
  const k = numbers(value.k);
  if (k.length === 0) return null;
  return {
    k,
    meanAbs: numbers(value.mean_abs),
    meanAbsError: numbers(value.mean_abs_error),
    rms: numbers(value.rms),
  };
}

function surface(value: unknown): Surface | null {
  if (!isRecord(value)) return null;
  return {
    x: numbers(value.x),
    y: numbers(value.y),
    loss: list(value.loss).map(numbers),
    difference: list(value.difference).map(numbers),
    k: finite(value.k),
    directions: text(value.directions),
  };
}

function escape(value: unknown): Escape | null {
  if (!isRecord(value)) return null;
  return {
    distance: numbers(value.distance),
    loss: numbers(value.loss),
    predicted: numbers(value.predicted),
  };
}

function required(value: unknown): Required {
  const raw = isRecord(value) ? value : {};
  return {
    threshold: finite(raw.threshold),
    size: finite(raw.size),
    lower: finite(raw.lower),
    upper: finite(raw.upper),
  };
}

function entry(raw: Raw): Entry {
  const scalars = pairs(raw.scalars).map(([tag, value]) => [tag, finite(value)] as const);
  return {
    callback: text(raw.callback),
    kind: text(raw.kind),
    step: finite(raw.step),
    epoch: finite(raw.epoch),
    about: text(raw.about),
    scalars: new Map(scalars.filter(([, value]) => !Number.isNaN(value))),
    texts: new Map(pairs(raw.texts).map(([tag, value]) => [tag, list(value).map(text)])),
    notes: list(raw.notes).map((note) => {
      const [words, qualifies] = list(note);
      return { text: text(words), qualifies: qualifies === true };
    }),
    failure: typeof raw.failure === "string" ? raw.failure : null,
    point: typeof raw.point === "string" ? raw.point : null,
    density: density(raw.density),
    escape: escape(raw.escape),
    differences: differences(raw.differences),
    required: list(raw.required).map(required),
    surface: surface(raw.surface),
  };
}

/**
 * Entries in the order of their steps. They come as they were written: one at a step that was passed
 * before is of a training that began anew, and what the one before it had from there on is over.
 */
function ordered(raw: unknown[]): Entry[] {
  const found = new Map<string, Entry[]>();
  for (const each of raw) {
    if (!isRecord(each)) continue;
    const read = entry(each);
    if (Number.isNaN(read.step)) continue;
    const before = (found.get(read.callback) ?? []).filter((one) => one.step < read.step);
    found.set(read.callback, [...before, read]);
  }
  return [...found.values()].flat().sort((a, b) => a.step - b.step);
}

export function readRun(raw: RawRun, colour: string): Run {
  const losses = pairs(raw.losses).map(([tag, points]) => {
    const read = list(points).map((point) => {
      const [step, value] = numbers(point);
      return { step: step ?? Number.NaN, value: value ?? Number.NaN };
    });
    return [tag, read.filter((p) => !Number.isNaN(p.step + p.value))] as const;
  });
  return {
    name: raw.name,
    colour,
    entries: ordered(raw.entries),
    problems: list(raw.problems).map(text),
    losses: new Map(losses),
  };
}
