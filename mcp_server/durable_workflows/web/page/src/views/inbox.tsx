/** The inbox: questions and waits for messages, the longest waiting first, and the chosen one with its form. */

import type { InboxItem } from "../api";
import type { Resource } from "../data";
import { useKeys } from "../keys";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Ago } from "../parts/Time";
import { go, route } from "../routes";
import { inboxHref } from "../runs";
import { line } from "../words";
import { ASKS, AsksIcon } from "./asks";
import { Question } from "./question";

const LONGEST = 200;

export function Inbox({ waits }: { waits: Resource<InboxItem[]> }) {
  const { data, error } = waits;
  const items = data ?? [];
  const { params } = route.value;
  const asked = params.get("run");
  const chosen = items.find((one) => isAt(one, params)) ?? (asked === null ? items[0] : undefined);
  useInboxKeys(items, chosen);
  if (!data) return <div class="view">{error ? <Failure error={error} /> : <Loading what="the inbox" />}</div>;
  return (
    <div class={asked === null ? "view split" : "view split one"}>
      <List items={items} chosen={chosen} />
      <section class="split-main" aria-label="The question">
        {chosen ? (
          <Question key={keyOf(chosen)} item={chosen} next={after(items, chosen)} />
        ) : (
          <Nothing asked={asked} count={items.length} />
        )}
      </section>
    </div>
  );
}

/** The address names a run, perhaps with a step; without a step, its first wait. A child's wait also belongs to its root. */
function isAt({ wait, root_workflow_id: root }: InboxItem, params: URLSearchParams): boolean {
  const run = params.get("run");
  const step = params.get("step");
  if (wait.workflow_id === run) return step === null || String(wait.step) === step;
  return root === run && step === null;
}

export function keyOf({ wait }: InboxItem): string {
  return `${wait.workflow_id} ${wait.step}`;
}

function hrefOf({ wait }: InboxItem): string {
  return inboxHref(wait.workflow_id, wait.step);
}

/** The next page after the answer. */
function after(items: readonly InboxItem[], item: InboxItem): string {
  const at = items.indexOf(item);
  const next = items[at + 1] ?? items[at - 1];
  return next ? hrefOf(next) : "#/inbox";
}

function useInboxKeys(items: readonly InboxItem[], chosen: InboxItem | undefined): void {
  const by = (step: number) => (): void => {
    const at = chosen ? items.indexOf(chosen) : -1;
    const next = items[Math.max(0, Math.min(items.length - 1, at + step))];
    if (next) go(hrefOf(next));
  };
  useKeys([
    { key: "j", what: "Next question", act: by(1) },
    { key: "k", what: "Question before", act: by(-1) },
    { key: "Enter", what: "Answer it", act: () => document.querySelector<HTMLElement>(".answer .field :is(input, textarea, select, button)")?.focus() },
  ]);
}

function List({ items, chosen }: { items: readonly InboxItem[]; chosen: InboxItem | undefined }) {
  return (
    <section class="split-list" aria-label="What waits">
      <div class="view-head">
        <h1>Inbox</h1>
        <span class="muted num">{items.length > 0 && items.length}</span>
      </div>
      <div class="split-scroll">
        {items.length === 0 && (
          <Empty title="Nothing waits.">
            <p>Questions that runs ask, and messages that they wait for, appear here.</p>
          </Empty>
        )}
        <ul>
          {items.map((one) => (
            <li key={keyOf(one)}>
              <Item item={one} isChosen={one === chosen} />
            </li>
          ))}
        </ul>
      </div>
    </section>
  );
}

function Item({ item, isChosen }: { item: InboxItem; isChosen: boolean }) {
  const { wait, name, asked } = item;
  return (
    <a class="item" href={hrefOf(item)} aria-current={isChosen ? "true" : undefined}>
      <span class="item-title">
        <span class={asked === "message" ? "asked" : "asked person"} title={ASKS[asked]}>
          <AsksIcon asked={asked} />
        </span>
        <span class="ellipsis grow">{wait.prompt ? line(wait.prompt, LONGEST) : `Message on “${wait.topic}”`}</span>
      </span>
      <span class="item-text muted">
        <span class="ellipsis grow">{name}</span>
        <Ago at={wait.since} />
      </span>
    </a>
  );
}

function Nothing({ asked, count }: { asked: string | null; count: number }) {
  if (asked === null) return <Empty title={count ? "Choose a question." : "You are done."} />;
  return (
    <Empty title="This wait is over.">
      <p class="wrap">The run {asked} waits for nothing now: it was answered, its time is over, or it was stopped.</p>
      <p>
        <a href={`#/run/${encodeURIComponent(asked)}`}>Open the run</a> · <a href="#/inbox">Inbox</a>
      </p>
    </Empty>
  );
}
