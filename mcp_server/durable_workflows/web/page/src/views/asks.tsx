/** What a run waits for, in words and as an icon. */

import type { InboxItem } from "../api";
import { Icon } from "../parts/Icon";

export const ASKS: Readonly<Record<InboxItem["asked"], string>> = {
  person: "Asks a person",
  message: "Waits for a message",
  doubt: "A step is in doubt",
};

export function AsksIcon({ asked }: { asked: InboxItem["asked"] }) {
  return <Icon name={asked === "doubt" ? "warning" : asked} />;
}
