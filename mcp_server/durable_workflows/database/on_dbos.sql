-- A hint at each change of a run's status: status, queue and workflow_id, with tabs between. Queues of DBOS poll, and ends of runs are not announced; with
-- this a worker looks when there is something, and whoever waits for a run hears of its end. Nothing depends on it: all look by themselves too.
create or replace function durable_workflows.announce_status() returns trigger language plpgsql as $$
begin
    perform pg_notify(
        'durable_workflows_runs', concat_ws(E'\t', new.status, coalesce(new.queue_name, ''), left(new.workflow_uuid, 1000))
    );
    return null;
end
$$;

create or replace trigger durable_workflows_inserted after insert on dbos.workflow_status
    for each row when (new.status <> 'PENDING') execute function durable_workflows.announce_status();

create or replace trigger durable_workflows_changed after update of status on dbos.workflow_status
    for each row when (old.status is distinct from new.status and new.status <> 'PENDING') execute function durable_workflows.announce_status();

-- The waits and steps that are still open: a published row may be some tenths of a second older than what DBOS has recorded since.
-- (Functions, not views: a view would stand in the way of DBOS's own migrations.)
create or replace function durable_workflows.open_waits() returns setof durable_workflows.waits language sql stable as $$
    select * from durable_workflows.waits as wait
    where not exists (
        select from dbos.operation_outputs as step
        where step.workflow_uuid = wait.workflow_id and step.function_id = wait.function_id
    ) and not exists (
        select from dbos.notifications as message
        where message.destination_uuid = wait.workflow_id and message.topic = wait.topic and not message.consumed
    )
$$;

create or replace function durable_workflows.open_steps() returns setof durable_workflows.running_steps language sql stable as $$
    select * from durable_workflows.running_steps as running
    where not exists (
        select from dbos.operation_outputs as step
        where step.workflow_uuid = running.workflow_id and step.function_id = running.function_id
    )
$$;
