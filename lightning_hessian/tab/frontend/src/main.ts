// Begins the page: TensorBoard calls `render`, a file of its own has its data beside it.

import { DATA_ID, embeddedHost } from "./embedded";
import type { Host } from "./host";
import { Page } from "./page";
import { tensorboardHost } from "./tensorboard";

declare global {
  var hessianPage: Page | undefined;
}

function start(host: Host): Promise<void> {
  const page = new Page(host);
  globalThis.hessianPage = page;
  return page.reload();
}

/** What TensorBoard calls. */
export function render(): Promise<void> {
  return start(tensorboardHost());
}

if (document.getElementById(DATA_ID)) void start(embeddedHost());
