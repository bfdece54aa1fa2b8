// Inside TensorBoard: its frame tells of reloads, its server has the data.

import type { RawRun } from "./entries";
import { type Host, type SurfaceDrawer, onPreference, prefersDark } from "./host";

type Series = Record<string, Record<string, number>>;

/** What TensorBoard says to a plugin's frame. */
function listen(onReload: () => void): void {
  const channel = new MessageChannel();
  // each message is JSON, and is waited for until it is answered
  channel.port1.onmessage = (event: MessageEvent<string>) => {
    const { type, id, isReply } = JSON.parse(event.data) as { type?: string; id?: number; isReply?: boolean };
    if (isReply || !type) return;
    if (type === "experimental.DataReloaded" || type === "experimental.RunsChanged") onReload();
    channel.port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  };
  window.parent.postMessage("experimental.bootstrap", "*", [channel.port2]);
}

async function fetched<T>(path: string): Promise<T> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`TensorBoard answered ${response.status} to ${path}`);
  return (await response.json()) as T;
}

/** The body of TensorBoard's own page carries its mode; without it the browser's preference holds. */
function parentBody(): HTMLElement | null {
  try {
    return window.parent.document.body;
  } catch {
    return null;
  }
}

export function tensorboardHost(): Host {
  const known = new Map<string, { stamp: string; raw: RawRun }>();

  async function loadRun(run: string, stamp: string): Promise<RawRun> {
    const before = known.get(run);
    const query = `?run=${encodeURIComponent(run)}`;
    // losses go on between reports
    const [read, losses] = await Promise.all([
      before?.stamp === stamp ? before.raw : fetched<{ entries: unknown[]; problems: unknown }>(`entries${query}`),
      fetched<unknown>(`losses${query}`),
    ]);
    const raw = { name: run, entries: read.entries, problems: read.problems, losses };
    known.set(run, { stamp, raw });
    return raw;
  }

  return {
    load: async () => {
      const [series, order] = await Promise.all([
        fetched<Series>("series"),
        fetched<string[]>("../../runs"),
      ]);
      // all runs take a colour, as in TensorBoard's other tabs; those without data of ours are empty
      const names = [...new Set([...order, ...Object.keys(series)])];
      return Promise.all(
        names.map((name) => {
          const tags = Object.hasOwn(series, name) ? series[name] : undefined;
          return tags
            ? loadRun(name, JSON.stringify(tags))
            : { name, entries: [], problems: [], losses: {} };
        }),
      );
    },
    onReload: listen,
    isDark: () => parentBody()?.classList.contains("dark-mode") ?? prefersDark(),
    onTheme: (change) => {
      const body = parentBody();
      if (body) new MutationObserver(change).observe(body, { attributeFilter: ["class"] });
      else onPreference(change);
    },
    surface: async () => {
      // beside this script; written so that the bundler does not take it in
      await import(/* @vite-ignore */ import.meta.url.replace(/[^/]*$/, "surface.js"));
      return globalThis.hessianSurface as SurfaceDrawer;
    },
  };
}
