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

-- How many runs there are, by status, is read in this index alone.
create index if not exists durable_workflows_status on dbos.workflow_status (status, application_name);

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

-- The runs that a worker has under way, and whether code of theirs runs: a step, or what is between steps. A run that sleeps, receives, waits for an event,
-- for its next attempt or for a run that it started has none. All that lasts is in DBOS's rows: a sleep, and the timeout of a receive, is recorded when
-- it begins, with the time at which it ends. Published steps know more. One that the worker's process has not taken up yet has none either.
create or replace function durable_workflows.held_runs(executor text)
    returns table (workflow_id text, taken_up_at timestamptz, after_step integer, step text, under_way boolean) language sql stable as $$
    select run.workflow_uuid, taken_up.at, coalesce(last.function_id, 0), open.name, case
        when taken_up.at < (select started_at from durable_workflows.workers as worker where worker.executor_id = executor) then false
        when open.running then true
        when open.name is not null then false
        when last.function_name = 'DBOS.sleep' then not (
            case when last.output ~ '^[0-9.]+(e[+]?[0-9]+)?$' then last.output::double precision > extract(epoch from clock_timestamp()) else false end
            and not exists (
                select from dbos.operation_outputs as received
                where received.workflow_uuid = run.workflow_uuid and received.function_id = last.function_id - 1
                    and received.function_name in ('DBOS.recv', 'DBOS.getEvent')
            )
        )
        when last.child_workflow_id is not null or last.function_name like 'DBOS.%' then not exists (
            select from dbos.operation_outputs as started join dbos.workflow_status as child on child.workflow_uuid = started.child_workflow_id
            where started.workflow_uuid = run.workflow_uuid and child.status in ('PENDING', 'ENQUEUED', 'DELAYED')
        )
        else true
    end
    from dbos.workflow_status as run
        cross join lateral (select to_timestamp(coalesce(run.started_at_epoch_ms, run.created_at) / 1000.0) as at) as taken_up
        left join lateral (
            select * from dbos.operation_outputs as recorded where recorded.workflow_uuid = run.workflow_uuid order by function_id desc limit 1
        ) as last on true
        left join lateral (
            select (array_agg(running.name order by running.since desc))[1] as name,
                bool_or(running.retry_at is null or running.retry_at <= clock_timestamp()) as running
            from durable_workflows.open_steps() as running where running.workflow_id = run.workflow_uuid
        ) as open on true
    where run.status = 'PENDING' and run.executor_id = executor
$$;

-- Starts runs, all or none, in one statement: the rows that DBOS writes for runs in a queue, and their inputs. A run that is there already is left as it is.
-- Returns the runs of these ids, as they are now; if one of them is of another workflow, only those, and nothing is started. `creator_xid` is the token of one
-- call: a repeated one finds what it has started itself.
create or replace function durable_workflows.start_runs(given json)
    returns table (workflow_id text, name text, status text, version text, existing boolean) language plpgsql as $$
begin
    return query
        select run.workflow_uuid, run.name, run.status, run.application_version, true
        from json_to_recordset(given) as entry (workflow_uuid text, name text) join dbos.workflow_status as run using (workflow_uuid)
        where run.name is distinct from entry.name;
    if found then
        return;
    end if;
    insert into dbos.workflow_status (
        workflow_uuid, status, name, queue_name, application_version, workflow_timeout_ms, priority, serialization, delay_until_epoch_ms,
        attributes, application_name, created_at, updated_at, recovery_attempts, creator_xid, is_debounced
    )
    select
        entry.workflow_uuid, entry.status, entry.name, entry.queue_name, entry.app_version, entry.workflow_timeout_ms, entry.priority, entry.serialization,
        entry.delay_until_epoch_ms, entry.attributes, entry.application_name, entry.created_at, entry.created_at, 0, entry.creator_xid, false
    from json_to_recordset(given) as entry (
        workflow_uuid text, status text, name text, queue_name text, app_version text, workflow_timeout_ms bigint, priority integer, serialization text,
        delay_until_epoch_ms bigint, attributes jsonb, application_name text, created_at bigint, creator_xid text
    )
    on conflict (workflow_uuid) do nothing;
    if exists (
        select from json_to_recordset(given) as entry (workflow_uuid text, name text) join dbos.workflow_status as run using (workflow_uuid)
        where run.name is distinct from entry.name
    ) then
        raise invalid_parameter_value using message = 'a run of another workflow has taken one of the ids at this moment';
    end if;
    insert into dbos.workflow_input (workflow_uuid, inputs)
    select entry.workflow_uuid, entry.inputs
    from json_to_recordset(given) as entry (workflow_uuid text, inputs text, creator_xid text) join dbos.workflow_status as run using (workflow_uuid)
    where run.creator_xid = entry.creator_xid
    on conflict (workflow_uuid) do nothing;
    return query
        select run.workflow_uuid, run.name, run.status, run.application_version, run.creator_xid is distinct from entry.creator_xid
        from rows from (json_to_recordset(given) as (workflow_uuid text, creator_xid text))
            with ordinality as entry (workflow_uuid, creator_xid, place)
            join dbos.workflow_status as run using (workflow_uuid)
        order by entry.place;
end
$$;
