/** JSON-RPC with the window around this one, as MCP Apps speak it. Messages from other windows are ignored. */

export type Params = Readonly<Record<string, unknown>>;

export interface Heard {
  /** The answer to a request; undefined where there is no such method. */
  request(method: string, params: Params): object | undefined;
  notified(method: string, params: Params): void;
}

/** The other side refused, or said nothing for too long. */
export class PeerError extends Error {}

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: PeerError) => void;
  timer: number;
}

const ANSWER_MS = 60_000;
const NO_METHOD = -32601;

export class Peer {
  private readonly pending = new Map<number, Pending>();
  private last = 0;

  constructor(
    private readonly other: Window,
    private readonly heard: Heard,
  ) {}

  listen(): void {
    window.addEventListener("message", (event) => {
      if (event.source === this.other) this.receive(event.data);
    });
  }

  /** Throws PeerError. */
  request(method: string, params: Params): Promise<unknown> {
    const id = (this.last += 1);
    return new Promise((resolve, reject) => {
      const timer = window.setTimeout(() => {
        this.pending.delete(id);
        reject(new PeerError("The client does not answer."));
      }, ANSWER_MS);
      this.pending.set(id, { resolve, reject, timer });
      this.send({ id, method, params });
    });
  }

  notify(method: string, params: Params = {}): void {
    this.send({ method, params });
  }

  /** The origin of the other window is unknown: a client may show this page from anywhere. */
  private send(message: object): void {
    this.other.postMessage({ jsonrpc: "2.0", ...message }, "*");
  }

  private receive(data: unknown): void {
    if (!isParams(data) || data["jsonrpc"] !== "2.0") return;
    const { id, method } = data;
    const params = isParams(data["params"]) ? data["params"] : {};
    if (typeof method !== "string") this.settle(id, data);
    else if (id === undefined) this.heard.notified(method, params);
    else this.answer(id, method, params);
  }

  private settle(id: unknown, { result, error }: Params): void {
    const found = typeof id === "number" ? this.pending.get(id) : undefined;
    if (typeof id !== "number" || !found) return;
    this.pending.delete(id);
    window.clearTimeout(found.timer);
    if (error === undefined) return found.resolve(result);
    const said = isParams(error) && typeof error["message"] === "string" ? error["message"] : "The client refused.";
    found.reject(new PeerError(said));
  }

  private answer(id: unknown, method: string, params: Params): void {
    const result = this.heard.request(method, params);
    if (result) this.send({ id, result });
    else this.send({ id, error: { code: NO_METHOD, message: `There is no method ${method}.` } });
  }
}

export function isParams(value: unknown): value is Params {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
