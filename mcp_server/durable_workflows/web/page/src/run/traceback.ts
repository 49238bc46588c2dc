/** A recorded error, and what Python printed of it: which frames are the project's. */

export interface Frame {
  file: string;
  line: number;
  where: string;
  code: string;
  /** In the project's own files. */
  own: boolean;
}

export interface Failure {
  name: string;
  message: string;
  /** Runs of frames and of other lines, in their order. */
  traceback: readonly (Frame | string)[];
}

const FRAME = /^ {2}File "(.+)", line (\d+)(?:, in (.+))?$/;
const LIBRARY = /\/(site-packages|dist-packages|lib\/python[\d.]+)\//;

/** A recorded error; its JSON may be cut. */
export function failureOf(text: string, project: string): Failure {
  const recorded = parsed(text);
  if (recorded === null) return { name: "Error", message: text, traceback: [] };
  const { name, message, traceback } = recorded;
  return {
    name: typeof name === "string" ? name : "Error",
    message: typeof message === "string" ? message : "",
    traceback: typeof traceback === "string" ? framesOf(traceback, project) : [],
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

/** A traceback as Python prints it. */
export function framesOf(traceback: string, project: string): (Frame | string)[] {
  const found: (Frame | string)[] = [];
  for (const line of traceback.trimEnd().split("\n")) {
    const match = FRAME.exec(line);
    const last = found.at(-1);
    if (match) found.push(frameOf(match, project));
    else if (typeof last === "object" && line.startsWith("    ")) addCode(last, line.slice(4));
    else found.push(line);
  }
  return found;
}

/** What Python marks below a line is of no use where lines are broken elsewhere. */
function addCode(frame: Frame, line: string): void {
  if (!/^[ ~^]*$/.test(line)) frame.code += `${frame.code && "\n"}${line}`;
}

function frameOf([, file = "", line = "0", where = ""]: RegExpExecArray, project: string): Frame {
  const own = project !== "" && file.startsWith(`${project}/`) && !LIBRARY.test(file);
  return { file: own ? file.slice(project.length + 1) : file, line: Number(line), where, code: "", own };
}
