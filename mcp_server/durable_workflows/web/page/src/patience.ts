/** How long the page waits for an answer that takes long to make. */

/** What is answered; `late()` is thrown after so many milliseconds. The work goes on where it is done. */
export function within<T>(ms: number, answer: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    void answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
