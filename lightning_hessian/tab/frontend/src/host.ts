// Where the page stands: inside TensorBoard, or in a file of its own.

import type { RawRun } from "./entries";

export interface Host {
  /** All runs, in the order in which colours are given out. */
  load(): Promise<RawRun[]>;
  /** Called when there may be new data. */
  onReload(reload: () => void): void;
  isDark(): boolean;
  onTheme(change: () => void): void;
  /** What draws surfaces in three dimensions. */
  surface(): Promise<SurfaceDrawer>;
}

export interface SurfaceDrawer {
  draw(element: HTMLElement, surface: { x: number[]; y: number[]; z: number[][] }, isDark: boolean): void;
}

declare global {
  var hessianSurface: SurfaceDrawer | undefined;
}

const DARK = "(prefers-color-scheme: dark)";

export function prefersDark(): boolean {
  return window.matchMedia(DARK).matches;
}

export function onPreference(change: () => void): void {
  window.matchMedia(DARK).addEventListener("change", change);
}
