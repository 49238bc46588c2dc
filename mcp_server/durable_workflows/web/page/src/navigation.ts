/** The views that are reachable from everywhere. */

import type { IconName } from "./parts/Icon";
import type { View } from "./routes";

interface Entry {
  view: View;
  label: string;
  icon: IconName;
  /** The second key after `g`. */
  key: string;
}

export const ENTRIES: readonly Entry[] = [
  { view: "inbox", label: "Inbox", icon: "inbox", key: "i" },
  { view: "runs", label: "Runs", icon: "runs", key: "r" },
  { view: "start", label: "Start", icon: "start", key: "s" },
  { view: "system", label: "System", icon: "system", key: "y" },
];
