/** Dark or light: the system's theme, until the user chooses one here. */

import { effect, signal } from "@preact/signals";

import { type Params, isParams } from "./peer";

export type Theme = "system" | "light" | "dark";

const THEMES: readonly Theme[] = ["system", "light", "dark"];
const STORED = "durable-workflows-theme";

export const theme = signal<Theme>("system");

/** Apply the theme to the document, now and after each choice. With `remembered`, begin with the last choice. */
export function followTheme(remembered: boolean): void {
  if (remembered) theme.value = stored();
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    if (remembered) keep(theme.value);
  });
}

/** What of ours looks like what of a client that shows the page. */
const VARIABLES: readonly (readonly [string, string])[] = [
  ["--bg", "--color-background-secondary"],
  ["--panel", "--color-background-primary"],
  ["--raised", "--color-background-primary"],
  ["--text", "--color-text-primary"],
  ["--muted", "--color-text-secondary"],
  ["--line", "--color-border-tertiary"],
  ["--mono", "--font-mono"],
];

/** Look as the client does that shows the page: this is what it says of itself, or what of that has changed. */
export function followClient(context: Params): void {
  const { theme: told, styles } = context;
  if (told === "light" || told === "dark") theme.value = told;
  const given = isParams(styles) && isParams(styles["variables"]) ? styles["variables"] : {};
  const root = document.documentElement.style;
  for (const [ours, theirs] of VARIABLES) {
    const value = given[theirs];
    if (typeof value === "string") root.setProperty(ours, value);
  }
  if (typeof given["--font-sans"] === "string") root.setProperty("font-family", given["--font-sans"]);
}

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
}

function stored(): Theme {
  try {
    const found = localStorage.getItem(STORED);
    return THEMES.find((one) => one === found) ?? "system";
  } catch {
    return "system"; // a browser that keeps nothing
  }
}

function keep(chosen: Theme): void {
  try {
    localStorage.setItem(STORED, chosen);
  } catch {
    // a browser that keeps nothing: the choice ends with the page
  }
}
