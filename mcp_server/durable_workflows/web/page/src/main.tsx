/** Starts the page. */

import { render } from "preact";

import "./style.css";
import "./views/views.css";
import { listenToKeys } from "./keys";
import { Shell } from "./shell";
import { followTheme } from "./theme";

followTheme();
listenToKeys();
const app = document.getElementById("app");
if (app) render(<Shell />, app);
