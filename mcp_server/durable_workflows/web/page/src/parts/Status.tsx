/** The status of a run, as a dot and a word. */

const LABELS: Readonly<Record<string, string>> = {
  PENDING: "Pending",
  ENQUEUED: "Enqueued",
  DELAYED: "Delayed",
  SUCCESS: "Success",
  ERROR: "Error",
  CANCELLED: "Cancelled",
  MAX_RECOVERY_ATTEMPTS_EXCEEDED: "Dead-lettered",
};

export interface StatusProps {
  status: string;
  /** The topic on which it waits. */
  waitingOn?: string | null | undefined;
  /** False: it ended, and says that it did not succeed. */
  ok?: boolean | null | undefined;
}

/** The word for a status: dbos's own, except for the longest. */
export function statusLabel(status: string): string {
  return LABELS[status] ?? status;
}

export function Status({ status, waitingOn, ok }: StatusProps) {
  const kind = tone({ status, waitingOn, ok });
  const label = waitingOn ? "Waiting" : ok === false ? "Not ok" : statusLabel(status);
  const title = waitingOn ? `${status}, waits on ${waitingOn}` : ok === false ? `${status}, but its output says ok: false` : status;
  return (
    <span class={`status ${kind}`} title={title} data-status={status}>
      <span class="dot" aria-hidden="true" />
      {label}
    </span>
  );
}

/** The class that gives a status its colour: waiting, notok, or the status in small letters. */
export function tone({ status, waitingOn, ok }: StatusProps): string {
  if (waitingOn) return "waiting";
  if (ok === false) return "notok";
  return status === "MAX_RECOVERY_ATTEMPTS_EXCEEDED" ? "dead" : status.toLowerCase().replace(/[^a-z]/g, "");
}
