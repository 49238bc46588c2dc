/** Ctrl or ⌘ and Enter in any field of a form sends it: in a text of several lines, Enter alone is a new line. */
export function submitKey(event: KeyboardEvent): void {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (event.currentTarget instanceof HTMLFormElement) event.currentTarget.requestSubmit();
}
