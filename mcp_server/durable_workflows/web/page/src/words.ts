/** The forms of numbers, lengths of time and texts. */

/** `1 run`, `1,000 runs`. */
export function counted(number: number, noun: string, plural = `${noun}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/** A length of time in its two largest units: `450 ms`, `3.2 s`, `4 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toPrecision(3))} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return two(minutes, "min", Math.floor(ms / 1000) % 60, "s");
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? two(hours, "h", minutes % 60, "min") : two(Math.floor(hours / 24), "d", hours % 24, "h");
}

function two(large: number, unit: string, small: number, smaller: string): string {
  return small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
}

/** An approximate length, in its largest unit only, so that it seldom changes: `now`, `12 s`, `5 min`, `3 h`, `6 d`. */
export function about(ms: number): string {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** `312 B`, `9.4 KB`, `1.2 MB`. */
export function bytes(number: number): string {
  if (number < 1000) return `${number} B`;
  if (number < 1_000_000) return `${(number / 1000).toFixed(1)} KB`;
  return `${(number / 1_000_000).toFixed(1)} MB`;
}

/** One line of at most `width` characters. */
export function line(text: string, width: number): string {
  const flat = text.slice(0, width * 4).replace(/\s+/g, " ").trim();
  return flat.length <= width && text.length <= width * 4 ? flat : `${flat.slice(0, width - 1)}…`;
}

const DAY_MS = 86_400_000;

/** A moment in the local zone: only the time if it is today, otherwise with the date. */
export function localTime(at: Date, now: Date = new Date()): string {
  const clock = at.toLocaleTimeString("en-GB");
  if (at.toDateString() === now.toDateString()) return clock;
  const near = Math.abs(now.getTime() - at.getTime()) < 300 * DAY_MS;
  const day = at.toLocaleDateString("en", { month: "short", day: "numeric", ...(near ? {} : { year: "numeric" }) });
  return `${day}, ${clock}`;
}

/** A moment in UTC, to the second. */
export function utc(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}
