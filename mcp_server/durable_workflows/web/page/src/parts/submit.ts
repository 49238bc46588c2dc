/** Ctrl or ⌘ and Enter in any field of a form submit it: in a multi-line text, Enter alone makes a new line. */
export function submitKey(event: KeyboardEvent): void {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (event.currentTarget instanceof HTMLFormElement) event.currentTarget.querySelector<HTMLElement>("button[type=submit]")?.click();
}
