import { main } from "../../src/cli/main.ts";

export interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line on a machine of which nothing may be looked at: its root folder does not exist. */
export async function runNowhere(
  line: string,
  {
    env = {},
    now = new Date(0),
  }: { readonly env?: Readonly<Record<string, string>>; readonly now?: Date } = {},
): Promise<Said> {
  const said = { out: "", err: "" };
  const code = await main(line.split(" "), {
    out: (text) => {
      said.out += text;
    },
    err: (text) => {
      said.err += text;
    },
    env: { SHIMCTL_ROOT: "/does/not/exist", ...env },
    outIsTerminal: false,
    errIsTerminal: false,
    signal: new AbortController().signal,
    now: () => now,
  });
  return { code, ...said };
}
