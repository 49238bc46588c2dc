/** The page's icons: strokes of 16 by 16. They are decoration: text beside them, or a label, gives their meaning. */

const PATHS = {
  inbox: "M2.5 9.5 4.4 3h7.2l1.9 6.5v3.5h-11zM2.5 9.5h3l1 1.5h3l1-1.5h3",
  runs: "M3 4h10M3 8h7M3 12h4",
  start: "M5 3.2v9.6l7.5-4.8z",
  system: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.5 10.5 14 14",
  close: "M4 4l8 8M12 4l-8 8",
  chevron: "M6 3.5 10.5 8 6 12.5",
  down: "M3.5 6 8 10.5 12.5 6",
  back: "M10 3.5 5.5 8l4.5 4.5",
  help: "M6 6.2a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6 1v.4M8 12h.01",
  system_theme: "M2.5 3h11v8h-11zM6 13.5h4",
  light: "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9",
  dark: "M13 9.3A5.4 5.4 0 0 1 6.7 3a5.4 5.4 0 1 0 6.3 6.3z",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  plus: "M8 3v10M3 8h10",
  check: "M3 8.5 6.5 12 13 4.5",
  warning: "M8 2.2 14.5 13.5h-13zM8 6.5v3.2M8 11.6h.01",
  person: "M8 7.5a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2zM3 13.7c.4-2.6 2.3-4 5-4s4.6 1.4 5 4",
  message: "M2.5 3.5h11v7.5H7l-3 2.5V11H2.5z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  external: "M6.5 3.5h-3v9h9v-3M9 3h4v4M13 3 7.5 8.5",
  download: "M8 2.5v7.5M4.5 7 8 10.5 11.5 7M3 13.5h10",
  swap: "M3 5.5h9M9.5 3 12 5.5 9.5 8M13 10.5H4M6.5 8 4 10.5 6.5 13",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, turned = false }: { name: IconName; turned?: boolean }) {
  return (
    <svg class={turned ? "icon turned" : "icon"} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
