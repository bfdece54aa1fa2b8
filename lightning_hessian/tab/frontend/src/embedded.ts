// A file of its own: the data stand in it.

import { type Host, type SurfaceDrawer, onPreference, prefersDark } from "./host";
import type { RawRun } from "./entries";

export const DATA_ID = "hessian-data";

export function embeddedHost(): Host {
  return {
    load: async () => {
      const content = document.getElementById(DATA_ID)?.textContent ?? "[]";
      return JSON.parse(content) as RawRun[];
    },
    onReload: () => undefined,
    isDark: prefersDark,
    onTheme: onPreference,
    surface: async (): Promise<SurfaceDrawer> => {
      if (!globalThis.hessianSurface) throw new Error("this file was written without surfaces");
      return globalThis.hessianSurface;
    },
  };
}
