import type { InboxItem } from "../api";
import type { Resource } from "../data";
import { Empty } from "../parts/Empty";

export function Inbox({ waits }: { waits: Resource<InboxItem[]> }) {
  return <Empty title={`Inbox ${waits.data?.length ?? 0}`} />;
}
