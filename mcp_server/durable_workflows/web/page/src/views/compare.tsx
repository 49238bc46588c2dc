import { Empty } from "../parts/Empty";

export function Compare() {
  return <Empty title="Compare" />;
}
