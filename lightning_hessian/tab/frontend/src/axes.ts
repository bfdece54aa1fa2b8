// Axes for numbers of both signs and many magnitudes.

/** Symmetric logarithm: linear within `unit` of zero, decades beyond. */
export function symlog(value: number, unit: number): number {
  return Math.sign(value) * Math.log10(1 + Math.abs(value) / unit);
}

/** Zero and powers of ten of both signs, between two ends, that stand clear of each other. */
export function symlogTicks(low: number, high: number, unit: number): number[] {
  const ticks = [0];
  const first = Math.ceil(Math.log10(unit) + 1e-9);
  const last = Math.floor(Math.log10(Math.max(Math.abs(low), Math.abs(high), unit)) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / 6));
  for (let power = last; power >= first; power -= every) {
    const tick = 10 ** power;
    if (tick <= high) ticks.push(tick);
    if (-tick >= low) ticks.push(-tick);
  }
  return ticks.sort((a, b) => a - b);
}

/** A power of ten well below the largest magnitude. */
export function unitBelow(largest: number, decades: number): number {
  return 10 ** (Math.floor(Math.log10(largest || 1)) - decades);
}

// made once: to make one takes longer than a chart may
const FORMAT = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 });

const WHOLE = new Intl.NumberFormat("en-GB");

/** A number as short as a reader needs it. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  // steps and counts are told to the last digit
  if (Number.isInteger(value) && size < 1e9) return WHOLE.format(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(size === 10 ** Math.round(Math.log10(size)) ? 0 : 2);
  return FORMAT.format(value);
}

/** Number with its interval, in words. */
export function withInterval(value: number, low: number, high: number): string {
  const isKnown = low !== value || high !== value;
  return shortNumber(value) + (isKnown ? ` (${shortNumber(low)} to ${shortNumber(high)})` : "");
}
