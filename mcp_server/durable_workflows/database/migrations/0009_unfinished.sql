-- The supervisor asks every two seconds. DBOS has an index of the runs that are queued or pending, and one of those that are delayed; a
-- question for all three at once matches neither, and reads every run there ever was.
create or replace function durable_workflows.unfinished(application text)
    returns table (version text, runs bigint, oldest bigint) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is not null then
        return query
            select application_version, count(*), min(created_at)
            from (
                select application_version, application_name, created_at from dbos.workflow_status where status in ('PENDING', 'ENQUEUED')
                union all
                select application_version, application_name, created_at from dbos.workflow_status where status = 'DELAYED'
            ) as run
            where application_version is not null and (application_name = application or application_name is null)
            group by application_version;
    end if;
end
$$;
