/** A recorded error, and the frames of its traceback. The engine records the project's frames, with paths relative to its directory. */

export interface Frame {
  file: string;
  line: number;
  where: string;
  code: string;
}

export interface Failure {
  name: string;
  message: string;
  /** Frames, and the other lines between them. */
  traceback: readonly (Frame | string)[];
}

const FRAME = /^ {2}File "(.+)", line (\d+)(?:, in (.+))?$/;

/** A recorded error; its JSON may be cut. */
export function failureOf(text: string): Failure {
  const recorded = parsed(text);
  if (recorded === null) return { name: "Error", message: text, traceback: [] };
  const { name, message, traceback } = recorded;
  return {
    name: typeof name === "string" ? name : "Error",
    message: typeof message === "string" ? message : "",
    traceback: typeof traceback === "string" ? framesOf(traceback) : [],
  };
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? (found as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** A traceback in Python's form, without its first and last line, which say nothing more. */
export function framesOf(traceback: string): (Frame | string)[] {
  const found: (Frame | string)[] = [];
  const lines = traceback.trimEnd().split("\n");
  for (const line of lines) {
    const match = FRAME.exec(line);
    const last = found.at(-1);
    if (match) found.push(frameOf(match));
    else if (typeof last === "object" && line.startsWith("    ")) addCode(last, line.slice(4));
    else if (!/^Traceback \(most recent call last\):$/.test(line)) found.push(line);
  }
  const isLast = (place: number): boolean => place === found.length - 1;
  return found.filter((one, place) => typeof one === "object" || !isLast(place));
}

function frameOf([, file = "", line = "0", where = ""]: RegExpExecArray): Frame {
  return { file, line: Number(line), where, code: "" };
}

/** Python's marks below a line are useless where lines are broken differently. */
function addCode(frame: Frame, line: string): void {
  if (!/^[ ~^]*$/.test(line)) frame.code += `${frame.code && "\n"}${line}`;
}
