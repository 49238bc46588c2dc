import { Empty } from "../parts/Empty";

export function System() {
  return <Empty title="System" />;
}
