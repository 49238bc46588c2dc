/** The messages to a run, and the answers of people. */

import type { Answer, Message, Run } from "../api";
import { useGet } from "../data";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Time } from "../parts/Time";
import { Value } from "../parts/Value";
import { runHref } from "../routes";

export function Messages({ run }: { run: Run }) {
  const id = run.workflow_id;
  const { data, error } = useGet("messages", { id }, { runs: [id] });
  if (error && !data) return <Failure error={error} />;
  if (!data) return <Loading what="the messages" />;
  if (data.length + run.answers.length === 0) return <Empty title="No messages">Nobody has sent this run a message, or answered it.</Empty>;
  return (
    <div class="cards">
      {run.answers.map((one) => (
        <AnswerCard key={`answer ${one.step}`} answer={one} id={id} />
      ))}
      {data.map((one, place) => (
        <MessageCard key={place} message={one} id={id} />
      ))}
    </div>
  );
}

function AnswerCard({ answer, id }: { answer: Answer; id: string }) {
  return (
    <section class="card" aria-label={`Answer of ${answer.who}`}>
      <h2 class="wrap">
        {answer.who} answered <span class="muted">by {answer.how}</span>
      </h2>
      <p class="muted wrap">
        <Time at={answer.at} /> · topic {answer.topic} · <StepLink id={id} step={answer.step} />
        {answer.taken_from && (
          <>
            {" "}
            · taken over from <a href={runHref(answer.taken_from)}>{answer.taken_from}</a>
          </>
        )}
      </p>
      {answer.shown && <pre class="text">{answer.shown}</pre>}
      <Value label="Answer" preview={answer.answer} />
    </section>
  );
}

function MessageCard({ message, id }: { message: Message; id: string }) {
  return (
    <section class="card" aria-label={`Message on ${message.topic}`}>
      <h2 class="wrap">{message.topic}</h2>
      <p class="muted wrap">
        Sent <Time at={message.sent_at} /> · <Read message={message} id={id} />
      </p>
      <Value label="Message" preview={message.message} />
    </section>
  );
}

function Read({ message, id }: { message: Message; id: string }) {
  const step = message.consumed_by_step;
  if (step === null) return <>not received yet</>;
  return (
    <>
      {message.of_nobody ? "skipped, as no person gave it, by" : "received by"} <StepLink id={id} step={step} />
    </>
  );
}

function StepLink({ id, step }: { id: string; step: number }) {
  return <a href={runHref(id, step)}>step {step}</a>;
}
