-- The key of the message that tells the run of an answer. A key that others can guess could be used up before it.
alter table durable_workflows.answers add column message_key uuid not null default gen_random_uuid();
