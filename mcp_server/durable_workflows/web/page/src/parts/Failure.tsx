/** The server's refusal, and what to do. */

import type { ApiError } from "../data";

export function Failure({ error }: { error: ApiError }) {
  return (
    <div class="failure" role="alert">
      <p class="wrap">{error.message}</p>
      {error.hint && <p class="muted wrap">{error.hint}</p>}
    </div>
  );
}
