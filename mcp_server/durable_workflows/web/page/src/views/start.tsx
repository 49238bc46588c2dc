import { Empty } from "../parts/Empty";

export function Start() {
  return <Empty title="Start" />;
}
