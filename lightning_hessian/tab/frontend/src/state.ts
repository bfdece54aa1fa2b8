// What the reader has chosen; all charts follow it.

import type { Run } from "./entries";
import type { Scale } from "./value_axis";

export interface State {
  runs: Run[];
  /** Names of the runs that are shown. */
  shown: Set<string>;
  /** Of the run whose course is drawn alone, where several cannot stand in one picture. */
  focus: string;
  step: number;
  /** Part of the axis of steps that is looked at; null for all. */
  zoom: [number, number] | null;
  scale: Scale;
  isDark: boolean;
}

export type Part = keyof State;

export class Store {
  private readonly listeners: ((changed: Set<Part>) => void)[] = [];
  private changed = new Set<Part>();

  constructor(readonly state: State) {}

  /** Changes are told together, in the next frame: a pointer moves more often than one is drawn. */
  set(change: Partial<State>): void {
    const isIdle = this.changed.size === 0;
    for (const part of Object.keys(change) as Part[]) {
      if (this.state[part] !== change[part]) this.changed.add(part);
    }
    Object.assign(this.state, change);
    if (isIdle && this.changed.size > 0) requestAnimationFrame(() => this.tell());
  }

  subscribe(listener: (changed: Set<Part>) => void): void {
    this.listeners.push(listener);
  }

  get shownRuns(): Run[] {
    return this.state.runs.filter((run) => this.state.shown.has(run.name) && run.entries.length > 0);
  }

  /** Also those of which no report could be read. */
  get chosenRuns(): Run[] {
    return this.state.runs.filter((run) => this.state.shown.has(run.name));
  }

  get focusRun(): Run | undefined {
    const runs = this.shownRuns;
    return runs.find((run) => run.name === this.state.focus) ?? runs[0];
  }

  private tell(): void {
    const changed = this.changed;
    this.changed = new Set();
    for (const listener of this.listeners) listener(changed);
  }
}
