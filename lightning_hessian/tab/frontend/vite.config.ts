// Two modules, each in one piece: the page, and, as it is large and loaded only where there is one,
// what draws a surface in three dimensions (`--mode surface`).
import { defineConfig } from "vite";

export default defineConfig(({ mode }) => ({
  build: {
    outDir: "../static",
    emptyOutDir: false,
    target: "es2022",
    modulePreload: false,
    chunkSizeWarningLimit: 2000,
    license: { fileName: `${mode === "surface" ? "surface" : "index"}.licences.md` },
    rollupOptions: {
      input: mode === "surface" ? "src/surface.ts" : "src/main.ts",
      preserveEntrySignatures: "strict",
      output: { entryFileNames: mode === "surface" ? "surface.js" : "index.js" },
    },
  },
}));
