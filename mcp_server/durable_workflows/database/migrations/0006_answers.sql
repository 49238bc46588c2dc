-- The key of the message that tells the run of an answer. One that others can guess could be used up before it.
alter table durable_workflows.answers add column message_key text;
update durable_workflows.answers set message_key = 'answer-' || workflow_id || '-' || function_id;
alter table durable_workflows.answers
    alter column message_key set default gen_random_uuid()::text, alter column message_key set not null;
