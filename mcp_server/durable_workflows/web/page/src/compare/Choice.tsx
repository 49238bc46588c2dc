/** The choice of the run to compare with: one of the same workflow. */

import { useGet } from "../data";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Status } from "../parts/Status";
import { Ago } from "../parts/Time";
import { href } from "../routes";

export function Choice({ workflowId }: { workflowId: string }) {
  const { data, error } = useGet("run", { id: workflowId }, {});
  const name = data?.run.name;
  const others = useGet("runs", name === undefined ? null : { name, limit: 50 }, { list: true });
  if (error) return <Failure error={error} />;
  if (!others.data) return <Loading what="the runs" />;
  const found = others.data.workflows.filter((one) => one.workflow_id !== workflowId);
  return (
    <article class="compare">
      <h1>Compare</h1>
      <p class="wrap">
        Which other run of {name} is <strong>{workflowId}</strong> compared with?
      </p>
      {found.length === 0 && <Empty title="There is no other run of this workflow" />}
      <ul class="choice" aria-label="Runs">
        {found.map((one) => (
          <li key={one.workflow_id}>
            <a class="choice-link" href={href("compare", [workflowId, one.workflow_id])}>
              <span class="mono wrap">{one.workflow_id}</span>
              <Status status={one.status} waitingOn={one.waiting_on} ok={one.ok} />
              <span class="muted">
                <Ago at={one.created_at} />
              </span>
            </a>
          </li>
        ))}
      </ul>
    </article>
  );
}
