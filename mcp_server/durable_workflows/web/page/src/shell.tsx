/** The frame around the views: navigation, keys, palette, help, and the banner while the server is away. */

import { useSignal, type Signal } from "@preact/signals";
import { Component, type ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import type { InboxItem, Project } from "./api";
import { type Resource, connected, useGet } from "./data";
import { Help, keyName } from "./help";
import { type Key, useKeys } from "./keys";
import { ENTRIES } from "./navigation";
import { Palette } from "./palette";
import { ForkDialog } from "./run/ForkDialog";
import { NewestDialog } from "./run/NewestDialog";
import { Confirm } from "./parts/Dialog";
import { Empty } from "./parts/Empty";
import { Icon } from "./parts/Icon";
import { Toasts } from "./parts/Toasts";
import { go, hasAddress, href, route, type View } from "./routes";
import { nextTheme, theme } from "./theme";
import { Compare } from "./views/compare";
import { Inbox } from "./views/inbox";
import { Run } from "./views/run";
import { Runs } from "./views/runs";
import { Start } from "./views/start";
import { System } from "./views/system";

const AWAY_MS = 1500; // a server that comes back sooner does not count as away

const OVER: Partial<Record<View, View>> = { run: "runs", compare: "runs" }; // the marked entry of the navigation

type Over = "palette" | "help" | null;

export function Shell() {
  const over = useSignal<Over>(null);
  const project = useGet("project", {}, {});
  const waits = useGet("waits", {}, { waits: true });
  useKeys(pageKeys(over));
  useTitle(project.data);
  return (
    <div class={hasAddress ? "shell" : "shell embedded"}>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <Navigation project={project.data} waiting={waits.data?.length ?? 0} over={over} />
      <main id="main" class="main" tabIndex={-1}>
        <Banner />
        <Boundary key={route.value.view}>
          <Content waits={waits} />
        </Boundary>
      </main>
      {over.value === "palette" && <Palette onClose={() => (over.value = null)} onHelp={() => (over.value = "help")} />}
      {over.value === "help" && <Help onClose={() => (over.value = null)} />}
      <Confirm />
      <ForkDialog />
      <NewestDialog />
      <Toasts />
    </div>
  );
}

function Content({ waits }: { waits: Resource<InboxItem[]> }) {
  switch (route.value.view) {
    case "inbox":
      return <Inbox waits={waits} />;
    case "runs":
      return <Runs />;
    case "run":
      return <Run />;
    case "compare":
      return <Compare />;
    case "start":
      return <Start />;
    case "system":
      return <System />;
  }
}

function pageKeys(over: Signal<Over>): Key[] {
  const open = (what: Over) => (): void => {
    over.value = over.value === what ? null : what;
  };
  return [
    ...ENTRIES.map(({ view, label, key }) => ({ key: `g ${key}`, what: `Go to ${label}`, act: () => go(href(view)) })),
    { key: "mod+k", what: "Open the palette", act: open("palette") },
    { key: "t", what: "Change between dark and light", act: nextTheme },
    { key: "?", what: "Show the keys", act: open("help") },
  ];
}

function useTitle(project: Project | undefined): void {
  const { view, parts } = route.value;
  const label = ENTRIES.find((one) => one.view === view)?.label ?? parts[0] ?? view;
  const name = project ? folder(project.project) : "durable-workflows";
  useEffect(() => {
    document.title = `${label} · ${name}`;
  }, [label, name]);
}

function folder(path: string): string {
  return path.split(/[\\/]/).filter(Boolean).at(-1) ?? path;
}

interface NavigationProps {
  project: Project | undefined;
  waiting: number;
  over: Signal<Over>;
}

function Navigation({ project, waiting, over }: NavigationProps) {
  const current = OVER[route.value.view] ?? route.value.view;
  return (
    <header class="side">
      <div class="brand" title={project?.project}>
        <span class="logo" aria-hidden="true">
          <Icon name="runs" />
        </span>
        <span class="brand-name">{project ? folder(project.project) : "\u00a0"}</span>
      </div>
      <nav class="nav" aria-label="Views">
        {ENTRIES.map(({ view, label, icon }) => (
          <a key={view} href={href(view)} class="nav-item" aria-current={view === current ? "page" : undefined}>
            <Icon name={icon} />
            <span>{label}</span>
            {view === "inbox" && waiting > 0 && (
              <span class="badge">
                {waiting}
                <span class="hidden"> waiting</span>
              </span>
            )}
          </a>
        ))}
      </nav>
      <div class="side-tools">
        <button type="button" class="nav-item tool" onClick={() => (over.value = "palette")}>
          <Icon name="search" />
          <span>Search</span>
          <kbd>{keyName("mod+k")}</kbd>
        </button>
        <button type="button" class="nav-item tool" onClick={nextTheme} aria-label={`Theme: ${theme.value}. Change it`}>
          <Icon name={theme.value === "system" ? "system_theme" : theme.value} />
          <span>Theme: {theme.value}</span>
        </button>
        <button type="button" class="nav-item tool" onClick={() => (over.value = "help")}>
          <Icon name="help" />
          <span>Keys</span>
          <kbd>?</kbd>
        </button>
      </div>
    </header>
  );
}

/** Reports that the server is away, after a moment. */
function Banner() {
  const shown = useSignal(false);
  const away = connected.value === false;
  useEffect(() => {
    if (!away) {
      shown.value = false;
      return;
    }
    const timer = window.setTimeout(() => (shown.value = true), AWAY_MS);
    return () => window.clearTimeout(timer);
  }, [away]);
  return (
    <div role="alert">
      {shown.value && (
        <p class="banner">
          <Icon name="warning" /> The server does not answer. What you see may be old; the page goes on by itself when the server is back.
        </p>
      )}
    </div>
  );
}

/** Confines the failure of a view to that view. */
class Boundary extends Component<{ children: ComponentChildren }, { error: string | null }> {
  override state = { error: null };

  static override getDerivedStateFromError(error: unknown): { error: string } {
    console.error(error);
    return { error: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <Empty title="This view has failed.">
        <p class="wrap">{this.state.error}</p>
        <button type="button" class="button" onClick={() => this.setState({ error: null })}>
          Try again
        </button>
      </Empty>
    );
  }
}
