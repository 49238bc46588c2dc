import { Empty } from "../parts/Empty";

export function Runs() {
  return <Empty title="Runs" />;
}
