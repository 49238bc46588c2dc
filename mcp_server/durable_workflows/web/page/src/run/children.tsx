/** The unfolded children on a timeline: each is fetched, and followed, while it is open. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { Loaded, Opened } from "../timeline";
import { useRun } from "./steps";

export interface Children {
  opened: Opened;
  /** Must be rendered: it fetches the children. */
  followers: ComponentChildren;
  fold: (child: string) => void;
}

export function useChildren(): Children {
  const [opened, setOpened] = useState<Opened>(new Map());
  const found = (id: string, loaded: Loaded | null): void =>
    setOpened((before) => (before.has(id) ? new Map(before).set(id, loaded) : before));
  const fold = (id: string): void =>
    setOpened((before) => {
      const after = new Map(before);
      if (!after.delete(id)) after.set(id, null);
      return after;
    });
  const followers = [...opened.keys()].map((id) => <Follower key={id} id={id} found={found} />);
  return { opened, followers, fold };
}

function Follower({ id, found }: { id: string; found: (id: string, loaded: Loaded | null) => void }) {
  const { data } = useRun(id);
  useEffect(() => {
    if (data) found(id, data);
  }, [data]);
  return null;
}
