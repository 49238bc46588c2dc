import { Empty } from "../parts/Empty";

export function Run() {
  return <Empty title="Run" />;
}
