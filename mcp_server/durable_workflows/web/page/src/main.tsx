/** Starts the page. */

import { render } from "preact";

import "./style.css";
import "./views/views.css";
import { ifSilent, view } from "./app";
import { Unanswered, fitIntoFrame, opening } from "./embedded";
import { listenToKeys } from "./keys";
import { Loading } from "./parts/Empty";
import { PeerError } from "./peer";
import { go } from "./routes";
import { Shell } from "./shell";
import { followTheme } from "./theme";

followTheme(view === undefined);
listenToKeys();
const root = document.getElementById("app");
if (root && view === undefined) render(<Shell />, root);
else if (root) void openInClient(root);

async function openInClient(at: HTMLElement): Promise<void> {
  fitIntoFrame();
  render(<Loading what="the page" />, at);
  ifSilent(() => render(<Unanswered />, at));
  try {
    go(await opening());
    render(<Shell />, at);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    render(<Unanswered />, at);
  }
}
