-- Not `create … if not exists`: that wants the right to create even where it is there.
do $$
begin
    if to_regnamespace('durable_workflows') is null then
        create schema durable_workflows;
    end if;
end
$$;

create table durable_workflows.migrations (
    name text primary key,
    applied_at timestamptz not null default now()
);
