// One HTML file with one script and one style inside, so that the server can name both by their hashes in its CSP.

import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

export default defineConfig({
  plugins: [viteSingleFile({ removeViteModuleLoader: true })],
  build: { target: "es2023", reportCompressedSize: false },
});
