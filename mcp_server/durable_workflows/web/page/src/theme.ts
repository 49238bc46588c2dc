/** Dark or light: the system's theme, until the user chooses one here. */

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const THEMES: readonly Theme[] = ["system", "light", "dark"];
const STORED = "durable-workflows-theme";

export const theme = signal<Theme>(stored());

/** Apply the theme to the document, now and after each choice. */
export function followTheme(): void {
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    keep(theme.value);
  });
}

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
}

function stored(): Theme {
  try {
    const found = localStorage.getItem(STORED);
    return THEMES.find((one) => one === found) ?? "system";
  } catch {
    return "system"; // a frame without storage of its own
  }
}

function keep(chosen: Theme): void {
  try {
    localStorage.setItem(STORED, chosen);
  } catch {
    // a frame without storage of its own: the choice ends with the page
  }
}
